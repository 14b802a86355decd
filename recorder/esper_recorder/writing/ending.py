"""Ends recorders that nobody closed: at garbage collection, at the end of the program, in a forked child."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from traceback import walk_tb
from types import TracebackType
from typing import Any

from esper_recorder.writing.background import BackgroundWriter
from esper_recorder.writing.foreign import describe
from esper_schemas.run.records import EndStatus

COLLECTED = "the recorder was garbage-collected, and was never closed"
NOT_CLOSED = "the process ended without close(); its exit code is not known"
LEFT_OPEN = "learn() did not return: an exception ended it, and nobody closed the run"

_open: set[BackgroundWriter] = set()
_uncaught: list[BaseException] = []
_hook_before: Any = None


def close_when_collected(recorder: object, background: BackgroundWriter) -> None:
    """Close the run when its recorder is garbage-collected, at the latest when the program ends."""
    for other in [other for other in _open if other.is_finished]:
        _open.discard(other)
    _open.add(background)
    weakref.finalize(recorder, background.end_soon, "finished", COLLECTED).atexit = False
    _watch_exceptions()
    _watch_child_process()


def _watch_exceptions() -> None:
    """Note the exception that ends the program. Python does not pass it to functions that run at exit."""
    global _hook_before
    if sys.excepthook is not _note_exception:
        _hook_before = sys.excepthook
        sys.excepthook = _note_exception


def _note_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not _is_session():
        _uncaught[:] = [error]
    _hook_before(kind, error, trace)


def _watch_child_process() -> None:
    """Close runs in a child of multiprocessing too: it skips `atexit`, but runs the finalizers of multiprocessing."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _close_all_of_child, exitpriority=10)


def _close_all() -> None:
    """Close every open run when the program ends, so that it is sealed and says how the program ended."""
    error = _uncaught[0] if _uncaught else _printed_at_the_end()
    _close_each(*ending_of(None if error is None else type(error), error))


def _close_all_of_child() -> None:
    """Close every open run of a child of multiprocessing, which runs this while the exception that ends it is raised.

    A forked child may also be inside a handler of its parent; that exception never came to the foot of the child.
    """
    from multiprocessing.process import BaseProcess

    error = sys.exc_info()[1]
    trace = None if error is None else error.__traceback__
    foot = getattr(BaseProcess, "_bootstrap", None)
    if trace is None or foot is None or trace.tb_frame.f_code is not foot.__code__:
        error = None
    _close_each(*ending_of(None if error is None else type(error), error))


def _close_each(status: EndStatus, reason: str | None) -> None:
    for background in tuple(_open):
        if status == "finished":
            background.close(*(background.if_not_closed or (status, NOT_CLOSED)))
        else:
            background.close(status, reason)
        _open.discard(background)


def _printed_at_the_end() -> BaseException | None:
    """Return the exception that ended the program, as the interpreter keeps it before it calls any `sys.excepthook`.

    Sessions and test runners keep exceptions there too, after which the program goes on: those were caught higher up,
    or come without the traceback that they have themselves.
    """
    error: BaseException | None = getattr(sys, "last_value", None)
    trace = None if error is None else error.__traceback__
    if trace is None or trace.tb_frame.f_back is not None or _is_session():
        return None
    return error if trace is getattr(sys, "last_traceback", None) else None


def _is_session() -> bool:
    """Whether the interpreter goes on after an exception that nobody caught."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def ending_of(kind: type[BaseException] | None, error: BaseException | None) -> tuple[EndStatus, str | None]:
    """Return how an attempt ended, and why, from the exception that ended it; None for none."""
    if kind is None or (isinstance(error, SystemExit) and not error.code):
        return "finished", None
    if issubclass(kind, KeyboardInterrupt):
        return "interrupted", "KeyboardInterrupt"
    handled = _handled_at(error) if isinstance(error, SystemExit) else None
    after = "" if handled is None else f", after {describe(type(handled), handled)}"
    return "failed", describe(kind, error) + after


def _handled_at(error: BaseException) -> BaseException | None:
    """Return the exception whose handler raised this one; None if that handler is further up than this one came."""
    handled = error.__context__
    if handled is None or handled.__traceback__ is None:
        return None
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return handled if handled.__traceback__.tb_frame in frames else None


def _abandon_all_in_child() -> None:
    """Let go of every run in a forked child: runs and locks belong to the parent."""
    for background in tuple(_open):
        background.abandon_in_child()
    _open.clear()
    _uncaught.clear()


os.register_at_fork(after_in_child=_abandon_all_in_child)
atexit.register(_close_all)
