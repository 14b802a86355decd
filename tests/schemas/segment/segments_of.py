"""Makes segments for tests from rows, valid or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from esper_schemas.run.records import Seal
from esper_schemas.segment.active import ARROW_TYPES, SegmentIdentity, column_types
from esper_schemas.segment.holds import Holds, summarise
from esper_schemas.testing.segments import sealed_rows

IDENTITY = SegmentIdentity("r", 0, 2, 7, 100, "uuid")


def rows_of(values: Iterable[Mapping[str, Any]], identity: SegmentIdentity = IDENTITY, *extras: str) -> pa.RecordBatch:
    """Rows of a segment, with the columns of the identity; what is not given is null."""
    types = {
        "run_id": pa.string(),
        "rank": pa.int32(),
        "attempt": pa.int32(),
        **{name: ARROW_TYPES[dtype] for name, dtype in column_types(extras).items()},
    }
    constant = {"run_id": identity.run_id, "rank": identity.rank, "attempt": identity.attempt}
    return pa.RecordBatch.from_pylist([{**constant, **row} for row in values], pa.schema([*types.items()]))


def numbered(*seqs: int) -> pa.RecordBatch:
    """Rows of these sequence numbers, each of that update."""
    return rows_of({"seq": seq, "update": seq} for seq in seqs)


def sealed_segment(*seqs: int) -> tuple[Seal, Holds, bytes]:
    """Seal, content and file of a segment of these rows."""
    rows = numbered(*seqs)
    parquet, seal = sealed_rows(rows, IDENTITY)
    return seal, summarise(IDENTITY, [], [rows]), parquet
