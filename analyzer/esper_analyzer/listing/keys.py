"""The names by which runs are filtered and sorted: columns of the list, metrics, and keys of the configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from esper_analyzer.listing.entry import LOSS, STEPS, RunEntry
from esper_schemas.errors import UsageError
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import Metric
from esper_schemas.metric.payload import METRICS

Kind = Literal["text", "number", "duration", "level", "any"]
Value = str | float | bool | None

CONFIG, EXTRAS = "config.", "extras."


@dataclass(frozen=True, slots=True)
class Key:
    """Something that is known of a run, by which runs can be filtered and sorted.

    Attributes:
        name: its name.
        kind: what its values are; `any` is whatever a configuration has.
        is_early: whether the header alone says it; all else needs the rows of the run.
        value: returns the value of a run; None where it is not known.
        column: the metric that has to be read for it, if it is one.
    """

    name: str
    kind: Kind
    is_early: bool
    value: Callable[[RunEntry], Value]
    column: str | None = None


def _measured(name: str, column: str) -> Key:
    return Key(name, "number", False, lambda run: run.measured.get(column), column)


KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key("name", "text", True, lambda run: run.name),
        Key("status", "text", True, lambda run: run.status),
        Key("updates", "number", False, lambda run: _float(run.updates)),
        Key("return", "number", False, lambda run: run.returned),
        _measured("steps", STEPS),
        Key("age", "duration", True, lambda run: run.age_secs),
        Key("env", "text", True, lambda run: run.env),
        Key("trainer", "text", True, lambda run: run.trainer),
        Key("lr", "number", False, lambda run: run.learning_rate),
        _measured("loss", LOSS),
        Key("verdict", "level", False, lambda run: run.level),
        Key("since", "number", False, lambda run: _float(run.since)),
        Key("end_reason", "text", True, lambda run: run.end_reason),
    )
}
"""What a list shows, by name."""


def key_of(name: str, option: str) -> Key:
    """Return the key that a person names: one of `KEYS`, a metric of the table, `config.NAME` or `extras.NAME`.

    Raises:
        UsageError: there is no such name.
    """
    if name in KEYS:
        return KEYS[name]
    if name.startswith(CONFIG) and len(name) > len(CONFIG):
        key = name.removeprefix(CONFIG)
        return Key(name, "any", True, lambda run: _plain(run.config.get(key)))
    column = name.removeprefix(EXTRAS)
    if column and (name.startswith(EXTRAS) or _is_number(METRICS.get(column))):
        return _measured(name, column)
    raise UsageError(f"{option}: {_unknown(name)}")


def check_config(keys: Iterable[Key], runs: Iterable[RunEntry], option: str) -> None:
    """Check that some run has each of the keys that are of a configuration.

    Raises:
        UsageError: none has; the message names those that there are.
    """
    asked = [key for key in keys if key.name.startswith(CONFIG)]
    if not asked:
        return
    every = list(runs)
    known = list(dict.fromkeys(f"{CONFIG}{name}" for run in every for name in run.config))
    for key in asked:
        if key.name not in known and any(run.error is None for run in every):
            raise UsageError(f"{option}: no run has {key.name}; {_near(key.name, known)}")


def order_of(key: Key) -> Callable[[RunEntry], tuple[float, str]]:
    """Return the sort key of runs: texts from A to Z, the youngest age first, else the largest or the worst first.

    The runs must have a value; `Listing` puts those without one last.
    """

    def order(run: RunEntry) -> tuple[float, str]:
        value = key.value(run)
        if key.kind == "level":
            return -severity_of(value), ""  # type: ignore[arg-type]
        if isinstance(value, str):
            return math.inf, value  # a configuration may have numbers and texts
        number = float(value or 0.0)
        if math.isnan(number):
            return math.inf, ""  # not better than any number
        return (number if key.kind == "duration" else -number), ""

    return order


def _float(number: int | None) -> float | None:
    return None if number is None else float(number)


def _plain(value: object) -> Value:
    """Return a value of a configuration as what a filter can compare; a list or a mapping as its text."""
    if value is None or isinstance(value, bool | str):
        return value
    return float(value) if isinstance(value, int | float) else str(value)


def _is_number(metric: Metric | None) -> bool:
    return metric is not None and metric.dtype in ("float64", "int64", "int32")


def _unknown(name: str) -> str:
    metrics = [metric.name for metric in METRICS.values() if _is_number(metric)]
    near = get_close_matches(name, [*KEYS, *metrics], 3)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    return (
        f"unknown name {name[:60]!a}{meant}; known are {', '.join(KEYS)}, config.NAME, extras.NAME,"
        " and the metrics of the table, such as explained_variance"
    )


def _near(name: str, known: Collection[str]) -> str:
    if not known:
        return "no run has a configuration"
    near = get_close_matches(name, known, 5) or list(known)[:10]
    more = len(known) - len(near)
    return f"known are {', '.join(near)}" + (f" and {more:,} more" if more > 0 else "")
