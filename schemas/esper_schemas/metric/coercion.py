"""Converts a trainer's numbers (Python, NumPy, zero-dimensional tensors) to the plain numbers that columns store."""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from typing import Any

from esper_schemas.cleaning import short
from esper_schemas.errors import PayloadError
from esper_schemas.limits import MAX_NAME_BYTES
from esper_schemas.metric.metrics import Dtype

RECORDER_COLUMNS = ("run_id", "rank", "attempt", "seq", "dropped_before")
"""Columns that the recorder writes in addition to the metrics; no extra may have their names."""

MAX_EXACT = 2**53
"""Up to this size every whole number is a float64."""

_INT_BITS = {"int64": 63, "int32": 31, "timestamp": 63}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Times are stored as microseconds since then."""

_SECS_IN_1980, _SECS_IN_2200 = 315_532_800, 7_258_118_400  # of the time that has passed since 1970
LIKELY_SECONDS = range(_SECS_IN_1980, _SECS_IN_1980 * 1_000_000)
"""Numbers that are no likely time in microseconds, all of which are before 1980, but one in seconds or milliseconds."""
LIKELY_NANOSECONDS = range(_SECS_IN_1980 * 1_000_000_000, _SECS_IN_2200 * 1_000_000_000)
"""Numbers that are no time in microseconds, all of which are after the year 9999, but a likely one in nanoseconds."""

_HOW_TO_GIVE_A_TIME = "give time.time_ns() // 1000, or leave it out: the recorder fills it in"


def check_extra_name(name: object) -> None:
    """Check that `name` can be the column of a metric that the user added.

    Raises:
        PayloadError: it is not a string, empty, too long, not printable, or a column of the recorder.
    """
    if not isinstance(name, str) or not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        raise PayloadError(
            f"a metric's name must be 1 to {MAX_NAME_BYTES} bytes of printable text, found {short(name)}"
        )
    if name in RECORDER_COLUMNS:
        raise PayloadError(f"{name!r} is written by the recorder itself; choose another name")


def coerce(name: str, dtype: Dtype, value: Any) -> float | int | bool:
    """Convert `value` to the plain Python number that a column of `dtype` stores. An integer column never rounds.

    A timestamp may be an aware `datetime` or whole microseconds since 1970, UTC. True and False are numbers only for
    columns of floats.

    Raises:
        PayloadError: it is no number, does not fit the dtype, cannot be stored exactly, or is a time in another unit.
    """
    if dtype == "float64" and type(value) is float:
        return value
    given = value
    try:
        value = _number(value, is_time=dtype == "timestamp")
        if dtype == "float64":
            return _exact(value)
        if dtype == "timestamp" and isinstance(value, datetime):
            if value.tzinfo is None:
                raise TypeError("it has no time zone; give datetime.now(UTC)")
            return (value - EPOCH) // datetime.resolution
        if dtype != "bool" and isinstance(value, bool):
            raise TypeError("True and False are no numbers")
        whole = _whole(value)
        if dtype == "timestamp" and whole in LIKELY_SECONDS:
            raise ValueError("these look like seconds or milliseconds")
        if dtype == "timestamp" and whole in LIKELY_NANOSECONDS:
            raise ValueError("these look like nanoseconds")
    except OSError:  # not from the number: a signal handler that ends a wait raises it (TimeoutError)
        raise
    except Exception as error:  # a foreign number type may raise anything from __float__ or __index__
        detail = " ".join(str(error).split())
        is_time = dtype == "timestamp"
        expected = "whole microseconds since 1970, or a datetime with a time zone" if is_time else f"one {dtype} number"
        raise PayloadError(
            f"{name} must be {expected}, found {type(given).__name__} {short(given)}"
            + (f" ({detail})" if detail else "")
            + (f"; {_HOW_TO_GIVE_A_TIME}" if is_time else "")
        ) from None
    if dtype == "bool":
        if whole not in (0, 1):
            raise PayloadError(f"{name} must be True or False, found {whole}")
        return bool(whole)
    if not -(1 << _INT_BITS[dtype]) <= whole < 1 << _INT_BITS[dtype]:
        raise PayloadError(f"{name} must fit {dtype}, found {whole}")
    return whole


def _number(value: Any, *, is_time: bool) -> Any:
    """The one number that a value is, or holds.

    Raises:
        TypeError: it is text, a time of NumPy, or masked.
    """
    if type(value).__module__.startswith("numpy.ma") and bool(getattr(value, "mask", False)):
        raise TypeError("it is masked")
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "M" and is_time:
        return int(value.astype("datetime64[us]").astype("int64"))
    if kind in ("m", "M"):
        raise TypeError("a time of NumPy has no unit here; give seconds")
    if hasattr(value, "item"):  # NumPy numbers and tensors, which float() would warn of if they have a gradient
        value = value.item()
    if isinstance(value, (str, bytes, bytearray, memoryview)):  # float() would parse their text
        raise TypeError
    return value


def _exact(value: Any) -> float:
    """The value as a float, if that is the same number."""
    number = float(value)
    if not isinstance(value, (float, bool)) and number == number and number != value:
        raise ValueError(f"as a float it would be {number!r}")
    return number


def _whole(value: Any) -> int:
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("not a whole number")
        return int(value)
    return operator.index(value)
