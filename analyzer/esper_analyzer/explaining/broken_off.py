"""How a run broke off: in a failure, or with a number that is not finite, in an update that was never recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.reading.black_boxes import BlackBox
from esper_schemas.cleaning import printable
from esper_schemas.run.ending import GOING_ON


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """An update in which something broke and that was never recorded, behind all rows of its rank.

    Attributes:
        box: the black box that was written in it.
        after: the last recorded update.
        update: the number that it would have had: `after` and the usual step.
    """

    box: BlackBox
    after: int
    update: int


def broken_off(run: JudgedRun, boxes: Iterable[BlackBox], frames: Mapping[int, pl.LazyFrame]) -> BrokenOff | None:
    """Return how a run broke off: in a failure, or with a number that is not finite; None if it did not.

    An attempt that goes on, was interrupted, or was continued by another one, did not break off. Of several ranks, this
    is the one that broke first, by the time at which the black box was written.

    Args:
        run: the run, for its status.
        boxes: the black boxes of the run.
        frames: the rows of each rank that count.
    """
    found = []
    for box in boxes:
        if box.update is not None or box.trigger not in ("failed", "not_finite") or box.rank not in frames:
            continue
        last = frames[box.rank].select("attempt", "seq", "update").tail(2).collect()
        if last.is_empty() or last["attempt"][-1] != box.attempt or last["seq"][-1] >= box.seq:
            continue
        if run.status(box.rank) in GOING_ON:
            continue
        step = int(last["update"][-1] - last["update"][0]) if last.height == 2 else 1
        found.append(BrokenOff(box, int(last["update"][-1]), int(last["update"][-1]) + max(1, step)))
    return min(found, key=lambda one: one.box.written, default=None)


def nothing_recorded(run: JudgedRun, boxes: Sequence[BlackBox]) -> str:
    """Say that a run has no update to explain, and what there is of its first one."""
    if not boxes:
        return f"{run.path} has recorded no updates yet, so there is nothing to explain"
    box = boxes[-1]
    kept = f"{box.minibatches:,} minibatch{'es' * (box.minibatches != 1)}"
    return (
        f"{run.path} has recorded no update, so there is nothing to explain; but a black box has the last {kept} of the"
        f" first one ({printable(box.reason)}): `esper-analyze report` shows them"
    )
