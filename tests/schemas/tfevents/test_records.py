"""Records of event files: checksums, torn ends, damage, and files that were made to harm."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

from esper_schemas.tfevents import records
from esper_schemas.tfevents.crc32c import crc32c, masked
from esper_schemas.tfevents.records import MAX_RECORD_BYTES, RecordFile, is_start


def framed(*contents: bytes) -> bytes:
    """Records with this data, as TensorFlow frames them."""
    made = b""
    for data in contents:
        length = struct.pack("<Q", len(data))
        checks = [struct.pack("<I", pywrap_tensorflow.masked_crc32c(part)) for part in (length, data)]
        made += length + checks[0] + data + checks[1]
    return made


def read(data: bytes) -> tuple[list[bytes], RecordFile, list[int]]:
    """The data of the records in their order, the reader, and the offsets of corrupt records."""
    reader, found, corrupt = RecordFile(), [], []
    for chunk in reader.chunks(io.BytesIO(data)):
        of_chunk = [(int(place), row.tobytes()) for group in chunk.groups for place, row in zip(*group, strict=True)]
        found += [content for _, content in sorted(of_chunk)]
        corrupt += chunk.corrupt
    return found, reader, corrupt


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 511, 512, 513, 1000, 4097, 100_001])
def test_checksums_are_those_of_tensorboard(size: int) -> None:
    """Short and long data, one record and many, zeros too."""
    for data in (os.urandom(size), bytes(size)):
        for count in (1, 3):
            rows = np.frombuffer(data * count, dtype=np.uint8).reshape(count, size)
            assert set(crc32c(rows).tolist()) == {pywrap_tensorflow.crc32c(data)}
            assert set(masked(crc32c(rows)).tolist()) == {pywrap_tensorflow.masked_crc32c(data)}


def test_the_checksum_of_the_standard() -> None:
    """The value that RFC 3720 gives for 32 zero bytes, and the usual check value."""
    assert crc32c(np.zeros((1, 32), dtype=np.uint8))[0] == 0x8A9136AA
    assert crc32c(np.frombuffer(b"123456789", dtype=np.uint8)[None])[0] == 0xE3069283


@given(st.lists(st.binary(max_size=60), max_size=40))
def test_records_are_written_as_tensorflow_frames_them(contents: list[bytes]) -> None:
    """Records of all lengths, in their order; without any there is nothing."""
    assert records.framed(contents) == framed(*contents)


@given(st.lists(st.binary(max_size=60), max_size=40), st.integers(16, 400))
def test_records_come_back_whole_whatever_the_chunk(contents: list[bytes], chunk: int) -> None:
    """Records of all lengths are read in their order, also where a chunk ends in the middle of one."""
    before, records.CHUNK_BYTES = records.CHUNK_BYTES, chunk
    try:
        found, reader, corrupt = read(framed(*contents))
    finally:
        records.CHUNK_BYTES = before
    assert found == contents
    assert (reader.torn_bytes, reader.is_broken, corrupt) == (0, False, [])


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8), st.data())
def test_a_torn_end_keeps_every_whole_record(contents: list[bytes], data: st.DataObject) -> None:
    """Cut anywhere, the records before the cut are read, and the bytes behind the last of them are counted."""
    whole = framed(*contents)
    cut = data.draw(st.integers(0, len(whole) - 1))
    found, reader, corrupt = read(whole[:cut])
    assert found == contents[: len(found)]
    assert reader.offset == len(framed(*found))
    assert reader.torn_bytes == cut - reader.offset
    assert not corrupt
    assert not reader.is_broken


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8), st.data())
def test_no_flipped_bit_gets_through(contents: list[bytes], data: st.DataObject) -> None:
    """Whichever bit is wrong, no wrong record is read, the place is named, and all records before it are there."""
    whole = bytearray(framed(*contents))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    found, reader, corrupt = read(bytes(whole))
    number = next(n for n in range(len(contents)) if place < len(framed(*contents[: n + 1])))
    begin = len(framed(*contents[:number]))
    if place < begin + 12:
        assert found == contents[:number]
        assert (reader.is_broken, reader.offset) == (True, begin)
        assert reader.torn_bytes == len(whole) - begin
    else:
        assert found == contents[:number] + contents[number + 1 :]
        assert corrupt == [begin]


def test_a_file_is_read_on_from_where_it_ended() -> None:
    """A reader that is asked again reads what has been appended, a record that was torn before included."""
    whole = framed(b"one", b"two", b"three")
    reader = RecordFile()
    assert [len(chunk.groups) for chunk in reader.chunks(io.BytesIO(whole[:-3]))] == [1]  # both of length 3
    assert reader.torn_bytes == len(framed(b"three")) - 3
    (chunk,) = reader.chunks(io.BytesIO(whole))
    assert [group.data.tobytes() for group in chunk.groups] == [b"three"]
    assert (reader.offset, reader.torn_bytes) == (len(whole), 0)


def test_zeros_at_the_end_are_no_records() -> None:
    """What a file system leaves behind after a power loss does not pass for records."""
    found, reader, _ = read(framed(b"one") + bytes(1000))
    assert found == [b"one"]
    assert reader.is_broken


def test_a_length_that_is_too_large_costs_no_memory() -> None:
    """A record that claims more than there is counts as torn; one that is longer than the limit is passed over."""
    length = struct.pack("<Q", 1 << 60)
    claimed = framed(b"one") + length + struct.pack("<I", pywrap_tensorflow.masked_crc32c(length)) + b"x"
    found, reader, _ = read(claimed)
    assert found == [b"one"]
    assert not reader.is_broken
    assert reader.torn_bytes == 13
    video = bytes(MAX_RECORD_BYTES + 1)
    length = struct.pack("<Q", len(video))
    passed = length + struct.pack("<I", pywrap_tensorflow.masked_crc32c(length)) + video + b"1234"
    found, reader, _ = read(framed(b"one") + passed + framed(b"two"))
    assert found == [b"one", b"two"]
    assert not reader.torn_bytes


def test_what_cannot_be_an_event_file() -> None:
    """Other data is told apart by the checksum of its first length."""
    assert is_start(framed(b"abc")[:12])
    assert not is_start(b"")
    assert not is_start(b"PAR1 and more")
    assert not is_start(bytes(12))
