"""Continues recording in a run beside one that was taken away.

Somebody removed the folder of the run, or removed its LOCK so that another recorder could take it. Nothing under the
old name is ours any more. A recording of its own begins in `<run_id>.taken-<first eight digits of the run_uuid>`, with
the rows that our open files still have, under the same sequence numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from esper_recorder.writing.journal import Journal
from esper_recorder.writing.opening import OpenedRank, open_beside

_MAX_RUN_ID = 128
_SUFFIX = re.compile(r"\.taken-[0-9a-f]{8}$")


def move(opened: OpenedRank, journal: Journal) -> tuple[OpenedRank, Journal]:
    """Open a run beside the one that was taken away, and write every row that our open files still have into it.

    Raises:
        EsperError, OSError: it cannot be opened or written; `opened` and `journal` stay usable for another try.
    """
    rows = list(_rows(journal))
    first_seq = rows[0]["seq"] - rows[0].get("dropped_before", 0) if rows else journal.last_seq + 1
    suffix = f".taken-{opened.header.run_uuid[:8]}"
    run_id = _SUFFIX.sub("", opened.identity.run_id)[: _MAX_RUN_ID - len(suffix)] + suffix
    there = open_beside(opened, run_id, first_seq)
    new = Journal(there.folder, there.lock, there.identity, journal.limits)
    try:
        new.append_all(rows)
    except BaseException:
        new.close_files()
        there.close()
        raise
    return there, new


def _rows(journal: Journal) -> Iterator[dict[str, Any]]:
    """Yield the rows of all segments that are not sealed yet, as they were appended."""
    for writer in journal.unsealed_writers():
        rows = writer.read_back().rows
        if rows is None:
            continue
        columns = {name: _plain(rows.column(name)) for name in writer.layout.columns}
        for values in zip(*(column.to_pylist() for column in columns.values()), strict=True):
            yield {name: value for name, value in zip(columns, values, strict=True) if value is not None}


def _plain(column: pa.Array) -> pa.Array:
    """Convert a column to plain numbers: times become microseconds since 1970."""
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
