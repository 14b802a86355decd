"""Reads JSON-lines logs line by line, in bounded memory; lines that are not JSON are reported, not raised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is skipped, and never loaded into memory as a whole."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, or several that have one value.

    Attributes:
        number: From 1.
        size: In bytes.
        start: Its first bytes.
        value: The JSON value; None if the line has no value, or the value is null.
        problem: Why the line has no value; empty for a blank line.
        last: The number of the last line, if there are several.
    """

    number: int
    size: int
    start: bytes
    value: Any = None
    problem: str = ""
    last: int = 0

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"lines {self.number} to {self.last}" if self.last > self.number else f"line {self.number}"


class Readable(Protocol):
    """A file, or one that is followed and has no further line for now; see `LogFile.readline`."""

    def readline(self, limit: int, /) -> bytes | None: ...  # noqa: D102 (above)


NO_LINE_YET = Line(0, 0, b"")
"""Yielded while a file is followed and has no further line. After it, reading goes on."""


def read_lines(file: Readable) -> Iterator[Line]:
    """Yield every line of `file`.

    Raises:
        OSError: the file cannot be read.
        RewrittenError: as `LogFile.readline`.
    """
    number = 0
    while (text := file.readline(MAX_LINE_BYTES)) != b"":
        if text is None:
            yield NO_LINE_YET
            continue
        number += 1
        size, start = len(text), text[:4096]
        if size == MAX_LINE_BYTES and not text.endswith(b"\n"):
            while text != b"" and not (text or b"").endswith(b"\n"):
                text = file.readline(MAX_LINE_BYTES)
                if text is None:
                    yield NO_LINE_YET
                size += len(text or b"")
            yield Line(number, size, start, problem=f"longer than {MAX_LINE_BYTES:,} bytes")
        elif not text.strip():
            yield Line(number, size, start)
        else:
            try:
                yield Line(number, size, start, json.loads(text))
            except (ValueError, RecursionError):
                is_torn = not text.endswith(b"\n")
                yield Line(
                    number, size, start, problem="torn: the file ends in the middle of it" if is_torn else "not JSON"
                )
