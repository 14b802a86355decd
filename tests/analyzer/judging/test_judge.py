from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper_analyzer import severity
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.hysteresis import NOT_FINITE, Bounds, Hysteresis
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.rules import RULES, Rule
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas import METRICS
from esper_schemas.metric.metrics import Bands, above, at_least, at_most, below

SOUND = {"value_loss": 0.1, "policy_loss": -0.01, "skipped": False}


def frame_of(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows with the columns of a run; what a row does not give is sound for the losses, else null."""
    full = [{"update": i, **SOUND, "value_loss": 0.1 + 0.01 * (i % 7), **row} for i, row in enumerate(rows)]
    frame = pl.DataFrame(full, schema_overrides=SCHEMA, infer_schema_length=None)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in frame.columns]
    return frame.with_columns(missing)


def said(episodes: Sequence[Episode]) -> list[tuple[Any, ...]]:
    """Everything about some episodes, such that NaN equals NaN."""
    return [(e.rule.name, e.severity, e.since, e.update, str(e.value), e.until) for e in episodes]


def rule(*, hold: tuple[int, int], clear: int) -> Rule:
    """A rule that is held and cleared like this; the rest does not matter here."""
    value = pl.col("kl_divergence")
    return Rule(
        name="r", metric="r", title="R", value=value, bands=Bands(), bands_of="r", meaning="M.", hold=hold, clear=clear
    )


def naive_states(levels: Sequence[int], hold: tuple[int, int], clear: int, severity: int) -> list[bool]:
    """What the hysteresis says, row by row in the plainest way."""
    states: list[bool] = []
    state = False
    for i, level in enumerate(levels):
        lately = levels[max(0, i - hold[1] + 1) : i + 1]
        hits = sum(one >= severity for one in lately)
        if level >= severity and (hits >= hold[0] or level == NOT_FINITE):
            state = True
        elif all(one < severity for one in levels[max(0, i - clear + 1) : i + 1]):
            state = False
        states.append(state)
    return states


@given(
    levels=st.lists(st.integers(0, 3), max_size=40),
    hold=st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    clear=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_alerts_begin_and_end_as_the_plain_rule_says(
    levels: list[int], hold: tuple[int, int], clear: int, cuts: list[int]
) -> None:
    """k of n rows begin an alert, m clean rows end it, in whatever portions the rows come."""
    hysteresis = Hysteresis([rule(hold=hold, clear=clear)])
    bounds = sorted({0, *(min(cut, len(levels)) for cut in cuts), len(levels)})
    states = {1: False, 2: False}
    found: dict[int, list[bool]] = {1: [], 2: []}
    for start, end in pairwise(bounds):
        changes = hysteresis.advance(np.array(levels[start:end], np.int8).reshape(-1, 1))
        for row in range(end - start):
            for change in changes:
                if change.row == row:
                    assert states[change.severity] != change.begins
                    states[change.severity] = change.begins
                    first = start + change.since
                    assert not change.begins or levels[first] >= change.severity
            for number, state in states.items():
                found[number].append(state)
    for number in (1, 2):
        assert found[number] == naive_states(levels, hold, clear, number)


@pytest.mark.parametrize(
    "name", [name for name, metric in METRICS.items() if metric.bands and not metric.bands.only_if]
)
def test_bounds_say_what_the_expression_says(name: str) -> None:
    """At, just below and just above each bound of the table, and for null, NaN and infinities."""
    bands = METRICS[name].bands
    assert bands is not None
    values: list[float | None] = [None, math.nan, math.inf, -math.inf, 0.0, -1.0, 1.0]
    for limit in (*bands.warning, *bands.critical):
        values += [limit.bound, math.nextafter(limit.bound, math.inf), math.nextafter(limit.bound, -math.inf)]
    frame = pl.DataFrame({name: pl.Series(values, dtype=pl.Float64)})
    found = Bounds([bands]).severities(frame)[:, 0]
    expected = frame.select(severity(name)).to_series().to_list()
    assert [min(int(one), 2) for one in found] == [one or 0 for one in expected]
    finite = [one is None or math.isfinite(one) for one in values]
    assert all(is_finite for one, is_finite in zip(found, finite, strict=True) if one != NOT_FINITE) or (
        bands.nonfinite == "unknown"
    )


def test_a_bound_may_be_open_or_closed_on_either_side() -> None:
    """`>` leaves its bound out and `>=` takes it in, and so below."""
    bands = [Bands(warning=(above(1.0),)), Bands(warning=(at_least(1.0),)), Bands(warning=(below(1.0),))]
    bands.append(Bands(warning=(at_most(1.0),)))
    frame = pl.DataFrame({str(i): [1.0] for i in range(4)})
    assert Bounds(bands).severities(frame).tolist() == [[0, 1, 0, 1]]


def random_run(rows: int, seed: int = 0) -> pl.DataFrame:
    """A run in which a good deal goes wrong: losses of all sizes, nulls, NaN, skipped updates, gaps."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"update": np.cumsum(rng.integers(1, 3, rows))}
    for name, dtype in SCHEMA.items():
        if dtype == pl.Float64:
            values = rng.lognormal(-1.0, 1.5, rows).tolist()
            holes = rng.random(rows)
            columns[name] = [
                None if hole < 0.1 else math.nan if hole < 0.11 else x for x, hole in zip(values, holes, strict=True)
            ]
    columns["skipped"] = rng.random(rows) < 0.05
    frame = pl.DataFrame(columns, schema_overrides={name: SCHEMA[name] for name in columns}, strict=False)
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in columns)


@pytest.mark.parametrize("portion", [1, 7, 150])
def test_one_row_at_a_time_says_what_the_whole_run_says(portion: int) -> None:
    """Alerts, their beginnings, ends and values do not depend on the portions in which rows come."""
    run = random_run(450)
    whole, bits = Judge(), Judge()
    expected = whole.advance(run)
    found = [
        episode for start in range(0, run.height, portion) for episode in bits.advance(run[start : start + portion])
    ]
    assert len(expected) > 100
    assert said(found) == said(expected)
    assert bits.in_force.keys() == whole.in_force.keys()
    assert bits.values() == pytest.approx(whole.values(), nan_ok=True)
    batched = Judge()
    assert said(list(batched.advance_all(run.lazy()))) == said(expected)


def test_a_value_at_its_bound_does_not_flap() -> None:
    """One that is beyond its bound in every other update raises one alert, not one each time."""
    values = [0.031, 0.029] * 50
    found = Judge().advance(frame_of([{"kl_divergence": value} for value in values]))
    assert [(e.rule.name, e.severity, e.since, e.update, e.until) for e in found if e.rule.name == "kl_divergence"] == [
        ("kl_divergence", 1, 10, 12, None),
        ("kl_divergence", 2, 10, 14, None),
    ]


def test_an_alert_ends_when_it_is_over_and_may_come_again() -> None:
    """Five updates below the bound end it; its `until` is the update at which that was certain."""
    values = [0.0] * 20 + [0.05] * 10 + [0.0] * 20 + [0.05] * 10
    found = Judge().advance(frame_of([{"kl_divergence": value} for value in values]))
    of_kl = [(e.severity, e.since, e.update, e.until) for e in found if e.rule.name == "kl_divergence"]
    assert of_kl == [(2, 20, 22, 34), (2, 50, 52, None)]


def test_what_a_skipped_update_measured_is_not_judged() -> None:
    """A loss that is NaN in an update that was rolled back is no loss of the run."""
    found = Judge().advance(frame_of([{}] * 20 + [{"value_loss": math.nan, "skipped": True, "skip_reason": 1}]))
    assert [e.rule.name for e in found] == ["skipped"]
    assert found[0].alert().message.startswith("An update was skipped at update 20 (non-finite loss).")


def test_what_is_not_finite_counts_at_once() -> None:
    """Also in the first update of a run, and also where a rule wants several."""
    found = Judge().advance(frame_of([{"value_loss": math.inf, "kl_divergence": math.nan}]))
    assert {(e.rule.metric, e.severity, e.update) for e in found} == {("value_loss", 2, 0), ("kl_divergence", 2, 0)}
    assert "Value loss is inf (not finite) at update 0." in found[0].alert().message


def test_every_rule_says_what_it_means_and_what_to_look_at() -> None:
    """One or two plain sentences each, which end in a full stop; names are told apart."""
    assert len({one.name for one in RULES.values()}) == len(RULES)
    for one in RULES.values():
        assert one.meaning.endswith(".")
        assert 20 <= len(one.meaning) <= 130
        assert one.hold[0] <= one.hold[1]
        episode = Episode(one, 1, 3, 5, 0.25)
        assert episode.alert().message.endswith(one.meaning)
        assert one.title[0].isupper()
