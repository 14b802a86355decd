"""Ends recorders that nobody closed: at garbage collection, at the end of the program, in a forked child."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from types import TracebackType
from typing import Any

from esper_recorder.writing.background import BackgroundWriter
from esper_recorder.writing.foreign import describe
from esper_schemas.run.records import EndStatus

COLLECTED = "the recorder was garbage-collected, and was never closed"
NOT_CLOSED = "the process ended without close(); its exit code is not known"

_open: set[BackgroundWriter] = set()
_uncaught: list[tuple[type[BaseException], BaseException]] = []
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
    if not hasattr(sys, "ps1") and not sys.flags.interactive:  # otherwise the interpreter goes on
        _uncaught[:] = [(kind, error)]
    _hook_before(kind, error, trace)


def _watch_child_process() -> None:
    """Close runs in a child of multiprocessing too: it skips `atexit`, but runs the finalizers of multiprocessing."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _close_all, exitpriority=10)


def _close_all() -> None:
    """Close every open run when the program ends, so that it is sealed and says how the program ended."""
    status: EndStatus = "finished"
    reason = NOT_CLOSED
    for kind, error in _uncaught:
        is_interrupt = issubclass(kind, KeyboardInterrupt)
        status, reason = ("interrupted", kind.__name__) if is_interrupt else ("failed", describe(kind, error))
    for background in tuple(_open):
        background.close(status, reason)
        _open.discard(background)


def ending_of(kind: type[BaseException] | None, error: BaseException | None) -> tuple[EndStatus, str | None]:
    """Return how an attempt ended, and why, from the exception that ended it; None for none."""
    if kind is None or (isinstance(error, SystemExit) and not error.code):
        return "finished", None
    if issubclass(kind, KeyboardInterrupt):
        return "interrupted", "KeyboardInterrupt"
    return "failed", describe(kind, error)


def _abandon_all_in_child() -> None:
    """Let go of every run in a forked child: runs and locks belong to the parent."""
    for background in tuple(_open):
        background.abandon_in_child()
    _open.clear()
    _uncaught.clear()


os.register_at_fork(after_in_child=_abandon_all_in_child)
atexit.register(_close_all)
