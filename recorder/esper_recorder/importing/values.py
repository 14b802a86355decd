"""Numbers as other programs write them, in text and in JSON."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_MAX_DEPTH = 20

_WORDS = {
    "true": 1.0,
    "false": 0.0,
    "1.#qnan": math.nan,
    "1.#snan": math.nan,
    "1.#ind": math.nan,
    "1.#inf": math.inf,
}
"""Truth values, and what the C library of Windows prints for numbers that are not finite."""

_NOT_A_NUMBER = re.compile(r"nan(\(\w*\))?")
_WRAPPED = re.compile(r"(?:tensor|array|(?:np|numpy|jnp)\.\w+)\(\s*\[?([^\[\](),]+)\]?\s*(?:,.*)?\)", re.DOTALL)
_LITERAL = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+(?:e[-+]?\d+)?\s*", re.IGNORECASE)


def as_number(text: str, *, has_decimal_commas: bool = False) -> float | None:
    """Return the number that a text is, with True and False as 1 and 0; None for another text.

    `-nan(ind)` and `1.#INF` are numbers that are not finite, and `tensor(0.5, device='cuda:0')` is its content.

    Args:
        text: The text.
        has_decimal_commas: Whether `0,5` is one half. Where commas separate cells, nothing tells.
    """
    try:
        return float(text)
    except ValueError:
        pass
    if has_decimal_commas and _DECIMAL_COMMA.fullmatch(text):
        return float(text.replace(",", "."))
    word = text.strip().lower()
    sign, word = (-1.0, word[1:]) if word.startswith("-") else (1.0, word.removeprefix("+"))
    if _NOT_A_NUMBER.fullmatch(word):
        return math.nan
    if word in _WORDS:
        return sign * _WORDS[word]
    wrapped = _WRAPPED.fullmatch(word)
    return None if wrapped is None else as_number(wrapped[1])


def utc_of(text: object) -> float | None:
    """Return the seconds since 1970 of a time in ISO 8601, in UTC if it names no zone; None for anything else."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if time is None:
        return None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def as_setting(text: str) -> Any:
    """Return what Python reads a text as: a number, a truth value or None; and any other text as it is."""
    if text in ("True", "False", "None") or _LITERAL.fullmatch(text):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
    return text


def flatten(
    record: Mapping[str, Any], prefix: str, values: dict[str, float], others: dict[str, str], depth: int = 0
) -> None:
    """Collect the numbers of an object by their joined keys, and what the others are. A text may be a number, too."""
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, bool | int | float):
            try:
                values[name] = float(value)
            except OverflowError:
                others[name] = "a whole number beyond the range of floats"
        elif isinstance(value, str) and (number := as_number(value)) is not None:
            values[name] = number
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            flatten(value, f"{name}/", values, others, depth + 1)
        elif value is not None:
            others[name] = {"str": "text", "list": "a list"}.get(type(value).__name__, "nested too deep")
