"""Detects stale ranks: a process holds the lock, but has written nothing for unusually long."""

from __future__ import annotations

import time
from itertools import pairwise

import pyarrow as pa

from esper_schemas.errors import EsperError
from esper_schemas.run.files import Folder
from esper_schemas.run.names import ACTIVE, LOCK_NAME, SEGMENTS, active_name, numbers_in, sealed_name, segment_numbers
from esper_schemas.segment import sealed
from esper_schemas.segment.scan import read_active

MIN_STALE_SECS = 60.0
STALE_GAPS = 10
"""A live run is stale after this many of its usual gaps between updates, but never before `MIN_STALE_SECS`."""

_ROWS = 100


def is_stale(rank: Folder) -> bool:
    """Whether a rank with a live writer has had no new row for unusually long."""
    try:
        quiet = time.time() - _last_write(rank)
        return quiet > MIN_STALE_SECS and quiet > STALE_GAPS * _usual_gap(rank)
    except (EsperError, OSError):
        return False


def _last_write(rank: Folder) -> float:
    """Return the time of the last write to a segment, or else to the lock, in seconds since 1970."""
    names = [active_name(number) for number in numbers_in(rank.names(ACTIVE), ".arrows")]
    in_segments = numbers_in(rank.names(SEGMENTS), ".parquet")
    names += [sealed_name(max(in_segments))] if in_segments else []
    times = [found.st_mtime for name in names or [LOCK_NAME] if (found := rank.stat(name)) is not None]
    return max(times, default=0.0)


def _usual_gap(rank: Folder) -> float:
    """Return the median time between the last updates in seconds; 0 if there are too few or they cannot be read."""
    times: list[int] = []
    try:
        for number in sorted(segment_numbers(rank))[-2:]:
            times += _times(rank, number)
    except (EsperError, OSError, ValueError, pa.ArrowException):
        return 0.0
    from statistics import median

    times = times[-_ROWS:]
    return median(after - before for before, after in pairwise(times)) / 1e6 if times[1:] else 0.0


def _times(rank: Folder, number: int) -> list[int]:
    """Return when the last rows of a segment were recorded, in microseconds since 1970."""
    name = sealed_name(number)
    column: pa.Array | pa.ChunkedArray | None = None
    if rank.exists(name):
        where = rank.where(name)
        with rank.open(name) as file, sealed.open_parquet(file, rank.size(name), where) as parquet:
            column = parquet.read(columns=["wall_time"]).column("wall_time")
    else:
        rows = read_active(rank, number).rows
        column = None if rows is None else rows.column("wall_time")
    if column is None:
        return []
    found: list[int] = column.drop_null().cast(pa.int64()).to_pylist()[-_ROWS:]
    return found
