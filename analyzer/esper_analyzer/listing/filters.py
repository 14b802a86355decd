"""Filters of runs: `config.lr >= 1e-3`, `env == CartPole-v1 and return > 100`. They are parsed, and never evaluated.

    filter     = condition { "and" condition }
    condition  = name operator value
    operator   = "==" | "!=" | "<=" | ">=" | "<" | ">" | "~"
    value      = text without spaces, or any text in quotes; null where nothing is known

`~` is true of a text that contains the value, in whatever case. A run of which a value is not known matches only
`== null`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from esper_analyzer.listing.entry import RunEntry
from esper_analyzer.listing.keys import Key, Kind, Value, key_of
from esper_schemas.errors import UsageError
from esper_schemas.metric.levels import LEVELS, severity_of
from esper_schemas.run.ending import Status

OPTION = "--filter"

MAX_LENGTH = 2000
"""Most characters of a filter."""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "~": lambda value, part: str(part).casefold() in str(value).casefold(),
}
_CONDITION = re.compile(
    r"""\s*(?P<name>[\w./-]+)\s*(?P<operator>==|!=|<=|>=|<|>|~)\s*(?P<value>"[^"]*"|'[^']*'|[^\s"'<>=!~][^\s"'<>]*)"""
)
_AND = re.compile(r"\s+and\s+|\s*$")
_EXAMPLE = "such as 'config.lr >= 1e-3', 'env == CartPole-v1 and return > 100' or 'verdict == critical'"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BOOLEANS = {"true": True, "false": False}
_MISSING = frozenset({"null", "none"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a filter.

    Attributes:
        key: what is compared.
        operator: one of the operators of the grammar.
        operand: what it is compared with; None means that it is not known.
    """

    key: Key
    operator: str
    operand: Value

    def holds(self, run: RunEntry) -> bool:
        """Whether a run, of which everything is known that the key needs, satisfies the condition."""
        value = self.key.value(run)
        if self.operand is None:
            return (value is None) == (self.operator == "==")
        if value is None:
            return False
        if self.operator == "~":
            return _OPERATORS["~"](value, self.operand)
        if self.key.kind == "level":
            return _OPERATORS[self.operator](severity_of(value), severity_of(self.operand))  # type: ignore[arg-type]
        if type(value) is not type(self.operand):  # text, number or boolean
            return self.operator == "!="  # another value, neither less nor greater
        return _OPERATORS[self.operator](value, self.operand)


def parse_filters(texts: Iterable[str]) -> list[Condition]:
    """Return the conditions of some filters, all of which a run has to satisfy.

    Raises:
        UsageError: one does not follow the grammar, has an unknown name, or a value that the name cannot have.
    """
    return [condition for text in texts for condition in _parsed(text)]


def statuses(given: Iterable[str]) -> frozenset[str]:
    """Return the statuses that a person asks for, each alone or several with commas between them.

    Raises:
        UsageError: one is no status.
    """
    asked = [name.strip() for text in given for name in text.split(",")]
    for name in asked:
        _check_status(name, "--status")
    return frozenset(asked)


def _parsed(text: str) -> list[Condition]:
    if len(text) > MAX_LENGTH:
        raise UsageError(f"{OPTION} has at most {MAX_LENGTH:,} characters, found {len(text):,}")
    conditions, at = [], 0
    while True:
        found = _CONDITION.match(text, at)
        end = _AND.match(text, found.end()) if found else None
        if found is None or end is None:
            rest = text[at:].strip()
            raise UsageError(f"{OPTION} expects NAME OPERATOR VALUE, {_EXAMPLE}; found {rest[:60]!a}")
        conditions.append(_condition(found["name"], found["operator"], found["value"]))
        at = end.end()
        if at == len(text):
            return conditions


def _condition(name: str, sign: str, text: str) -> Condition:
    key = key_of(name, OPTION)
    is_quoted = text[0] in "\"'"
    text = text[1:-1] if is_quoted else text
    if not is_quoted and text.lower() in _MISSING:
        if sign not in ("==", "!="):
            raise UsageError(f"{OPTION}: {name} {sign} null: null can only be compared with == and !=")
        return Condition(key, sign, None)
    if sign == "~":
        if key.kind not in ("text", "any"):
            raise UsageError(f"{OPTION}: ~ looks for a part of a text, and {name} is {_A[key.kind]}; use == or >=")
        return Condition(key, sign, text)
    operand = _operand(key, text, is_quoted)
    if isinstance(operand, str | bool) and key.kind != "level" and sign not in ("==", "!="):
        raise UsageError(f"{OPTION}: {name} {sign} {text[:60]!a}: only numbers are less or greater; use ==, != or ~")
    return Condition(key, sign, operand)


_A: dict[Kind, str] = {
    "text": "a text",
    "number": "a number",
    "duration": "a time such as 90s, 45m, 3h, 2d or 1w",
    "level": f"one of {', '.join(LEVELS)}",
    "any": "anything",
}


def _operand(key: Key, text: str, is_quoted: bool) -> Value:
    """Return the value that a key is compared with, of the kind that the key has."""
    if key.name == "status":
        _check_status(text, OPTION)
    if key.kind == "text":
        return text
    if key.kind == "level" and text in LEVELS:
        return text
    number = None if is_quoted or key.kind == "level" else _number(text, key.kind)
    if number is not None:
        return number
    if key.kind == "any":
        return text if is_quoted else _BOOLEANS.get(text.lower(), text)
    raise UsageError(f"{OPTION}: {key.name} is {_A[key.kind]}, found {text[:60]!a}")


def _number(text: str, kind: Kind) -> float | None:
    unit = _UNITS.get(text[-1:]) if kind == "duration" else None
    try:
        number = float(text[:-1] if unit else text)
    except ValueError:
        return None
    return None if math.isnan(number) else number * (unit or 1.0)


def _check_status(name: str, option: str) -> None:
    known = get_args(Status)
    if name not in known:
        raise UsageError(f"{option} is one of {', '.join(known)}, found {name[:60]!a}")
