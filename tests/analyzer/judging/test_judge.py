from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper_analyzer import severity
from esper_analyzer.judging import judge as judge_module
from esper_analyzer.judging.alert_log import AlertLog
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.hysteresis import NOT_FINITE, Bounds, Change, Hysteresis, Levels, Turns
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.rules.rule import QUESTIONS, Rule
from esper_analyzer.judging.steps import column
from esper_analyzer.judging.watched import Signal
from esper_schemas import METRICS
from esper_schemas.metric.metrics import Bands, above, at_least, at_most, below

SOUND = {"value_loss": 0.1, "policy_loss": -0.01, "skipped": False}


def frame_of(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows with the columns of a run; what a row does not give is sound for the losses, else null."""
    full = [{"update": i, **SOUND, "value_loss": 0.1 + 0.01 * (i % 7), **row} for i, row in enumerate(rows)]
    frame = pl.DataFrame(full, schema_overrides=READ_TYPES, infer_schema_length=None)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in READ_TYPES.items() if name not in frame.columns]
    return frame.with_columns(missing)


def said(episodes: Sequence[Episode]) -> list[tuple[Any, ...]]:
    """Everything about some episodes, such that NaN equals NaN."""
    return [
        (e.rule.name, e.severity, e.since, e.update, str(e.value), e.detail, e.until, str(e.worst), e.worst_update)
        for e in episodes
    ]


def rule(*, hold: tuple[int, int], clear: int) -> Rule:
    """A rule that is held and cleared like this; the rest does not matter here."""
    value = Signal(pl.col("kl_divergence"), lambda: column("kl_divergence"), "kl_divergence")
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


def severities(levels: Sequence[int]) -> Levels:
    """Severities of one rule, as `Hysteresis.advance` takes them."""
    return {0: np.array(levels, np.int8)} if any(levels) else {}


def changes_of(turns: Sequence[Turns]) -> list[Change]:
    """The same alerts, as `Hysteresis.step` tells of them."""
    return sorted(
        change
        for one in turns
        for change in (
            *(
                Change(row, one.rule, one.severity, True, since)
                for row, since in zip(one.begun, one.since, strict=True)
            ),
            *(Change(row, one.rule, one.severity, False, row) for row in one.ended),
        )
    )


@given(
    levels=st.lists(st.integers(0, 3), max_size=40),
    hold=st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    clear=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_alerts_begin_and_end_as_the_plain_rule_says(
    levels: list[int], hold: tuple[int, int], clear: int, cuts: list[int]
) -> None:
    """k of n rows begin an alert, m clean rows end it, in whatever portions the rows come; portions of one as steps."""
    hysteresis = Hysteresis([rule(hold=hold, clear=clear)])
    bounds = sorted({0, *(min(cut, len(levels)) for cut in cuts), len(levels)})
    states = {1: False, 2: False}
    found: dict[int, list[bool]] = {1: [], 2: []}
    for start, end in pairwise(bounds):
        if end - start == 1:
            changes = hysteresis.step([levels[start]], [0] if levels[start] else [])
        else:
            changes = changes_of(hysteresis.advance(severities(levels[start:end]), end - start))
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
    bounds = Bounds([bands])
    found = bounds.severities(frame)[0]
    steps = [bounds.severities_now([value]) for value in values]
    assert [severities for severities, _ in steps] == [[int(one)] for one in found]
    assert [beyond for _, beyond in steps] == [[0] if one else [] for one in found]
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
    assert Bounds(bands).severities(frame) == {1: [1], 3: [1]}


def random_run(rows: int, seed: int = 0) -> pl.DataFrame:
    """A run in which a good deal goes wrong: losses of all sizes, nulls, NaN, skipped updates, gaps."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"update": np.cumsum(rng.integers(1, 3, rows))}
    for name, dtype in READ_TYPES.items():
        if dtype == pl.Float64:
            values = rng.lognormal(-1.0, 1.5, rows).tolist()
            holes = rng.random(rows)
            columns[name] = [
                None if hole < 0.1 else math.nan if hole < 0.11 else x for x, hole in zip(values, holes, strict=True)
            ]
    columns["skipped"] = rng.random(rows) < 0.05
    frame = pl.DataFrame(columns, schema_overrides={name: READ_TYPES[name] for name in columns}, strict=False)
    return frame.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in READ_TYPES.items() if name not in columns
    )


@pytest.mark.parametrize("portions", [[1], [7], [150], [128, 129], [1, 140, 1, 200, 3]], ids=str)
def test_one_row_at_a_time_says_what_the_whole_run_says(portions: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts, their beginnings, ends and values do not depend on the portions in which rows come, nor on their form."""
    monkeypatch.setattr(judge_module, "STEP_ROWS", 128)  # so that the run changes from one form to the other and back
    run = random_run(450)
    whole, bits = Judge(), Judge()
    expected = whole.advance(run)
    found: list[Episode] = []
    start = 0
    for portion in cycle(portions):
        found += bits.advance(run[start : start + portion])
        if (start := start + portion) >= run.height:
            break
    assert len(expected) > 100
    assert said(found) == said(expected)
    assert bits.in_force.keys() == whole.in_force.keys()
    assert str(bits.values()) == str(whole.values())
    assert bits.signals() == pytest.approx(whole.signals(), nan_ok=True)
    assert (bits.rows, bits.last_update, bits.has_losses) == (whole.rows, whole.last_update, whole.has_losses)
    assert (bits.measured, bits.judged) == (whole.measured, whole.judged)
    batched = Judge()
    assert said([one for begun in batched.advance_all(run.lazy()) for one in begun]) == said(expected)


def test_a_long_run_says_what_its_parts_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, and what is in force, go on across the batches of rows; the worst values are those of row by row."""
    monkeypatch.setattr(judge_module, "BATCH_ROWS", 4500)
    run = random_run(9700, seed=1)
    whole, parts, log, log_of_parts = Judge(), Judge(), AlertLog(), AlertLog()
    begun = whole.advance(run)
    log.add(begun)
    found: list[Episode] = []
    for start, end in pairwise([0, 700, 701, 5200, 5300, run.height]):
        in_part = parts.advance(run[start:end])
        log_of_parts.add([*in_part])
        found += in_part
    assert len(found) > 1000
    assert said(found) == said(begun)
    assert said([*parts.in_force.values()]) == said([*whole.in_force.values()])
    assert (said(begun[-5:]), said([begun[7]])) == (said(found[-5:]), said([found[7]]))
    assert str(log.alerts(whole.in_force.values())) == str(log_of_parts.alerts(parts.in_force.values()))
    assert str(whole.values()) == str(parts.values())


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
    assert found[0].message.startswith("An update was skipped at update 20 (non-finite loss).")


def test_what_is_not_finite_counts_at_once() -> None:
    """Also in the first update of a run, and also where a rule wants several."""
    found = Judge().advance(frame_of([{"value_loss": math.inf, "kl_divergence": math.nan}]))
    assert {(e.rule.metric, e.severity, e.update) for e in found} == {("value_loss", 2, 0), ("kl_divergence", 2, 0)}
    assert "Value loss is inf (not finite) at update 0." in found[0].message


def test_every_rule_says_what_it_means_and_what_to_look_at() -> None:
    """One or two plain sentences each, which end in a full stop; names are told apart."""
    assert len({one.name for one in RULES.values()}) == len(RULES)
    for one in RULES.values():
        assert one.meaning.endswith(".")
        assert 20 <= len(one.meaning) <= 145
        assert one.hold[0] <= one.hold[1]
        episode = Episode(one, 1, 3, 5, 0.25)
        assert episode.message.endswith(one.meaning)
        assert one.title[0].isupper()


def test_the_same_rules_are_planned_once() -> None:
    """However they are handed over, judges of the same rules share what follows from these alone."""
    first, again, other = Judge(), Judge(list(RULES.values())), Judge(list(RULES.values())[:3])
    assert again._plan is first._plan
    assert other._plan is not first._plan
    assert len(other._plan.frames) == 3
    *rules, last = RULES.values()
    changed = Judge([*rules, replace(last, clear=last.clear + 1)])
    assert changed._plan is not Judge()._plan
    assert changed._plan.rules[-1].clear == last.clear + 1


def test_every_rule_that_decides_answers_a_question_and_says_what_it_needs() -> None:
    """What contributes to the verdict belongs to one of the three questions; what is needed can be recorded."""
    for one in RULES.values():
        assert one.question in (None, *QUESTIONS)
        assert (one.question is None) == (one.gives == ("healthy", "healthy")), one.name
        assert set(one.needs) <= set(Judge().columns)
        assert one.needs or one.name == "skipped"
    assert {one.question for one in RULES.values() if one.gives[1] == "critical"} == set(QUESTIONS)


# ---------------------------------------------------------------------- what was judged


def test_a_rule_was_judged_once_it_had_a_number_in_a_row_that_counts() -> None:
    """Not before its `from_row`, and not where its number is null; the columns that were measured are told as well."""
    rows = [{"explained_variance": 0.5, "kl_divergence": None, "value_loss": None if i < 3 else 0.1} for i in range(40)]
    judge, bits = Judge(), Judge()
    assert (judge.measured, judge.judged) == ({*()}, [])
    judge.advance(frame_of(rows))
    seen: dict[str, int] = {}
    for i, row in enumerate(frame_of(rows).select(bits.columns).iter_rows(named=True)):
        bits.step(row)
        seen |= {one.name: i for one in bits.judged if one.name not in seen}
    assert [one.name for one in judge.judged] == [one.name for one in bits.judged]
    assert judge.measured == bits.measured == {"update", "skipped", "policy_loss", "value_loss", "explained_variance"}
    assert (seen["impossible_value_loss"], seen["policy_loss"]) == (3, RULES["policy_loss"].from_row)
    assert seen["explained_where_varied"] == RULES["explained_where_varied"].from_row
    assert {"kl_divergence", "critic_error", "return_fall", "entropy"}.isdisjoint(seen)


# ---------------------------------------------------------------------- the cost of one more update


def sound_rows(judge: Judge, first: int, last: int) -> list[dict[str, Any]]:
    """Rows of a run in which nothing goes wrong, with most of what is judged."""
    rng = np.random.default_rng(first)
    noise = rng.normal(size=(last - first, 8)).tolist()
    return [
        {
            **dict.fromkeys(judge.columns),
            "update": update,
            "skipped": False,
            "value_loss": 0.2 + 0.01 * one[0],
            "policy_loss": 0.01 * one[1],
            "explained_variance": 0.8 + 0.02 * one[2],
            "return_std": 2.0 + 0.05 * one[3],
            "return_mean": 1.0,
            "value_std": 1.8,
            "entropy": 1.0 + 0.01 * one[4],
            "clip_fraction": 0.1,
            "clip_range": 0.2,
            "ratio_max": 1.4,
            "kl_divergence": 0.005,
            "episode_return_mean": min(update, 400) + one[5],
            "episode_length_mean": 100.0,
        }
        for update, one in zip(range(first, last), noise, strict=True)
    ]


def test_one_more_update_plans_no_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a judge takes rows one by one, it makes no frame, no series, no expression and no query."""
    judge = Judge()
    judge.advance(pl.DataFrame(sound_rows(judge, 0, 200), schema={name: READ_TYPES[name] for name in judge.columns}))
    rows = sound_rows(judge, 200, 260)
    judge.step(rows[0])

    def refuse(*given: Any, **named: Any) -> None:
        raise AssertionError("polars was asked")

    for one in (pl.DataFrame, pl.LazyFrame, pl.Series):
        monkeypatch.setattr(one, "__init__", refuse)
    for name in ("select", "with_columns", "filter", "collect"):
        monkeypatch.setattr(pl.LazyFrame, name, refuse)
    with pytest.raises(AssertionError, match="polars was asked"):
        pl.DataFrame()
    for row in rows[1:]:
        judge.step(row)
    judge.step({**rows[-1], "update": 261, "value_loss": math.nan})  # an alert needs none, either
    assert judge.rows == 261
    assert {one.rule.name for one in judge.in_force.values()} == {"impossible_value_loss"}


def calls_of(judge: Judge, rows: Sequence[dict[str, Any]]) -> int:
    """How many functions are called, in Python and in C, to judge these rows one by one."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    for row in rows:
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            judge.step(row)
        finally:
            sys.setprofile(before)
    return count


def test_one_more_update_costs_the_same_however_long_the_run() -> None:
    """The calls of 50 steps after 1,000 rows and after 100,000 rows are equally many."""
    counts, judge = [], Judge()
    for start, length in ((0, 1000), (1050, 100_000)):
        schema = {name: READ_TYPES[name] for name in judge.columns}
        judge.advance(pl.DataFrame(sound_rows(judge, start, length), schema=schema))
        judge.step(sound_rows(judge, length, length + 1)[0])  # takes up what was judged as a frame
        counts.append(calls_of(judge, sound_rows(judge, length + 1, length + 50)))
    assert judge.rows == 100_050
    assert counts[1] == pytest.approx(counts[0], rel=0.1)
    assert counts[0] < 49 * 1000
