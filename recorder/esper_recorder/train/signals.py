"""Ctrl-C and SIGTERM as an orderly end: noted while training, acted on between steps, never amid a write."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE_SECS = 1.0


class Signals:
    """Which signal asked this process to end, and when that may take effect.

    Outside `deferred` a signal raises KeyboardInterrupt at once. Inside, it is noted for `check` to raise at
    the next safe point; one that comes `PATIENCE_SECS` after the first raises at once, because then no safe
    point seems to come. After `ignore` nothing raises any more, so that an impatient second Ctrl-C cannot
    stop the sealing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._first_at = 0.0
        self._is_deferring = False
        self._is_ignoring = False

    @property
    def name(self) -> str:
        """Name of the signal that arrived first, such as SIGINT."""
        return signal.Signals(self.signum).name if self.signum is not None else ""

    @contextmanager
    def installed(self) -> Iterator[Signals]:
        """Handle SIGINT and SIGTERM inside the block; the handlers before it come back after it."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note a first signal inside the block."""
        self._is_deferring = True
        try:
            yield
        finally:
            self._is_deferring = False

    def ignore(self) -> None:
        """Let no further signal raise."""
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
