"""Tells whether an exception raised while recording a row came from a value or from a signal handler."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from types import CodeType, FunctionType


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
