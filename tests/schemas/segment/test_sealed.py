from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.schemas.segment.segments_of import IDENTITY, numbered, rows_of, sealed_segment

from esper_schemas import FormatVersionError, RunDamagedError
from esper_schemas.limits import MAX_ATTEMPTS, MAX_COLUMNS, MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.segment.holds import summarise
from esper_schemas.segment.sealed import (
    batches,
    check_seal,
    contradictions,
    has_sha256,
    is_same,
    open_parquet,
    read_footer,
    seal_of,
    to_parquet,
)

SEAL, HOLDS, PARQUET = sealed_segment(100, 101, 102)
(FOOTER_BYTES,) = struct.unpack("<I", PARQUET[-8:-4])


def _open(data: bytes, size: int | None = None) -> pq.ParquetFile:
    return open_parquet(io.BytesIO(data), len(data) if size is None else size, "it")


def _written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


# ---------------------------------------------------------------------- writing


def test_sealed_file_comes_back_bit_for_bit() -> None:
    """Every value, NaN payloads and signed zeros too, and which segment it is; what is checked says so."""
    odd = struct.unpack("<3d", struct.pack("<3Q", 0x7FF8000000000001, 0xFFF0000000000000, 1 << 63))
    values = [{"seq": 100 + i, "update": i, "entropy": value, "mine": value} for i, value in enumerate(odd)]
    rows = rows_of(values, IDENTITY, "mine")
    parquet = to_parquet(rows, IDENTITY)
    assert is_same(rows, parquet)
    with _open(parquet) as file:
        footer = read_footer(file, "it")
        assert (footer.identity, footer.rows, footer.schema.names) == (IDENTITY, 3, rows.schema.names)
        assert summarise(footer.identity, ["mine"], batches(file)).rows == 3
    empty = rows_of([])
    assert is_same(empty, to_parquet(empty, IDENTITY))


def test_difference_of_one_bit_is_one() -> None:
    """Another NaN, a zero of another sign, a row or a column more: not the same."""
    plain = rows_of([{"seq": 100, "update": 0, "entropy": 0.0}])
    for other in (
        rows_of([{"seq": 100, "update": 0, "entropy": -0.0}]),
        rows_of([{"seq": 100, "update": 0, "entropy": None}]),
        rows_of([{"seq": 100, "update": 0, "entropy": 0.0}] * 2),
        rows_of([{"seq": 100, "update": 0, "entropy": 0.0}], IDENTITY, "mine"),
    ):
        assert not is_same(other, to_parquet(plain, IDENTITY))


def test_seal_is_of_the_file_and_its_rows() -> None:
    """Checksum and size are those of the file, the rest is what its rows hold; nothing contradicts it."""
    assert (SEAL.sha256, SEAL.bytes) == (hashlib.sha256(PARQUET).hexdigest(), len(PARQUET))
    assert (SEAL.segment, SEAL.attempt, SEAL.run_uuid) == (7, 2, "uuid")
    assert (SEAL.rows, SEAL.first_seq, SEAL.last_seq, SEAL.extras) == (3, 100, 102, [])
    assert (SEAL.rows_lost, seal_of(HOLDS, PARQUET, 5).rows_lost) == (0, 5)
    assert check_seal(SEAL, 7, "it") is SEAL
    assert contradictions(SEAL, HOLDS, rows_seen=True) == []
    assert has_sha256(io.BytesIO(PARQUET), SEAL.sha256)
    assert not has_sha256(io.BytesIO(PARQUET + b"x"), SEAL.sha256)


def test_checksum_is_of_the_whole_file_wherever_it_stands() -> None:
    """Also where something was read from it before."""
    file = io.BytesIO(PARQUET)
    file.seek(17)
    assert has_sha256(file, SEAL.sha256)


def test_seal_of_no_rows() -> None:
    """A segment without a row has no updates, and its numbers end before they begin."""
    seal, holds, _ = sealed_segment()
    assert (seal.rows, seal.first_seq, seal.last_seq, seal.first_update, seal.last_update) == (0, 100, 99, None, None)
    assert check_seal(seal, 7, "it") is seal
    assert contradictions(seal, holds, rows_seen=True) == []


# ---------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"PAR1PAR",
        b"\0" * 8,
        b"PAR1" + b"\0" * 100,
        PARQUET[:-1],
        PARQUET[:100],
        PARQUET + b"\0",
        b"\0\0\0\0PAR1",
        b"\xff\xff\x00\x00PAR1",
        b"PAR1" + struct.pack("<I", 0) + b"PAR1",
        b"PAR1" + b"\xff" * 50 + struct.pack("<I", 50) + b"PAR1",
        PARQUET[:-8] + struct.pack("<I", len(PARQUET)) + b"PAR1",
        PARQUET[: -8 - FOOTER_BYTES] + bytes(FOOTER_BYTES) + PARQUET[-8:],
    ],
    ids=lambda data: f"{data[:8]!r}*{len(data)}",
)
def test_what_is_no_parquet_file_is_damage(data: bytes) -> None:
    """Whatever the bytes are, the error is ours, names the file, and comes before anything is unpacked."""
    with pytest.raises(RunDamagedError, match="it: "):
        _open(data)


@pytest.mark.parametrize("mark", [b"PARE", b"PAR2", b"par1", bytes(4)])
def test_file_with_another_mark_is_not_looked_into(mark: bytes) -> None:
    """An encrypted Parquet file, or any other, ends in another mark: its footer is not read."""
    with pytest.raises(RunDamagedError, match="expected a Parquet file, found something else"):
        _open(PARQUET[:-4] + mark)


def test_file_larger_than_any_segment_is_not_looked_into() -> None:
    """Its size is enough: nothing of it is read."""

    class Untouched(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            pytest.fail("it was read")

    with pytest.raises(RunDamagedError, match="expected at most 134,217,728 bytes, found 134,217,729"):
        open_parquet(Untouched(), MAX_SEGMENT_BYTES + 1, "it")


def test_footer_larger_than_any_is_not_read() -> None:
    """A length that the end of the file declares is held against a limit before so much is read."""
    length = 8 * 1024 * 1024 + 1
    data = PARQUET[:-8] + struct.pack("<I", length) + b"PAR1"
    with pytest.raises(RunDamagedError, match="expected a footer of at most 8,388,608 bytes, found 8,388,609"):
        _open(data)


def test_file_of_too_many_columns_is_refused() -> None:
    """As many as a segment may have are opened; one more is not."""
    columns = {f"c{i}": pa.array([0.0]) for i in range(MAX_COLUMNS + 1)}
    fits = dict([*columns.items()][:-1])
    with _open(_written(pa.table(fits))) as file:
        assert file.metadata.num_columns == MAX_COLUMNS
    with pytest.raises(RunDamagedError, match="it declares 2,049 columns; the limit is 2,048"):
        _open(_written(pa.table(columns)))


def test_small_file_of_many_rows_is_refused() -> None:
    """One value that stands for millions of rows takes no place in the file, and all of it in memory."""
    rows = MAX_SEGMENT_BYTES // 8 + 1
    data = _written(pa.table({"a": pa.repeat(pa.scalar(1.0), rows)}))
    assert len(data) < 1_000_000
    with pytest.raises(RunDamagedError, match="its footer declares 134,217,736"):
        _open(data)
    with _open(_written(pa.table({"a": pa.repeat(pa.scalar(1.0), rows - 1)}))) as file:
        assert file.metadata.num_rows == rows - 1


def test_small_file_of_large_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its parts unpack to is held against the limit, too, over all of them together."""
    text = pa.table({"a": ["x" * 10_000] * 4})
    data = _written(text, row_group_size=1, compression="zstd", use_dictionary=False)
    monkeypatch.setattr("esper_schemas.segment.sealed.MAX_SEGMENT_BYTES", 30_000)
    assert len(data) < 30_000
    with pytest.raises(RunDamagedError, match="expected at most 30,000 bytes of rows, its footer declares 4"):
        _open(data)


def test_rows_come_in_bounded_batches() -> None:
    """However many rows a file has, so many are in memory at once."""
    rows = numbered(*range(100, 100 + 20_000))
    with _open(to_parquet(rows, IDENTITY)) as file:
        sizes = [batch.num_rows for batch in batches(file)]
    assert sum(sizes) == 20_000
    assert max(sizes) <= 8192


# ---------------------------------------------------------------------- which segment it is


def _with_metadata(metadata: dict[bytes, bytes] | None) -> bytes:
    return _written(pa.table({"a": [1.0]}).replace_schema_metadata(metadata))


METADATA = {key.encode(): value.encode() for key, value in IDENTITY.to_metadata().items()}


@pytest.mark.parametrize("key", [key for key in METADATA if key != b"esper.run_uuid"])
@pytest.mark.parametrize("value", [None, b"x", b"", b"\xff", b"1.0", b"9" * 5000])
def test_metadata_that_does_not_say_which_segment(key: bytes, value: bytes | None) -> None:
    """What is missing, no number or no text is damage; a name of a run may be any text."""
    changed = METADATA | {key: value} if value is not None else {k: v for k, v in METADATA.items() if k != key}
    if key == b"esper.run_id" and value not in (None, b"\xff"):
        return
    with _open(_with_metadata(changed)) as file, pytest.raises(RunDamagedError, match="does not say which segment"):
        read_footer(file, "it")


def test_file_without_metadata_and_file_of_0_1_0() -> None:
    """One that says nothing is damage; one that names no recording belongs to any."""
    with _open(_with_metadata(None)) as file, pytest.raises(RunDamagedError, match="does not say which segment"):
        read_footer(file, "it")
    older = {key: value for key, value in METADATA.items() if key != b"esper.run_uuid"}
    with _open(_with_metadata(older)) as file:
        assert read_footer(file, "it").identity == replace(IDENTITY, run_uuid=None)


def test_file_of_a_newer_version_says_so() -> None:
    """It is not called damaged, but to be read with a newer Esper."""
    with (
        _open(_with_metadata(METADATA | {b"esper.format": b"2"})) as file,
        pytest.raises(FormatVersionError, match="it has format 2, newer than the 1"),
    ):
        read_footer(file, "it")


# ---------------------------------------------------------------------- seals


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segment": 8}, "expected the seal of segment 7, found that of 8"),
        *(
            ({name: value}, "must be from 0 to 2")
            for name in ("rows", "bytes", "rows_lost", "first_seq")
            for value in (-1, MAX_SEQ + 1)
        ),
        ({"last_seq": -2}, "must be from 0 to 2"),
        ({"last_seq": MAX_SEQ}, "must be from 0 to 2"),
        ({"rows": 10**30}, "must be from 0 to 2"),
        ({"first_update": None}, "first_update and last_update"),
        ({"last_update": None}, "first_update and last_update"),
        ({"rows": 0}, "first_update and last_update"),
        ({"attempt": -1}, "attempt"),
        ({"attempt": MAX_ATTEMPTS + 1}, "attempt"),
        ({"last_seq": 98}, "last_seq must not be before"),
    ],
)
def test_seal_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    """A number that no segment has, or one that another number of the same seal contradicts."""
    with pytest.raises(RunDamagedError, match=words) as caught:
        check_seal(replace(SEAL, **change), 7, "it")
    assert str(caught.value).startswith("it: ")


@pytest.mark.parametrize("name", ["attempt", "rows", "extras", "run_uuid"])
def test_footer_contradicts_a_seal(name: str) -> None:
    """What the footer alone knows is held against the seal, whether the rows were seen or not."""
    others: dict[str, Any] = {"attempt": 3, "rows": 4, "extras": ["mine"], "run_uuid": "another"}
    seal = replace(SEAL, **{name: others[name]})
    for rows_seen in (False, True):
        (said,) = contradictions(seal, HOLDS, rows_seen=rows_seen)
        assert said.startswith(f"{name} is ")


@pytest.mark.parametrize("name", ["first_seq", "last_seq", "first_update", "last_update", "updates_rise"])
def test_rows_contradict_a_seal(name: str) -> None:
    """What only the rows know is held against the seal once they were seen."""
    other: Any = not SEAL.updates_rise if name == "updates_rise" else 55
    seal = replace(SEAL, **{name: other})
    (said,) = contradictions(seal, HOLDS, rows_seen=True)
    assert said.startswith(f"{name} is ")
    assert contradictions(seal, HOLDS, rows_seen=False) == []


def test_seal_of_0_1_0_says_less() -> None:
    """One that names no columns contradicts none; one without a recording is that of a file without one."""
    older = replace(HOLDS, identity=replace(IDENTITY, run_uuid=None), extras=["mine"])
    assert contradictions(replace(SEAL, extras=None, run_uuid=None), older, rows_seen=True) == []
    assert contradictions(replace(SEAL, run_uuid=None), HOLDS, rows_seen=True)


def test_contradiction_is_one_line_of_plain_text() -> None:
    """What a seal says reaches the message escaped, and is cut off."""
    (said,) = contradictions(replace(SEAL, extras=["\x1b[31m\n" * 100]), HOLDS, rows_seen=False)
    assert said.isprintable()
    assert len(said) < 100
