"""Encodes the rows of a test as the bytes of a segment: a row message, an active file, a sealed file with its seal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from esper_schemas.run.records import Seal
from esper_schemas.segment.active import RowLayout, SegmentIdentity
from esper_schemas.segment.holds import added_columns, summarise
from esper_schemas.segment.scan import parse_active
from esper_schemas.segment.sealed import seal_of, to_parquet
from esper_schemas.segment.states import make_states


def row_message(layout: RowLayout, row: Mapping[str, Any]) -> bytes:
    """Encode one row; columns that `row` does not name are null."""
    return layout.encoder(row).encode([row[name] for name in layout.columns if name in row])


def active_file(identity: SegmentIdentity, rows: Iterable[Mapping[str, Any]], extras: Sequence[str] = ()) -> bytes:
    """Encode the active file of a segment.

    Args:
        identity: which segment it is.
        rows: column → number, including `seq`. A timestamp is in whole microseconds since 1970, UTC.
        extras: names of the columns that the user added.
    """
    layout = RowLayout.create(identity, extras)
    return layout.header + b"".join(row_message(layout, row) for row in rows)


def sealed_file(active: bytes) -> tuple[bytes, Seal]:
    """Seal an active file: return its Parquet file and its seal.

    Raises:
        ValueError: the active file does not end with its last whole row.
    """
    segment = parse_active(0, active)
    if segment.identity is None or segment.rows is None or segment.end.kind != "clean":
        raise ValueError(f"expected whole rows to the end, found {segment.end}")
    return sealed_rows(segment.rows, segment.identity)


def states_file(active: bytes) -> bytes:
    """Return the file of column states that goes with an active file once it is sealed."""
    segment = parse_active(0, active)
    if segment.identity is None or segment.rows is None:
        raise ValueError(f"expected whole rows, found {segment.end}")
    return make_states(segment.rows, segment.identity).to_bytes()


def sealed_rows(rows: pa.RecordBatch, identity: SegmentIdentity) -> tuple[bytes, Seal]:
    """Return the Parquet file and the seal of rows that already have the columns of the identity."""
    parquet = to_parquet(rows, identity)
    holds = summarise(identity, added_columns(rows.schema.names), [rows])
    return parquet, seal_of(holds, parquet, 0)
