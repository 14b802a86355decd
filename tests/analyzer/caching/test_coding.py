from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pytest

from esper_analyzer.caching.coding import decoder, from_json, to_json


@dataclass(frozen=True, slots=True)
class Inner:
    """A part of a value."""

    level: Literal["good", "bad"]
    pair: tuple[int, float]


@dataclass(frozen=True, slots=True)
class Outer:
    """A value with everything that a report has."""

    value: float | int | bool | datetime | None
    text: str | None
    inner: Inner | None = None
    named: dict[str, list[Inner]] = field(default_factory=dict)
    derived: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", len(self.named))


INNER = Inner("good", (1, -0.0))
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", [None, True, 0, 2**62, -(2**63), 1.0, 0.1 + 0.2, 5e-324, -0.0, math.inf, -math.inf, MOMENT], ids=repr
)
def test_values_come_back_as_they_were(value: float | int | bool | datetime | None) -> None:
    """A value of a report comes back equal, of the same type, and with the sign of a zero."""
    written = Outer(value, "\ud800 é\n", INNER, {"a": [INNER], "": []})
    read = from_json(Outer, to_json(written))
    assert read == written
    assert type(read.value) is type(value)
    assert repr(read) == repr(written)


def test_nan_comes_back() -> None:
    """NaN is written as text, since strict JSON has none, and comes back as a number."""
    written = to_json(Outer(math.nan, None))
    assert b'"NaN"' in written
    found = from_json(Outer, written).value
    assert isinstance(found, float)
    assert math.isnan(found)


GOOD = to_json(Outer(1.5, "x", INNER)).decode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.5", '"1.5"'),
        ("1.5", "[]"),
        ("1.5", "NaN"),
        ("1.5", "{}"),
        ('"x"', "1"),
        ('"good"', '"best"'),
        ('"good"', "null"),
        ("[1,-0.0]", "[1]"),
        ("[1,-0.0]", "[1.5,2]"),
        ("[1,-0.0]", "[true,2]"),
        ('"named":{}', '"named":[]'),
        ('"named":{}', '"named":{"a":{}}'),
        ('"named":{}', '"named":{"a":[' + "[" * 100_000 + "]" * 100_000 + "]}"),
        ('"text":"x",', ""),
        ('"text":"x"', '"text":"x","more":1'),
        (GOOD, "[]"),
        (GOOD, ""),
        ("1.5", "9" * 5000),
    ],
    ids=lambda text: ascii(text)[:24],
)
def test_what_is_not_of_the_type_is_refused(old: str, new: str) -> None:
    """Nothing but data of the declared type is read."""
    assert old in GOOD
    with pytest.raises((ValueError, RecursionError)):
        from_json(Outer, GOOD.replace(old, new).encode())


@pytest.mark.parametrize("declared", [str | float, str | datetime, object, dict[str, bytes]], ids=str)
def test_a_type_that_cannot_be_told_from_its_json_is_refused(declared: object) -> None:
    """A text that may be a number, and what is no data, are errors of the one who declares them."""
    with pytest.raises(TypeError):
        decoder(declared)


def test_what_is_no_data_cannot_be_written() -> None:
    """Only data is written."""
    with pytest.raises(TypeError):
        to_json({"a": b"bytes"})
