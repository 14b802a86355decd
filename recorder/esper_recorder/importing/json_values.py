"""Reads the JSON objects of a log: one on each line, several on a line, or one over several lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from esper_recorder.importing.json_lines import MAX_LINE_BYTES, NO_LINE_YET, Line, Readable

_TOO_LONG = f"longer than {MAX_LINE_BYTES:,} bytes"
_TORN = "torn: the file ends in the middle of it"
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[{}\[\]]|[^\s{}\[\]",]++')
"""A text, a bracket, or another word: outside of objects, only spaces and commas mean nothing.

A text that does not end takes the rest of its line, and nothing is looked at twice: a line may be made to harm.
"""


def read_values(file: Readable) -> Iterator[Line]:
    """Yield every JSON object of `file`, in bounded memory; what is no JSON is reported, not raised.

    There may be commas between the objects, and brackets around them: an array is read item by item, also one that
    does not end. Of an object that does not end, nothing is read; the next object that begins a line is.

    Raises:
        OSError: the file cannot be read.
        RewrittenError: as `LogFile.readline`.
    """
    number, pieces = 0, _Pieces()
    while (line := file.readline(MAX_LINE_BYTES)) != b"":
        if line is None:
            yield NO_LINE_YET
            continue
        number += 1
        size, start = len(line), line[:4096]
        if size == MAX_LINE_BYTES and not line.endswith(b"\n"):
            if pieces.has_begun:
                yield pieces.broken_off(f"torn: the line behind it is {_TOO_LONG}")
            while line != b"" and not (line or b"").endswith(b"\n"):
                if (line := file.readline(MAX_LINE_BYTES)) is None:
                    yield NO_LINE_YET
                size += len(line or b"")
            yield Line(number, size, start, problem=_TOO_LONG)
            continue
        is_beginning = line.startswith(b"{")
        value = _json_of(line) if is_beginning or not pieces.has_begun else None
        if pieces.has_begun and is_beginning and (value or pieces.is_indented):
            yield pieces.broken_off("torn: another object begins in the middle of it")
        if pieces.has_begun or (value is None and line.strip()):
            yield from pieces.add(number, line)
        else:
            for item in value if isinstance(value, list) else [value]:
                yield Line(number, size, start, item)
                size = 0
    if pieces.has_begun:
        yield pieces.broken_off(_TORN)


class _Pieces:
    """The text of an object that has begun on an earlier line, as far as it has been read."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._parts: list[str] = []
        self._depth = self._first = self._last = self._size = 0

    @property
    def has_begun(self) -> bool:
        """Whether there is an object that does not end yet."""
        return self._depth > 0

    @property
    def is_indented(self) -> bool:
        """Whether the second line of the object is indented, so that no line within it begins with a bracket."""
        return len(self._parts) > 1 and self._parts[1][:1].isspace()

    def add(self, number: int, line: bytes) -> Iterator[Line]:
        """Take a line; yield the objects that end on it, and what is no JSON."""
        text = line.decode("utf-8-sig", "replace")
        begin, self._last = 0, number
        self._size += len(line)
        for token in _TOKEN.finditer(text):
            mark = token[0]
            if not self._depth and mark == "{":
                begin, self._first, self._depth = token.start(), number, 1
            elif not self._depth and mark not in ("[", "]"):
                self._first = number
                yield self.broken_off("not JSON" if line.endswith(b"\n") else _TORN)
                return
            elif self._depth and mark in ("{", "["):
                self._depth += 1
            elif self._depth and mark in ("}", "]"):
                self._depth -= 1
                if not self._depth:
                    self._parts.append(text[begin : token.end()])
                    yield self._ended()
        if self._depth:
            self._parts.append(text[begin:])
            if self._size > MAX_LINE_BYTES:
                yield self.broken_off(_TOO_LONG)

    def _ended(self) -> Line:
        value = _json_of("".join(self._parts))
        if value is None:
            return self.broken_off("not JSON")
        found = Line(self._first, self._size, self._parts[0][:4096].encode(), value, last=self._last)
        self._clear()
        return found

    def broken_off(self, problem: str) -> Line:
        """Return what there is of the object as a problem; the next one begins behind it."""
        found = Line(self._first, self._size, "".join(self._parts)[:4096].encode(), problem=problem, last=self._last)
        self._clear()
        return found


def _json_of(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
