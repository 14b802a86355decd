"""Rows of a kind that has come before: what is to be done with each value is worked out once, by its type.

Two rows are of one kind if they have the same names in the same order, and values of the same types. What a type does
not promise (that a whole number is small enough for a float, that an array holds one number) is looked at in each row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from esper_schemas.metric.coercion import MAX_EXACT
from esper_schemas.metric.metrics import SKIP_REASONS, Dtype
from esper_schemas.metric.payload import REQUIRED
from esper_schemas.segment.active import RowLayout

FILLED_IN = ("seq", "wall_time", "elapsed_secs")
"""Columns that the recorder fills in, the last two of them where the caller does not."""

_ABSENT = type(None)
_FLOATS = (float, np.float64, np.float32, np.float16, bool, np.bool_)
_SMALL = (np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32)
_LARGE = (int, np.int64, np.uint64)
_WHOLE = (*_SMALL, *_LARGE, bool)


class NotAsPlannedError(Exception):
    """A value is not what values of its type usually are; the row needs a closer look."""


class RowPlan:
    """Encodes rows of one kind; make it with `plan_rows`."""

    __slots__ = ("_arrays", "_codes", "_encode", "_large", "_order", "_tensors")

    def __init__(
        self,
        encode: Callable[[Sequence[Any]], bytes],
        order: Sequence[int],
        *,
        large: Sequence[int],
        arrays: Sequence[int],
        codes: Sequence[int],
        has_tensors: bool,
    ) -> None:
        self._encode = encode
        self._order = itemgetter(*order)
        self._large = tuple(large)
        self._arrays = tuple(arrays)
        self._codes = tuple(codes)
        self._tensors = has_tensors

    def __call__(self, values: tuple[Any, ...], filled_in: tuple[int, int, float]) -> bytes:
        """The message of a row with these values, in the order of its names, and what the recorder fills in.

        Raises:
            NotAsPlannedError, struct.error: a value is not as usual.
        """
        if self._arrays:
            values = self._with_numbers(values)
        for index in self._large:
            if not -MAX_EXACT <= values[index] <= MAX_EXACT:
                raise NotAsPlannedError
        for index in self._codes:
            if values[index] not in SKIP_REASONS:
                raise NotAsPlannedError
        return self._encode(self._order(values + filled_in))

    def _with_numbers(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values with the numbers that arrays and tensors hold."""
        if self._tensors and sys.modules["torch"].cuda.is_initialized():  # else no tensor can be on a device
            for index in self._arrays:
                if getattr(values[index], "is_cuda", False):
                    raise NotAsPlannedError
        found = list(values)
        for index in self._arrays:
            number = found[index] = found[index].item()
            if type(number) is not float and not (type(number) is int and -MAX_EXACT <= number <= MAX_EXACT):
                raise NotAsPlannedError
        return tuple(found)


def plan_rows(layout: RowLayout, names: tuple[str, ...], types: tuple[type, ...]) -> RowPlan | None:
    """The plan for rows with these names and types of values in a segment; None if each needs a closer look."""
    columns = layout.columns
    position = {name: index for index, name in enumerate(names) if types[index] is not _ABSENT}
    if len(set(names)) < len(names) or "seq" in position or not columns.keys() >= position.keys():
        return None
    if not position.keys() >= {"update", *REQUIRED}:
        return None
    tensors = _tensor_types()
    large, arrays = [], []
    for name, index in position.items():
        kind, dtype = types[index], columns[name]
        if dtype == "float64" and (kind in tensors or kind is np.ndarray):
            arrays.append(index)
        elif dtype == "float64" and kind in _LARGE:
            large.append(index)
        elif not _fits(kind, dtype):
            return None
    place = {**{name: len(names) + index for index, name in enumerate(FILLED_IN)}, **position}
    return RowPlan(
        layout.encoder(place).encode,
        [place[name] for name in columns if name in place],
        large=large,
        arrays=arrays,
        codes=[position["skip_reason"]] if "skip_reason" in position else [],
        has_tensors=any(types[index] in tensors for index in arrays),
    )


def _fits(kind: type, dtype: Dtype) -> bool:
    """Whether every value of a type is stored exactly in a column; one that is too large for it cannot be packed."""
    if dtype == "float64":
        return kind in _FLOATS or kind in _SMALL
    if dtype == "bool":
        return kind in (bool, np.bool_)
    return kind in _WHOLE


def _tensor_types() -> tuple[type, ...]:
    """Types of tensors, as far as torch is there; something else may be under its name."""
    torch = sys.modules.get("torch")
    found = (getattr(torch, "Tensor", None), getattr(getattr(torch, "nn", None), "Parameter", None))
    return tuple(kind for kind in found if isinstance(kind, type))
