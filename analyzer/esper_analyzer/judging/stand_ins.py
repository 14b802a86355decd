"""Sliding means of episodes, read as return and length of a run that records nothing else; part of `course`.

Most trainers log the means of the last 100 episodes, and not those of the episodes that ended in a rollout. Such a mean
says something new only as far as other episodes have ended since. So it is read as a return each time that `GAP` more
have. How many have ended is estimated from the steps of the environment and the mean length; where these are not
recorded, each mean is read.

Both forms give the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from esper_analyzer.judging import rolling
from esper_analyzer.judging.returns import BELOW
from esper_schemas.metric.catalogue import EPISODE_LENGTH, EPISODE_RETURN, SLIDING_LENGTH, SLIDING_RETURN

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Flags: TypeAlias = "NDArray[np.bool_]"

WINDOW = 100
"""Episodes in a sliding mean: so many in Stable-Baselines3, RLlib, rsl_rl, skrl and Baselines."""

GAP = WINDOW / BELOW
"""Episodes from one reading to the next, so that `BELOW` readings have all other episodes than those before."""


class StandIns:
    """Puts each sliding mean in place of its metric, in the rows before the metric itself is first measured."""

    def __init__(self) -> None:
        self._measured = {EPISODE_RETURN: False, EPISODE_LENGTH: False}
        self._has_all = False
        self._steps = self._ended = 0.0  # of the newest row in which a sliding return and length were measured

    def step(self, row: dict[str, float | None]) -> float:
        """Change the next row, with `READS`; return 1.0 if its return is a sliding mean, read or not, else 0.0."""
        if self._has_all:
            return 0.0
        slides = self._slides(row, EPISODE_RETURN, SLIDING_RETURN)
        if slides and self._is_read(row["env_steps"], row[SLIDING_LENGTH]):
            row[EPISODE_RETURN] = row[SLIDING_RETURN]
        if self._slides(row, EPISODE_LENGTH, SLIDING_LENGTH):
            row[EPISODE_LENGTH] = row[SLIDING_LENGTH]
        self._has_all = all(self._measured.values())
        return float(slides)

    def _slides(self, row: dict[str, float | None], name: str, sliding: str) -> bool:
        own, other = row[name], row[sliding]
        if self._measured[name] or (own is not None and math.isfinite(own)):
            self._measured[name] = True
            return False
        return other is not None and math.isfinite(other)

    def _is_read(self, steps: float | None, length: float | None) -> bool:
        if steps is None or length is None or not (math.isfinite(steps) and math.isfinite(length)):
            return True
        before, taken = self._ended, float(steps) - self._steps
        self._ended, self._steps = before + max(taken, 0.0) / max(length, 1.0), float(steps)
        return self._ended // GAP > before // GAP

    def extend(self, columns: dict[str, Floats]) -> tuple[Flags, Flags, Flags]:
        """As `step`, for `READS` of the next rows, NaN where they are not measured.

        Returns:
            In which rows the return is a sliding mean, in which of these it is read, and in which the length is one.
        """
        slides = self._all_slide(EPISODE_RETURN, columns[EPISODE_RETURN], columns[SLIDING_RETURN])
        length_slides = self._all_slide(EPISODE_LENGTH, columns[EPISODE_LENGTH], columns[SLIDING_LENGTH])
        steps, lengths = columns["env_steps"], columns[SLIDING_LENGTH]
        is_read = slides.copy()
        counted = np.flatnonzero(slides & np.isfinite(steps) & np.isfinite(lengths))
        if len(counted):
            taken = np.maximum(np.diff(steps[counted], prepend=self._steps), 0.0)
            ended = np.add.accumulate(np.append(self._ended, taken / np.maximum(lengths[counted], 1.0)))
            self._ended, self._steps = float(ended[-1]), float(steps[counted[-1]])
            is_read[counted] = np.diff(ended // GAP) > 0.0
        return slides, is_read, length_slides

    def _all_slide(self, name: str, own: Floats, sliding: Floats) -> Flags:
        measured = np.logical_or.accumulate(np.append(self._measured[name], np.isfinite(own)))[1:]
        self._measured[name] = bool(measured[-1])
        return ~measured & np.isfinite(sliding)


READS = ("env_steps", EPISODE_RETURN, SLIDING_RETURN, EPISODE_LENGTH, SLIDING_LENGTH)
"""Columns that `StandIns` reads."""


def with_stand_ins(
    each: Sequence[StandIns], rows: pl.DataFrame, places: Sequence[slice]
) -> tuple[pl.DataFrame, Floats]:
    """As `StandIns.step` for rows of several runs; `places` has those of each.

    Returns:
        The rows, and for each whether its return slides, 1.0 or 0.0.
    """
    columns = {name: rolling.floats(rows[name]) for name in READS}
    found = [
        one.extend({name: values[place] for name, values in columns.items()})
        for one, place in zip(each, places, strict=True)
    ]
    slides, is_read, length_slides = (np.concatenate(flags) for flags in zip(*found, strict=True))
    pairs = ((EPISODE_RETURN, SLIDING_RETURN, is_read), (EPISODE_LENGTH, SLIDING_LENGTH, length_slides))
    put = [
        pl.when(pl.lit(pl.Series(flags))).then(pl.col(sliding)).otherwise(pl.col(name)).alias(name)
        for name, sliding, flags in pairs
        if flags.any()
    ]
    return rows.with_columns(put), slides.astype(np.float64)
