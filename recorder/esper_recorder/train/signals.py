"""Turns Ctrl-C and SIGTERM into an orderly end: a signal is noted, and takes effect between steps, never in a write."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

PATIENCE_SECS = 1.0


class Signals:
    """The signal that asked this process to end, and when it may take effect.

    Outside `deferred` a signal raises KeyboardInterrupt at once. Inside, it is noted, and `check` raises at the next
    safe point. A signal that comes `PATIENCE_SECS` after the first raises at once, because the process seems to be
    stuck. After `ignore` no signal raises, so an impatient second Ctrl-C cannot stop the sealing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._first_at = 0.0
        self._is_deferring = False
        self._is_ignoring = False

    @property
    def name(self) -> str:
        """Name of the first signal, such as SIGINT; empty if there was none."""
        return signal.Signals(self.signum).name if self.signum is not None else ""

    @contextmanager
    def installed(self) -> Iterator[Signals]:
        """Handle SIGINT and SIGTERM inside the block, and restore the previous handlers after it."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Note a signal inside the block without raising it."""
        self._is_deferring = True
        try:
            yield
        finally:
            self._is_deferring = False

    def ignore(self) -> None:
        """Ignore all further signals."""
        self._is_ignoring = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal was noted."""
        if self.signum is not None:
            raise KeyboardInterrupt

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            self._first_at = time.monotonic()
        is_stuck = time.monotonic() - self._first_at > PATIENCE_SECS
        if not self._is_ignoring and (is_stuck or not self._is_deferring):
            raise KeyboardInterrupt


def end_with_input() -> None:
    """Send this process SIGTERM when standard input ends, which a parent that holds the other end of it does by dying.

    Raises:
        OSError: standard input is closed already.
    """
    number = sys.stdin.fileno() if sys.stdin is not None else 0
    os.fstat(number)

    def watch() -> None:
        with suppress(OSError):
            while os.read(number, 65536):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-input", daemon=True).start()
