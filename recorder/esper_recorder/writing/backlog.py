"""The rows that wait for the background to write them, and the callers of `record` that wait for the background."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from esper_recorder.writing.device_capture import PendingRow

PATIENCE_SECS = 5.0
"""How long `record` waits for the background to catch up while the disk answers; see FORMAT.md."""

MAX_WAITING_ROWS = 1000
"""So many rows may wait to be written before `record` waits for them."""

MAX_UNSEALED = 32
"""So many segments may wait to be sealed before `record` waits for them; each is an open file."""


class Backlog:
    """What the background is behind with.

    Whoever uses it holds the lock, except for `resolved`, `fetch` and `note_progress`.

    Args:
        lock: the lock of the recorder.
        buffer_rows: how many rows may wait at most.

    Attributes:
        rows: The rows that wait, the oldest first.
        behind: Whether callers of `record` are to wait.
        done: How many rows were written, and segments sealed, in the background.
    """

    def __init__(self, lock: threading.RLock, buffer_rows: int) -> None:
        self.rows: deque[PendingRow] = deque()
        self.behind = False
        self.done = 0
        self._buffer_rows = buffer_rows
        self._is_waited_for = True  # waiting has not been in vain lately
        self._lock = lock
        self._caught_up = threading.Condition(lock)

    def add(self, row: PendingRow) -> bool:
        """Let a row wait; return False if too many do."""
        if len(self.rows) >= self._buffer_rows:
            return False
        self.rows.append(row)
        self.behind = self.behind or len(self.rows) >= min(self._buffer_rows, MAX_WAITING_ROWS)
        return True

    def resolved(
        self, waiting: Iterable[PendingRow], on_impossible: Callable[[Exception], None]
    ) -> list[dict[str, Any]]:
        """Return rows with everything that was on its way; those that can never be written wait no longer.

        Args:
            waiting: rows that wait.
            on_impossible: called with the error of each row that can never be written.
        """
        rows = []
        for pending in waiting:
            try:
                rows.append(pending.resolve())
            except Exception as error:
                with self._lock:
                    self.rows.remove(pending)
                    on_impossible(error)
        return rows

    def fetch(self) -> None:
        """Fetch what rows still have on the device: its slots are far fewer than the rows that may wait."""
        with self._lock:
            waiting = list(self.rows)
        for pending in waiting:
            pending.fetch_now()

    def note_unsealed(self, segments: int) -> None:
        """So many segments wait to be sealed."""
        self.behind = self.behind or segments >= MAX_UNSEALED

    def note_progress(self, count: int) -> None:
        """The disk answers: so many more rows were written, or segments sealed."""
        self.done += count
        self._is_waited_for = True

    def release_if_caught_up(self, unsealed: int) -> None:
        """Let callers go on if no row and few of the `unsealed` segments are left."""
        if self.behind and not self.rows and unsealed <= MAX_UNSEALED // 2:
            self.behind = False
            self._is_waited_for = True
            self._caught_up.notify_all()

    def release(self) -> None:
        """Let callers look again whether they are to wait: the disk refuses, or the recorder is closed."""
        self._caught_up.notify_all()

    def wait(self, is_worth_it: Callable[[], bool]) -> None:
        """Wait until the background has caught up, or as long as it is worth it.

        Where nothing was written or sealed for `PATIENCE_SECS`, nobody waits any more until something is. Other threads
        may record meanwhile, since the lock is free.
        """
        deadline, done = monotonic() + PATIENCE_SECS, self.done
        while self.behind and self._is_waited_for and is_worth_it():
            if not self._wait_unlocked(max(0.0, deadline - monotonic())) and monotonic() >= deadline:
                self._is_waited_for = self.done > done
                return

    def _wait_unlocked(self, secs: float) -> bool:
        """Wait with the lock free, and hold it again even if a signal handler raises while nobody holds it."""
        try:
            return self._caught_up.wait(secs)
        except BaseException:
            with suppress(RuntimeError):
                self._lock.release()  # an RLock says whether it is held in no other way
            self._lock.acquire()
            raise

    def abandon(self, lock: threading.RLock) -> None:
        """In a forked child: nobody waits. The rows stay, since tensors of a device may not be freed there."""
        self.behind = False
        self._lock = lock
        self._caught_up = threading.Condition(lock)
