"""Every signal against the same number in plain Python, on messy runs: as a frame, row by row, and by the judge.

A test fails until a signal that a rule watches, or that the module offers, is listed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, repeat

import numpy as np
import polars as pl
import pytest
from tests.analyzer.judging.plain import (
    INF,
    MAD,
    NAN,
    Columns,
    Value,
    as_judged,
    baseline_of,
    before_of,
    below_floor_of,
    columns_of,
    course_of,
    divided,
    explainable_of,
    explained_of,
    finite,
    finites,
    messy_run,
    real_run,
    relative_of,
    rolling,
    rows_of,
    same,
    spread_of_returns,
    squared,
    usual_of,
    windowed_ratio_of,
)

from esper_analyzer.judging import signals
from esper_analyzer.judging.goal import GoalCourse
from esper_analyzer.judging.judge import Judge, numbers_of
from esper_analyzer.judging.reference import ReferenceCourse
from esper_analyzer.judging.returns import PROGRESS
from esper_analyzer.judging.rules import RULES, SIGNALS
from esper_analyzer.judging.watched import LITTLE, RECOVERS
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas.metric.payload import METRICS

# ---------------------------------------------------------------------- the same in plain Python


def zeros_of(columns: Columns) -> list[Value]:
    """1 where both losses are 0 and the critic had not come to be perfect."""
    found: list[Value] = []
    names = ("value_loss", "policy_loss", "past_value_loss", "newest_value_loss")
    for value, policy, past, newest in rows_of(columns, *names):
        was_perfect = past is not None and newest is not None and newest < 1e-4 * past
        found.append(float(value == 0.0 and policy == 0.0 and not was_perfect))
    return found


def explosion_of(columns: Columns) -> list[Value]:
    """Decades above the past, but no more than the squared error is above twice the variance of the targets."""
    found: list[Value] = []
    names = ("value_loss", "explained_variance", "return_std", "value_target_scale", "past_value_loss")
    for loss, explained, std, scale, past in rows_of(columns, *names):
        loss, explained, std, scale = finite(loss), finite(explained), finite(std), finite(scale)
        if loss is None or past is None:
            found.append(None)
            continue
        if explained is not None and explained > 0.2:
            found.append(0.0)
            continue
        decades = max(math.log10(max(loss, 1e-12) / past), 0.0)
        of_targets = None if std is None else divided(std, 1.0 if scale is None else scale)
        if of_targets is not None and of_targets > 1e-12:  # infinite targets are above every loss
            share = divided(max(loss, 1e-12), squared(of_targets))
            decades = min(decades, math.log10(share) if share > 1.0 else 0.0)
        found.append(decades)
    return found


def error_of(columns: Columns) -> list[Value]:
    """Normalised value loss."""
    found: list[Value] = []
    measured = rows_of(columns, "value_loss_unclipped", "value_loss", "return_std", "value_target_scale")
    for (loss, other, own, scale), usual in zip(measured, usual_of(columns), strict=True):
        loss, own = other if loss is None else loss, finite(own)
        std = None if own is None else own if usual is None else max(own, usual)
        if loss is None or std is None or std <= 1e-12:
            found.append(None)
        else:
            found.append(2.0 * loss * squared((1.0 if scale is None else scale) / std))
    return found


def spread_of(columns: Columns) -> list[Value]:
    """Spread of values over spread of returns, where there is something to explain."""
    found: list[Value] = []
    for (a, b), could in zip(rows_of(columns, "value_std", "return_std"), explainable_of(columns), strict=True):
        a, b = finite(a), finite(b)
        found.append(None if a is None or b is None or b <= 1e-12 or not could else a / b)
    return found


def explained_long_of(columns: Columns) -> list[Value]:
    """Median of 20, of at least 14."""
    return rolling(explained_of(columns), 20, 14)


def is_early_of(columns: Columns) -> list[bool]:
    """Whether the critic has not had its 28 updates and three for every two units of its largest error."""
    needed = [None if loss is None else 28 + 1.5 * math.sqrt(2 * loss) for loss in columns["past_value_loss"]]
    return [most is not None and i + 1 <= most for i, most in enumerate(needed)]


def is_flat_of(columns: Columns, explained: list[Value]) -> list[bool]:
    """Whether a critic says nearly the same of every state: a spread of 0.1, or where there is none |EV| of 0.005."""
    spreads = rolling(spread_of(columns), 10, 5)
    pairs = zip(explained, spreads, strict=True)
    return [value is not None and (abs(value) <= 0.005 if b is None else b <= 0.1) for value, b in pairs]


def explains_nothing_of(columns: Columns) -> list[Value]:
    """That median, or an explained variance that is well above 0, where no outcome contradicts."""
    names = ("explained", "return_rise", "mean_rise", "return_fall", "return_unmoved", "unrisen", "return_is_lowest")
    found: list[Value] = []
    newest = zip(columns["explained"], explained_long_of(columns), strict=True)
    nows = [value if value is not None and value > RECOVERS else long for value, long in newest]
    others = zip(nows, columns["return_std"], is_early_of(columns), is_flat_of(columns, nows), strict=True)
    for row, (now, std, is_early, is_flat) in zip(rows_of(columns, *names), others, strict=True):
        _, of_returns, of_means, fall, unmoved, unrisen, is_lowest = row
        rise = of_means if of_returns is None else of_returns
        has_fallen = fall is not None and fall > 0.5
        has_risen = rise is not None and rise >= PROGRESS and not has_fallen
        is_open = not has_fallen and (unrisen is None or unrisen < 15)
        says_nothing = unmoved is not None and (unmoved > 0 or is_open)
        if has_risen or says_nothing or is_lowest == 1:
            found.append(None)
        else:
            says_all_the_same = now is not None and -1e-6 <= now <= 1e-6
            is_unknown = unmoved is of_means is std is None
            is_asked = is_flat and not is_early and not is_unknown
            found.append(now if is_asked or says_all_the_same else None)
    return found


def rise_of(columns: Columns) -> list[Value]:
    """How far the return has risen; where there is none, the mean of the returns."""
    return [b if a is None else a for a, b in rows_of(columns, "return_rise", "mean_rise")]


def entropy_unrisen_of(columns: Columns) -> list[Value]:
    """The entropy of discrete actions where the return has not risen, or has lost more than half of its gain."""
    found: list[Value] = []
    for entropy, rise, fall in zip(discrete_of(columns), rise_of(columns), columns["return_fall"], strict=True):
        has_risen = rise is not None and rise >= PROGRESS and not (fall is not None and fall > 0.5)
        found.append(None if has_risen else entropy)
    return found


def unmoved_policy_of(columns: Columns) -> list[Value]:
    """For how many updates the policy has not moved; 0 where the return has risen clearly, or is mostly the lowest."""
    found: list[Value] = []
    rows = rows_of(columns, "policy_unmoved", "return_start", "return_now", "return_is_lowest")
    for (unmoved, start, now, is_lowest), rise in zip(rows, rise_of(columns), strict=True):
        has_risen = rise is not None and rise >= PROGRESS
        if start is not None and now is not None:
            has_risen = has_risen and not now - start < LITTLE * max(abs(start), abs(now))
        found.append(0.0 if unmoved is not None and (has_risen or is_lowest == 1) else unmoved)
    return found


def fall_for_good_of(columns: Columns) -> list[Value]:
    """The lost part of the gain where five entropies have a mean below 0.01; 0 where it is higher."""
    pairs = zip(columns["return_fall"], mean_entropy_of(columns), strict=True)
    return [None if a is None or b is None else a if b < 0.01 else 0.0 for a, b in pairs]


def far_from_goal_of(columns: Columns) -> list[Value]:
    """Updates far from the goal; 0 where the return has risen beyond its noise, and kept half of its gain."""
    found: list[Value] = []
    for far, rise, fall in zip(columns["far_from_goal"], rise_of(columns), columns["return_fall"], strict=True):
        has_risen = rise is not None and rise >= PROGRESS and not (fall is not None and fall > 0.5)
        found.append(0.0 if far is not None and has_risen else far)
    return found


def policy_wanders_of(columns: Columns) -> list[Value]:
    """The way of the policy; 0 until 40 measured returns did not rise."""
    pairs = rows_of(columns, "path_unrisen", "unrisen")
    return [0.0 if path is not None and (unrisen is None or unrisen < 40) else path for path, unrisen in pairs]


def unless_sliding(plain: Plain) -> Plain:
    """The same, but null where the return is a sliding mean."""

    def made(columns: Columns) -> list[Value]:
        pairs = zip(plain(columns), columns["return_slides"], strict=True)
        return [None if slides else value for value, slides in pairs]

    return made


def stalled_of(columns: Columns) -> list[Value]:
    """For how long the return has not risen; not in a bandit."""
    pairs = zip(columns["return_stalled"], finites(columns["episode_length_mean"]), strict=True)
    return [None if length is not None and length < 1.5 else stalled for stalled, length in pairs]


def does_not_rise_of(columns: Columns) -> list[bool]:
    """Whether the return is known not to have risen lately, and not to be always the same."""
    pairs = rows_of(columns, "rise_lately", "return_unmoved")
    return [rise is not None and rise < PROGRESS and unmoved == 0.0 for rise, unmoved in pairs]


def bandit_unrisen_of(columns: Columns) -> list[Value]:
    """Updates without a rise where episodes have one step and the entropy is that of a fresh policy."""
    found: list[Value] = []
    pairs = zip(columns["unrisen"], finites(columns["episode_length_mean"]), discrete_of(columns), strict=True)
    for unrisen, length, entropy in pairs:
        found.append(unrisen if length is not None and length < 1.5 and entropy is not None else None)
    return found


def unexplained_for_long_of(columns: Columns) -> list[Value]:
    """Median explained variance of 20 of a flat critic, where the return does not rise, and is not mostly lowest."""
    there = zip(does_not_rise_of(columns), columns["return_is_lowest"], is_early_of(columns), strict=True)
    asked = [still and is_lowest != 1 and not is_early for still, is_lowest, is_early in there]
    longs = explained_long_of(columns)
    there_and_flat = zip(longs, asked, is_flat_of(columns, longs), strict=True)
    return [long if is_asked and is_flat else None for long, is_asked, is_flat in there_and_flat]


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


def ratio_drift_of(columns: Columns) -> list[Value]:
    """Windowed ratio over its median in rows 10 to 29."""
    pairs = zip(windowed_ratio_of(columns), baseline_of(columns), strict=True)
    return [None if now is None or base is None else divided(now, base) for now, base in pairs]


def bulk_of(columns: Columns) -> list[Value]:
    """Clip fraction where no ratio is far off."""
    found: list[Value] = []
    for row in rows_of(columns, "ratio_max", "clip_range", "clip_fraction"):
        most, clip, share = map(finite, row)
        found.append(None if most is None or clip is None or share is None else float(most <= 1.0 + 2.5 * clip) * share)
    return found


def discrete_of(columns: Columns) -> list[Value]:
    """Entropy until it, or a log-probability, has shown a density."""
    pairs = zip(columns["entropy"], relative_of(columns), strict=True)
    return [None if is_density else entropy for entropy, is_density in pairs]


def mean_entropy_of(columns: Columns) -> list[Value]:
    """Mean of five that are finite; none where there are fewer."""
    entropy = finites(discrete_of(columns))
    found: list[Value] = []
    for i in range(len(entropy)):
        there = [x for x in entropy[max(0, i - 4) : i + 1] if x is not None]
        found.append(sum(there) / 5.0 if len(there) == 5 else None)
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


def skips_of(columns: Columns) -> list[Value]:
    """Skipped ones of the last three, 0 where this one was not."""
    skipped = [bool(x) for x in columns["skipped"]]
    return [float(sum(skipped[max(0, i - 2) : i + 1]) * skipped[i]) for i in range(len(skipped))]


Plain = Callable[[Columns], list[Value]]
"""Makes a signal of a run, of its recorded columns and those of the course."""


def of_course(name: str) -> Plain:
    """A column of the course."""
    return lambda columns: columns[name]


def of_metric(name: str) -> Plain:
    """A metric of the table as its bands apply."""
    bands = METRICS[name].bands
    spread = None if bands is None else bands.only_if

    def plain(columns: Columns) -> list[Value]:
        if spread is None:
            return columns[name]
        found: list[Value] = []
        for value, low, high in rows_of(columns, name, spread.low, spread.high):
            found.append(value if low is not None and high is not None and high - low < spread.bound else None)
        return found

    return plain


def as_float(expression: pl.Expr) -> pl.Expr:
    """An expression as Float64."""
    return expression.cast(pl.Float64)


past, newest = pl.col("past_value_loss"), pl.col("newest_value_loss")

JUDGED: dict[str, tuple[pl.Expr | None, Plain]] = {
    "impossible_value_loss": (None, of_metric("value_loss")),
    "skipped": (signals.skipped_of_three(), skips_of),
    "losses_are_zero": (signals.losses_are_zero(past, newest), zeros_of),
    "explosion": (signals.explosion(past), explosion_of),
    "error_beyond_returns": (None, of_course("error_beyond_returns")),
    "policy_unmoved": (None, unmoved_policy_of),
    "entropy_unrisen": (None, entropy_unrisen_of),
    "clipped_in_bulk": (signals.clipped_in_bulk(), bulk_of),
    "return_fall": (None, of_course("return_fall")),
    "return_falling": (None, of_course("return_falling")),
    "fall_for_good": (None, unless_sliding(fall_for_good_of)),
    "return_below_start": (None, of_course("return_below_start")),
    "far_from_goal": (None, unless_sliding(far_from_goal_of)),
    "no_nearer_to_goal": (None, of_course("no_nearer_to_goal")),
    "below_reference": (None, of_course("below_reference")),
    "far_below_reference": (None, of_course("far_below_reference")),
    "critic_below_reference": (None, of_course("critic_below_reference")),
    "return_stalled": (None, stalled_of),
    "policy_wanders": (None, policy_wanders_of),
    "bandit_unrisen": (None, bandit_unrisen_of),
    "return_at_lowest": (None, of_course("return_at_lowest")),
    "entropy_at_ceiling": (None, of_course("entropy_at_ceiling")),
    "return_below_first": (None, unless_sliding(of_course("return_below_first"))),
    "return_unmoved": (None, of_course("return_unmoved")),
    "entropy_collapse_risk": (signals.entropy_collapse_risk(), risk_of),
    "explains_nothing": (None, explains_nothing_of),
    "unexplained_for_long": (None, unexplained_for_long_of),
    "explained_where_varied": (signals.explained_where_varied(), explained_of),
    "critic_below_floor": (None, below_floor_of),
    "value_loss_bounds": (None, lambda columns: finites(columns["value_loss"])),
    "critic_error": (signals.critic_error(), error_of),
    "value_spread": (signals.value_spread(), spread_of),
    "value_collapse": (signals.value_collapse(), collapse_of),
    "unexplained_fall": (signals.unexplained_fall(), fall_of),
    "value_loss_spike": (signals.spike_score("value_loss"), spike_of),
    "value_loss_plateau": (signals.plateau("value_loss"), plateau_of),
    "loss_ratio_drift": (signals.loss_ratio_drift(), ratio_drift_of),
    "entropy": (signals.discrete_entropy(), discrete_of),
    "explained_variance": (signals.explained_where_varied(), explained_of),
}
"""By the name of the rule that watches it: the signal on its own, if the module offers it, and in plain Python."""

OTHERS: dict[str, tuple[pl.Expr, Plain]] = {
    "return_spread": (signals.return_spread(), spread_of_returns),
    "usual_return_std": (signals.usual_return_std(), usual_of),
    "has_something_to_explain": (signals.has_something_to_explain(), explainable_of),
    "explained_for_long": (signals.explained_for_long(), explained_long_of),
    "is_relative": (signals.is_relative(), relative_of),
    "windowed_loss_ratio": (signals.windowed_loss_ratio(), windowed_ratio_of),
    "mean_entropy": (signals.mean_entropy(), mean_entropy_of),
    "entropy_velocity": (signals.entropy_velocity(), velocity_of),
    "finite": (signals.finite("kl_divergence"), lambda c: finites(c["kl_divergence"])),
    "nonfinite": (
        signals.nonfinite("kl_divergence"),
        lambda c: [None if x is None else float(not math.isfinite(x)) for x in c["kl_divergence"]],
    ),
    "smoothed": (signals.smoothed("kl_divergence"), lambda c: rolling(finites(c["kl_divergence"]), 10, 5)),
    "median_before": (signals.median_before("kl_divergence"), lambda c: before_of(finites(c["kl_divergence"]))),
}

ALONE = {name: one for name, one in JUDGED.items() if one[0] is not None} | OTHERS

FROM_THE_BEGINNING = {"usual_return_std", "has_something_to_explain", "is_relative", "loss_ratio_drift"}
FROM_THE_BEGINNING |= {"explained_where_varied", "explained_variance", "explained_for_long", "unexplained_fall"}
FROM_THE_BEGINNING |= {"critic_error", "value_spread", "value_collapse"}
FROM_THE_BEGINNING |= {"entropy", "mean_entropy", "entropy_velocity", "entropy_collapse_risk"}
"""Signals with a part that the judge takes from the course, since it reaches back to the first row."""

ROUNDED = {"explosion", "error_beyond_returns", "critic_below_floor"}
"""Signals that are rounded to 9 decimals."""

RUNS = {"messy": messy_run(400), "messier": messy_run(170, seed=1), "real": real_run(240)}
RUNS["whole"] = RUNS["messier"].with_columns(pl.col("value_loss").replace([None, NAN, INF], 0.5))
RUNS["zeros"] = real_run(
    60, value_loss=[1.0] * 30 + [0.0] * 30, policy_loss=[0.1] * 30 + [0.0] * 30, explained_variance=[None] * 60
)
RUNS["explodes"] = real_run(
    60, value_loss=[1.0 * 40 ** max(0, i - 50) for i in range(60)], return_std=[None] * 60
).with_columns(explained_variance=pl.lit(None, pl.Float64))
RUNS["worse"] = real_run(
    150,
    episode_return_mean=[100.0 + i % 5 - min(i, 120) / 2.0 for i in range(150)],
    value_loss=[1000.0 * 0.97**i for i in range(150)],
    explained_variance=[0.2 + 0.01 * (i % 3) for i in range(150)],
)
RUNS["huge"] = real_run(
    60,
    value_loss=[1e-3] * 40 + [1e300] * 20,
    return_std=([1.0, 1e200, INF, 1e-5] * 15),
    value_target_scale=[1.0, 1e-200, 0.0, INF, 1e200] * 12,
    explained_variance=[None] * 60,
)
RUNS["frozen"] = real_run(
    90,
    kl_divergence=[1e-5] * 90,
    entropy=[0.69] * 90,
    episode_return_mean=[100.0 + 10.0 * (i % 5) for i in range(90)],
)
RUNS["seldom_paid"] = real_run(
    90,
    kl_divergence=[1e-7] * 90,
    entropy=[0.69] * 90,
    episode_return_mean=[1.0 * (i % 9 == 4 or i in (60, 61, 63, 64, 65)) for i in range(90)],
)
RUNS["below_first"] = real_run(
    120,
    episode_return_mean=[100.0] * 10 + [40.0 + i % 3 for i in range(110)],
    episode_length_mean=[200.0] * 120,
)
RUNS["flat"] = real_run(  # and not flat, and then of an unknown spread
    200,
    episode_return_mean=[100.0 + 10.0 * (i % 5) for i in range(200)],
    explained_variance=[0.004 * (i % 4) - 0.002 + 0.0001 * (i - 100) for i in range(200)],
    value_std=[0.05] * 70 + [0.2] * 40 + [None] * 90,
    return_std=[1.0] * 200,
    return_mean=[1.0] * 200,
    value_loss=[0.5] * 200,
)
RUNS["arrives"] = real_run(  # the error falls, and by its largest one a critic has 95 updates more
    160,
    episode_return_mean=[100.0 + 10.0 * (i % 5) for i in range(160)],
    explained_variance=[0.0005 * (i % 7) for i in range(160)],
    value_std=[0.02] * 160,
    return_std=[1.0] * 160,
    return_mean=[1.0] * 160,
    value_loss=[2000.0 * 0.9**i for i in range(160)],
)
RUNS["bandit"] = real_run(
    120,
    kl_divergence=[0.01] * 120,
    entropy=[1.38] * 120,
    explained_variance=[0.0] * 120,
    episode_length_mean=[1.0] * 120,
    episode_return_mean=[1.0 + 0.1 * (7 * i % 5) for i in range(120)],
)
RUNS["fallen"] = real_run(
    240,
    episode_return_mean=[None if i % 3 == 0 else 20.0 + i % 2 + 180.0 * (40 <= i < 90) for i in range(240)],
    entropy=[max(0.69 - 0.005 * i, 1e-9) for i in range(240)],
)
RUNS["diverges"] = real_run(
    60, value_loss=[3.0 ** max(0, i - 30) for i in range(60)], episode_return_mean=[10.0 + i % 3 for i in range(60)]
)
RUNS["never_paid"] = real_run(120, episode_return_mean=[0.0] * 120)
RUNS["fixed"] = real_run(240, entropy=[max(0.69 - 0.005 * i, 1e-9) for i in range(240)])


@cache
def columns_of_run(run: str) -> Columns:
    """One of these runs as it is judged, with the course in plain Python."""
    columns = columns_of(as_judged(RUNS[run]))
    return columns | course_of(columns)


@cache
def plain_of(run: str, name: str) -> list[Value]:
    """What plain Python says, of one of these runs and one rule or signal."""
    plain = JUDGED[name][1] if name in JUDGED else OTHERS[name][1] if name in OTHERS else of_metric(name)
    return plain(columns_of_run(run))


def tolerance(name: str) -> float:
    """By how much a number may differ at least."""
    return 1.1e-9 if name in ROUNDED else 1e-14


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", ALONE)
def test_a_signal_is_what_plain_python_says(name: str, run: str) -> None:
    """In each row of a run, nulls, NaN and infinities included, without any help from the course but for the past."""
    expression = ALONE[name][0]
    assert expression is not None
    frame = as_judged(RUNS[run]).with_columns(
        pl.Series(column, columns_of_run(run)[column], pl.Float64)
        for column in ("past_value_loss", "newest_value_loss")
    )
    same(frame.select(as_float(expression)).to_series().to_list(), plain_of(run, name), tolerance(name))


def test_all_that_rules_watch_is_tried() -> None:
    """No rule and no signal that the module offers is missing here, and each says something in one of the runs."""
    assert {*SIGNALS, *(name for name in RULES if name not in METRICS)} <= set(JUDGED)
    offered = {name for name, one in vars(signals).items() if callable(one) and one.__module__ == signals.__name__}
    elsewhere = {"entropy_clip_correlation", "loss_ratio_baseline", "median_of"}
    renamed = {"skipped_of_three", "discrete_entropy", "spike_score", "plateau"}
    assert {name for name in offered if not name.startswith("_")} <= {*ALONE, *elsewhere, *renamed}
    for name in {*RULES, *OTHERS} - {*GoalCourse.NAMES, *ReferenceCourse.NAMES}:  # they need a goal, or references
        values = {value for run in RUNS for value in plain_of(run, name) if value is not None and value == value}
        assert len(values) > 1, name


@pytest.mark.parametrize("name", ALONE)
def test_no_signal_looks_ahead(name: str) -> None:
    """What comes later changes nothing of what was said before, and an all-null or empty run raises nothing."""
    expression = ALONE[name][0]
    assert expression is not None
    messy = as_judged(RUNS["messy"]).with_columns(past_value_loss=0.5, newest_value_loss=0.25)
    whole = messy.select(as_float(expression)).to_series()
    for rows in (0, 1, 2, 9, 10, 11, 29, 30, 31, 200):
        same(messy.head(rows).select(as_float(expression)).to_series().to_list(), whole.head(rows).to_list())
    nothing = pl.DataFrame({"update": range(60)}, schema_overrides=SCHEMA)
    nothing = nothing.with_columns(pl.lit(None, dtype).alias(one) for one, dtype in SCHEMA.items() if one != "update")
    none = pl.lit(None, pl.Float64)
    found = nothing.with_columns(past_value_loss=none, newest_value_loss=none).select(as_float(expression)).to_series()
    constant = {"skipped": 0.0, "losses_are_zero": 0.0, "has_something_to_explain": 1.0, "is_relative": 0.0}
    assert found.to_list() == [constant.get(name)] * 60


@pytest.mark.parametrize("name", sorted(set(ALONE) - FROM_THE_BEGINNING))
def test_context_rows_are_enough(name: str) -> None:
    """A row with `CONTEXT_ROWS` before it gives the same as with all of them."""
    expression = ALONE[name][0]
    assert expression is not None
    messy = as_judged(RUNS["messy"]).with_columns(past_value_loss=0.5, newest_value_loss=0.25)
    whole = messy.select(as_float(expression)).to_series()
    for end in range(messy.height - 60, messy.height + 1):
        part = messy[end - signals.CONTEXT_ROWS - 1 : end]
        same(part.select(as_float(expression)).to_series().tail(1).to_list(), whole[end - 1 : end].to_list())


def test_context_rows_are_needed() -> None:
    """The spike score looks at all of them: with one fewer it says something else."""
    score = signals.spike_score("value_loss")
    differ = []
    for seed in range(20):
        losses = pl.DataFrame({"value_loss": np.random.default_rng(seed).lognormal(size=signals.CONTEXT_ROWS + 1)})
        of_all, of_fewer = (part.select(score).tail(1).item() for part in (losses, losses.tail(signals.CONTEXT_ROWS)))
        differ.append(of_all != of_fewer)
    assert any(differ)


# ---------------------------------------------------------------------- every rule, in both forms


@pytest.mark.parametrize("run", RUNS)
def test_the_frame_form_of_every_rule_is_what_plain_python_says(run: str) -> None:
    """In each row, for each rule."""
    found = numbers_of(RUNS[run].select(Judge().columns))
    assert found.columns == list(RULES)
    for name in RULES:
        try:
            same(found[name].to_list(), plain_of(run, name), tolerance(name))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


@pytest.mark.parametrize("run", RUNS)
def test_both_forms_of_every_rule_give_the_same_bits(run: str) -> None:
    """Not only the same digits: a run that is judged live raises the alerts of the whole run at every bound."""
    whole, judge = numbers_of(RUNS[run].select(Judge().columns)), Judge()
    for i, row in enumerate(RUNS[run].select(judge.columns).iter_rows(named=True)):
        judge.step(row)
        bits = {name: value if value is None else value + 0.0 for name, value in whole.row(i, named=True).items()}
        differ = {name: (a, bits[name]) for name, a in judge.values().items() if repr(a) != repr(bits[name])}
        assert not differ, f"row {i}: {differ}"


PORTIONS: dict[str, Sequence[int]] = {"1": [1], "37": [37], "mixed": [1, 40, 1, 100, 5, 33, 33, 2]}
"""Portions of rows, again and again: row by row, as frames only, and from one form to the other and back."""


@pytest.mark.parametrize("portions", PORTIONS)
@pytest.mark.parametrize("run", RUNS)
def test_the_judge_sees_what_plain_python_says(run: str, portions: str) -> None:
    """After each portion, of every rule: the step form, the frame form, and what each leaves to the other."""
    judge, start = Judge(), 0
    for portion in chain.from_iterable(repeat(PORTIONS[portions])):
        judge.advance(RUNS[run][start : start + portion])
        start = min(start + portion, RUNS[run].height)
        found = judge.values()
        assert list(found) == list(RULES)
        for name, value in found.items():
            try:
                same([value], [plain_of(run, name)[start - 1]], tolerance(name))
            except AssertionError as error:
                raise AssertionError(f"{name} in row {start - 1}: {error}") from None
            assert value != 0.0 or math.copysign(1.0, value) > 0.0, name
        if start == RUNS[run].height:
            break
