"""The black boxes before an update: in which minibatch a number left its band, which an update's mean cannot tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from esper_analyzer.explaining.band import Excursion, find_excursion
from esper_analyzer.explaining.stages import is_explained
from esper_analyzer.reading.black_boxes import BlackBox

PAST_MINIBATCHES = 200
"""A band is made of up to so many minibatches. It spans several updates, as many numbers rise within each update."""

_PLACES = ("attempt", "update", "seq", "minibatch", "elapsed_secs", "epoch")


@dataclass(frozen=True, slots=True)
class InMinibatch:
    """A number of the minibatches that left its band.

    Attributes:
        update: the update of the minibatch in which it left.
        minibatch: number of that minibatch within the update, from 0.
        peak_update: the update of the farthest value.
        value, peak: the first value outside the band, and the farthest one.
        excursion: the rest.
    """

    update: int
    minibatch: int
    peak_update: int
    value: float
    peak: float
    excursion: Excursion


def excursions_of(boxes: Iterable[BlackBox], rows: pl.DataFrame, first_seq: int) -> dict[str, InMinibatch]:
    """Return the excursion of each number in the black boxes of one rank, by name.

    Args:
        boxes: black boxes of the rank.
        rows: columns `attempt`, `seq` and `update` of the rows that count, up to the update that is explained.
        first_seq: sequence number of the first row that an excursion may reach.

    Raises:
        RunDamagedError: a black box was changed or removed in the meantime.
    """
    found: dict[str, InMinibatch] = {}
    minibatches = _minibatches(boxes, rows)
    if minibatches is None:
        return found
    for name in (name for name in minibatches.columns if name not in _PLACES and is_explained(name)):
        measured = minibatches.select("update", "seq", "minibatch", value=pl.col(name)).drop_nulls("value")
        values = measured["value"].to_numpy().astype(np.float64)
        since = int((measured["seq"] < first_seq).sum())
        excursion = find_excursion(values, since, past=PAST_MINIBATCHES)
        if excursion is not None:
            at, peak = measured.row(excursion.start, named=True), measured.row(excursion.peak, named=True)
            found[name] = InMinibatch(
                at["update"], at["minibatch"], peak["update"], at["value"], peak["value"], excursion
            )
    return found


def _minibatches(boxes: Iterable[BlackBox], rows: pl.DataFrame) -> pl.DataFrame | None:
    """Put the minibatches of all boxes together, each once, in order, with the update of each."""
    frames = [box.rows().with_columns(attempt=pl.lit(box.attempt, pl.Int32())) for box in boxes]
    if not frames:
        return None
    every = (
        pl.concat(frames, how="diagonal")
        .drop("update", strict=False)
        .unique(("attempt", "seq", "minibatch"), keep="first", maintain_order=True)
    )
    return every.join(rows, on=("attempt", "seq"), how="inner").sort("seq", "minibatch")
