"""Exceptions of code that is not ours: what they say, and whether a signal handler raised them."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from types import CodeType, FunctionType


def describe(kind: type[BaseException], error: BaseException | None) -> str:
    """Describe an exception in one line, with its text if that can be read."""
    text = "" if error is None else _text_of(error)
    return f"{kind.__name__}: {text}" if text else kind.__name__


def _text_of(error: BaseException) -> str:
    """Return the text of an exception in one line, or an empty text if it cannot be read."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


def is_of_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler raised an exception. Such an exception must not be swallowed.

    A handler runs in the middle of the main thread's code, so its frame is in the traceback.
    """
    codes = set(_handler_codes())
    trace = error.__traceback__ if codes else None
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _handler_codes() -> Iterator[CodeType]:
    """Yield the code of every signal handler that is written in Python."""
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        handler = getattr(handler, "__func__", handler)  # the function of a bound method
        if not isinstance(handler, FunctionType) and callable(handler):
            handler = vars(type(handler)).get("__call__")
        if isinstance(handler, FunctionType):
            yield handler.__code__
