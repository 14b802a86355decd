"""The structs that a footer and page headers consist of nearly everywhere, matched as a whole by regular expressions.

That takes a quarter of the time that `thrift` takes to read them one byte after another. A match says the same: all of
its fields begin with the distance from the field before, so their numbers rise, and no field comes twice. What does not
match, as it is rare or wrong, is left to `thrift`; and so are the first structs that a process reads.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_NUMBER = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
_LONGEST = 48
"""Longer texts are left to `thrift`; few are."""


def _head(*kinds: int) -> bytes:
    """A byte that begins a field of one of these kinds."""
    return b"[" + b"".join(b"\\x%x%x" % (distance, kind) for distance in range(1, 16) for kind in kinds) + b"]"


def _list(kind: int, value: bytes, most: int) -> bytes:
    """A list of up to `most` values, which begins with their number and kind."""
    return b"|".join(b"\\x%x%x(?:%b){%d}" % (count, kind, value, count) for count in range(most + 1))


_TEXT = b"(?:" + b"|".join(b"\\x%02x.{%d}" % (length, length) for length in range(_LONGEST + 1)) + b")"
_PLAIN = b"%b%b|%b" % (_head(4, 5, 6), _NUMBER, _head(1, 2))  # a field that is a number or a flag
_NAME = b"%b%b" % (_head(8), _TEXT)
_LIST = b"%b(?:%b|%b)" % (_head(9), _list(6, _NUMBER, 4), _list(12, b"(?:%b)*+\\x00" % _PLAIN, 4))
_STRUCT = b"%b(?:%b|%b|%b)*+\\x00" % (_head(12), _PLAIN, _NAME, _LIST)
_REST = b"(?:%b|%b|%b)*+\\x00" % (_PLAIN, _LIST, _STRUCT)
_COLUMN = (
    b"\\x26N\\x1c"  # where it begins; then what is known of it:
    b"\\x15(N)\\x19(?:%b)\\x19\\x18%b\\x15N"  # its type; encodings, path and codec
    b"\\x16(N)\\x16(N)\\x16(N)\\x26(N)"  # its values, unpacked and packed bytes, where its data is
    b"(?:\\x26(N)|(?![\\x10-\\x2f]))" % (_list(5, _NUMBER, 6), _TEXT)  # where its dictionary is, unless there is none
).replace(b"N", _NUMBER) + b"%b(?:%b)*+\\x00" % (_REST, _PLAIN)
_INNER = b"%b(?:%b)*+\\x00" % (_head(12), _PLAIN)
_WITHOUT_LISTS = b"(?:%b|%b|%b(?:%b|%b)*+\\x00)*+\\x00" % (_PLAIN, _NAME, _head(12), _PLAIN, _INNER)
_PAGE = b"\\x15(N)\\x15(N)\\x15(N)([\\x2c\\x4c])\\x15(N)\\x15(N)".replace(b"N", _NUMBER) + _REST + b"\\x00"
_DETAILS = {b"\x2c": (0, 5), b"\x4c": (2, 7)}  # of a page of data, and of a dictionary: its type, and their field

COLUMN = 0x26
"""The byte that a column begins with."""

Match = tuple[dict[int, Any], int]


FEW = 1500
"""So many structs of a kind are read one byte after another sooner than their expression is compiled; twenty files have
as many."""


class _Shape:
    """An expression that is compiled once it was asked for often enough for that to pay."""

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._compiled: re.Pattern[bytes] | None = None
        self._asked = 0

    def match(self, data: bytes, at: int = 0) -> re.Match[bytes] | None:
        """The match that begins at a byte; None if there is none, and while the expression is not compiled."""
        if self._compiled is None:
            self._asked += 1
            if self._asked <= FEW:
                return None
            self._compiled = re.compile(self._pattern, re.DOTALL)
        return self._compiled.match(data, at)


_OF_COLUMN, _OF_PAGE, _OF_OTHERS = _Shape(_COLUMN), _Shape(_PAGE), _Shape(_WITHOUT_LISTS)


def match_column(data: bytes, at: int) -> Match | None:
    """The numbers of a column of a row group, and where it ends; None if it is not matched."""
    found = _OF_COLUMN.match(data, at)
    if found is None:
        return None
    kind, values, unpacked, packed, start, dictionary = found.groups()
    known = {1: _known(kind), 5: _known(values), 6: _known(unpacked), 7: _number(packed), 9: _number(start)}
    if dictionary is not None:
        known[11] = _number(dictionary)
    return {3: known}, found.end()


def match_page(data: bytes) -> Match | None:
    """The numbers of a page header, and where it ends; None if it is not matched."""
    found = _OF_PAGE.match(data)
    if found is None:
        return None
    kind, unpacked, packed, head, values, encoding = found.groups()
    expected, details = _DETAILS[head]
    fields: dict[int, Any] = {1: _known(kind), 2: _known(unpacked), 3: _number(packed)}
    fields[details] = {1: _known(values), 2: _known(encoding)}
    return (fields, found.end()) if fields[1] == expected else None


def skip_without_lists(data: bytes, at: int) -> Match | None:
    """No fields, and where a struct ends that has no list; None if it is not matched."""
    found = _OF_OTHERS.match(data, at)
    return None if found is None else ({}, found.end())


def _number(raw: bytes) -> int:
    number = shift = 0
    for byte in raw:
        number |= (byte & 127) << shift
        shift += 7
    return number >> 1 ^ -(number & 1)


_known = lru_cache(1024)(_number)  # of numbers that are the same in most pages
