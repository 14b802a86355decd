"""Encodes rows of a known kind quickly: what to do with each value is worked out once, from its type.

Two rows are of one kind if they have the same names in the same order, and values of the same types. What a type does
not guarantee is checked in each row: that a whole number is small enough for a float, or that an array has one number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from esper_schemas.metric.coercion import LIKELY_NANOSECONDS, LIKELY_SECONDS, MAX_EXACT
from esper_schemas.metric.metrics import SKIP_REASONS, Dtype
from esper_schemas.metric.payload import REQUIRED
from esper_schemas.segment.active import RowLayout

FILLED_IN = ("seq", "wall_time", "elapsed_secs")
"""Columns that the recorder fills in, the last two only if the caller does not."""

_ABSENT = type(None)
_SMALL = (np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32)
EXACT_AS_FLOAT = frozenset((float, np.float64, np.float32, np.float16, bool, np.bool_, *_SMALL))
"""Types of which every value is the same number as a float64."""

_LARGE = (int, np.int64, np.uint64)
_WHOLE = (*_SMALL, *_LARGE)


class NotAsPlannedError(Exception):
    """A value does not fit the plan, which only knows its type; the row needs a closer look."""


class RowPlan:
    """Encodes rows of one kind; made by `plan_rows`."""

    __slots__ = ("_arrays", "_codes", "_encode", "_large", "_order", "_tensors", "_times")

    def __init__(
        self,
        encode: Callable[[Sequence[Any]], bytes],
        order: Sequence[int],
        *,
        large: Sequence[int],
        arrays: Sequence[int],
        codes: Sequence[int],
        times: Sequence[int],
        has_tensors: bool,
    ) -> None:
        self._encode = encode
        self._order = itemgetter(*order)
        self._large = tuple(large)
        self._arrays = tuple(arrays)
        self._codes = tuple(codes)
        self._times = tuple(times)
        self._tensors = has_tensors

    def __call__(self, values: tuple[Any, ...], filled_in: tuple[int, int, float]) -> bytes:
        """Encode a row from its values, in the order of its names, and those of `FILLED_IN`.

        Raises:
            NotAsPlannedError, struct.error: a value does not fit the plan.
        """
        if self._arrays:
            values = self._with_numbers(values)
        for index in self._large:
            if not -MAX_EXACT <= values[index] <= MAX_EXACT:
                raise NotAsPlannedError
        for index in self._codes:
            if values[index] not in SKIP_REASONS:
                raise NotAsPlannedError
        for index in self._times:
            if (time := int(values[index])) in LIKELY_SECONDS or time in LIKELY_NANOSECONDS:
                raise NotAsPlannedError
        return self._encode(self._order(values + filled_in))

    def _with_numbers(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values, with each array and tensor replaced by its number."""
        if self._tensors and sys.modules["torch"].cuda.is_initialized():  # otherwise no tensor can be on a device
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
    """Return the plan for rows with these names and types in a segment; None if each row needs a closer look."""
    columns = layout.columns
    position = {name: index for index, name in enumerate(names) if types[index] is not _ABSENT}
    if len(set(names)) < len(names) or "seq" in position or not columns.keys() >= position.keys():
        return None
    if not position.keys() >= {"update", *REQUIRED}:
        return None
    tensors = tensor_types()
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
        times=[position["wall_time"]] if "wall_time" in position else [],
        has_tensors=any(types[index] in tensors for index in arrays),
    )


def _fits(kind: type, dtype: Dtype) -> bool:
    """Whether a column stores every value of a type exactly. Packing raises an error for a value that is too large."""
    if dtype == "float64":
        return kind in EXACT_AS_FLOAT
    if dtype == "bool":
        return kind in (bool, np.bool_)
    return kind in _WHOLE


def tensor_types() -> tuple[type, ...]:
    """Return the tensor types of torch if it is loaded. Another module may have its name."""
    torch = sys.modules.get("torch")
    found = (getattr(torch, "Tensor", None), getattr(getattr(torch, "nn", None), "Parameter", None))
    return tuple(kind for kind in found if isinstance(kind, type))
