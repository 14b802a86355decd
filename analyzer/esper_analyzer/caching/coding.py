"""Dataclasses as strict JSON and back, exactly: what is read is equal to what was written, or an error.

Only data is read, of the types that the dataclass declares; no name in a file chooses a class or a function.
NaN and infinities are the strings "NaN", "Infinity" and "-Infinity", times are ISO 8601.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Made = TypeVar("Made")
_Decode = Callable[[Any], Any]

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_PLAIN = frozenset({str, int, bool, NoneType})


def to_json(value: object) -> bytes:
    """Write a value as JSON in ASCII: dataclasses, mappings with keys of text, sequences, numbers, text, times, None.

    Raises:
        TypeError: something else is in it.
    """
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":")).encode("ascii")


def from_json(declared: type[Made], text: bytes) -> Made:
    """Read what `to_json` wrote of a value of this type.

    Raises:
        ValueError, RecursionError: it is not JSON, or anything in it is not of the declared type.
    """
    return cast(Made, decoder(cast(Any, declared))(json.loads(text, parse_constant=_no_constant)))


def _no_constant(name: str) -> float:
    raise ValueError(f"expected strict JSON, found {name}")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in _initial(type(value))}
    raise TypeError(f"{type(value).__name__} cannot be kept")


@cache
def _initial(cls: type) -> tuple[str, ...]:
    """The fields that the constructor takes; the others follow from them."""
    return tuple(field.name for field in fields(cls) if field.init)


@cache
def decoder(declared: Any) -> _Decode:
    """Return the function that makes a value of a declared type from parsed JSON, or raises ValueError.

    Raises:
        TypeError: the type is not one that can be told from its JSON, such as one that is a number or a text.
    """
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is Literal:
        return _literal(arguments)
    if origin is list:
        return _list(decoder(arguments[0]))
    if origin is tuple:
        return _tuple([decoder(argument) for argument in arguments])
    if origin is dict:
        return _dict(decoder(arguments[0]), decoder(arguments[1]))
    if is_dataclass(declared):
        return _dataclass(cast(type, declared))
    return _union((declared,))


def _union(options: tuple[Any, ...]) -> _Decode:
    """Of a union, at most one option may be written as text, and at most one is not plain."""
    plain = {option for option in options if option in _PLAIN}
    if float in options:
        plain |= {float, int}  # Python takes an int for a float, and it stays one
    kinds = frozenset(plain)
    others = [option for option in options if option not in (*_PLAIN, float)]
    texts = [option for option in options if option in (str, float, datetime) or get_origin(option) is Literal]
    if str in texts and len(texts) > 1:
        raise TypeError(f"a value of {options} cannot be told from its JSON")
    decoders = [_time if option is datetime else decoder(option) for option in others if _is_known(option)]
    if len(decoders) < len(others):
        raise TypeError(f"a value of {options} cannot be kept")
    has_float = float in options

    def decode(value: Any) -> Any:
        if type(value) in kinds:
            return value
        if has_float and isinstance(value, str) and value in _NOT_FINITE:
            return _NOT_FINITE[value]
        for one in decoders:
            return one(value)
        raise _wrong(value, options)

    return decode


def _is_known(option: Any) -> bool:
    return option is datetime or get_origin(option) is not None or is_dataclass(option)


def _literal(allowed: tuple[Any, ...]) -> _Decode:
    def decode(value: Any) -> Any:
        if isinstance(value, str) and value in allowed:
            return value
        raise _wrong(value, allowed)

    return decode


def _time(value: Any) -> datetime:
    return datetime.fromisoformat(_text(value))


def _list(item: _Decode) -> _Decode:
    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [item(one) for one in value]
        raise _wrong(value, list)

    return decode


def _tuple(items: list[_Decode]) -> _Decode:
    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(item(one) for item, one in zip(items, value, strict=True))
        raise _wrong(value, tuple)

    return decode


def _dict(key: _Decode, item: _Decode) -> _Decode:
    def decode(value: Any) -> Any:
        if isinstance(value, dict):
            return {key(name): item(one) for name, one in value.items()}
        raise _wrong(value, dict)

    return decode


def _dataclass(cls: type) -> _Decode:
    hints = get_type_hints(cls)
    items = {name: decoder(hints[name]) for name in _initial(cls)}
    names = items.keys()

    def decode(value: Any) -> Any:
        if isinstance(value, dict) and value.keys() == names:
            return cls(**{name: item(value[name]) for name, item in items.items()})
        raise _wrong(value, cls)

    return decode


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(value, str)


def _wrong(value: Any, expected: object) -> ValueError:
    return ValueError(f"expected {expected}, found {type(value).__name__}")
