"""The bytes of an active segment, both directions: one header, then one fixed-size Arrow IPC message per update.

A `RowLayout` writes and reads them. The writer makes a message template once with pyarrow, then only patches
validity, values and checksum into it. The reader decodes whole segments by their fixed stride. FORMAT.md,
"Active segment", describes the bytes and the reasons for them. Invariants:

- every row message of a segment has the same length, `row_bytes`;
- bytes that are not values, validity, null counts or checksum are the same in every row of a segment;
- every row message ends in its checksum, which covers all bytes before it and is never zero. So a row is either
  whole or not there, and a file that ends in zeros never ends in a whole row.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa

from esper_schemas.errors import FormatVersionError, RunDamagedError
from esper_schemas.limits import FORMAT_VERSION, MAX_COLUMNS
from esper_schemas.metric.metrics import Dtype
from esper_schemas.metric.payload import METRICS

if TYPE_CHECKING:
    import numpy.typing as npt

ARROW_TYPES: dict[Dtype, pa.DataType] = {
    "float64": pa.float64(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
_PACK_CODES = {"float64": "d", "int64": "q", "int32": "i4x", "bool": "?7x", "timestamp": "q"}
_VALUE_BYTES = {"float64": 8, "int64": 8, "int32": 4, "bool": 1, "timestamp": 8}
_DTYPE_OF_ARROW = {arrow: dtype for dtype, arrow in ARROW_TYPES.items()}

_PREFIX = struct.Struct("<iI")  # continuation marker −1, length of the metadata that follows
_CONTINUATION = -1
ROW_MARK = b"\xff\xff\xff\xff"
"""The continuation marker as bytes. It starts the header and every row, and never occurs inside a header."""

SEQ_CELLS = struct.Struct("<qq")
"""`seq` and `dropped_before`, the first two columns of a row."""
_CELL = 8  # bytes of one validity cell and of one value cell
_BLOCK_BYTES = 1024 * 1024  # scanned at once: they stay in the processor's cache
_CHECKSUM_BYTES = 8  # hexadecimal digits, which are never zero bytes
_CHECKSUM_MARK = b"\x01"  # before the digits in a header; not printable, so it cannot occur in a name
_NO_CHECKSUM = b"--------"  # placeholder in a header until its checksum is known

CHECKSUM_KEY = "esper.crc32"

SEQ_COLUMNS: dict[str, Dtype] = {"seq": "int64", "dropped_before": "int64"}
"""Columns that the recorder adds to every row, before those of the metrics table."""


def column_types(extras: Iterable[str] = ()) -> dict[str, Dtype]:
    """Name → dtype of every per-row column: the recorder's, the metrics table's, then `extras` as float64."""
    return {
        **SEQ_COLUMNS,
        **{name: metric.dtype for name, metric in METRICS.items()},
        **dict.fromkeys(extras, "float64"),
    }


@dataclass(frozen=True, slots=True)
class SegmentIdentity:
    """What is constant in a segment. It is in the header of the active file and in the metadata of the sealed one.

    `run_uuid` identifies the recording; it tells two recordings with the same run id apart. None in files of 0.1.0.
    """

    run_id: str
    rank: int
    attempt: int
    segment: int
    first_seq: int
    run_uuid: str | None = None

    def to_metadata(self) -> dict[str, str]:
        """The identity as Arrow schema metadata."""
        metadata = {
            "esper.format": str(FORMAT_VERSION),
            "esper.run_id": self.run_id,
            "esper.rank": str(self.rank),
            "esper.attempt": str(self.attempt),
            "esper.segment": str(self.segment),
            "esper.first_seq": str(self.first_seq),
        }
        return metadata if self.run_uuid is None else metadata | {"esper.run_uuid": self.run_uuid}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Self:
        """The identity that schema metadata declares.

        Raises:
            KeyError, ValueError: the metadata declares no identity.
            FormatVersionError: a newer Esper wrote it.
        """
        version = int(metadata["esper.format"])
        identity = cls(
            run_id=metadata["esper.run_id"],
            rank=int(metadata["esper.rank"]),
            attempt=int(metadata["esper.attempt"]),
            segment=int(metadata["esper.segment"]),
            first_seq=int(metadata["esper.first_seq"]),
            run_uuid=metadata.get("esper.run_uuid"),
        )
        if version > FORMAT_VERSION:
            raise FormatVersionError(
                f"{where} has format {version}, newer than the {FORMAT_VERSION} that this Esper reads; upgrade Esper"
            )
        return identity


class ScanEnd(NamedTuple):
    """What follows the last whole row.

    `clean`: nothing. `torn`: a message that was cut short or never reached the disk (zeros); a crash leaves this, and
    so does a write in progress. `corrupt`: anything else, which is damage.
    """

    kind: Literal["clean", "torn", "corrupt"]
    offset: int
    cause: str = ""


class RowEncoder:
    """Encodes rows that have exactly the columns `present`; all others are null.

    It prepares once what depends only on the set of columns (null counts, validity, the checksum of both). A row then
    costs one `struct.pack`, one CRC of the values and one copy.
    """

    __slots__ = ("_checksum", "_head", "_pack")

    def __init__(self, layout: RowLayout, present: frozenset[str]) -> None:
        head = bytearray(layout.template[: layout.values_at])
        codes = ["<"]
        for i, (name, dtype) in enumerate(layout.columns.items()):
            is_present = name in present
            struct.pack_into("<q", head, layout.nodes_at + 16 * i + 8, 0 if is_present else 1)
            head[layout.validity_at + _CELL * i] = is_present
            codes.append(_PACK_CODES[dtype] if is_present else "8x")
        self._head = bytes(head)
        self._checksum = zlib.crc32(self._head)
        self._pack = struct.Struct("".join(codes)).pack

    def encode(self, values: Iterable[float]) -> bytes:
        """Encode one row message; `values` are those of the present columns, in column order.

        Raises:
            struct.error: a value does not fit its column, or the number of values is wrong.
        """
        cells = self._pack(*values)
        return b"".join((self._head, cells, b"%08x" % zlib.crc32(cells, self._checksum)))


class RowLayout:
    """The offsets of every part of a segment's header and row messages.

    Attributes:
        columns: name → dtype, in column order.
        identity: what is constant in the segment.
        header: bytes of the schema message that opens the file.
        row_bytes: length of every row message.
        schema: Arrow schema of the rows, without metadata.
    """

    def __init__(self, columns: Mapping[str, Dtype], identity: SegmentIdentity, header: bytes, row_bytes: int) -> None:
        self.columns = dict(columns)
        self.identity = identity
        self.header = header
        self.row_bytes = row_bytes
        self.checksum_at = row_bytes - _CHECKSUM_BYTES
        self.values_at = self.checksum_at - _CELL * len(columns)
        self.validity_at = self.values_at - _CELL * len(columns)
        self.schema = pa.schema([(name, ARROW_TYPES[dtype]) for name, dtype in columns.items()])
        self.template = b""
        self.nodes_at = 0

    # ---------------------------------------------------------------- writing

    @classmethod
    def create(cls, identity: SegmentIdentity, extras: Iterable[str] = ()) -> RowLayout:
        """Create the layout of a new segment. pyarrow lays out one message, which becomes the template."""
        columns = column_types(extras)
        schema = pa.schema([(name, ARROW_TYPES[dtype]) for name, dtype in columns.items()])
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, schema) as writer:
            nothing = pa.record_batch([pa.nulls(1, kind) for kind in schema.types], schema=schema)
            writer.write_batch(nothing)
            stream = sink.getvalue()
        template = bytearray(stream[_message_length(stream) :]) + bytes(_CHECKSUM_BYTES)
        nodes_at = _rearrange(template, list(columns.values()))
        metadata = identity.to_metadata() | {
            "esper.row_bytes": str(len(template)),
            CHECKSUM_KEY: (_CHECKSUM_MARK + _NO_CHECKSUM).decode(),
        }
        header = schema.with_metadata(metadata).serialize().to_pybytes()
        at = _find_once(header, _CHECKSUM_MARK + _NO_CHECKSUM) + 1
        header = header[:at] + b"%08x" % _checksum_around(header, at) + header[at + _CHECKSUM_BYTES :]
        layout = cls(columns, identity, header, len(template))
        layout.template, layout.nodes_at = bytes(template), nodes_at
        return layout

    def encoder(self, present: Iterable[str]) -> RowEncoder:
        """An encoder for rows that have exactly the columns `present`."""
        return RowEncoder(self, frozenset(present))

    # ---------------------------------------------------------------- reading

    @classmethod
    def read(cls, data: bytes) -> RowLayout | None:
        """Read the layout from the header at the start of `data`; None if the header is not complete yet.

        Raises:
            FormatVersionError: a newer Esper wrote it.
            RunDamagedError: the bytes are not a valid header, or its checksum is wrong.
        """
        length = _message_length(data)
        if length > len(data):
            if ROW_MARK in data[_PREFIX.size :]:  # rows follow, so the header was complete once
                raise RunDamagedError("offset 0: the header declares more bytes than it has")
            return None
        header = bytes(data[:length])
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(header))
            metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
            recorded = metadata[CHECKSUM_KEY].encode()
            at = _find_once(header, recorded) + 1
            if recorded != _CHECKSUM_MARK + b"%08x" % _checksum_around(header, at):
                raise ValueError("its checksum does not match")
            identity = SegmentIdentity.from_metadata(metadata, "the segment")
            if len(schema) > MAX_COLUMNS:
                raise ValueError(f"it declares {len(schema):,} columns; the limit is {MAX_COLUMNS:,}")
            columns = {entry.name: _DTYPE_OF_ARROW[entry.type] for entry in schema}
            layout = cls(columns, identity, header, int(metadata["esper.row_bytes"]))
        except (pa.ArrowException, KeyError, ValueError, UnicodeDecodeError, OSError) as error:
            cause = " ".join(str(error).split())
            raise RunDamagedError(f"offset 0: not the header of a segment ({cause})") from None
        if layout.validity_at < _PREFIX.size:
            raise RunDamagedError(
                f"offset 0: the header declares rows of {layout.row_bytes} bytes, too short for {len(columns)} columns"
            )
        if (first := list(columns)[:2]) != list(SEQ_COLUMNS):
            raise RunDamagedError(f"offset 0: the first columns must be {', '.join(SEQ_COLUMNS)}, found {first}")
        return layout

    def scan(self, data: bytes | memoryview, *, offset: int, next_seq: int) -> tuple[int, ScanEnd]:
        """Verify row messages from the start of `data` on.

        Args:
            data: bytes of the file from `offset` to its end.
            offset: where `data` begins in the file; the offsets of the result count from the start of the file.
            next_seq: sequence number that the first row must continue from.

        Returns:
            Number of whole rows, and what follows them.
        """
        view = memoryview(data)
        rows, messages = 0, len(view) // self.row_bytes
        at_once = max(1, _BLOCK_BYTES // self.row_bytes)
        while rows < messages:
            block = view[rows * self.row_bytes : min(messages, rows + at_once) * self.row_bytes]
            good, next_seq = self._whole_rows(block, next_seq)
            rows += good
            if good < len(block) // self.row_bytes:
                break
        end, rest = offset + rows * self.row_bytes, view[rows * self.row_bytes :]
        if not rest:
            return rows, ScanEnd("clean", end)
        cause = self._fault(rest[: self.row_bytes], next_seq)
        return rows, ScanEnd("torn" if _is_torn(rest, self.row_bytes) else "corrupt", end, cause)

    def is_whole(self, message: bytes | memoryview) -> bool:
        """Whether `message` is as long as a row and ends in its checksum."""
        return len(message) == self.row_bytes and bool(self._are_whole(memoryview(message))[0])

    def _fault(self, message: memoryview, next_seq: int) -> str:
        """What is wrong with the row that ends a scan."""
        if len(message) < self.row_bytes:
            return f"a row of {self.row_bytes} bytes ends after {len(message)}"
        if not self.is_whole(message):
            return "the checksum of a row does not match"
        seq, dropped = SEQ_CELLS.unpack_from(message, self.values_at)
        return f"expected sequence number {next_seq + dropped}, found {seq}"

    def _whole_rows(self, block: memoryview, next_seq: int) -> tuple[int, int]:
        """Return how many rows from the start of a block are whole and in order, and the number that follows them."""
        is_good = self._are_whole(block)
        numbers = np.ndarray((len(is_good), 2), "<i8", block, self.values_at, (self.row_bytes, _CELL))
        seq, dropped = numbers[:, 0], numbers[:, 1]
        is_good &= dropped >= 0
        is_good[0] &= int(seq[0]) == next_seq + int(dropped[0])
        # A difference that wraps around is negative, and so is not the number of dropped rows.
        is_good[1:] &= (seq[1:] > seq[:-1]) & (seq[1:] - seq[:-1] - 1 == dropped[1:])
        good = len(is_good) if is_good.all() else int(is_good.argmin())
        return good, int(seq[good - 1]) + 1 if good else next_seq

    def _are_whole(self, block: memoryview) -> npt.NDArray[np.bool_]:
        """Whether each row message of a block ends in its checksum, whose digits are in the order of big-endian."""
        covered = struct.Struct(f"{self.checksum_at}s{_CHECKSUM_BYTES}x").iter_unpack(block)
        checksums = np.fromiter(starmap(zlib.crc32, covered), ">u4")
        expected = np.frombuffer(checksums.tobytes().hex().encode(), np.uint8).reshape(-1, _CHECKSUM_BYTES)
        messages = np.frombuffer(block, np.uint8).reshape(-1, self.row_bytes)
        return np.asarray((messages[:, self.checksum_at :] == expected).all(axis=1))

    def decode(self, data: bytes | memoryview, rows: int) -> pa.RecordBatch:
        """Decode the first `rows` messages of `data` into one batch; `scan` must have verified them."""
        messages = np.frombuffer(data, np.uint8, rows * self.row_bytes).reshape(rows, self.row_bytes)
        cells = np.ascontiguousarray(messages[:, self.validity_at : self.checksum_at])
        valid, values = (np.ascontiguousarray(half.T) for half in np.split(cells.view("<u8"), 2, axis=1))
        validity = np.packbits(np.ascontiguousarray(valid.view("u1")[:, ::_CELL]), axis=1, bitorder="little")
        arrays = []
        for i, dtype in enumerate(self.columns.values()):
            column, size = values[i], _VALUE_BYTES[dtype]
            if size < _CELL:
                column = np.ascontiguousarray(column.view(f"u{size}")[:: _CELL // size])
            if dtype == "bool":
                column = np.packbits(column, bitorder="little")
            buffers = [pa.py_buffer(validity[i]), pa.py_buffer(column)]
            arrays.append(pa.Array.from_buffers(ARROW_TYPES[dtype], rows, buffers))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _message_length(data: bytes) -> int:
    """Length of the IPC message (without body) at the start of `data`; larger than `data` if the message is cut."""
    if len(data) < _PREFIX.size:
        return _PREFIX.size
    marker, length = _PREFIX.unpack_from(data)
    if marker != _CONTINUATION:
        raise RunDamagedError("offset 0: not an Arrow IPC message")
    return _PREFIX.size + int(length)


def _checksum_around(header: bytes, at: int) -> int:
    """CRC-32 (zlib) of every byte of `header` except the eight digits of the checksum itself, which are at `at`."""
    return zlib.crc32(header[at + _CHECKSUM_BYTES :], zlib.crc32(header[:at]))


def _is_torn(rest: memoryview, row_bytes: int) -> bool:
    """Whether a write was cut short: less than a row is left, or all bytes from the row's last one on are zero."""
    return len(rest) < row_bytes or not bytes(rest[row_bytes - 1 :]).strip(b"\0")


def _find_once(data: bytes, pattern: bytes) -> int:
    if data.count(pattern) != 1:
        raise ValueError("its checksum must appear in it exactly once")
    return data.index(pattern)


def _rearrange(template: bytearray, dtypes: list[Dtype]) -> int:
    """Rearrange the body into all validity cells, all value cells, checksum; return the offset of the field nodes.

    pyarrow lays buffers out column by column. With all values in one block, one `struct.pack` writes a row. Readers
    follow the offsets in the message, so any order will do. They skip bytes that no buffer refers to, so the body can
    end in the checksum.
    """
    count = len(dtypes)
    message = _PREFIX.size + _uint32(template, _PREFIX.size)
    batch = _follow(template, _field(template, message, _MESSAGE_HEADER))
    body_length_at = _field(template, message, _MESSAGE_BODY_LENGTH)
    nodes_at = _follow(template, _field(template, batch, _BATCH_NODES)) + 4
    buffers_at = _follow(template, _field(template, batch, _BATCH_BUFFERS)) + 4
    struct.pack_into("<q", template, body_length_at, 2 * _CELL * count + _CHECKSUM_BYTES)
    for i, dtype in enumerate(dtypes):
        value_at = _CELL * (count + i)
        struct.pack_into("<qqqq", template, buffers_at + 32 * i, _CELL * i, 1, value_at, _VALUE_BYTES[dtype])
    return nodes_at


# Slots of the fields we patch, from Arrow's Message.fbs; a flatbuffer table finds its fields through its vtable.
_MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 2, 3
_BATCH_NODES, _BATCH_BUFFERS = 1, 2


def _field(data: bytearray, table: int, slot: int) -> int:
    vtable: int = table - struct.unpack_from("<i", data, table)[0]
    offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0]
    return table + offset


def _follow(data: bytearray, at: int) -> int:
    return at + _uint32(data, at)


def _uint32(data: bytearray, at: int) -> int:
    value: int = struct.unpack_from("<I", data, at)[0]
    return value
