"""Checks the pages of a Parquet file against its footer, before a decoder believes their headers.

A header says how many bytes its page unpacks to, up to 2 GiB, and decoders allocate them at once; where that fails,
polars ends the process. The structs are those of
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, BinaryIO

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.run.storage import RangedFile
from esper_schemas.segment.thrift import read_page_header, read_struct

MAX_HEADERS_BYTES = 1024 * 1024
"""Bytes of all page headers of a file: the largest segment has a third of it, and to read so many takes a second."""

_FIRST_BYTES = 192  # few headers are longer; those are read again
_DICTIONARY = 2
_DETAILS = {0: (5, 2), _DICTIONARY: (7, 2), 3: (8, 4)}  # type of a page: field of its details, field of its encoding
_DELTA_BYTE_ARRAY = 7
_TEXTS = (6, 7)  # types of a column: BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY


def check_pages(
    file: BinaryIO, end: int, footer: bytes, rows: int, where: str, columns: Container[int] | None = None
) -> None:
    """Check that pages claim just the rows of the file, and no more bytes than the footer declares.

    Args:
        file: the Parquet file; if it is far away, the bytes of the columns that will be read are fetched at once.
        end: where its footer begins.
        footer: its footer.
        rows: how many rows the file has; known to be within bounds.
        where: the file's name, for messages.
        columns: the positions of the columns that will be read; the pages of others are not looked at.

    Raises:
        RunDamagedError: they do not, or the parts of the footer contradict each other.
        OSError: the file cannot be read.
    """
    walk = _Walk(file, end, where)
    try:
        declared, _ = read_struct(footer)
        if isinstance(file, RangedFile):
            file.fetch([span for group in declared[4] for span in _spans(group, end, columns)])
        for group in declared[4]:
            walk.check_group(group, len(declared[2]) - 1, columns)
        found = sum(group[3] for group in declared[4])
        if not found == declared[3] == rows:
            raise walk.damage(f"expected row groups of {rows:,} rows in all, found {found:,}")
    except (LookupError, TypeError, ValueError):  # what is missing, or of another kind
        raise walk.damage("expected a Parquet footer, found something else") from None


def _spans(group: dict[int, Any], end: int, columns: Container[int] | None) -> list[tuple[int, int]]:
    """Where the columns of a row group are, as far as they can be there."""
    starts = [(chunk[3].get(11, chunk[3][9]), chunk[3][7]) for chunk in _chosen(group[1], columns)]
    return [(start, start + size) for start, size in starts if 0 <= start < start + size <= end]


def _chosen(chunks: list[dict[int, Any]], columns: Container[int] | None) -> list[dict[int, Any]]:
    return [chunk for at, chunk in enumerate(chunks) if columns is None or at in columns]


class _Walk:
    """What was seen of the pages of a file."""

    def __init__(self, file: BinaryIO, end: int, where: str) -> None:
        self._file = file
        self._end = end
        self._where = where
        self._left = MAX_HEADERS_BYTES
        self._unpacked = 0
        self._texts = 0  # bytes that texts of dictionaries may unpack to: each row may hold the longest

    def check_group(self, group: dict[int, Any], count: int, columns: Container[int] | None) -> None:
        """Check the columns of a row group."""
        chunks = [chunk[3] for chunk in group[1]]
        unpacked = sum(chunk[6] for chunk in chunks)
        most = min(group[2], MAX_SEGMENT_BYTES - self._unpacked)
        if len(chunks) != count or unpacked > most:
            raise self.damage(
                f"expected {count:,} columns of at most {most:,} bytes, found {len(chunks):,} of {unpacked:,}"
            )
        self._unpacked += unpacked
        for chunk in _chosen(chunks, columns):
            self._check_chunk(chunk, group[3])

    def _check_chunk(self, chunk: dict[int, Any], rows: int) -> None:
        room, data = chunk[6], chunk[9]
        at = chunk.get(11, data)  # the dictionary comes first
        stop = at + chunk[7]
        if not 0 <= at <= stop <= self._end or room < 0 or (at > data and rows):
            raise self.damage(f"expected a column before byte {self._end}, found it from {at} to {stop}")
        values = 0
        while at < stop:
            kind, unpacked, packed, count, encoding, start = self._read_header(at, stop)
            if unpacked > room or packed > stop - start or count > rows:
                raise self.damage(
                    f"expected a page of at most {room:,} bytes, packed {stop - start:,}, of {rows:,} values at byte"
                    f" {at}, found {unpacked:,}, packed {packed:,}, of {count:,}"
                )
            if kind != _DICTIONARY:
                values += count
            elif chunk[1] in _TEXTS:
                self._texts += unpacked * rows
            if self._texts > MAX_SEGMENT_BYTES or encoding == _DELTA_BYTE_ARRAY:
                raise self.damage(f"expected texts of at most {MAX_SEGMENT_BYTES:,} bytes, found more")
            room -= unpacked
            at = start + packed
        if not values == chunk[5] == rows:
            raise self.damage(f"expected {rows:,} values in the pages before byte {stop}, found {values:,}")

    def _read_header(self, at: int, stop: int) -> tuple[int, int, int, int, int, int]:
        """Type, unpacked and packed bytes, number of values and encoding of a page, and where its content starts."""
        for most in (min(_FIRST_BYTES, self._left), self._left):
            self._file.seek(at)
            try:
                fields, length = read_page_header(self._file.read(min(most, stop - at)))
                details, encoding = _DETAILS[fields[1]]
                found = fields[1], fields[2], fields[3], fields[details][1], fields[details][encoding]
                self._left -= length
                if min(found) >= 0:
                    return *found, at + length
            except IndexError:  # it is longer than that
                continue
            except (KeyError, TypeError, ValueError):
                pass
            break
        raise self.damage(f"expected the header of a page at byte {at}, found none within {self._left:,} bytes")

    def damage(self, text: str) -> RunDamagedError:
        """The error that says so."""
        return RunDamagedError(f"{self._where}: {text}")
