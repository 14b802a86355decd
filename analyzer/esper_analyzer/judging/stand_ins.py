"""Sliding means of episodes, read as return and length of a run that records nothing else; part of `course`.

Most trainers log the means of the last 100 episodes, and not those of the episodes that ended in a rollout. Both forms
give the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from esper_analyzer.judging import rolling
from esper_schemas.metric.catalogue import EPISODE_RETURN, STAND_INS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Flags: TypeAlias = "NDArray[np.bool_]"


class StandIns:
    """Puts each sliding mean in place of its metric, in the rows before the metric itself is first measured."""

    def __init__(self) -> None:
        self._measured = dict.fromkeys(STAND_INS, False)
        self._has_all = False

    def step(self, row: dict[str, float | None]) -> float:
        """Change the next row, with both columns of each of `STAND_INS`; return 1.0 if its return slides, else 0.0."""
        if self._has_all:
            return 0.0
        slides = 0.0
        for name, sliding in STAND_INS.items():
            own, other = row[name], row[sliding]
            if self._measured[name] or (own is not None and math.isfinite(own)):
                self._measured[name] = True
            elif other is not None and math.isfinite(other):
                row[name] = other
                slides = 1.0 if name == EPISODE_RETURN else slides
        self._has_all = all(self._measured.values())
        return slides

    def extend(self, name: str, own: Floats, sliding: Floats) -> Flags:
        """Return in which of the next rows the sliding mean is read in place of `name`; NaN is not measured."""
        measured = np.logical_or.accumulate(np.concatenate([[self._measured[name]], np.isfinite(own)]))[1:]
        self._measured[name] = bool(measured[-1])
        return ~measured & np.isfinite(sliding)


def with_stand_ins(
    each: Sequence[StandIns], rows: pl.DataFrame, places: Sequence[slice]
) -> tuple[pl.DataFrame, Floats]:
    """As `StandIns.step` for rows of several runs; `places` has those of each.

    Returns:
        The rows, and for each whether its return slides, 1.0 or 0.0.
    """
    found: dict[str, Flags] = {}
    for name, sliding in STAND_INS.items():
        own, other = rolling.floats(rows[name]), rolling.floats(rows[sliding])
        runs = zip(each, places, strict=True)
        found[name] = np.concatenate([one.extend(name, own[place], other[place]) for one, place in runs])
    put = [
        pl.when(pl.lit(pl.Series(slides))).then(pl.col(STAND_INS[name])).otherwise(pl.col(name)).alias(name)
        for name, slides in found.items()
        if slides.any()
    ]
    return rows.with_columns(put), found[EPISODE_RETURN].astype(np.float64)
