"""The way of the return beside that of sound runs of the same task; part of `course`.

Without a reference run all numbers are null. Both forms give the same bits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from esper_analyzer.judging.returns import PROGRESS
from esper_analyzer.judging.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Row = Mapping[str, float | None]

SLOWER = 0.5
"""A run may be slower than its references: it is held to what they had since this share of its age."""

WAY = 0.5
"""A return is below its references if it has not come this share of the way that they had, and does not rise."""

LITTLE_WAY = 0.25
"""It is far below them, whether it rises or not, if it has not come this share of it."""

CLEAR = 2.0
"""The way of the references counts if it is so many times the noise of a return: of the run's own and of theirs."""

LEFT_OUT = 3
"""One in so many references is left out: the lowest third of three or more."""

MOST_AGES = 500
"""The level of a reference is known at so many ages at most."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The level of one run by age: the lowest smoothed return since `SLOWER` times that age.

    Attributes:
        ages: ages, rising, in environment steps or updates.
        levels: the level at each.
    """

    ages: tuple[float, ...]
    levels: tuple[float, ...]

    @classmethod
    def of(cls, ages: Floats, smoothed: Floats) -> Levels | None:
        """Make them of ages [rows] and smoothed returns [rows]; None where no row has both.

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
    """What one sound run had earned, by age.

    Attributes:
        name: its name, for people.
        run_uuid: what tells it from any other run, also from one of the same name.
        task: what it was trained on, and by what.
        start, noise: of its return, as in `returns`.
        by_steps, by_updates: its levels by environment steps, None if these were not recorded, and by update.
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


class ReferenceCourse:
    """How far the return is below those of reference runs, and for how long; the numbers are by `NAMES`.

    - `reference_level`: the level that the references had by this age, but for the lowest third of them: in
      environment steps where the run and all of them have recorded these, else in updates. Beyond the end of one its
      last level holds. Null until half of them have one.
    - `below_reference`: measured updates, one after another, in which the smoothed return was less than `WAY` of the
      way up from the lowest start to that level, and has not risen lately. The way must be clear of the noise of the
      run, and of the median noise of the references. Known after the start.
    - `far_below_reference`: the same of `LITTLE_WAY`, whether it rises or not.

    In rows without a measured return they stay as they were.
    """

    NAMES = ("reference_level", "below_reference", "far_below_reference")

    READS = ("update", "env_steps", "episode_return_mean", "return_start", "return_now", "return_noise", "rise_lately")
    """Columns from which they are made; the last four are of `returns.Returns`."""

    def __init__(self, runs: Sequence[ReferenceRun] = ()) -> None:
        self._runs = runs
        self._by_updates = [run.by_updates for run in runs]
        steps = [run.by_steps for run in runs if run.by_steps is not None]
        self._by_steps = steps if len(steps) == len(runs) else None
        self._start = min((run.start for run in runs), default=math.nan)
        self._noise = median(run.noise for run in runs) if runs else math.nan
        self._lowest = len(runs) // LEFT_OUT  # which of the levels counts, from the lowest
        self._least = max(self._lowest + 1, (len(runs) + 1) // 2)  # as many must have a level
        self._below, self._far_below = 0, 0
        self._newest: tuple[float | None, ...] = (None,) * len(self.NAMES)

    def step(self, row: Row) -> tuple[float | None, ...]:
        """Take in one row with `READS`; return the numbers in the order of `NAMES`."""
        earned, now = row["episode_return_mean"], row["return_now"]
        if not self._runs or earned is None or not math.isfinite(earned):
            return self._newest
        start, noise, lately = row["return_start"], row["return_noise"], row["rise_lately"]
        update, steps = row["update"], row["env_steps"]
        level = self._level(update, steps)
        if start is None or now is None:
            self._newest = level, None, None
            return self._newest
        is_below = is_far_below = False
        if level is not None:
            begin = min(start, self._start)
            way = level - begin
            least = CLEAR * max(self._noise, 0.0 if noise is None else noise)
            is_rising = lately is not None and lately >= PROGRESS
            is_below = way > least and now < level - WAY * way and not is_rising
            is_far_below = way > least and now < level - (1.0 - LITTLE_WAY) * way
        self._below = self._below + 1 if is_below else 0
        self._far_below = self._far_below + 1 if is_far_below else 0
        self._newest = level, float(self._below), float(self._far_below)
        return self._newest

    def _level(self, update: float | None, steps: float | None) -> float | None:
        if self._by_steps is not None and steps is not None and math.isfinite(steps):
            age, of_runs = float(steps), self._by_steps
        elif update is not None:
            age, of_runs = float(update), self._by_updates
        else:
            return None
        levels = sorted(one.at(age) for one in of_runs)
        return None if math.isinf(levels[self._least - 1]) else levels[self._lowest]

    def extend(self, columns: Mapping[str, Floats]) -> list[Floats]:
        """As `step`, for rows; one array for each of `NAMES`, NaN where there is no number."""
        update, steps, earned, start, now, noise, lately = (columns[name] for name in self.READS)
        if not self._runs:
            return [np.full(len(update), np.nan)] * len(self.NAMES)
        is_measured = np.isfinite(earned)
        level = self._levels(update, steps)
        is_known = is_measured & ~(np.isnan(start) | np.isnan(now))
        with np.errstate(invalid="ignore", over="ignore"):
            way = level - np.minimum(start, self._start)
            least = CLEAR * np.fmax(self._noise, noise)
            is_clear = is_known & (way > least)
            is_below = is_clear & (now < level - WAY * way) & ~(lately >= PROGRESS)
            is_far_below = is_clear & (now < level - (1.0 - LITTLE_WAY) * way)
        below, far_below = _counted(self._below, is_below, is_known), _counted(self._far_below, is_far_below, is_known)
        newest = np.maximum.accumulate(np.where(is_measured, np.arange(1, len(update) + 1), 0))
        before = (math.nan if one is None else one for one in self._newest)
        numbers = [np.append(first, one)[newest] for first, one in zip(before, (level, below, far_below), strict=True)]
        last = [None if math.isnan(one[-1]) else float(one[-1]) for one in numbers]
        self._newest, self._below, self._far_below = tuple(last), int(last[1] or 0), int(last[2] or 0)
        return numbers

    def _levels(self, update: Floats, steps: Floats) -> Floats:
        """The level in each row; NaN where there is none."""
        levels = self._in_order(self._by_updates, np.nan_to_num(update, nan=-math.inf))
        if self._by_steps is not None:
            has_steps = np.isfinite(steps)
            by_steps = self._in_order(self._by_steps, np.where(has_steps, steps, -math.inf))
            levels = np.where(has_steps, by_steps, levels)
        return np.where(np.isinf(levels[self._least - 1]), np.nan, levels[self._lowest])

    @staticmethod
    def _in_order(of_runs: Sequence[Levels], ages: Floats) -> Floats:
        return np.sort([one.at_all(ages) for one in of_runs], axis=0)


def _counted(before: int, flags: NDArray[np.bool_], is_known: NDArray[np.bool_]) -> Floats:
    """How many flags in the known rows were set one after another up to each, after `before` of them; else NaN."""
    counted = before + flags.cumsum()
    found = (counted - np.maximum.accumulate(np.where(is_known & ~flags, counted, 0))).astype(np.float64)
    found[~is_known] = np.nan
    return found
