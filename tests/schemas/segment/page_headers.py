"""Parquet files with page headers that a test wrote: they claim what no writer does, and take the same room."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pyarrow.parquet as pq

_ZSTD = b"\x28\xb5\x2f\xfd"  # begins the content of each page
_BY_TYPE = {0: b"\x2c", 1: b"\x3c", 2: b"\x4c", 3: b"\x5c"}  # the field of a page header that holds its details


def number(value: int) -> bytes:
    """An integer in Thrift's compact protocol."""
    raw = value << 1 if value >= 0 else (-value << 1) - 1
    parts = []
    while raw > 127:
        parts.append(raw & 127 | 128)
        raw >>= 7
    return bytes([*parts, raw])


@dataclass(frozen=True, slots=True)
class PageHeader:
    """What a page header claims, as far as it matters for memory."""

    kind: int
    unpacked: int
    packed: int
    values: int
    encoding: int = 0

    def to_bytes(self, length: int) -> bytes:
        """The header in just so many bytes; what is too much stands in a field that nobody knows."""
        numbers = b"".join(b"\x15" + number(value) for value in (self.kind, self.unpacked, self.packed))
        details = b"".join(b"\x15" + number(value) for value in (self.values, self.encoding, 3, 3))
        head = numbers + _BY_TYPE[self.kind] + details + b"\0"
        filler = length - len(head) - 3
        assert 0 <= filler < 128, f"{length} bytes do not fit"
        return head + b"\x88" + bytes([filler]) + b"x" * filler + b"\0"


def column(parquet: bytes, name: str) -> pq.ColumnChunkMetaData:
    """What the footer says of the one chunk of a column."""
    footer = pq.ParquetFile(io.BytesIO(parquet)).metadata
    return footer.row_group(0).column(footer.schema.names.index(name))


def header_at(parquet: bytes, at: int) -> bytes:
    """The bytes of the header of the page at `at`."""
    return parquet[at : parquet.index(_ZSTD, at)]


def with_header(parquet: bytes, at: int, header: PageHeader) -> bytes:
    """The file with another header for the page at `at`."""
    length = len(header_at(parquet, at))
    return parquet[:at] + header.to_bytes(length) + parquet[at + length :]
