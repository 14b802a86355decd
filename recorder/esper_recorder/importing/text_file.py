"""The text of a log as UTF-8: plain, compressed with gzip, or in UTF-16 as Windows writes it."""

from __future__ import annotations

import codecs
import io
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_LE
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

GZIP = b"\x1f\x8b"

_CHUNK_BYTES = 64 * 1024
_MOST_AT_ONCE = 1024 * 1024  # a few bytes of gzip may unpack to gigabytes

Convert = Callable[[bytes], bytes]
"""Takes the next bytes of a file, and returns those that they stand for; it keeps what is incomplete."""


class TextFile:
    """A log opened for reading, as a context manager.

    Attributes:
        file: The file itself, as it is on the disk.
        stream: Its text as UTF-8.
        packing: What the file has its text in, for messages; empty for plain bytes.

    Raises:
        OSError: the file cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self.file: BinaryIO = path.open("rb")
        self.stream: BinaryIO = self.file
        packings = []
        try:
            if self.file.seekable():  # nothing is taken from a pipe here
                for name, starts, make in _PACKINGS:
                    start = self.stream.read(4)
                    self.stream.seek(0)
                    if start.startswith(starts) and start != BOM_UTF32_LE:
                        packings.append(name)
                        self.stream = io.BufferedReader(_Converted(self.stream, make))
        except BaseException:
            self.file.close()
            raise
        self.packing = " in ".join(reversed(packings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


class _Converted(io.RawIOBase):
    """A file whose bytes stand for others. To go back in it is to read it from its beginning."""

    def __init__(self, file: BinaryIO, make: Callable[[], Convert]) -> None:
        self._file = file
        self._make = make
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._convert = self._make()
        self._ready = memoryview(b"")
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            self._ready = memoryview(self._convert(b""))  # what is left of the bytes before
            if not self._ready:
                read = self._file.read(_CHUNK_BYTES)
                if not read:
                    return 0
                self._ready = memoryview(self._convert(read))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        self._offset += size
        return size

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        target = offset + (self._offset if whence == io.SEEK_CUR else 0)
        if target < self._offset:
            self._restart()
        while self._offset < target and self.readinto(bytearray(min(target - self._offset, _CHUNK_BYTES))):
            pass
        return self._offset


class _Gunzip:
    """Unpacks gzip, one member after another, as far as it is whole. Nothing that follows damage is read."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_damaged = False
        self._member = zlib.decompressobj(wbits=31)

    def __call__(self, data: bytes) -> bytes:
        rest, made = self._rest + data, b""
        while rest and not made and not self._is_damaged:
            if self._member.eof:
                rest = rest.lstrip(b"\0")  # padding between members
                if not rest:
                    break
                self._member = zlib.decompressobj(wbits=31)
            before = self._member.copy()
            try:
                made = self._member.decompress(rest, _MOST_AT_ONCE)
            except zlib.error:
                self._is_damaged = True
                return _until_damage(before, rest)
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        self._rest = b"" if self._is_damaged else rest
        return made


def _until_damage(member: Any, data: bytes) -> bytes:
    """Unpack what comes before a damage, byte by byte, since zlib keeps nothing of a piece with a damage in it."""
    made = bytearray()
    try:
        for place in range(len(data)):
            made += member.decompress(data[place : place + 1])
    except zlib.error:
        pass
    return bytes(made)


def _from_utf16() -> Convert:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    return lambda data: decoder.decode(data).encode()


_PACKINGS: tuple[tuple[str, tuple[bytes, ...], Callable[[], Convert]], ...] = (
    ("gzip", (GZIP,), _Gunzip),
    ("UTF-16", (BOM_UTF16_LE, BOM_UTF16_BE), _from_utf16),
)
"""What a text may be packed in, from the outside to the inside: its name, how it begins, and what unpacks it."""
