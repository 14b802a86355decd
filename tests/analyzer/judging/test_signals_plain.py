"""Every signal against the same number in plain Python, on messy runs: whole, cut short, and as the Judge sees it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from esper_analyzer.judging import signals
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.rules import RULES, SIGNALS
from esper_analyzer.reading.segment_index import SCHEMA

Value = float | None
Columns = dict[str, list[Value]]

NAN, INF = math.nan, math.inf
MAD = 1.4826


def messy_run(rows: int, seed: int = 0) -> pl.DataFrame:
    """A run in which a good deal goes wrong: numbers of all sizes, zeros, nulls, NaN, infinities, skips, gaps."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"update": np.cumsum(rng.integers(1, 3, rows))}
    for name, dtype in SCHEMA.items():
        if dtype == pl.Float64:
            odd = {0.08: None, 0.09: NAN, 0.10: INF, 0.11: -INF, 0.13: 0.0}
            values = rng.lognormal(-1.0, 1.0, rows)
            holes = rng.random(rows)
            columns[name] = [
                next((what for bound, what in odd.items() if hole < bound), float(value))
                for hole, value in zip(holes, values, strict=True)
            ]
    columns["policy_loss"] = [None if x is None else x * (-1.0) ** i for i, x in enumerate(columns["policy_loss"])]
    columns["value_loss"] = [None if x is None else abs(x) for x in columns["value_loss"]]
    columns["return_std"] = [None] * 3 + [None if x is None else abs(x) for x in columns["return_std"][3:]]
    columns["episode_return_mean"] = [
        None,
        None,
        20.0,
        21.0,
        20.0,
        22.0,
        21.0,
        None,
        20.0,
        21.0,
        *columns["episode_return_mean"][10:],
    ]
    columns["log_prob_max"] = [None if x is None else -abs(x) for x in columns["log_prob_max"]]
    columns["skipped"] = [None if hole < 0.3 else bool(hole > 0.95) for hole in rng.random(rows)]
    frame = pl.DataFrame(columns, schema_overrides={name: SCHEMA[name] for name in columns}, strict=False)
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in columns)


def as_judged(run: pl.DataFrame) -> pl.DataFrame:
    """A run without what its skipped updates measured."""
    kept = ("update", "skipped", "skip_reason")
    return run.with_columns(pl.when(~pl.col("skipped").fill_null(False)).then(pl.exclude(kept)))


def same(found: Sequence[Value], expected: Sequence[Value]) -> None:
    """Nulls where nulls are expected, NaN where NaN; else the same number to 12 digits."""
    assert [value is None for value in found] == [value is None for value in expected]
    there = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None]
    assert [a for a, _ in there] == pytest.approx([b for _, b in there], rel=1e-12, abs=1e-14, nan_ok=True)


# ---------------------------------------------------------------------- the same in plain Python


def divided(above: float, below: float) -> float:
    """A quotient as floats have it: dividing by zero gives an infinity or NaN."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return float(np.float64(above) / np.float64(below))


def finite(value: Value) -> Value:
    """The value, None if it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def median_at(values: Sequence[Value], i: int, count: int, least: int) -> Value:
    """Median of what is there among the last `count` values up to and with the i-th."""
    there = [value for value in values[max(0, i - count + 1) : i + 1] if value is not None]
    return statistics.median(there) if len(there) >= least else None


def rolling(values: Sequence[Value], count: int, least: int) -> list[Value]:
    """`median_at` of every row."""
    return [median_at(values, i, count, least) for i in range(len(values))]


def usual_of(columns: Columns) -> list[Value]:
    """Root of the mean square of the return_std so far."""
    squares: list[float] = []
    usual: list[Value] = []
    for std in columns["return_std"]:
        squares += [std**2] if finite(std) is not None and std is not None else []
        usual.append(math.sqrt(math.fsum(squares) / len(squares)) if squares else None)
    return usual


def error_of(columns: Columns) -> list[Value]:
    """Normalised value loss."""
    found: list[Value] = []
    for loss, other, own, usual, scale in zip(
        columns["value_loss_unclipped"],
        columns["value_loss"],
        columns["return_std"],
        usual_of(columns),
        columns["value_target_scale"],
        strict=True,
    ):
        loss = other if loss is None else loss
        if finite(own) is None or loss is None or own is None or usual is None or max(own, usual) <= 1e-12:
            found.append(None)
        else:
            found.append(2.0 * loss * ((1.0 if scale is None else scale) / max(own, usual)) ** 2)
    return found


def explained_of(columns: Columns) -> list[Value]:
    """Explained variance where returns vary; a NaN of them says nothing."""
    found: list[Value] = []
    for std, usual, value in zip(columns["return_std"], usual_of(columns), columns["explained_variance"], strict=True):
        flat = std is not None and usual is not None and std < 0.5 * usual
        found.append(None if flat else finite(value))
    return found


def spread_of(columns: Columns) -> list[Value]:
    """Spread of values over spread of returns."""
    return [
        None if finite(a) is None or finite(b) is None or a is None or b is None or b <= 1e-12 else a / b
        for a, b in zip(columns["value_std"], columns["return_std"], strict=True)
    ]


def collapse_of(columns: Columns) -> list[Value]:
    """How far the spread is below its maximum while the loss falls."""
    loss = rolling([finite(x) for x in columns["value_loss"]], 10, 5)
    spread = rolling(spread_of(columns), 10, 5)
    found: list[Value] = []
    for i, (now, width) in enumerate(zip(loss, spread, strict=True)):
        before = loss[i - 10] if i >= 10 else None
        if now is None or before is None or width is None:
            found.append(None)
            continue
        most = max(x for x in spread[max(0, i - 49) : i + 1] if x is not None)
        found.append((now < before) * (1.0 - divided(width, most)))
    return found


def fall_of(columns: Columns) -> list[Value]:
    """Fraction by which the loss fell in 30 updates, where explained variance gives no reason."""
    loss = rolling([finite(x) for x in columns["value_loss"]], 10, 5)
    explained = rolling(explained_of(columns), 10, 5)
    found: list[Value] = []
    for i, (now, ev) in enumerate(zip(loss, explained, strict=True)):
        before, ev_before = (loss[i - 30], explained[i - 30]) if i >= 30 else (None, None)
        if now is None or before is None or ev is None or (ev <= 0.5 and ev_before is None):
            sound = ev is not None and ev > 0.5 and now is not None and before is not None
            found.append(0.0 if sound else None)
            continue
        unsound = ev <= 0.5 and ev_before is not None and ev - ev_before < 0.05
        found.append(unsound * (1.0 - divided(now, before)))
    return found


def windowed_ratio_of(columns: Columns) -> list[Value]:
    """Medians of ten over each other."""
    value = rolling([finite(x) for x in columns["value_loss"]], 10, 5)
    policy = rolling([None if finite(x) is None or x is None else abs(x) for x in columns["policy_loss"]], 10, 5)
    return [None if a is None or b is None else divided(a, b) for a, b in zip(value, policy, strict=True)]


def ratio_drift_of(columns: Columns) -> list[Value]:
    """Windowed ratio over its median in rows 10 to 29."""
    ratio = windowed_ratio_of(columns)
    beginning = [x for x in ratio[10:30] if x is not None]
    base = statistics.median(beginning) if beginning else None
    return [None if i < 30 or base is None or now is None else divided(now, base) for i, now in enumerate(ratio)]


def below_start_of(columns: Columns) -> list[Value]:
    """Fall of the return below the beginning, relative to its size."""
    returns = [finite(x) for x in columns["episode_return_mean"]]
    first = [x for x in returns[:5] if x is not None]
    steps = [None if a is None or b is None else b - a for a, b in pairwise(returns[:10])]
    bends = [abs(b - a) for a, b in pairwise(steps) if a is not None and b is not None]
    start = statistics.median(first) if first else None
    found: list[Value] = []
    for i, now in enumerate(rolling(returns, 10, 3)):
        if i < 10 or now is None or start is None:
            found.append(None)
            continue
        noise = MAD / math.sqrt(6.0) * statistics.median(bends) if bends else 0.0
        found.append(divided(start - now, abs(start)) if abs(start) >= 5.0 * noise else None)
    return found


def bulk_of(columns: Columns) -> list[Value]:
    """Clip fraction where no ratio is far off; nothing is beyond NaN."""
    return [
        None
        if most is None or clip is None or share is None
        else float(math.isnan(clip) or most <= 1.0 + 2.5 * clip) * share
        for most, clip, share in zip(columns["ratio_max"], columns["clip_range"], columns["clip_fraction"], strict=True)
    ]


def mean_entropy_of(columns: Columns) -> list[Value]:
    """Mean of five, null where one is missing."""
    found: list[Value] = []
    for i in range(len(columns["entropy"])):
        last = discrete_of(columns)[max(0, i - 4) : i + 1]
        there = [x for x in last if x is not None]
        found.append(float(np.mean(there)) if len(there) == 5 else None)
    return found


def velocity_of(columns: Columns) -> list[Value]:
    """Mean of five against the mean of the five before, per update."""
    mean = mean_entropy_of(columns)
    before = [None] * 5 + mean[:-5]
    return [None if a is None or b is None else (a - b) / 5.0 for a, b in zip(mean, before, strict=True)]


def risk_of(columns: Columns) -> list[Value]:
    """Share of the way to 0.1 nats that 20 updates cover."""
    found: list[Value] = []
    for speed, mean in zip(velocity_of(columns), mean_entropy_of(columns), strict=True):
        if speed is None or mean is None:
            found.append(None)
        else:
            ahead = divided(-20.0 * speed, mean - 0.1 if not mean < 0.1 + 1e-12 else 1e-12)
            found.append(ahead if math.isnan(ahead) else min(max(ahead, 0.0), 1.0))
    return found


def before_of(values: Sequence[Value]) -> list[Value]:
    """Median of the 50 before."""
    return [None, *rolling(values, 50, 20)[:-1]]


def spike_of(columns: Columns) -> list[Value]:
    """Robust z-score against the 50 before."""
    values = [finite(x) for x in columns["value_loss"]]
    middle = before_of(values)
    deviation = [None if a is None or b is None else a - b for a, b in zip(values, middle, strict=True)]
    usual = [None, *rolling([None if x is None else abs(x) for x in deviation], 50, 20)[:-1]]
    return [
        None if a is None or b is None or c is None else divided(a, max(MAD * b, 0.01 * abs(c)))
        for a, b, c in zip(deviation, usual, middle, strict=True)
    ]


def plateau_of(columns: Columns) -> list[Value]:
    """Range of 50 over the median before."""
    values = [finite(x) for x in columns["value_loss"]]
    found: list[Value] = []
    for i, middle in enumerate(before_of(values)):
        last = [x for x in values[max(0, i - 49) : i + 1] if x is not None]
        found.append(None if len(last) < 50 or middle is None else divided(max(last) - min(last), abs(middle)))
    return found


def discrete_of(columns: Columns) -> list[Value]:
    """Entropy unless it, or a log-probability, shows a density."""
    return [
        None if entropy is None or entropy < 0.0 or (top is not None and (top > 0.0 or math.isnan(top))) else entropy
        for entropy, top in zip(columns["entropy"], columns["log_prob_max"], strict=True)
    ]


def unscaled_of(columns: Columns) -> list[Value]:
    """Value loss where nothing else is known."""
    return [
        None if std is not None or ev is not None or finite(loss) is None or loss is None or loss < 0.0 else loss
        for loss, std, ev in zip(
            columns["value_loss"], columns["return_std"], columns["explained_variance"], strict=True
        )
    ]


def skips_of(columns: Columns) -> list[Value]:
    """Skipped ones of the last three, 0 where this one was not."""
    skipped = [bool(x) for x in columns["skipped"]]
    return [float(sum(skipped[max(0, i - 2) : i + 1]) * skipped[i]) for i in range(len(skipped))]


JUDGED: dict[str, tuple[Callable[[], pl.Expr], Callable[[Columns], list[Value]]]] = {
    "skipped": (signals.skipped_of_three, skips_of),
    "explained_where_varied": (signals.explained_where_varied, explained_of),
    "critic_error": (signals.critic_error, error_of),
    "value_spread": (signals.value_spread, spread_of),
    "unscaled_value_loss": (signals.unscaled_value_loss, unscaled_of),
    "value_collapse": (signals.value_collapse, collapse_of),
    "unexplained_fall": (signals.unexplained_fall, fall_of),
    "return_below_start": (signals.return_below_start, below_start_of),
    "clipped_in_bulk": (signals.clipped_in_bulk, bulk_of),
    "entropy_collapse_risk": (signals.entropy_collapse_risk, risk_of),
    "value_loss_spike": (lambda: signals.spike_score("value_loss"), spike_of),
    "value_loss_plateau": (lambda: signals.plateau("value_loss"), plateau_of),
    "loss_ratio_drift": (signals.loss_ratio_drift, ratio_drift_of),
    "entropy": (signals.discrete_entropy, discrete_of),
    "explained_variance": (signals.explained_where_varied, explained_of),
}
"""By the name of the rule that watches it: the signal on its own, and the same in plain Python."""

OTHERS: dict[str, tuple[Callable[[], pl.Expr], Callable[[Columns], list[Value]]]] = {
    "usual_return_std": (signals.usual_return_std, usual_of),
    "windowed_loss_ratio": (signals.windowed_loss_ratio, windowed_ratio_of),
    "mean_entropy": (signals.mean_entropy, mean_entropy_of),
    "entropy_velocity": (signals.entropy_velocity, velocity_of),
    "finite": (lambda: signals.finite("kl_divergence"), lambda c: [finite(x) for x in c["kl_divergence"]]),
    "nonfinite": (
        lambda: signals.nonfinite("kl_divergence"),
        lambda c: [None if x is None else float(not math.isfinite(x)) for x in c["kl_divergence"]],
    ),
    "smoothed": (
        lambda: signals.smoothed("kl_divergence"),
        lambda c: rolling([finite(x) for x in c["kl_divergence"]], 10, 5),
    ),
    "median_before": (
        lambda: signals.median_before("kl_divergence"),
        lambda c: before_of([finite(x) for x in c["kl_divergence"]]),
    ),
}

ALL = JUDGED | OTHERS

FROM_THE_BEGINNING = {"usual_return_std", "explained_where_varied", "critic_error", "return_below_start"}
FROM_THE_BEGINNING |= {"explained_variance", "unexplained_fall", "loss_ratio_drift"}
"""Signals with a part that the Judge keeps in its baselines, since it reaches back to the first row."""


@pytest.fixture(scope="module")
def messy() -> pl.DataFrame:
    """400 rows of a messy run, as they are judged."""
    return as_judged(messy_run(400))


def columns_of(frame: pl.DataFrame) -> Columns:
    """A frame as lists of floats."""
    return {
        name: [None if value is None else float(value) for value in frame[name].to_list()]
        for name, dtype in frame.schema.items()
        if dtype.is_numeric() or dtype == pl.Boolean
    }


@pytest.mark.parametrize("name", ALL)
def test_a_signal_is_what_plain_python_says(name: str, messy: pl.DataFrame) -> None:
    """In each row of a messy run, nulls, NaN and infinities included; and it says something in most runs."""
    expression, plain = ALL[name]
    whole_losses = pl.col("value_loss").replace([None, NAN, INF], 0.5)
    for run in (messy, as_judged(messy_run(150, seed=1)).with_columns(whole_losses)):
        found = run.select(expression().cast(pl.Float64)).to_series().to_list()
        same(found, plain(columns_of(run)))
    assert any(value is not None for value in found)


def test_all_that_rules_watch_is_tried() -> None:
    """No signal that a rule watches is missing here, nor one that this module offers."""
    assert set(SIGNALS) <= set(JUDGED)
    offered = {name for name, one in vars(signals).items() if callable(one) and one.__module__ == signals.__name__}
    elsewhere = {"entropy_clip_correlation", "loss_ratio_baseline", "return_start", "return_size", "median_of"}
    renamed = {"skipped_of_three", "discrete_entropy", "spike_score", "plateau"}
    assert {name for name in offered if not name.startswith("_")} <= {*ALL, *elsewhere, *renamed}


@pytest.mark.parametrize("name", ALL)
def test_no_signal_looks_ahead(name: str, messy: pl.DataFrame) -> None:
    """What comes later changes nothing of what was said before, and an all-null or empty run raises nothing."""
    expression = ALL[name][0]().cast(pl.Float64)
    whole = messy.select(expression).to_series()
    for rows in (0, 1, 2, 9, 10, 11, 29, 30, 31, 200):
        same(messy.head(rows).select(expression).to_series().to_list(), whole.head(rows).to_list())
    nothing = pl.DataFrame({"update": range(60)}, schema_overrides=SCHEMA)
    nothing = nothing.with_columns(pl.lit(None, dtype).alias(one) for one, dtype in SCHEMA.items() if one != "update")
    found = nothing.select(expression).to_series()
    assert found.null_count() == 60 or (name == "skipped" and found.to_list() == [0.0] * 60)


@pytest.mark.parametrize("name", sorted(set(ALL) - FROM_THE_BEGINNING))
def test_context_rows_are_enough(name: str, messy: pl.DataFrame) -> None:
    """A row with `CONTEXT_ROWS` before it gives the same as with all of them."""
    expression = ALL[name][0]().cast(pl.Float64)
    whole = messy.select(expression).to_series()
    for end in range(messy.height - 60, messy.height + 1):
        part = messy[end - signals.CONTEXT_ROWS - 1 : end]
        same(part.select(expression).to_series().tail(1).to_list(), whole[end - 1 : end].to_list())


def test_context_rows_are_needed() -> None:
    """The spike score looks at all of them: with one fewer it says something else."""
    score = signals.spike_score("value_loss")
    differ = []
    for seed in range(20):
        losses = pl.DataFrame({"value_loss": np.random.default_rng(seed).lognormal(size=signals.CONTEXT_ROWS + 1)})
        of_all, of_fewer = (part.select(score).tail(1).item() for part in (losses, losses.tail(signals.CONTEXT_ROWS)))
        differ.append(of_all != of_fewer)
    assert any(differ)


@pytest.mark.parametrize("portion", [1, 37])
def test_the_judge_sees_what_the_functions_give(portion: int) -> None:
    """Row by row, from its baselines and parts, what the functions say of the whole run, for every rule."""
    for seed in (2, 3):
        run = messy_run(170, seed)
        judged = as_judged(run)
        expected = judged.select(
            (JUDGED[rule.name][0]() if rule.name in JUDGED else rule.value).cast(pl.Float64).alias(rule.name)
            for rule in RULES.values()
        )
        judge = Judge()
        for start in range(0, run.height, portion):
            judge.advance(run[start : start + portion])
            found = judge.values()
            same(list(found.values()), list(expected.row(min(start + portion, run.height) - 1)))
            assert not any(math.copysign(1.0, value) < 0.0 for value in found.values() if value == 0.0)
        assert list(found) == expected.columns
