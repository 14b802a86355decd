"""Which updates are missing, and where each attempt begins: the one place that finds gaps in rows."""

from __future__ import annotations

import polars as pl

from esper_analyzer.reading.current_rows import rises
from esper_analyzer.reading.segment_index import SegmentIndex

Range = tuple[int, int]
"""First and last update of a range, both inclusive."""


def gaps_in(rows: pl.LazyFrame, before: int | None = None) -> list[Range]:
    """Ranges of updates that are missing in rows whose updates rise.

    Args:
        rows: rows with `update`, in rising order, each once.
        before: the update before the first of these rows, if there was one.
    """
    earlier = pl.col("update").shift(1).fill_null(pl.lit(before, pl.Int64))
    gaps = rows.select(first=earlier + 1, last=pl.col("update") - 1).filter(pl.col("last") >= pl.col("first"))
    return list(gaps.collect().iter_rows())


def gaps_of_index(rows: pl.LazyFrame, index: SegmentIndex) -> list[Range]:
    """As `gaps_in`, of the current rows of a rank; nothing is read where the index says that none is missing."""
    pieces = index.pieces
    if not pieces or (rises(pieces) and pieces[-1].last_update - pieces[0].first_update + 1 == index.rows):
        return []
    return gaps_in(rows)


def attempts_in(rows: pl.LazyFrame) -> list[tuple[int, int]]:
    """Each attempt that has rows, in order, and the first of its updates."""
    found = rows.group_by("attempt").agg(pl.col("update").min()).sort("attempt").collect(engine="streaming")
    return list(found.iter_rows())
