"""The numbers that rules watch, in both forms: over a whole frame, and for one row after another.

Those of one metric or signal are made from `signals` and `steps`; those that weigh several against each other are here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from esper_analyzer.judging import signals, steps
from esper_analyzer.judging.course import LEARNING_UPDATES
from esper_analyzer.judging.returns import PROGRESS
from esper_analyzer.judging.steps import Step

RECOVERS = 0.2
"""A critic that explains so much in one update is not one that explains nothing."""

LITTLE = 0.2
"""A return that has risen by less than this share of its size does not show that its policy moves."""

FLAT = 0.1
"""A critic is flat whose predictions spread by at most this share of what the returns do: it cannot explain much."""

HARDLY = 0.005
"""Where nobody recorded the spread, a critic is flat whose explained variance is of at most this size."""

LOST = 0.5
"""A return that has lost more than this part of its gain has not kept it."""

SAME = 1e-6
"""An explained variance of at most this size is 0 in single precision: all predictions are the same."""

TRAVEL = 1.5
"""A critic has so many updates more for each unit of the largest error that it had, √(2·Lv): what it predicts moves by
a limited step with each update, as bounded gradients and a clip of the value loss have it, and unscaled returns are
far away. The largest, since the error falls on the way, and a critic that has just arrived explains nothing yet."""

KNOWN = 15
"""A return that has not risen in so many measured updates contradicts no other sign of a run that learns nothing."""

ENOUGH_UNRISEN = 40
"""The way of a policy counts once the return did not rise in so many measured updates: returns may be rare."""

FIXED = 0.01
"""Nats of entropy below which a policy tries hardly anything but what it does already."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A number in its two forms, which agree: over a whole frame, and for one row after another.

    Attributes:
        frame: expression over the updates, the columns of the course and earlier `PARTS`.
        step: makes a function of a row that keeps what it needs of earlier rows.
        column: the column of the row that has the number already; empty if it has to be made.
    """

    frame: pl.Expr
    step: Callable[[], Step]
    column: str = ""


def of_one_row(frame: pl.Expr, step: Step) -> Signal:
    """A signal that needs no earlier rows."""
    return Signal(frame, lambda: step)


def of_column(name: str) -> Signal:
    """A number that is a column already, recorded or of the course."""
    return Signal(pl.col(name), lambda: steps.column(name), name)


USUAL, EXPLAINABLE, EXPLAINED = pl.col("usual_return_std"), pl.col("explainable"), pl.col("explained")

PARTS: tuple[dict[str, Signal], ...] = (
    {
        "_loss": of_one_row(signals.finite("value_loss"), steps.finite("value_loss")),
        "_spread": of_one_row(signals.value_spread(EXPLAINABLE), steps.value_spread),
        "_entropy": of_one_row(signals.discrete_entropy(pl.col("is_relative")), steps.discrete_entropy),
    },
    {
        "_loss_median": Signal(signals.median_of(pl.col("_loss")), lambda: steps.MedianOf("_loss")),
        "_loss_before": Signal(
            signals.median_before("value_loss", pl.col("_loss")), lambda: steps.MedianBefore("_loss")
        ),
        "_explained_median": Signal(signals.median_of(EXPLAINED), lambda: steps.MedianOf("explained")),
        "_explained_long": Signal(
            signals.explained_for_long(EXPLAINED),
            lambda: steps.MedianOf("explained", signals.EXPLAINED_WINDOW, signals.EXPLAINED_FEWEST),
        ),
        "_spread_median": Signal(signals.median_of(pl.col("_spread")), lambda: steps.MedianOf("_spread")),
        "_mean_entropy": Signal(signals.mean_entropy(pl.col("_entropy")), steps.MeanEntropy),
    },
)
"""Columns that several values are made from; they are added first, in two steps, so that each is computed once."""


def _has_progressed(row: steps.Row) -> bool:
    rise = row["mean_rise"] if row["return_rise"] is None else row["return_rise"]
    return rise is not None and rise >= PROGRESS


_HAS_PROGRESSED = (pl.col("return_rise").fill_null(pl.col("mean_rise")) >= PROGRESS).fill_null(False)


def _has_fallen(row: steps.Row) -> bool:
    fall = row["return_fall"]
    return fall is not None and fall > LOST


_HAS_FALLEN = (pl.col("return_fall") > LOST).fill_null(False)


def _has_had_time(row: steps.Row) -> bool:
    loss, age = row["past_value_loss"], row["age"]
    return loss is None or age is None or age > LEARNING_UPDATES + TRAVEL * math.sqrt(2.0 * loss)


_HAS_HAD_TIME = (pl.col("age") > LEARNING_UPDATES + TRAVEL * (2.0 * pl.col("past_value_loss")).sqrt()).fill_null(True)


def _is_flat(row: steps.Row, explained: float) -> bool:
    spread = row["_spread_median"]
    return abs(explained) <= HARDLY if spread is None else spread <= FLAT


def _all_flat(explained: pl.Expr) -> pl.Expr:
    spread = pl.col("_spread_median")
    return pl.when(spread.is_null()).then(explained.abs() <= HARDLY).otherwise(spread <= FLAT).fill_null(False)


_IS_LOWEST = (pl.col("return_is_lowest") == 1.0).fill_null(False)
_AT_GOAL = (pl.col("at_goal") == 1.0).fill_null(False)


def uncontradicted() -> Signal:
    """Return the explained variance of 20 updates, where neither the newest one nor an outcome contradicts it.

    An outcome contradicts it that has risen and kept its rise, that is at its goal, or that is always the same. One
    that rises, or is measured too rarely to know it yet, leaves the question open: it must not have risen in the last
    `KNOWN` measured updates, or have lost more than half of its gain.

    A critic that says exactly the same of every state counts at once. Another one counts if it says nearly the same
    (`FLAT`), since one whose predictions differ has begun to learn, from returns of which chance decides most. It
    counts once it has had time for returns of this size (`TRAVEL`), and not where neither an outcome nor the deviation
    of the returns is recorded: nobody knows then whether there is anything to explain. Where most returns are the
    lowest one so far, hardly anything was earned, and there is little to explain.
    """

    def step(row: steps.Row) -> float | None:
        has_fallen = _has_fallen(row)
        if (_has_progressed(row) and not has_fallen) or row["at_goal"] == 1.0:
            return None
        unmoved, unrisen, explained = row["return_unmoved"], row["unrisen"], row["explained"]
        is_open = not has_fallen and (unrisen is None or unrisen < KNOWN)
        if (unmoved is not None and (unmoved > 0.0 or is_open)) or row["return_is_lowest"] == 1.0:
            return None
        value = explained if explained is not None and explained > RECOVERS else row["_explained_long"]
        if value is None or abs(value) <= SAME:
            return value
        is_known = unmoved is not None or row["mean_rise"] is not None or row["return_std"] is not None
        return value if is_known and _is_flat(row, value) and _has_had_time(row) else None

    unmoved = pl.col("return_unmoved")
    contradicts = (_HAS_PROGRESSED & ~_HAS_FALLEN) | _AT_GOAL
    is_open = ~_HAS_FALLEN & (pl.col("unrisen") < KNOWN).fill_null(True)
    contradicts |= unmoved.is_not_null() & ((unmoved > 0.0) | is_open) | _IS_LOWEST
    now = pl.when(EXPLAINED > RECOVERS).then(EXPLAINED).otherwise(pl.col("_explained_long"))
    is_known = unmoved.is_not_null() | pl.col("mean_rise").is_not_null() | pl.col("return_std").is_not_null()
    counts = ~contradicts & ((is_known & _all_flat(now) & _HAS_HAD_TIME) | (now.abs() <= SAME).fill_null(False))
    return of_one_row(pl.when(counts).then(now), step)


def policy_unmoved() -> Signal:
    """Return for how many updates the policy has not moved; 0 where the outcome has risen by more than a little.

    0 as well where most returns are the lowest one so far: where nothing is earned there is nothing to follow.
    """

    def step(row: steps.Row) -> float | None:
        unmoved = row["policy_unmoved"]
        if unmoved is None:
            return None
        if row["return_is_lowest"] == 1.0:
            return 0.0
        if not _has_progressed(row):
            return unmoved
        start, now = row["return_start"], row["return_now"]
        is_little = start is not None and now is not None and now - start < LITTLE * max(abs(start), abs(now))
        return unmoved if is_little else 0.0

    unmoved, start, now = pl.col("policy_unmoved"), pl.col("return_start"), pl.col("return_now")
    is_little = (now - start < LITTLE * pl.max_horizontal(start.abs(), now.abs())).fill_null(False)
    is_excused = _IS_LOWEST | (_HAS_PROGRESSED & ~is_little)
    return of_one_row(pl.when(is_excused & unmoved.is_not_null()).then(0.0).otherwise(unmoved), step)


def entropy_unrisen() -> Signal:
    """Return the entropy of discrete actions, unless the return has risen and kept more than half of its gain.

    A policy that has learned its task is sure of what it does, and needs no warning.
    """

    def step(row: steps.Row) -> float | None:
        return None if _has_progressed(row) and not _has_fallen(row) else row["_entropy"]

    return of_one_row(pl.when(~_HAS_PROGRESSED | _HAS_FALLEN).then(pl.col("_entropy")), step)


def far_from_goal() -> Signal:
    """Return for how long no return came a part of the way to the goal; 0 where it rose and kept half of its rise."""

    def step(row: steps.Row) -> float | None:
        far = row["far_from_goal"]
        return 0.0 if far is not None and _has_progressed(row) and not _has_fallen(row) else far

    far = pl.col("far_from_goal")
    contradicts = _HAS_PROGRESSED & ~_HAS_FALLEN & far.is_not_null()
    return of_one_row(pl.when(contradicts).then(0.0).otherwise(far), step)


def path_unrisen() -> Signal:
    """Return how far the policy has moved while the return did not rise; 0 until that is known of enough returns."""

    def step(row: steps.Row) -> float | None:
        path, unrisen = row["path_unrisen"], row["unrisen"]
        return 0.0 if path is not None and (unrisen is None or unrisen < ENOUGH_UNRISEN) else path

    path = pl.col("path_unrisen")
    is_early = path.is_not_null() & (pl.col("unrisen") < ENOUGH_UNRISEN).fill_null(True)
    return of_one_row(pl.when(is_early).then(0.0).otherwise(path), step)


def unless_at_goal(whole: Signal) -> Signal:
    """Return for how long, or how far, nothing rises; 0 where the return is at its goal, as of a trained policy."""

    def make() -> Step:
        of_row = whole.step()

        def step(row: steps.Row) -> float | None:
            value = of_row(row)
            return 0.0 if row["at_goal"] == 1.0 and value is not None else value

        return step

    return Signal(pl.when(_AT_GOAL & whole.frame.is_not_null()).then(0.0).otherwise(whole.frame), make)


def unless_sliding(whole: Signal) -> Signal:
    """Return a number where the return is that of the rollout's own episodes; null where it is a sliding mean."""

    def make() -> Step:
        of_row = whole.step()

        def step(row: steps.Row) -> float | None:
            value = of_row(row)
            return None if row["return_slides"] else value

        return step

    return Signal(pl.when(pl.col("return_slides") == 0.0).then(whole.frame), make)


def fall_for_good() -> Signal:
    """Return the part of the return's gain that is lost, under a policy that tries nothing else; else 0."""

    def step(row: steps.Row) -> float | None:
        fall, entropy = row["return_fall"], row["_mean_entropy"]
        return None if fall is None or entropy is None else fall if entropy < FIXED else 0.0

    fall, entropy = pl.col("return_fall"), pl.col("_mean_entropy")
    is_known = fall.is_not_null() & entropy.is_not_null()
    return of_one_row(pl.when(is_known).then(pl.when(entropy < FIXED).then(fall).otherwise(0.0)), step)


def stalled() -> Signal:
    """Return for how long the return has not risen; not in a bandit, which may be at its best from the start."""

    def step(row: steps.Row) -> float | None:
        length = row["episode_length_mean"]
        is_bandit = length is not None and -math.inf < length < signals.MIN_LENGTH
        return None if is_bandit else row["return_stalled"]

    is_bandit = (signals.finite("episode_length_mean") < signals.MIN_LENGTH).fill_null(False)
    return of_one_row(pl.when(~is_bandit).then(pl.col("return_stalled")), step)


def bandit_unrisen() -> Signal:
    """Return for how long a bandit's return has not risen; null without the entropy of a policy that began fresh."""

    def step(row: steps.Row) -> float | None:
        length = row["episode_length_mean"]
        is_bandit = length is not None and -math.inf < length < signals.MIN_LENGTH
        return row["unrisen"] if is_bandit and row["_entropy"] is not None else None

    is_bandit = (signals.finite("episode_length_mean") < signals.MIN_LENGTH).fill_null(False)
    return of_one_row(pl.when(is_bandit & pl.col("_entropy").is_not_null()).then(pl.col("unrisen")), step)


def _does_not_rise(row: steps.Row) -> bool:
    rise = row["rise_lately"]
    return rise is not None and rise < PROGRESS and row["return_unmoved"] == 0.0


_DOES_NOT_RISE = (pl.col("rise_lately") < PROGRESS) & (pl.col("return_unmoved") == 0.0)


def unexplained_unrisen() -> Signal:
    """Return the explained variance of 20 updates, where the return does not rise now and is not always the same.

    The critic must be flat and have had time, and the return must not be at its goal, nor most returns be the lowest
    one so far, as in `uncontradicted`.
    """

    def step(row: steps.Row) -> float | None:
        value = row["_explained_long"]
        is_asked = _does_not_rise(row) and row["return_is_lowest"] != 1.0 and row["at_goal"] != 1.0
        is_asked = is_asked and _has_had_time(row)
        return value if is_asked and value is not None and _is_flat(row, value) else None

    value = pl.col("_explained_long")
    is_asked = _DOES_NOT_RISE & ~_IS_LOWEST & ~_AT_GOAL & _HAS_HAD_TIME
    return of_one_row(pl.when(is_asked & _all_flat(value)).then(value), step)
