"""How tests wait: for what is to happen, within a bound that only ends what hangs.

How long anything takes is no matter of a test: beside other work a process may not run for seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

HANG_SECS = 300.0
"""Whatever has not happened by then never will."""

PATIENT = f"""
import esper_recorder.writing.background, esper_recorder.recorder
for module in (esper_recorder.writing.background, esper_recorder.recorder):
    module.SLOW_WRITE_SECS = {HANG_SECS}
esper_recorder.writing.background.WAIT_SECS = {HANG_SECS}
"""
"""Beginning of a script whose rows are acknowledged however long a write takes; in the tests' own process, a fixture
sees to that."""


def wait_until(condition: Callable[[], bool], otherwise: str = "it did not happen") -> None:
    """Wait until something is so; AssertionError with the text `otherwise` where it hangs."""
    deadline = time.monotonic() + HANG_SECS
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.005)
