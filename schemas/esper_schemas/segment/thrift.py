"""Thrift's compact protocol, as far as it takes to read the numbers in a Parquet file's footer and page headers.

See https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. pyarrow reads footers, too, but
ends the process when it is asked for a column whose parts contradict each other.
"""

from __future__ import annotations

from typing import Any

from esper_schemas.segment.thrift_shapes import COLUMN, match_column, match_page, skip_without_lists

_BINARY, _LIST, _SET, _STRUCT = 8, 9, 10, 12  # kinds of a value; 1 is true, 2 is false, 4 to 6 have 16 to 64 bits
_SIZES = {1: 1, 2: 1, 3: 1, 7: 8, 13: 16}  # of kinds of a fixed size: a flag in a list, byte, double, UUID
_MAX_DEPTH = 16


def read_struct(data: bytes, at: int = 0, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The fields of a struct by their numbers, and where it ends: numbers, structs, and lists of structs.

    Any other field is None, or left out, and so is what nobody asks for in the structs of `thrift_shapes`. What is most
    frequent here is done in place: a call takes longer than all the rest.

    Raises:
        IndexError: it does not end.
        ValueError: it is none.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    fields: dict[int, Any] = {}
    field = 0
    while head := data[at]:
        at += 1
        if head > 15:
            field += head >> 4
        else:
            raw, at = _read_varint(data, at)
            field = raw >> 1 ^ -(raw & 1)
        kind = head & 15
        if 4 <= kind <= 6:
            if (raw := data[at]) < 128:
                at += 1
            else:
                raw, at = _read_varint(data, at)
            fields[field] = raw >> 1 ^ -(raw & 1)
        elif kind == _BINARY and (raw := data[at]) < 128:
            at += 1 + raw
        elif kind == _STRUCT:
            fields[field], at = read_struct(data, at, depth + 1)
        elif kind == _LIST:
            fields[field], at = _read_list(data, at, depth + 1)
        elif kind > 2:
            fields[field], at = None, _skip(data, at, kind, depth + 1)
    return fields, at + 1


def read_page_header(data: bytes) -> tuple[dict[int, Any], int]:
    """As `read_struct`, for what begins with the header of a page."""
    return match_page(data) or read_struct(data)


def _read_list(data: bytes, at: int, depth: int) -> tuple[list[dict[int, Any]] | None, int]:
    """The structs of a list; None for one of other values."""
    count, kind = data[at] >> 4, data[at] & 15
    at += 1
    if count == 15:
        count, at = _read_varint(data, at)
    if kind == _STRUCT:
        structs: list[dict[int, Any]] = []
        while len(structs) < count:
            match = match_column if data[at] == COLUMN else skip_without_lists
            struct, at = match(data, at) or read_struct(data, at, depth)
            structs.append(struct)
        return structs, at
    while count and data[at] >= 0:  # IndexError where the data ends
        count -= 1
        if 4 <= kind <= 6 and data[at] < 128:
            at += 1
        else:
            at = _skip(data, at, kind, depth)
    return None, at


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    if kind in _SIZES:
        return at + _SIZES[kind]
    if kind == _STRUCT:
        return read_struct(data, at, depth)[1]
    if kind in (_LIST, _SET) and depth <= _MAX_DEPTH:
        return _read_list(data, at, depth + 1)[1]
    raw, at = _read_varint(data, at)
    if kind == _BINARY:
        return at + raw
    if 4 <= kind <= 6:
        return at
    raise ValueError("nested too deep, or a kind that Parquet has no use for")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while (byte := data[at]) > 127 and shift < 63:
        number |= (byte & 127) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1
