"""A log of text that may still be written: whole lines, as they come."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from esper_recorder.importing.following import READ_ONCE, Following, Watched
from esper_recorder.importing.text_file import TextFile


class LogFile:
    """Reads the lines of a file as a context manager; of a log that is followed, only those that have their end.

    Attributes:
        offset: Where the next line begins, in the text as UTF-8.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, following: Following = READ_ONCE) -> None:
        self.offset = 0
        self._text = TextFile(path)
        self._stream = self._text.stream
        self._watched = Watched(path, self._text.file, following)
        self._is_waiting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._text.__exit__(kind, error, trace)

    def readline(self, limit: int) -> bytes | None:
        """Return the next line, or its first `limit` bytes; None if it is not there yet, and nothing at the end.

        Raises:
            RewrittenError: the file is no longer the one that was read; only if it is followed.
            OSError: it cannot be read.
        """
        is_over = self._watched.is_over
        if self._is_waiting and not self._watched.has_changed() and not is_over:
            return None
        line = self._stream.readline(limit)
        if is_over or line.endswith(b"\n") or len(line) == limit:
            self._is_waiting = False
            self.offset += len(line)
            return line
        read_to = self._text.file.tell() if self._text.packing else self.offset
        self._stream.seek(self.offset)
        self._watched.note_read(read_to)
        self._is_waiting = True
        return None

    def return_to(self, offset: int) -> None:
        """Read on from an earlier offset, where a line began."""
        self._stream.seek(offset)
        self.offset = offset
