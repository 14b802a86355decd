"""Finds how updates are numbered and which are missing, and the first update of each attempt; no other module does.

It also decides whether new rows continue the previous ones, leave a gap, or supersede earlier rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Self

import polars as pl

from esper_analyzer.reading.segment_index import SegmentIndex
from esper_schemas.examining.current import rises

Range = tuple[int, int]
"""First and last update of a range, both inclusive."""

_USUAL_SHARE = 0.75
"""Share of the steps that a stride has at least; the others are gaps, or where a resumed run begins."""

MIN_STEPS = 2
"""A step that was seen only once is no stride."""


_Run = tuple[int, int]
"""Jumps of the same width one after another: the first number of the first, and how many there are."""


class Numbering:
    """How the updates of rows are numbered: in which stride, and which are missing.

    The stride is the step from one update to the next that three quarters of all steps, and at least two, are; 1 if
    there is none. A trainer that records every fourth update, or numbers its updates by environment steps, has a larger
    one, and then only a wider step means that updates are missing.

    Attributes:
        steps: number of steps, that is of rows that follow another.
    """

    def __init__(self, steps: int = 0, jumps: Iterable[Range] = ()) -> None:
        """Take rows whose updates rise.

        Args:
            steps: number of rows that follow another.
            jumps: the numbers between two rows that follow each other, where there are any.
        """
        self.steps = steps
        self._jumps: dict[int, list[_Run]] = {}
        for jump in jumps:
            self._add(_width(jump), (jump[0], 1))

    @classmethod
    def of(cls, rows: pl.LazyFrame, before: int | None = None) -> Self:
        """Find the numbering of rows.

        Args:
            rows: rows with `update`, in rising order, each once.
            before: the update before the first of these rows, if there was one.
        """
        earlier = pl.col("update").shift(1).fill_null(pl.lit(before, pl.Int64))
        steps = rows.select(first=earlier + 1, last=pl.col("update") - 1).drop_nulls()
        jumps = steps.filter(pl.col("last") >= pl.col("first"))
        count, found = pl.collect_all([steps.select(pl.len()), jumps])
        return cls(count.item(), found.iter_rows())

    def extend(self, other: Numbering) -> None:
        """Add further steps of the same rows, before or behind these."""
        self.steps += other.steps
        for width, runs in other._jumps.items():
            for run in runs:
                self._add(width, run)

    def _add(self, width: int, run: _Run) -> None:
        """Add equal jumps one after another; a run of updates in a stride is kept as one, however long it is."""
        runs = self._jumps.setdefault(width, [])
        if runs and runs[-1][0] + runs[-1][1] * (width + 1) == run[0]:
            runs[-1] = (runs[-1][0], runs[-1][1] + run[1])
        else:
            runs.append(run)

    @property
    def stride(self) -> int:
        """The step that at least three quarters of all steps are, if there are two of it; else 1."""
        if not self._jumps:
            return 1
        jumps = Counter({width + 1: sum(count for _, count in runs) for width, runs in self._jumps.items()})
        for step, count in jumps.most_common(1):
            if count >= max(MIN_STEPS, _USUAL_SHARE * self.steps):
                return step
        return 1

    @property
    def missing(self) -> list[Range]:
        """The ranges of missing updates, in order: steps that are wider than the stride."""
        stride = self.stride
        return sorted(
            (start + at * (width + 1), start + at * (width + 1) + width - 1)
            for width, runs in self._jumps.items()
            if width >= stride
            for start, count in runs
            for at in range(count)
        )

    @property
    def remarks(self) -> list[str]:
        """Remarks that go with a verdict on the rows."""
        if (stride := self.stride) == 1:
            return []
        return [
            f"The updates are numbered in steps of {stride:,}. If those are environment steps, record them as "
            "env_steps, and count the updates."
        ]


def _width(jump: Range) -> int:
    return jump[1] - jump[0] + 1


def missing_updates(gap: Range, stride: int) -> Range:
    """Return the first and the last update that a gap leaves out in this stride, which is all of it where that is 1."""
    first = gap[0] - 1 + stride
    return first, first + (missing_count([gap], stride) - 1) * stride


def missing_count(missing: Iterable[Range], stride: int) -> int:
    """Count the updates that gaps leave out in this stride: one for each whole step that is missing."""
    return sum(max(1, _width(gap) // stride) for gap in missing)


def numbering_of_new(rows: pl.DataFrame, last: int | None) -> Numbering | None:
    """Find the numbering of new rows; None if they supersede earlier rows.

    Args:
        rows: at least one row, in the order in which they were recorded.
        last: the newest update so far, if there is one.
    """
    updates = rows["update"]
    first, newest = int(updates[0]), int(updates[-1])
    if (last is not None and first <= last) or not bool((updates.diff().drop_nulls() > 0).all()):
        return None
    if newest - (first - 1 if last is None else last) == rows.height:
        return Numbering(rows.height - (last is None))
    return Numbering.of(rows.lazy(), last)


def numbering_of_index(rows: pl.LazyFrame, index: SegmentIndex) -> Numbering:
    """Find the numbering of the current rows of a rank; reads no rows if the index shows that none is missing."""
    return Numbering(max(0, index.rows - 1)) if _lacks_none(index) else Numbering.of(rows)


def update_at(place: int, rows: pl.LazyFrame, index: SegmentIndex) -> int | None:
    """Return the update of the current row at a place, from 0 on; None if there are fewer. Reads rows as above."""
    if _lacks_none(index):
        return index.pieces[0].first_update + place if place < index.rows else None
    found = rows.select("update").slice(place, 1).collect()["update"]
    return int(found[0]) if len(found) else None


def _lacks_none(index: SegmentIndex) -> bool:
    """Whether the index shows that the updates of a rank rise by one from row to row."""
    pieces = index.pieces
    return not pieces or (rises(pieces) and pieces[-1].last_update - pieces[0].first_update + 1 == index.rows)


def attempts_in(rows: pl.LazyFrame) -> list[tuple[int, int]]:
    """Return each attempt that has rows, in order, with its first update."""
    found = rows.group_by("attempt").agg(pl.col("update").min()).sort("attempt").collect(engine="streaming")
    return list(found.iter_rows())
