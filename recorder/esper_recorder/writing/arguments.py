"""Checks what a caller passes to `Recorder.open` and `close`, so that every reader accepts what is stored of it."""

from __future__ import annotations

import operator
import os
from typing import Any, get_args

import numpy as np

from esper_recorder.writing.config_values import as_json
from esper_recorder.writing.foreign import describe
from esper_schemas.cleaning import short
from esper_schemas.errors import UsageError
from esper_schemas.run.records import EndStatus, ValueLossDefinition


def whole(name: str, value: object) -> int:
    """Return a whole number of any integer type as an `int`.

    Raises:
        UsageError: it is anything else; True and False are no numbers.
    """
    plain = _whole(value)
    if plain is None:
        raise UsageError(f"{name} must be a whole number, found {_found(value)}")
    return plain


def _whole(value: Any) -> int | None:
    is_bool = isinstance(value, (bool, np.bool_)) or "bool" in str(getattr(value, "dtype", ""))
    try:
        return None if is_bool else operator.index(value)
    except Exception:  # a foreign type may raise anything
        return None


def secs(name: str, value: Any) -> float:
    """Return a number of seconds as a `float`.

    Raises:
        UsageError: it is no number.
    """
    try:
        if not isinstance(value, (str, bytes, bool)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{name} must be a number of seconds, found {_found(value)}")


def flag(name: str, value: object) -> bool:
    """Return True or False; 1 and 0 stand for them.

    Raises:
        UsageError: it is anything else.
    """
    if not isinstance(value, (bool, np.bool_, int)) or value not in (0, 1):
        raise UsageError(f"{name} must be True or False, found {_found(value)}")
    return bool(value)


def hook(value: object) -> None:
    """Check that `on_update` can be called.

    Raises:
        UsageError: it cannot.
    """
    if value is not None and not callable(value):
        raise UsageError(f"on_update must be a function that takes a row, or None, found {_found(value)}")


def root_path(root: object) -> str:
    """Return the path of the folder of runs.

    Raises:
        UsageError: it is no path.
    """
    try:
        path = os.fspath(root)  # type: ignore[call-overload]
    except TypeError:
        path = None
    if not isinstance(path, str) or "\0" in path:
        raise UsageError(f"root must be the path of a folder, such as 'runs', found {_found(root)}")
    return path


def definition(value: object) -> ValueLossDefinition | None:
    """Check the definition of the value loss.

    Raises:
        UsageError: it is no `ValueLossDefinition`.
    """
    if value is not None and not isinstance(value, ValueLossDefinition):
        raise UsageError(
            "value_loss_definition must be a ValueLossDefinition, such as ValueLossDefinition(factor=0.5), or None,"
            f" found {_found(value)}"
        )
    return value


def name_of_device(device: object) -> str | None:
    """Return the name of a device. A number N is `cuda:N`, as PyTorch takes it.

    Raises:
        UsageError: it has no name.
    """
    index = _whole(device)
    return as_text("device", device) if index is None or index < 0 else f"cuda:{index}"


def name_of_env(env: Any) -> str | None:
    """Return the name of an environment: of one of Gymnasium, or of its spec, the id.

    Raises:
        UsageError: it has no name.
    """
    try:
        name = getattr(getattr(env, "spec", None) or env, "id", None)
    except Exception:  # an object of a caller may raise anything
        name = None
    return as_text("env", name if isinstance(name, str) else env)


def as_text(name: str, value: Any) -> str | None:
    """Return the text that the header stores of an object.

    Raises:
        UsageError: it is a number, bytes or a container, which says nothing without its meaning.
    """
    if value is None or isinstance(value, str):
        return value
    try:
        if isinstance(as_json(value), str) and not isinstance(value, (bytes, bytearray, float)):
            return str(value)
    except Exception:  # the same
        pass
    raise UsageError(f"{name} must be text, found {_found(value)}; give its name, or leave it out")


def ending(status: object, reason: object) -> tuple[EndStatus, str | None]:
    """Return how an attempt ended, and why in one line; an exception is described by its type and its text.

    Raises:
        UsageError: there is no such status.
    """
    for known in get_args(EndStatus):
        if isinstance(status, str) and status == known:
            return known, reason_of(reason)
    raise UsageError(f"status must be 'finished', 'failed' or 'interrupted', found {_found(status)}")


def reason_of(reason: object) -> str | None:
    """Return any object as one line of text; None stays None."""
    if reason is None or isinstance(reason, str):
        return reason
    if isinstance(reason, BaseException):
        return describe(type(reason), reason)
    try:
        return " ".join(str(reason).split())
    except Exception:  # the text of an object may raise anything
        return short(reason)


def _found(value: object) -> str:
    return f"{type(value).__name__} {short(value)}" if value is not None else "None"
