"""Where the updates of a run are on an axis: by update, by environment steps or by seconds of training.

`updates` is the recorded number of the update. `steps` are environment steps. `time` is seconds of training by the
monotonic clock, summed over all attempts, without the time between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from esper_analyzer.measuring.history import History, history_of
from esper_analyzer.options import By
from esper_schemas.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"

UNITS: dict[By, str] = {"updates": "updates", "steps": "environment steps", "time": "seconds of training"}

_NAMES = ("steps", "time")


def not_recorded(label: str, by: By) -> UsageError:
    """Return the error that a run has recorded nothing for an axis that somebody asks for."""
    return UsageError(f"{label} has recorded no {UNITS[by]}; use --by {'updates' if by != 'updates' else 'steps'}")


def secs_of_attempts(every_row: pl.LazyFrame) -> dict[int, float]:
    """Return the seconds of training of each attempt, by its number, from the rows of all attempts."""
    secs = pl.col("elapsed_secs")
    spent = every_row.group_by("attempt").agg(secs.filter(secs.is_finite()).max()).sort("attempt")
    return {attempt: lasted or 0.0 for attempt, lasted in spent.collect().iter_rows()}


def place(by: By, secs: Mapping[int, float]) -> pl.Expr:
    """Return where rows are on an axis: Float64, null where that was not recorded.

    Args:
        by: the axis.
        secs: seconds of training of each attempt.
    """
    if by != "time":
        return pl.col("update" if by == "updates" else "env_steps").cast(pl.Float64)
    before = {attempt: math.fsum(lasted for one, lasted in secs.items() if one < attempt) for attempt in secs}
    offset = pl.col("attempt").replace_strict(before, default=0.0, return_dtype=pl.Float64)
    return (pl.col("elapsed_secs") + offset).cast(pl.Float64)


@dataclass(frozen=True, slots=True, eq=False)
class Ruler:
    """The place of each update on one axis: linear between known updates, and beyond them at the pace of all.

    Attributes:
        by: the axis.
        updates, places: [N] known updates, N ≥ 1, and their places; both rise.
    """

    by: By
    updates: Floats
    places: Floats

    @property
    def _pace(self) -> float:
        if len(self.updates) < 2:
            return 1.0
        return float((self.places[-1] - self.places[0]) / (self.updates[-1] - self.updates[0]))

    def all_at(self, updates: Floats) -> Floats:
        """Return the place of each of these updates, which may lie between and beyond the known ones."""
        found: Floats = np.interp(updates, self.updates, self.places) + _beyond(updates, self.updates) * self._pace
        return found

    def at(self, update: float) -> float:
        """Return the place of one update."""
        return float(self.all_at(np.asarray([update], dtype=np.float64))[0])

    def update_at(self, place: float) -> float:
        """Return the update at a place; a fraction between two updates."""
        places = np.asarray([place], dtype=np.float64)
        return float((np.interp(places, self.places, self.updates) + _beyond(places, self.places) / self._pace)[0])


def _beyond(values: Floats, known: Floats) -> Floats:
    """Return how far values are before the first known one (negative), or after the last one; 0 between them."""
    found: Floats = np.minimum(values - known[0], 0.0) + np.maximum(values - known[-1], 0.0)
    return found


BY_UPDATE = Ruler("updates", np.asarray([0.0, 1.0]), np.asarray([0.0, 1.0]))
"""The axis on which the place of an update is its number."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the updates of one rank are on each axis, in bounded memory; immutable, as a `History`.

    Attributes:
        history: smallest and largest environment steps (`steps`) and seconds of training (`time`) per bucket.
        secs: seconds of training of each attempt so far, by its number.
    """

    history: History = field(default_factory=lambda: History.empty(_NAMES))
    secs: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pl.LazyFrame, every_row: pl.LazyFrame) -> Places:
        """Find the places of the rows that count; `every_row` has those of all attempts."""
        secs = secs_of_attempts(every_row)
        return cls(history_of(_placed(rows, secs), _NAMES), secs)

    def with_rows(self, rows: pl.DataFrame) -> Places:
        """Return the places with later rows added."""
        new = secs_of_attempts(rows.lazy())
        secs = {**self.secs, **{one: max(lasted, self.secs.get(one, 0.0)) for one, lasted in new.items()}}
        return Places(self.history.with_rows(_placed(rows.lazy(), secs).collect()), secs)

    def ruler(self, by: By) -> Ruler | None:
        """Return the axis; None if nothing was recorded for it."""
        if by == "updates":
            return BY_UPDATE
        known = self.history.frame.select("first", "last", low=f"{by}/min", high=f"{by}/max").drop_nulls()
        if not known.height:
            return None
        updates = known.select("first", "last").to_numpy().astype(np.float64).ravel()
        places = np.maximum.accumulate(known.select("low", "high").to_numpy().ravel())
        rises = np.concatenate(([True], (np.diff(places) > 0.0) & (np.diff(updates) > 0.0)))
        return Ruler(by, updates[rises], places[rises])

    @property
    def known(self) -> tuple[By, ...]:
        """The axes for which something was recorded; that of updates is one of them."""
        each: tuple[By, ...] = ("updates", "steps", "time")
        return tuple(by for by in each if self.ruler(by) is not None)


def _placed(rows: pl.LazyFrame, secs: Mapping[int, float]) -> pl.LazyFrame:
    return rows.select("update", steps=place("steps", secs), time=place("time", secs))
