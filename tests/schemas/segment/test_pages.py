from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.schemas.segment.page_headers import PageHeader, column, header_at, number, with_header
from tests.schemas.segment.segments_of import IDENTITY, rows_of

from esper_schemas import RunDamagedError
from esper_schemas.segment import thrift, thrift_shapes
from esper_schemas.segment.pages import MAX_HEADERS_BYTES, check_pages
from esper_schemas.segment.sealed import batches, open_parquet, to_parquet
from esper_schemas.segment.thrift_shapes import match_column, match_page
from esper_schemas.testing import golden

ROWS = 50
PARQUET = to_parquet(
    rows_of([{"seq": 100 + i, "update": i, "policy_loss": 0.1 * i, "value_loss": 0.2} for i in range(ROWS)]), IDENTITY
)
CHUNK = column(PARQUET, "policy_loss")
AT = CHUNK.data_page_offset
PACKED = CHUNK.total_compressed_size - len(header_at(PARQUET, AT))
UNPACKED = CHUNK.total_uncompressed_size - len(header_at(PARQUET, AT))
SPLIT = 9  # BYTE_STREAM_SPLIT
SOME = ["run_id", "rank", "seq", "update", "wall_time", "skipped", "policy_loss"]


def _open(data: bytes) -> pq.ParquetFile:
    return open_parquet(io.BytesIO(data), len(data), "it")


def _written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def _refused(data: bytes, words: str) -> None:
    with pytest.raises(RunDamagedError, match=words) as caught:
        _open(data)
    assert str(caught.value).startswith("it: expected ")
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------------- files as they are


@pytest.mark.parametrize(
    "path", sorted(golden.RUNS.rglob("*.parquet")), ids=lambda path: f"{path.parts[-4]}-{path.stem}"
)
def test_files_of_0_1_0_are_within_bounds(path: Path) -> None:
    """What the first version sealed is opened, and has its rows."""
    with _open(path.read_bytes()) as file:
        assert sum(batch.num_rows for batch in batches(file)) == file.metadata.num_rows


def test_largest_segments_are_within_bounds() -> None:
    """The rows of a full segment with many metrics of the user, and so many rows that a column has several pages."""
    extras = [f"mine_{index}" for index in range(400)]
    values = dict.fromkeys(extras, 0.5)
    full = rows_of([{"seq": 100 + i, "update": i, **values} for i in range(64)], IDENTITY, *extras)
    full = pa.Table.from_batches([full] * 128).combine_chunks().to_batches()[0]
    with _open(to_parquet(full, IDENTITY)) as file:
        assert file.metadata.num_rows == 8192
    many = pa.Table.from_batches([rows_of([{"seq": 100, "update": 0}])] * 50_000).combine_chunks().to_batches()[0]
    with _open(to_parquet(many, IDENTITY)) as file:
        assert file.metadata.num_rows == 50_000


TABLE = pa.table({"a": pa.array([0.5 * i for i in range(5000)]), "b": [f"text {i % 7}" for i in range(5000)]})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "none"},
        {"compression": "snappy", "use_dictionary": False},
        {"data_page_version": "2.0"},
        {"data_page_size": 100, "write_batch_size": 100},
        {"row_group_size": 1000},
        {"write_page_checksum": True},
        {"write_statistics": False},
        {"write_page_index": True},
    ],
    ids=str,
)
def test_pages_of_every_kind_are_read(options: dict[str, Any]) -> None:
    """Either version of a data page, with and without a dictionary, statistics or a checksum, one or many of them."""
    with _open(_written(TABLE, **options)) as file:
        assert file.read().equals(TABLE)


def test_files_of_another_writer_are_read() -> None:
    """The headers that polars writes are held against its footer just so."""
    sink = io.BytesIO()
    pl.DataFrame({"a": [0.5, 1.0, None] * 500, "b": ["x", "y", "z"] * 500}).write_parquet(sink)
    with _open(sink.getvalue()) as file:
        assert file.metadata.num_rows == 1500


def test_file_without_rows_or_with_long_headers_is_read() -> None:
    """A segment without rows has no data pages; a header is long where the least and the greatest value are."""
    for table in (TABLE.slice(0, 0), pa.table({"b": ["x" * 2000, "y" * 2000]})):
        with _open(_written(table)) as file:
            assert file.read().equals(table)


# ---------------------------------------------------------------------- headers that claim something else


def test_header_that_claims_what_the_footer_declares_is_believed() -> None:
    """The bounds themselves are within bounds, and what a header says beside is skipped."""
    with _open(with_header(PARQUET, AT, PageHeader(0, UNPACKED, PACKED, ROWS, SPLIT))) as file:
        assert file.read().equals(pq.read_table(io.BytesIO(PARQUET)))
    with _open(with_header(PARQUET, AT, PageHeader(0, CHUNK.total_uncompressed_size, PACKED, ROWS, SPLIT))):
        pass


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (PageHeader(0, 2**31 - 1, PACKED, ROWS), "a page of at most 4.. bytes.*, found 2,147,483,647"),
        (PageHeader(0, CHUNK.total_uncompressed_size + 1, PACKED, ROWS), "a page of at most"),
        (PageHeader(0, UNPACKED, PACKED + 1, ROWS), f"packed {PACKED}, .*found .*, packed {PACKED + 1}"),
        (PageHeader(0, UNPACKED, 2**31 - 1, ROWS), f"packed {PACKED}, "),
        (PageHeader(0, UNPACKED, PACKED, ROWS + 1), "of 50 values at byte .* of 51"),
        (PageHeader(0, UNPACKED, PACKED, 2**31 - 1), "of 50 values at byte"),
        (PageHeader(0, UNPACKED, PACKED, ROWS - 1), "50 values in the pages before byte .*, found 49"),
        (PageHeader(2, UNPACKED, PACKED, ROWS), "50 values in the pages before byte .*, found 0"),
        (PageHeader(0, UNPACKED, PACKED - 1, ROWS), "the header of a page"),
        (PageHeader(0, UNPACKED, 0, ROWS), "the header of a page"),
        (PageHeader(0, -1, PACKED, ROWS), "the header of a page"),
        (PageHeader(0, UNPACKED, -1, ROWS), "the header of a page"),
        (PageHeader(0, UNPACKED, PACKED, -1), "the header of a page"),
        (PageHeader(1, UNPACKED, PACKED, ROWS), "the header of a page"),
        (PageHeader(0, UNPACKED, PACKED, ROWS, 7), "texts of at most"),
    ],
    ids=str,
)
def test_header_that_claims_another_number_is_damage(header: PageHeader, words: str) -> None:
    """More bytes than the column has, a page beyond its end, more or fewer values than rows, and pages of no kind."""
    _refused(with_header(PARQUET, AT, header), words)


@pytest.mark.parametrize(
    "beginning",
    [
        b"\x00",
        b"\xff" * 20,
        b"\x15\x00\x15" + b"\xff" * 30,
        b"\x1c" * 40,
        b"\x19\xf9" * 20,
        b"\x19\xfc" + b"\xff" * 8 + b"\x01",
        b"\x18" + b"\xff" * 8 + b"\x01",
        b"\x1b\x01\x55",
        b"\x1e\x01",
        b"\x15\x00\x15\x02\x15\x02\x55\x02\x00",
        b"\x15\x00\x15\x02\x2c\x15\x02\x00\x00",
        b"\x1c\x00\x15\x02\x15\x02\x2c\x15\x02\x00\x00",
        b"\x05" + number(-1) + b"\x02\x00",
    ],
    ids=bytes.hex,
)
def test_header_that_is_no_such_struct_is_damage(beginning: bytes) -> None:
    """Whatever stands in its place: without an end, nested without an end, of other fields or of other kinds."""
    _refused(PARQUET[:AT] + beginning + PARQUET[AT + len(beginning) :], "it: expected ")


@pytest.mark.parametrize(
    "field",
    [
        b"\x11",
        b"\x12",
        b"\x13\x7f",
        b"\x14\x80\x01",
        b"\x17" + bytes(8),
        b"\x1d" + bytes(16),
        b"\x18\x03any",
        b"\x19\x31\x01\x02\x01",
        b"\x19\x35\x02\x80\x01\x02",
        b"\x19\x28\x01x\x02yy",
        b"\x19\x2c\x15\x02\x00\x00",
        b"\x19\xf5\x10" + b"\x02" * 16,
        b"\x1a\x29\x15\x02\x05",
        b"\x1c\x15\x02\x1c\x00\x00",
        b"\x05" + number(1000) + b"\x02",
        b"\x01" + number(-5),
    ],
    ids=bytes.hex,
)
def test_field_that_nobody_knows_is_skipped(field: bytes) -> None:
    """A later writer may add a field of any kind to a header, also one by its whole number."""
    room = len(header_at(PARQUET, AT))
    header = PageHeader(0, UNPACKED, PACKED, ROWS, SPLIT).to_bytes(room - len(field))
    with _open(PARQUET[:AT] + header[:-1] + field + b"\0" + PARQUET[AT + room :]) as file:
        assert file.metadata.num_rows == ROWS


def test_headers_are_bounded_in_all() -> None:
    """A file of headers alone would take minutes: a million bytes of them are read, and no more."""
    long = pa.table({"b": ["x" * 4000 + str(i % 10) for i in range(1000)]})
    options: dict[str, Any] = {"use_dictionary": False, "write_batch_size": 1}
    size = len(_written(long, data_page_size=1, **options))
    assert size > MAX_HEADERS_BYTES
    _refused(_written(long, data_page_size=1, **options), "the header of a page at byte .*, found none within")
    with _open(_written(long, **options)) as file:
        assert file.metadata.num_rows == 1000


def test_texts_that_share_their_bytes_are_bounded() -> None:
    """A small file has a text once and refers to it in every row: in memory it would be there as often."""
    texts = pa.table({"a": pa.repeat(pa.scalar("x" * 20_000), 10_000)})
    data = _written(texts)
    assert len(data) < 50_000
    _refused(data, "texts of at most 134,217,728 bytes")
    _refused(
        _written(texts, use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"}), "texts of at most 134,217,728"
    )
    with _open(_written(texts.slice(0, 6_000))) as file:
        assert file.metadata.num_rows == 6_000


# ---------------------------------------------------------------------- footers that contradict themselves


def _footer_start(parquet: bytes) -> int:
    return len(parquet) - 8 - int.from_bytes(parquet[-8:-4], "little")


def test_columns_of_a_footer_that_pyarrow_cannot_survive_are_no_danger() -> None:
    """pyarrow ends the process when it is asked for a column whose levels contradict its histogram; nobody asks it."""
    start = _footer_start(PARQUET)
    at = PARQUET.index(b"\x18\x06run_id", start) - 1
    assert PARQUET[at - 1 : at + 1] == b"\x25\x02"  # it is optional
    with _open(PARQUET[:at] + b"\x43" + PARQUET[at + 1 :]) as file:
        assert file.metadata.num_rows == ROWS


@pytest.mark.parametrize(
    ("known", "claimed", "words"),
    [
        (number(AT), number(AT + 1), "the header of a page at byte"),
        (number(AT), number(AT - 1), "expected "),
        (number(CHUNK.total_compressed_size), number(CHUNK.total_compressed_size - 1), "packed"),
        (number(CHUNK.total_compressed_size), number(CHUNK.total_compressed_size + 1), "expected "),
    ],
    ids=["offset", "earlier", "shorter", "longer"],
)
def test_footer_that_claims_another_place_is_damage(known: bytes, claimed: bytes, words: str) -> None:
    """A column that begins or ends elsewhere than its pages do."""
    start = PARQUET.index(b"policy_loss", PARQUET.index(b"policy_loss", _footer_start(PARQUET)) + 1)
    at = PARQUET.index(known, start)
    assert len(known) == len(claimed)
    _refused(PARQUET[:at] + claimed + PARQUET[at + len(known) :], words)


# ---------------------------------------------------------------------- any byte


def test_byte_changed_anywhere_is_our_error_or_none() -> None:
    """Whatever byte is another one, a file is opened or it is damaged; it never ends the process."""
    small = to_parquet(pq.read_table(io.BytesIO(PARQUET)).select(SOME).to_batches()[0], IDENTITY)
    outcomes: list[str] = []
    for at in range(len(small)):
        for mask in (0x01, 0x41, 0x80):
            data = bytearray(small)
            data[at] ^= mask
            try:
                with _open(bytes(data)):
                    outcomes.append("")
            except RunDamagedError as error:
                outcomes.append(str(error))
    assert any(outcomes)
    assert not all(outcomes)
    assert all(text.startswith("it: ") for text in outcomes if text)


def test_nothing_is_compiled_for_a_few_structs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first `FEW` of a process are left to the reading of one byte after another, and all that follow are not."""
    monkeypatch.setattr(thrift_shapes, "FEW", 3)
    monkeypatch.setattr(thrift_shapes, "_OF_PAGE", thrift_shapes._Shape(thrift_shapes._PAGE))
    assert [match_page(PARQUET[4:]) is not None for _ in range(6)] == [False] * 3 + [True] * 3


def test_frequent_structs_say_what_their_bytes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever byte of a footer or a page header is another one, a match as a whole finds just what reading finds."""
    monkeypatch.setattr(thrift_shapes, "FEW", 0)
    small = to_parquet(pq.read_table(io.BytesIO(PARQUET)).select(SOME).to_batches()[0], IDENTITY)
    start, end = _footer_start(small), len(small) - 8
    assert match_column(small, small.index(b"\x26", small.index(b"\x19\x7c", start))) is not None
    assert match_page(small[4:]) is not None
    places = [*range(4, start), *range(start, small.index(b"ARROW:schema", start)), *range(end - 60, end)]

    def outcomes() -> list[str]:
        found = []
        for at in places:
            for mask in (0x01, 0x10, 0x80):
                data = bytearray(small)
                data[at] ^= mask
                try:
                    check_pages(io.BytesIO(data), start, bytes(data[start:end]), ROWS, "it")
                except RunDamagedError as error:
                    found.append(str(error))
                else:
                    found.append("")
        return found

    quickly = outcomes()
    for name in ("match_column", "match_page", "skip_without_lists"):
        monkeypatch.setattr(thrift, name, lambda *_: None)
    assert any(quickly)
    assert not all(quickly)
    assert outcomes() == quickly
