"""Numbers as other programs write them, in text and in JSON."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

_MAX_DEPTH = 20
_MOST_SECS = 1e11
"""A larger number since 1970 is not of seconds, nor of the thousandths of them that it is then taken for."""

Decimals = Literal["point", "comma", "unclear"]
"""What separates the decimals of the numbers in a table: what its other cells show."""

MISSING = frozenset({"", "-", "--", "na", "n/a", "#n/a", "null", "none"})
"""What programs write in a cell without a value, in small letters."""

_WORDS = {
    "true": 1.0,
    "false": 0.0,
    "∞": math.inf,
    "1.#qnan": math.nan,
    "1.#snan": math.nan,
    "1.#ind": math.nan,
    "1.#inf": math.inf,
}
"""Truth values, and what the C library of Windows prints for numbers that are not finite."""

_NOT_A_NUMBER = re.compile(r"nan(\(\w*\))?")
_WRAPPED = re.compile(r"(?:tensor|array|(?:np|numpy|jnp)\.\w+)\(\s*\[?([^\[\](),]+)\]?\s*(?:,.*)?\)", re.DOTALL)
_LITERAL = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
_EXPONENT = r"(?:e[-+]?\d+)?"
_COMMA = re.compile(rf"[-+]?\d*,\d+{_EXPONENT}", re.IGNORECASE)
_POINT = re.compile(rf"[-+]?\d*\.\d+{_EXPONENT}", re.IGNORECASE)
_SPACE = " \u00a0\u202f'’"  # what separates thousands, whatever separates the decimals
_GROUPS = {
    "point": re.compile(rf"[-+]?[1-9]\d{{0,2}}(?P<gap>[,{_SPACE}])\d{{3}}((?P=gap)\d{{3}})*(?P<decimals>\.\d*)?"),
    "comma": re.compile(rf"[-+]?[1-9]\d{{0,2}}(?P<gap>[.{_SPACE}])\d{{3}}((?P=gap)\d{{3}})*(?P<decimals>,\d*)?"),
}
"""Numbers with their thousands apart, by what separates the decimals: `1,200.5` and `1.200,5`."""


def decimals_of(cells: Iterable[str]) -> Decimals | None:
    """Return what separates decimals, from those cells of a table that show it; None if none does.

    `0.5` and `1.200,5` show it. `1.200` does not: it may be 1200.
    """
    found = {shown for cell in cells if (shown := _decimals_shown(cell.strip())) is not None}
    return None if not found else found.pop() if len(found) == 1 else "unclear"


def _decimals_shown(cell: str) -> Decimals | None:
    grouped = {decimals: groups.fullmatch(cell) for decimals, groups in _GROUPS.items()}
    for decimals, form, other in (("point", _POINT, "comma"), ("comma", _COMMA, "point")):
        match = grouped[decimals]
        if (form.fullmatch(cell) and not grouped[other]) or (match and match["decimals"]):
            return cast(Decimals, decimals)
    return None


def as_number(text: str, decimals: Decimals | None = None) -> float | None:
    """Return the number that a text is, with True and False as 1 and 0; None for another text.

    `-nan(ind)` and `1.#INF` are numbers that are not finite, and `tensor(0.5, device='cuda:0')` is its content.

    Args:
        text: The text.
        decimals: What separates decimals in the table that the text is a cell of. If that is unclear, `0,5` is one
            half, and `1,200` is no number. None of any other text: no comma is part of a number there.
    """
    if decimals != "comma":  # in which 1.200 may be 1200
        try:
            return float(text)
        except ValueError:
            pass
    text = text.strip().replace("\u2212", "-")
    decimals = _decimals_shown(text) if decimals == "unclear" else decimals
    try:
        return float(text if decimals is None else _with_point(text, decimals))
    except ValueError:
        pass
    word = text.lower()
    sign, word = (-1.0, word[1:]) if word.startswith("-") else (1.0, word.removeprefix("+"))
    if _NOT_A_NUMBER.fullmatch(word):
        return math.nan
    if word in _WORDS:
        return sign * _WORDS[word]
    wrapped = _WRAPPED.fullmatch(word)
    return None if wrapped is None else as_number(wrapped[1])


def _with_point(number: str, decimals: Decimals) -> str:
    """A number as Python writes it."""
    if (grouped := _GROUPS[decimals].fullmatch(number)) is not None:
        number = number.replace(grouped["gap"], "")
    elif decimals == "point" and "," in number:
        return ""
    return number.replace(",", ".")


def utc_of(text: object) -> float | None:
    """Return the seconds since 1970 of a time in ISO 8601, in UTC if it names no zone; None for anything else."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if time is None:
        return None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def in_seconds(time: float) -> float:
    """Return a number of seconds, milliseconds, microseconds or nanoseconds since 1970 in seconds."""
    for _ in range(3):
        if time > _MOST_SECS:
            time /= 1000.0
    return time


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


def empty_keys(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> tuple[str, ...]:
    """Return the keys of a JSON object that are null, of objects within it as deep and as joined as in `flatten`."""
    found: list[str] = []
    for key, value in record.items():
        if value is None:
            found.append(f"{prefix}{key}")
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            found += empty_keys(value, f"{prefix}{key}/", depth + 1)
    return tuple(found)
