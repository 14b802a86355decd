"""Finds missing updates, and the first update of each attempt; no other module looks for gaps in rows.

It also decides whether new rows continue the previous ones, leave a gap, or supersede earlier rows.
"""

from __future__ import annotations

import polars as pl

from esper_analyzer.reading.current_rows import rises
from esper_analyzer.reading.segment_index import SegmentIndex

Range = tuple[int, int]
"""First and last update of a range, both inclusive."""


def gaps_in(rows: pl.LazyFrame, before: int | None = None) -> list[Range]:
    """Return the ranges of updates that are missing in rows whose updates rise.

    Args:
        rows: rows with `update`, in rising order, each once.
        before: the update before the first of these rows, if there was one.
    """
    earlier = pl.col("update").shift(1).fill_null(pl.lit(before, pl.Int64))
    gaps = rows.select(first=earlier + 1, last=pl.col("update") - 1).filter(pl.col("last") >= pl.col("first"))
    return list(gaps.collect().iter_rows())


def gaps_of_new(rows: pl.DataFrame, last: int | None) -> list[Range] | None:
    """Return the ranges of updates missing before and between new rows; None if these supersede earlier rows.

    Args:
        rows: at least one row, in the order in which they were recorded.
        last: the newest update so far, if there is one.
    """
    updates = rows["update"]
    first, newest = int(updates[0]), int(updates[-1])
    if (last is not None and first <= last) or not bool((updates.diff().drop_nulls() > 0).all()):
        return None
    if newest - (first - 1 if last is None else last) == rows.height:
        return []
    return gaps_in(rows.lazy(), last)


def gaps_of_index(rows: pl.LazyFrame, index: SegmentIndex) -> list[Range]:
    """As `gaps_in`, for the current rows of a rank; reads no rows if the index shows that none is missing."""
    pieces = index.pieces
    if not pieces or (rises(pieces) and pieces[-1].last_update - pieces[0].first_update + 1 == index.rows):
        return []
    return gaps_in(rows)


def attempts_in(rows: pl.LazyFrame) -> list[tuple[int, int]]:
    """Return each attempt that has rows, in order, with its first update."""
    found = rows.group_by("attempt").agg(pl.col("update").min()).sort("attempt").collect(engine="streaming")
    return list(found.iter_rows())
