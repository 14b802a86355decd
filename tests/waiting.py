"""How tests wait: for what is to happen, within a bound that only ends what hangs.

How long anything takes is no matter of a test: beside other work a process may not run for seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

HANG_SECS = 300.0
"""Whatever has not happened by then never will."""

_CALLER = ("esper_recorder.writing.planned", "esper_recorder.writing.unplanned")
_THREAD = "esper_recorder.writing.disk_health"
"""The modules that compare the time of a write with `SLOW_WRITE_SECS`."""

_BLACK_BOX_WAIT = "esper_recorder.writing.background"

PATIENT = f"""
import {", ".join((*_CALLER, _THREAD, _BLACK_BOX_WAIT))}
for module in ({", ".join((*_CALLER, _THREAD))}):
    module.SLOW_WRITE_SECS = {HANG_SECS}
{_BLACK_BOX_WAIT}.WAIT_SECS = {HANG_SECS}
"""
"""Beginning of a script whose rows are acknowledged however long a write takes; in the tests' own process, a fixture
sees to that."""


def set_slow_write_secs(patch: pytest.MonkeyPatch, secs: float, *, of_thread: bool = True) -> None:
    """Take writes that last longer for slow, of the background too if `of_thread`; below 0, every write is slow."""
    for module in (*_CALLER, *([_THREAD] if of_thread else [])):
        patch.setattr(f"{module}.SLOW_WRITE_SECS", secs)


def wait_until(condition: Callable[[], bool], otherwise: str = "it did not happen") -> None:
    """Wait until something is so; AssertionError with the text `otherwise` where it hangs.

    It looks less often the longer it waits, and leaves the processor to what it waits for.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < HANG_SECS, otherwise
        time.sleep(min(0.2, max(0.005, waited / 20)))
