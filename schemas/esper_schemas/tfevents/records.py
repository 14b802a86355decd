"""The records of an event file, many at a time: read whole and checked, and written.

A record is its length (8 bytes), the masked CRC-32C of the length, the data, and the masked CRC-32C of the data; all
little-endian. Source: TensorFlow's `record_writer.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from esper_schemas.tfevents.crc32c import crc32c, masked

CHUNK_BYTES = 4 * 1024 * 1024
"""How much is read at a time. A record that is longer is read as a whole."""

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer record, such as a video, is passed over and not checked."""

_HEADER = 12
_AROUND = 16  # bytes of a record besides its data

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]


class Group(NamedTuple):
    """Records of a chunk whose data has one length.

    Attributes:
        places: The place of each record in its chunk: 0, 1, 2 …
        data: The data of each record, shape (records, bytes).
    """

    places: Offsets
    data: Bytes


class Chunk(NamedTuple):
    """Consecutive records of a file.

    Attributes:
        size: Bytes of the file that it covers.
        groups: Its records whose checksum is right.
        corrupt: Offset in the file of each record whose data fails its checksum.
        too_long: Offset and length of a record that was passed over.
    """

    size: int
    groups: list[Group]
    corrupt: list[int]
    too_long: tuple[int, int] | None = None


class RecordFile:
    """Reads the records of one file, and reads on from there if it is asked again.

    Attributes:
        offset: Where the next record begins; everything before it has been read.
        torn_bytes: Bytes behind `offset` that are no whole record, when the file was last read to its end.
        is_broken: Whether the length at `offset` fails its checksum, so that nothing behind it can be read.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.torn_bytes = 0
        self.is_broken = False

    def chunks(self, file: BinaryIO) -> Iterator[Chunk]:
        """Yield the records from `offset` to the end of the file.

        Raises:
            OSError: the file cannot be read.
        """
        file.seek(self.offset)
        rest = b""
        wanted = CHUNK_BYTES
        if self.is_broken:
            return
        while True:
            read = file.read(wanted)
            data = rest + read
            starts, used, needed = _find(data)
            chunk, is_sound = self._checked(data, starts, used)
            if chunk is not None:
                yield chunk
            if not is_sound:
                return
            rest = data[used:]
            if needed > MAX_RECORD_BYTES:
                size = file.seek(0, 2)
                if self.offset + needed > size:
                    self.torn_bytes = size - self.offset
                    return
                yield Chunk(needed, [], [], (self.offset, needed - _AROUND))
                self.offset += needed
                file.seek(self.offset)
                rest = b""
            elif not read:
                self.torn_bytes = len(rest)
                return
            wanted = max(CHUNK_BYTES, needed - len(rest))

    def _checked(self, data: bytes, starts: list[int], used: int) -> tuple[Chunk | None, bool]:
        """Return the whole records of `data`, None without any, and whether all lengths were right."""
        buffer = np.frombuffer(data, dtype=np.uint8)
        at = np.array(starts, dtype=np.int64)
        headers = _at(buffer, at, _HEADER)
        wrong = np.flatnonzero(masked(crc32c(headers[:, :8])) != _as_crcs(headers[:, 8:]))
        if len(wrong):
            self.is_broken = True
            first = int(wrong[0])
            self.torn_bytes = len(data) - starts[first]
            used, at, headers = starts[first], at[:first], headers[:first]
        elif used < len(data) and len(data) - used >= _HEADER and not is_start(data[used : used + _HEADER]):
            self.is_broken = True
            self.torn_bytes = len(data) - used
        if not len(at):
            return None, not self.is_broken
        lengths = headers[:, :8].copy().view("<u8").ravel().astype(np.int64)
        groups: list[Group] = []
        corrupt: list[int] = []
        for length in np.unique(lengths):
            places = np.flatnonzero(lengths == length)
            bodies = _at(buffer, at[places] + _HEADER, int(length) + 4)
            is_right = masked(crc32c(bodies[:, :length])) == _as_crcs(bodies[:, length:])
            corrupt += [self.offset + int(at[place]) for place in places[~is_right]]
            groups.append(Group(places[is_right], bodies[is_right, :length]))
        self.offset += used
        return Chunk(used, groups, sorted(corrupt)), not self.is_broken


def _find(data: bytes) -> tuple[list[int], int, int]:
    """Where whole records begin, where the last of them ends, and how many bytes the record there takes."""
    starts = []
    place, end, needed = 0, len(data), 0
    length_at = struct.Struct("<Q").unpack_from
    while place + _HEADER <= end:
        following = place + length_at(data, place)[0] + _AROUND
        if following > end:
            needed = following - place
            break
        starts.append(place)
        place = following
    return starts, place, needed


def _at(buffer: Bytes, places: Offsets, width: int) -> Bytes:
    """Copy so many bytes from each place."""
    if not len(places):
        return np.zeros((0, width), dtype=np.uint8)
    return sliding_window_view(buffer, width)[places]


def _as_crcs(data: Bytes) -> NDArray[np.uint32]:
    return np.ascontiguousarray(data).view("<u4").ravel()


def is_start(data: bytes) -> bool:
    """Whether a file that begins with these bytes (at least 12) can be an event file."""
    if len(data) < _HEADER:
        return False
    header = np.frombuffer(data[:_HEADER], dtype=np.uint8)
    return bool(masked(crc32c(header[None, :8]))[0] == _as_crcs(header[8:])[0])


# ---------------------------------------------------------------------- writing


def framed(contents: Sequence[bytes]) -> bytes:
    """Return the records with these contents, one after another."""
    lengths = np.array([len(content) for content in contents], dtype="<u8")
    of_lengths = masked(crc32c(lengths.view(np.uint8).reshape(-1, 8))).astype("<u4")
    of_contents = np.empty(len(contents), dtype="<u4")
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        rows = np.frombuffer(b"".join(contents[place] for place in places.tolist()), dtype=np.uint8)
        of_contents[places] = masked(crc32c(rows.reshape(len(places), int(length))))
    return b"".join(
        part
        for place, content in enumerate(contents)
        for part in (lengths[place].tobytes(), of_lengths[place].tobytes(), content, of_contents[place].tobytes())
    )
