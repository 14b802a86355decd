"""Columns of Arrow as arrays of NumPy, and back, without the conversions of pyarrow.

Those look whether a value is one of pandas, and import pandas for it where it is installed. In the process of a trainer
that takes half a second of the interpreter, and while Python ends, the import fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def values_of(column: pa.Array) -> npt.NDArray[Any]:
    """The values of a column: NaN for each null of floats; under a null of another type there may be anything.

    Args:
        column: of numbers, booleans or timestamps; the last become integers in their own unit.
    """
    kind, rows, offset = column.type, len(column), column.offset
    if pa.types.is_boolean(kind):
        return _bits(column.buffers()[1], offset, rows)
    letter = "f" if pa.types.is_floating(kind) else "u" if pa.types.is_unsigned_integer(kind) else "i"
    size = kind.bit_width // 8
    found: npt.NDArray[Any] = np.frombuffer(column.buffers()[1] or b"", f"<{letter}{size}")[offset : offset + rows]
    if letter == "f" and column.null_count:
        return np.where(is_valid(column), found, np.nan)
    return found


def is_valid(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Where a column has no null."""
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    return _bits(column.buffers()[0], column.offset, len(column))


def column_of(values: Sequence[float | None], kind: pa.DataType) -> pa.Array:
    """A column of numbers, with a null for each None."""
    letter = "f" if pa.types.is_floating(kind) else "i"
    numbers = np.array([0 if value is None else value for value in values], f"<{letter}{kind.bit_width // 8}")
    valid = np.packbits(np.array([value is not None for value in values], np.bool_), bitorder="little")
    return pa.Array.from_buffers(kind, len(values), [pa.py_buffer(valid), pa.py_buffer(numbers)])


def repeated(value: int | str, kind: pa.DataType, rows: int) -> pa.Array:
    """A column that has the same integer, or text, in each row."""
    if isinstance(value, int):
        numbers = np.full(rows, value, f"<i{kind.bit_width // 8}")
        return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(numbers)])
    text = value.encode()
    ends = np.arange(rows + 1, dtype="<i4") * np.int32(len(text))
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(ends), pa.py_buffer(text * rows)])


def _bits(buffer: pa.Buffer | None, offset: int, rows: int) -> npt.NDArray[np.bool_]:
    """Bits as booleans."""
    packed = np.frombuffer(buffer or b"", np.uint8)
    return np.unpackbits(packed, bitorder="little")[offset : offset + rows].astype(np.bool_)
