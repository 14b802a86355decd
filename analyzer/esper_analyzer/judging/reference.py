"""The return and the critic beside those of sound runs of the same task; part of `course`.

Without a reference run all numbers are null. Both forms give the same bits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from esper_analyzer.judging.returns import PROGRESS
from esper_analyzer.judging.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Flags: TypeAlias = "NDArray[np.bool_]"
Row = Mapping[str, float | None]

SLOWER = 0.5
"""A run may be slower than its references: it is held to what they had since this share of its age."""

WAY = 0.5
"""A return is below its references if it has not come this share of the way that they had, and does not rise."""

LITTLE_WAY = 0.25
"""It is far below them, whether it rises or not, if it has not come this share of it."""

CLEAR = 1.0
"""The way of the references counts if it is so many times the noise of a return: of the run's own and of theirs."""

EXPLAINS = 0.3
"""References show that there is something to explain if their critics explain so much."""

LESS = 0.5
"""A critic is below its references if it explains less than this share of what theirs do."""

EXPLAINED_VALUES = 9
"""What a critic explains now is the median of so many of its newest explained variances, where returns vary."""

LEFT_OUT = 3
"""One in so many references is left out: the lowest third of three or more."""

MOST_AGES = 500
"""The level of a reference is known at so many ages at most."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The level of one run by age: the lowest smoothed return, or explained variance, since `SLOWER` times that age.

    Attributes:
        ages: ages, rising, in environment steps or updates.
        levels: the level at each.
    """

    ages: tuple[float, ...]
    levels: tuple[float, ...]

    @classmethod
    def of(cls, ages: Floats, smoothed: Floats) -> Levels | None:
        """Make them of ages [rows] and smoothed numbers [rows]; None where no row has both.

        A long run keeps the levels of `MOST_AGES` of its rows, evenly spread, the last one among them.
        """
        is_known = np.isfinite(ages) & np.isfinite(smoothed)
        ages, smoothed = np.maximum.accumulate(ages[is_known]), smoothed[is_known]
        if not len(ages):
            return None
        ends = np.unique(np.linspace(0, len(ages) - 1, min(len(ages), MOST_AGES)).round().astype(np.int64))
        begins = np.searchsorted(ages, SLOWER * ages[ends])
        levels = [float(smoothed[begin : end + 1].min()) for begin, end in zip(begins, ends, strict=True)]
        return cls(tuple(ages[ends].tolist()), tuple(levels))

    def at(self, age: float) -> float:
        """The level at an age, that of the end beyond the end; infinite before the first one."""
        place = bisect_right(self.ages, age)
        return self.levels[place - 1] if place else math.inf

    def at_all(self, ages: Floats) -> Floats:
        """As `at`, for ages [rows], which must not be NaN."""
        return np.append(math.inf, self.levels)[np.searchsorted(self.ages, ages, side="right")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRun:
    """What one sound run had earned, and what its critic had explained, by age.

    Attributes:
        name: its name, for people.
        run_uuid: what tells it from any other run, also from one of the same name.
        task: what it was trained on, and by what.
        start, noise: of its return, as in `returns`.
        by_steps, by_updates: levels of its return by environment steps, None if these were not recorded, and by update.
        explained_by_steps, explained_by_updates: the same of its critic; None, too, if it was not measured.
        is_critical, is_damaged: whether it is critical by its own verdict, and whether its files are damaged.
        found_in: the folder of runs, as a person named it, among whose healthy runs it was; None if it was named.
    """

    name: str
    run_uuid: str
    task: Task
    start: float
    noise: float
    by_steps: Levels | None
    by_updates: Levels
    explained_by_steps: Levels | None = None
    explained_by_updates: Levels | None = None
    is_critical: bool = False
    is_damaged: bool = False
    found_in: str | None = None

    def is_of(self, task: Task) -> bool:
        """Whether a run of a task can be judged beside it.

        One that was found in a folder must be of the same task, whose environment must be known. One that a person has
        named may be of any trainer, of any settings of the environment, and of an environment that is not known.
        """
        if self.found_in is not None:
            return task.env is not None and self.task == task
        return self.task.env == task.env or None in {self.task.env, task.env}


class _LevelsOfAll:
    """The level that references had at an age, but for the lowest third of them.

    Ages are environment steps where all of them know these and the run does, else updates.
    """

    def __init__(self, by_steps: Sequence[Levels | None], by_updates: Sequence[Levels]) -> None:
        known = [one for one in by_steps if one is not None]
        self._by_steps = known if len(known) == len(by_steps) else None
        self._by_updates = by_updates
        count = len(by_updates)
        self._lowest = count // LEFT_OUT  # which of the levels counts, from the lowest
        self._least = max(self._lowest + 1, (count + 1) // 2)  # as many must have a level

    def at(self, row: Row) -> float | None:
        """The level at a row with `update` and `env_steps`; None if it is not known yet."""
        if not self._by_updates:
            return None
        update, steps = row["update"], row["env_steps"]
        of_runs: Sequence[Levels]
        if self._by_steps is not None and steps is not None and math.isfinite(steps):
            age, of_runs = float(steps), self._by_steps
        elif update is not None:
            age, of_runs = float(update), self._by_updates
        else:
            return None
        levels = sorted(one.at(age) for one in of_runs)
        return None if math.isinf(levels[self._least - 1]) else levels[self._lowest]

    def at_all(self, columns: Mapping[str, Floats]) -> Floats:
        """As `at`, for rows; NaN where it is not known."""
        update, steps = columns["update"], columns["env_steps"]
        if not self._by_updates:
            return np.full(len(update), np.nan)
        levels = self._in_order(self._by_updates, np.nan_to_num(update, nan=-math.inf))
        if self._by_steps is not None:
            has_steps = np.isfinite(steps)
            by_steps = self._in_order(self._by_steps, np.where(has_steps, steps, -math.inf))
            levels = np.where(has_steps, by_steps, levels)
        return np.where(np.isinf(levels[self._least - 1]), np.nan, levels[self._lowest])

    @staticmethod
    def _in_order(of_runs: Sequence[Levels], ages: Floats) -> Floats:
        return np.sort([one.at_all(ages) for one in of_runs], axis=0)


class ReferenceCourse:
    """How far a run is below reference runs, and for how long; the numbers are by `NAMES`.

    - `reference_level`: the level that the returns of the references had by this age, but for the lowest third of them:
      in environment steps where the run and all of them have recorded these, else in updates. Beyond the end of one its
      last level holds. Null until half of them have one.
    - `below_reference`: measured updates, one after another, in which the smoothed return was less than `WAY` of the
      way up from the lowest start to that level, and has not risen lately. The way must be clear of the noise of the
      run, and of the median noise of the references. Known after the start.
    - `far_below_reference`: the same of `LITTLE_WAY`, whether it rises or not.
    - `reference_explained`: as `reference_level`, of what their critics explain.
    - `explained_now`: the median of the run's newest `EXPLAINED_VALUES` explained variances, where returns vary.
    - `critic_below_reference`: such explained variances, one after another, at which that was less than `LESS` of
      what the references explain, which is at least `EXPLAINS`, while the return has not risen lately, and has not come
      `WAY` of the way to theirs.

    The first three stay as they were in rows without a measured return, the others in rows without an explained
    variance.
    """

    NAMES = (
        "reference_level",
        "below_reference",
        "far_below_reference",
        "reference_explained",
        "explained_now",
        "critic_below_reference",
    )

    READS = (
        "update",
        "env_steps",
        "episode_return_mean",
        "explained",
        "return_start",
        "return_now",
        "return_noise",
        "rise_lately",
    )
    """Columns from which they are made; `explained` is of `course`, and the last four are of `returns.Returns`."""

    def __init__(self, runs: Sequence[ReferenceRun] = ()) -> None:
        self._runs = runs
        self._returns = _LevelsOfAll([run.by_steps for run in runs], [run.by_updates for run in runs])
        critics = [run for run in runs if run.explained_by_updates is not None]
        self._critics = _LevelsOfAll(
            [run.explained_by_steps for run in critics],
            [run.explained_by_updates for run in critics if run.explained_by_updates is not None],
        )
        self._start = min((run.start for run in runs), default=math.nan)
        self._noise = median(run.noise for run in runs) if runs else math.nan
        self._below, self._far_below, self._less = 0, 0, 0
        self._is_near = False  # the return has come `WAY` of the way to the references
        self._newest = deque[float](maxlen=EXPLAINED_VALUES)  # explained variances
        self._of_return: tuple[float | None, ...] = (None,) * 3
        self._of_critic: tuple[float | None, ...] = (None,) * 3

    def step(self, row: Row) -> tuple[float | None, ...]:
        """Take in one row with `READS`; return the numbers in the order of `NAMES`."""
        earned, explained = row["episode_return_mean"], row["explained"]
        if self._runs and earned is not None and math.isfinite(earned):
            self._of_return = self._take_return(row)
        if self._runs and explained is not None and math.isfinite(explained):
            self._of_critic = self._take_explained(row, explained)
        return (*self._of_return, *self._of_critic)

    def _take_return(self, row: Row) -> tuple[float | None, ...]:
        start, now = row["return_start"], row["return_now"]
        level, self._is_near = self._returns.at(row), False
        if start is None or now is None:
            return level, None, None
        is_below = is_far_below = False
        if level is not None:
            way = level - min(start, self._start)
            is_clear = way > CLEAR * max(self._noise, row["return_noise"] or 0.0)
            self._is_near = is_clear and now >= level - WAY * way
            is_below = is_clear and not self._is_near and not _rises(row)
            is_far_below = is_clear and now < level - (1.0 - LITTLE_WAY) * way
        self._below = self._below + 1 if is_below else 0
        self._far_below = self._far_below + 1 if is_far_below else 0
        return level, float(self._below), float(self._far_below)

    def _take_explained(self, row: Row, explained: float) -> tuple[float | None, ...]:
        level = self._critics.at(row)
        self._newest.append(explained)
        if len(self._newest) < EXPLAINED_VALUES:
            return level, None, None
        now = sorted(self._newest)[EXPLAINED_VALUES // 2]
        is_less = level is not None and level >= EXPLAINS and now < LESS * level
        self._less = self._less + 1 if is_less and not self._is_near and not _rises(row) else 0
        return level, now, float(self._less)

    def extend(self, columns: Mapping[str, Floats]) -> list[Floats]:
        """As `step`, for rows; one array for each of `NAMES`, NaN where there is no number."""
        if not self._runs:
            return [np.full(len(columns["update"]), np.nan)] * len(self.NAMES)
        with np.errstate(invalid="ignore", over="ignore"):
            is_rising = columns["rise_lately"] >= PROGRESS
            of_return, is_near = self._extend_return(columns, is_rising)
            return [*of_return, *self._extend_critic(columns, is_rising | is_near)]

    def _extend_return(self, columns: Mapping[str, Floats], is_rising: Flags) -> tuple[list[Floats], Flags]:
        """The numbers of the return, and where it was near its references."""
        start, now = columns["return_start"], columns["return_now"]
        is_measured = np.isfinite(columns["episode_return_mean"])
        is_known = is_measured & ~(np.isnan(start) | np.isnan(now))
        level = self._returns.at_all(columns)
        way = level - np.minimum(start, self._start)
        is_clear = is_known & (way > CLEAR * np.fmax(self._noise, columns["return_noise"]))
        is_near = is_clear & (now >= level - WAY * way)
        below = _counted(self._below, is_clear & ~is_near & ~is_rising, is_known)
        is_far_below = is_clear & (now < level - (1.0 - LITTLE_WAY) * way)
        far_below = _counted(self._far_below, is_far_below, is_known)
        numbers, self._of_return = _held(self._of_return, is_measured, (level, below, far_below))
        self._below, self._far_below = (int(one or 0) for one in self._of_return[1:])
        near = np.append(self._is_near, is_near)[_newest(is_measured)]
        self._is_near = bool(near[-1])
        return numbers, near

    def _extend_critic(self, columns: Mapping[str, Floats], is_excused: Flags) -> list[Floats]:
        """The numbers of the critic, which counts unless the return excuses it."""
        explained = columns["explained"]
        is_measured = np.isfinite(explained)
        level, now = self._critics.at_all(columns), explained_lately(explained, self._newest)
        self._newest.extend(explained[is_measured][-EXPLAINED_VALUES:].tolist())
        is_less = (level >= EXPLAINS) & (now < LESS * level) & ~is_excused
        below = _counted(self._less, is_less, ~np.isnan(now))
        numbers, self._of_critic = _held(self._of_critic, is_measured, (level, now, below))
        self._less = int(self._of_critic[2] or 0)
        return numbers


def explained_lately(explained: Floats, before: Iterable[float] = ()) -> Floats:
    """What a critic explains in each row: the median of its newest `EXPLAINED_VALUES` finite values.

    Args:
        explained: explained variance, where returns vary [rows].
        before: the newest finite values before them.

    Returns:
        [rows]; NaN in rows without a finite value, and where there are not so many yet.
    """
    places, found = np.flatnonzero(np.isfinite(explained)), np.full(len(explained), np.nan)
    newest = np.append([*before][1 - EXPLAINED_VALUES :], explained[places])
    if len(newest) >= EXPLAINED_VALUES and len(places):
        windows = np.sort(sliding_window_view(newest, EXPLAINED_VALUES), axis=1)
        found[places[-len(windows) :]] = windows[:, EXPLAINED_VALUES // 2]
    return found


def _rises(row: Row) -> bool:
    lately = row["rise_lately"]
    return lately is not None and lately >= PROGRESS


def _newest(is_measured: Flags) -> NDArray[np.intp]:
    """For each row the number of the newest measured one, from 1; 0 before there is one."""
    return np.maximum.accumulate(np.where(is_measured, np.arange(1, len(is_measured) + 1), 0))


def _held(
    before: Sequence[float | None], is_measured: Flags, numbers: Sequence[Floats]
) -> tuple[list[Floats], tuple[float | None, ...]]:
    """Return numbers that stay as they were in rows that are not measured, first as `before`; and the last of each."""
    places = _newest(is_measured)
    firsts = (math.nan if one is None else one for one in before)
    held = [np.append(first, one)[places] for first, one in zip(firsts, numbers, strict=True)]
    return held, tuple(None if math.isnan(one[-1]) else float(one[-1]) for one in held)


def _counted(before: int, flags: Flags, is_known: Flags) -> Floats:
    """How many flags in the known rows were set one after another up to each, after `before` of them; else NaN."""
    counted = before + flags.cumsum()
    found = (counted - np.maximum.accumulate(np.where(is_known & ~flags, counted, 0))).astype(np.float64)
    found[~is_known] = np.nan
    return found
