"""The way of the return to the goal that somebody declared for the run; part of `course`.

Without a goal all numbers are null. Both forms give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Row = Mapping[str, float | None]

FAR = 0.15
"""A return is far from the goal if it came less than this share of the way from the lowest return to the goal."""

NEARER, NEAR = 0.05, 0.8
"""The smoothed return comes nearer to the goal by such steps of the way from its start, and is near at such a share."""


class GoalCourse:
    """How far the return is from the goal, and for how long; the numbers are by `NAMES`.

    - `far_from_goal`: measured updates, one after another, in none of which a return was at the goal, or had come
      `FAR` of the way from the lowest return so far. Single returns count, not smoothed ones: a policy that is seldom
      far better by chance has something to learn from. 0 for good once the goal was reached.
    - `no_nearer_to_goal`: updates since the smoothed return first came as near to the goal as it ever did, in steps of
      `NEARER` of the way from its start; 0 where it is near the goal now, and for good once the goal was reached.
      Known after the start.
    - `goal_reached`: the first update after which the smoothed return was at the goal or above; null before that.
      Where every return was 0, none was paid, and no goal is reached, not even one below 0.
    - `at_goal`: 1 where the smoothed return is so, or was in the last `returns.BELOW` measured updates, since a return
      that hovers around its goal is there; else 0. Known after the start.
    """

    NAMES = ("far_from_goal", "no_nearer_to_goal", "goal_reached", "at_goal")

    READS = ("update", "episode_return_mean", "return_start", "return_now", "return_unmoved", "return_high")
    """Columns from which they are made; the last four are of `returns.Returns`."""

    def __init__(self, goal: float | None) -> None:
        self._goal = math.nan if goal is None else goal
        self._lowest = math.inf
        self._far = 0
        self._most_steps, self._rows_since = -math.inf, 0
        self._reached = math.nan

    def step(self, row: Row) -> tuple[float | None, ...]:
        """Take in one row with `READS`; return the numbers in the order of `NAMES`."""
        if math.isnan(self._goal):
            return None, None, None, None
        earned, start, now = row["episode_return_mean"], row["return_start"], row["return_now"]
        if earned is not None and math.isfinite(earned):
            self._lowest = min(self._lowest, earned)
            self._far += 1
            bar = self._lowest + FAR * (self._goal - self._lowest)
            if earned >= self._goal or (earned >= bar and earned > self._lowest):
                self._far = 0
        far = float(self._far)
        if now is None or start is None:
            return far, None, None, None
        is_paid, high = not (now == 0.0 and row["return_unmoved"]), row["return_high"]
        is_there = is_paid and now >= self._goal
        was_there = is_there or (is_paid and high is not None and high >= self._goal)
        if is_there and math.isnan(self._reached):
            update = row["update"]
            self._reached = math.nan if update is None else float(update)
        way = (now - start) / (self._goal - start) if self._goal > start else 1.0
        steps = way / NEARER
        steps = float(math.floor(steps)) if math.isfinite(steps) else steps
        self._rows_since += 1
        if steps > self._most_steps:
            self._most_steps, self._rows_since = steps, 0
        if not math.isnan(self._reached):
            return 0.0, 0.0, self._reached, float(was_there)
        return far, 0.0 if way >= NEAR else float(self._rows_since), None, float(was_there)

    def extend(self, columns: Mapping[str, Floats]) -> list[Floats]:
        """As `step`, for rows; one array for each of `NAMES`, NaN where there is no number."""
        rows = len(columns["update"])
        if math.isnan(self._goal):
            return [np.full(rows, np.nan)] * len(self.NAMES)
        update, earned, start, now, unmoved, high = (columns[name] for name in self.READS)
        far = self._all_far(earned)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            is_known = ~(np.isnan(now) | np.isnan(start))
            way = np.where(self._goal > start, (now - start) / (self._goal - start), 1.0)
            steps = np.where(is_known, np.floor(way / NEARER), -np.inf)
            is_paid = is_known & ~((now == 0.0) & (unmoved > 0.0))
            is_there = is_paid & (now >= self._goal)
            was_there = is_there | (is_paid & (high >= self._goal))
            may_be_first = is_there & ~np.isnan(update)
        most = np.maximum.accumulate(np.append(self._most_steps, steps))
        is_nearer = steps > most[:-1]
        counted = np.append(self._rows_since, np.where(is_known, 1, 0)).cumsum()[1:]
        base = np.maximum.accumulate(np.append(0, np.where(is_nearer, counted, 0)))[1:]
        since = (counted - base).astype(np.float64)
        self._most_steps, self._rows_since = float(most[-1]), int(since[-1])
        if math.isnan(self._reached) and may_be_first.any():
            first = int(np.argmax(may_be_first))
            reached = np.where(np.arange(rows) >= first, update[first], np.nan)
        else:
            reached = np.full(rows, self._reached)
        self._reached = float(reached[-1])
        was_reached = ~np.isnan(reached)
        far[was_reached] = 0.0
        since[was_reached | (way >= NEAR)] = 0.0
        since[~is_known] = np.nan
        return [far, since, np.where(is_known, reached, np.nan), np.where(is_known, was_there, np.nan)]

    def _all_far(self, earned: Floats) -> Floats:
        is_measured = np.isfinite(earned)
        lowest = np.minimum.accumulate(np.append(self._lowest, np.where(is_measured, earned, np.inf)))[1:]
        with np.errstate(invalid="ignore", over="ignore"):
            bar = lowest + FAR * (self._goal - lowest)
            has_come = is_measured & ((earned >= self._goal) | ((earned >= bar) & (earned > lowest)))
        self._lowest = float(lowest[-1])
        counted = self._far + is_measured.cumsum()
        far = counted - np.maximum.accumulate(np.where(has_come, counted, 0))
        self._far = int(far[-1])
        return far.astype(np.float64)
