"""Converts hyper-parameters to JSON: numbers stay numbers, and what JSON cannot express becomes a stable text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from os import PathLike, fspath
from typing import Any

from esper_schemas.errors import UsageError

MAX_CONFIG_DEPTH = 64
"""Maximum number of nesting levels in a configuration."""

_MAX_ITEMS = 1000  # of an array; a longer one is not a hyper-parameter
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


_MAX_VALUES = 1_000_000  # in total; tuples that each contain the next one twice expand exponentially


def as_json(value: Any) -> Any:
    """Convert a configuration to JSON values. The same hyper-parameters always give the same configuration.

    NumPy numbers, and arrays and tensors without dimensions, become numbers. Other arrays and tensors become lists, or
    a text if they are large. Mappings and dataclasses become objects, and sets become sorted lists. NaN, infinities
    and everything else become text: enum members by name, functions and classes by qualified name, other objects by
    their `repr` without addresses.

    Raises:
        UsageError: it is nested more than `MAX_CONFIG_DEPTH` levels deep, or has more than a million values.
    """
    return _Converter().convert(value, 1)


class _Converter:
    """Converts one configuration, and counts its values."""

    def __init__(self) -> None:
        self._values = 0

    def convert(self, value: Any, depth: int) -> Any:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise UsageError(f"config must have at most {_MAX_VALUES:,} values; keep only hyper-parameters")
        if value is None or isinstance(value, (bool, str)):
            return str(value) if isinstance(value, str) and not isinstance(value, Enum) else _plain(value)
        if isinstance(value, (int, float, Enum)):
            return _plain(value)
        if depth > MAX_CONFIG_DEPTH:
            raise UsageError(f"config must be nested at most {MAX_CONFIG_DEPTH} levels deep, found more")
        if isinstance(value, Mapping):
            return {self._key(key): self.convert(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.convert(entry, depth + 1) for entry in value]
        if isinstance(value, Set):
            return sorted((self.convert(entry, depth + 1) for entry in value), key=_sortable)
        if is_dataclass(value) and not isinstance(value, type):
            return {entry.name: self.convert(getattr(value, entry.name), depth + 1) for entry in fields(value)}
        return self._array(value, depth)

    def _array(self, value: Any, depth: int) -> Any:
        """Convert an array or a number of NumPy or torch; anything else becomes text."""
        shape = getattr(value, "shape", None)
        if not isinstance(shape, tuple) or not hasattr(value, "tolist"):
            return _text(value)
        if math.prod(shape) > _MAX_ITEMS:
            return f"array of shape {tuple(shape)}, {getattr(value, 'dtype', '')}"
        plain = value.tolist()
        return self.convert(plain, depth + 1) if isinstance(plain, (bool, int, float, str, list)) else _text(plain)

    def _key(self, key: object) -> str:
        if isinstance(key, (bool, int, float, Enum)):
            key = _plain(key)
        return key if isinstance(key, str) else json.dumps(key) if isinstance(key, (bool, int, float)) else _text(key)


def _sortable(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _plain(value: Any) -> Any:
    """Convert a Python number or an enum member to a JSON value."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if math.isfinite(value) else _nonfinite(value)


def _nonfinite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(value: object) -> str:
    """Return a text that is the same in every process."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PathLike):
        return str(fspath(value))
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):  # a class or a function
        return f"{getattr(value, '__module__', None) or ''}.{name}".lstrip(".")
    try:
        return _ADDRESS.sub("", repr(value))
    except Exception:  # the repr of an object may raise anything
        return f"<{type(value).__module__}.{type(value).__qualname__}>"
