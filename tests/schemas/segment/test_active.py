from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from esper_schemas import FormatVersionError, RunDamagedError
from esper_schemas.segment.active import RowLayout, ScanEnd, SegmentIdentity, column_types
from esper_schemas.testing.segments import row_message
from esper_schemas.testing.strategies import ActiveFile, active_segments

IDENTITY = SegmentIdentity(run_id="r", rank=0, attempt=0, segment=0, first_seq=0)


def small_layout(extras: int = 0, identity: SegmentIdentity = IDENTITY) -> RowLayout:
    """A layout with `extras` columns beside the table."""
    return RowLayout.create(identity, [f"x{i}" for i in range(extras)])


def some_rows(layout: RowLayout, count: int) -> list[dict[str, Any]]:
    """Rows of which each carries another set of columns."""
    names = [name for name in layout.columns if name not in ("seq", "dropped_before")]
    rows = []
    for i in range(count):
        row: dict[str, Any] = {"seq": i}
        for j, name in enumerate(names):
            if (i + j) % 3:
                dtype = layout.columns[name]
                row[name] = bool(i % 2) if dtype == "bool" else i * 7 + j if dtype != "float64" else (i + 1) / (j + 1)
        rows.append(row)
    return rows


def bits(values: list[float | int | bool | None]) -> list[bytes | None]:
    """Values as bytes, since NaN is not equal to itself and −0.0 is equal to 0.0."""
    return [
        None if value is None else struct.pack("<d", value) if isinstance(value, float) else repr(value).encode()
        for value in values
    ]


def columns_of(batch: pa.RecordBatch | pa.Table) -> dict[str, list[bytes | None]]:
    """Every column's values as bytes."""
    found = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        found[name] = bits(column.to_pylist())
    return found


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(written=active_segments(min_rows=1))
def test_rows_come_back_bit_for_bit(written: ActiveFile) -> None:
    """Every value of every dtype, and null, is read back with the bits that were written, whatever they are."""
    read = RowLayout.read(written.data)
    assert read is not None
    assert read.identity == written.identity
    stream, count = written.data[len(read.header) :], len(written.rows)
    assert read.scan(stream, offset=0, next_seq=written.identity.first_seq) == (count, ScanEnd("clean", len(stream)))
    got = columns_of(read.decode(stream, count))
    assert list(got) == [*column_types(written.extras)]
    assert got == {name: bits([row.get(name) for row in written.rows]) for name in read.columns}


@pytest.mark.parametrize("extras", [0, 1, 2, 3, 7, 8, 63, 64, 65, 300])
def test_layout_holds_for_any_number_of_extras(extras: int) -> None:
    """Messages of any number of columns are read alike by our scan, by pyarrow and by polars."""
    layout = small_layout(extras)
    rows = some_rows(layout, 9)
    stream = b"".join(row_message(layout, row) for row in rows)
    data = layout.header + stream
    assert all(len(row_message(layout, row)) == layout.row_bytes for row in rows)
    assert layout.row_bytes % 8 == 0
    assert len(layout.header) % 8 == 0
    ours = layout.decode(stream, 9)
    theirs = pa.ipc.open_stream(data).read_all()
    theirs.validate(full=True)
    assert columns_of(ours) == columns_of(theirs)
    assert columns_of(ours) == {name: bits([row.get(name) for row in rows]) for name in layout.columns}
    assert [column.null_count for column in ours.columns] == [column.null_count for column in theirs.columns]
    polars = pl.read_ipc_stream(io.BytesIO(data))
    assert columns_of(polars.to_arrow().cast(layout.schema)) == columns_of(ours)


MANY = 700
"""Rows that a scan does not verify all at once."""


def many_rows(**changed: dict[int, int]) -> tuple[RowLayout, bytes]:
    """Messages of many rows; `changed` has for a column which row has which value instead."""
    layout = small_layout()
    rows = [{"seq": i, "dropped_before": 0, "update": i} for i in range(MANY)]
    for name, values in changed.items():
        for i, value in values.items():
            rows[i][name] = value
    return layout, b"".join(row_message(layout, row) for row in rows)


@pytest.mark.parametrize("row", [0, 1, 248, 249, 250, 251, 499, 698, 699])
def test_damage_among_many_rows_has_its_address(row: int) -> None:
    """The rows before a damaged one are whole, wherever it is, and the scan says where it begins and why it ended."""
    layout, stream = many_rows()
    at = row * layout.row_bytes + layout.values_at + 3
    stream = stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :]
    end = ScanEnd("corrupt", 8 + row * layout.row_bytes, "the checksum of a row does not match")
    assert layout.scan(stream, offset=8, next_seq=0) == (row, end)
    cut = stream[: row * layout.row_bytes + 5]
    end = ScanEnd("torn", 8 + row * layout.row_bytes, f"a row of {layout.row_bytes} bytes ends after 5")
    assert layout.scan(cut, offset=8, next_seq=0) == (row, end)


@pytest.mark.parametrize("row", [1, 248, 249, 250, 499, 699])
@pytest.mark.parametrize(
    ("step", "dropped", "is_good"),
    [(-1, 0, False), (0, 0, True), (1, 0, False), (1, 1, True), (-2, -2, False), (-1 - 2**63, 2**63 - 1, False)],
    ids=["repeats", "continues", "skips", "dropped", "dropped fewer than none", "wraps around"],
)
def test_numbers_among_many_rows_must_continue(row: int, step: int, dropped: int, is_good: bool) -> None:
    """A whole row whose number does not continue from the row before ends the scan."""
    layout, stream = many_rows(seq={row: row + step}, dropped_before={row: dropped})
    end = ScanEnd("clean", (row + 1) * layout.row_bytes)
    if not is_good:
        said = f"expected sequence number {row + dropped}, found {row + step}"
        end = ScanEnd("corrupt", row * layout.row_bytes, said)
    found = layout.scan(stream[: (row + 1) * layout.row_bytes], offset=0, next_seq=0)
    assert found == (row + is_good, end)


def test_header_says_who_wrote_it() -> None:
    """The identity that went into the header comes out of it, with the columns and their order."""
    identity = SegmentIdentity("a.run-1", 3, 2, 17, 123_456_789_012)
    written = RowLayout.create(identity, ["température", 'x "y"'])
    read = RowLayout.read(written.header)
    assert read is not None
    assert read.identity == identity
    assert list(read.columns.items()) == list(column_types(["température", 'x "y"']).items())
    assert read.row_bytes == written.row_bytes


def test_row_mark_is_never_inside_a_header() -> None:
    """The four bytes by which a header of wrong length is found out do not occur in any header."""
    for extras in [0, 1, 5, 50, 500]:
        assert b"\xff\xff\xff\xff" not in small_layout(extras).header[8:]


def small_file() -> tuple[RowLayout, bytes, pa.RecordBatch]:
    """A layout, a file of three rows, and those rows."""
    layout = small_layout()
    stream = b"".join(row_message(layout, row) for row in some_rows(layout, 3))
    return layout, layout.header + stream, layout.decode(stream, 3)


def scan_file(data: bytes) -> tuple[int, str, pa.RecordBatch | None]:
    """Number of rows, how the file ends, and the rows; as a reader of files sees it."""
    try:
        layout = RowLayout.read(data)
    except (RunDamagedError, FormatVersionError):
        return 0, "corrupt", None
    if layout is None:
        return 0, "torn", None
    start = len(layout.header)
    rows, end = layout.scan(data[start:], offset=start, next_seq=layout.identity.first_seq)
    return rows, end.kind, layout.decode(data[start:], rows) if rows else None


def is_prefix(batch: pa.RecordBatch | None, rows: pa.RecordBatch) -> bool:
    """Whether `batch` is the first of `rows`."""
    return batch is None or bool(batch.equals(rows.slice(0, batch.num_rows)))


def test_every_truncation_is_torn_and_keeps_the_whole_rows() -> None:
    """A file cut at any byte gives exactly the rows that are whole, and never reads as damaged."""
    layout, data, true_rows = small_file()
    for length in range(0, len(data), 3):  # every third; row and header lengths are multiples of 8, so all cases come
        rows, kind, got = scan_file(data[:length])
        whole = max(0, (length - len(layout.header)) // layout.row_bytes)
        on_edge = length >= len(layout.header) and (length - len(layout.header)) % layout.row_bytes == 0
        assert (rows, kind) == (whole, "clean" if on_edge else "torn"), length
        assert is_prefix(got, true_rows)


def test_no_flipped_bit_gives_a_wrong_row() -> None:
    """Whichever bit is wrong, the rows before it are read as they were, and the rest is called corrupt."""
    layout, data, true_rows = small_file()
    for at in range(0, len(data), 3):
        broken = bytearray(data)
        broken[at] ^= 1 << (at * 5 % 8)  # every third byte, each time another bit: all of them would take minutes
        rows, kind, got = scan_file(bytes(broken))
        row = (at - len(layout.header)) // layout.row_bytes
        assert kind == "corrupt", at
        assert rows == max(0, row), at
        assert is_prefix(got, true_rows), at


@pytest.mark.parametrize("at", [0, 4, 5, 6, 7])
def test_header_of_wrong_length_is_corrupt_when_rows_follow(at: int) -> None:
    """A header that claims more bytes than the file has is damage, not a header that is still being written."""
    _, data, _ = small_file()
    for bit in range(8):
        broken = bytearray(data)
        broken[at] ^= 1 << bit
        assert scan_file(bytes(broken))[1] == "corrupt", bit


def test_zero_filled_end_is_torn() -> None:
    """Zeros that a file system left in place of the last rows are no damage, wherever they begin, and give no row."""
    layout, data, true_rows = small_file()
    start = len(layout.header)
    for keep in range(start, len(data), 13):
        zeros = data[:keep] + bytes(len(data) - keep + 100)
        rows, kind, got = scan_file(zeros)
        assert (rows, kind) == ((keep - start) // layout.row_bytes, "torn"), keep
        assert is_prefix(got, true_rows)
    for keep in range(len(data) - 9, len(data)):  # also where they begin inside a checksum
        assert scan_file(data[:keep] + bytes(len(data) - keep))[:2] == (2, "torn"), keep


def test_zeros_between_rows_are_corrupt() -> None:
    """Zeros that are followed by something else are damage."""
    layout, data, _ = small_file()
    start = len(layout.header) + layout.row_bytes
    assert scan_file(data[:start] + bytes(layout.row_bytes) + data[start:])[:2] == (1, "corrupt")


@pytest.mark.parametrize(
    ("order", "rows"),
    [((1, 0, 2), 0), ((0, 2, 1), 1), ((0, 0, 1), 1), ((0, 2), 1), ((1, 2), 0), ((0, 1, 1), 2), ((0, 1, 2, 0), 3)],
)
def test_moved_missing_and_repeated_messages_are_corrupt(order: tuple[int, ...], rows: int) -> None:
    """Whole messages in another order than they were written show in their sequence numbers."""
    layout = small_layout()
    parts = [row_message(layout, row) for row in some_rows(layout, 3)]
    data = layout.header + b"".join(parts[i] for i in order)
    layout_read = RowLayout.read(data)
    assert layout_read is not None
    found, end = layout.scan(data[len(layout.header) :], offset=len(layout.header), next_seq=0)
    assert (found, end.kind) == (rows, "corrupt")
    assert end.offset == len(layout.header) + rows * layout.row_bytes
    assert "expected sequence number" in end.cause


def test_explained_gap_is_clean_and_false_explanation_is_not() -> None:
    """`dropped_before` must account for a gap exactly, and is never negative."""
    layout = small_layout()

    def scan(*rows: dict[str, Any]) -> tuple[int, str]:
        data = b"".join(row_message(layout, row) for row in rows)
        found, end = layout.scan(data, offset=0, next_seq=0)
        return found, end.kind

    assert scan({"seq": 4, "dropped_before": 4}, {"seq": 5}) == (2, "clean")
    assert scan({"seq": 0}, {"seq": 3, "dropped_before": 1}) == (1, "corrupt")
    assert scan({"seq": 0}, {"seq": 0, "dropped_before": -1}) == (1, "corrupt")


def test_row_of_another_segment_is_corrupt() -> None:
    """A message that is whole, but of another layout, is not taken for a row."""
    layout, other = small_layout(), small_layout(extras=1)
    data = row_message(layout, {"seq": 0}) + row_message(other, {"seq": 1})
    rows, end = layout.scan(data, offset=0, next_seq=0)
    assert (rows, end.kind) == (1, "corrupt")


def with_metadata(layout: RowLayout, **changes: str) -> bytes:
    """The header with changed metadata and a checksum that is right again."""
    metadata = {**pa.ipc.read_schema(pa.py_buffer(layout.header)).metadata}
    metadata |= {f"esper.{key}".encode(): value.encode() for key, value in changes.items()}
    metadata[b"esper.crc32"] = b"\x01--------"
    header: bytes = layout.schema.with_metadata(metadata).serialize().to_pybytes()
    at = header.index(b"\x01--------") + 1
    checksum = zlib.crc32(header[at + 8 :], zlib.crc32(header[:at]))
    return header[:at] + b"%08x" % checksum + header[at + 8 :]


def test_newer_format_is_refused_as_such() -> None:
    """A file of a newer version is no damage: the error says that Esper must be upgraded."""
    with pytest.raises(FormatVersionError, match="format 2, newer than the 1"):
        RowLayout.read(with_metadata(small_layout(), format="2"))


@pytest.mark.parametrize(
    "header",
    [
        b"PAR1" + bytes(100),
        b"\xff\xff\xff\xff\x00\x00\x00\x00" + bytes(16),
        b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\x07" * 16,
        pa.schema([("seq", pa.int64())]).serialize().to_pybytes(),
        with_metadata(small_layout(), row_bytes="16"),
        with_metadata(small_layout(), rank="one"),
        with_metadata(small_layout(), format="newest"),
    ],
)
def test_foreign_header_is_damage(header: bytes) -> None:
    """Bytes that are no header of ours are refused with the offset, never with another kind of error."""
    with pytest.raises(RunDamagedError, match="offset 0: "):
        RowLayout.read(header)


def test_header_with_an_impossible_layout_says_what_is_wrong() -> None:
    """The error names the length of rows too short for the columns, and first columns that are not the recorder's."""
    layout = small_layout()
    with pytest.raises(RunDamagedError, match=f"rows of 16 bytes, too short for {len(layout.columns)} columns"):
        RowLayout.read(with_metadata(layout, row_bytes="16"))
    layout.schema = pa.schema([*layout.schema][::-1])
    with pytest.raises(RunDamagedError, match=r"must be seq, dropped_before, found \['"):
        RowLayout.read(with_metadata(layout))


def test_encoder_refuses_what_does_not_fit() -> None:
    """A value that does not fit its column raises before any byte is made."""
    layout = small_layout()
    encoder = layout.encoder({"seq", "epochs_run"})
    for values in ([0, 2**31], [0], [0, 1, 2], [2**63, 0], [0, 1.5]):
        with pytest.raises(struct.error):
            encoder.encode(values)


def test_null_is_all_zero_cells() -> None:
    """The bytes of a row depend on nothing but its values: a null leaves zeros."""
    layout = small_layout()
    row = row_message(layout, {"seq": 0})
    cells = np.frombuffer(row[layout.values_at : layout.checksum_at], dtype=np.uint8)
    assert not cells.any()
    assert row_message(layout, {"seq": 0}) == row
