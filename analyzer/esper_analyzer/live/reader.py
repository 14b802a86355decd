"""The thread that reads a run for a screen, so that keys and redraws never wait for a file or for the judge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from polars.exceptions import PanicException

from esper_analyzer.live.feed import Feed
from esper_analyzer.live.picture import Picture

_PICTURES_SECS = 0.25
"""Interval between pictures while there is work left."""

_DRAW_SECS = 0.05

LONG_FACTOR = 4
"""A long run is read this many times less often, because one more row hardly changes its picture."""


class Reader:
    """Makes pictures of a run in its own thread until it is stopped.

    Args:
        make: makes the feed; called in the thread, because it reads the run's files.
        interval: seconds between looks at the run; four times as long for runs of 4,096 rows or more.
        tell: called in the thread when there is a new `picture`, or an `error` that ended the reading.

    Attributes:
        feed: the feed, once it has been made.
        picture: the newest picture.
        error: the error that ended the reading.
    """

    def __init__(self, make: Callable[[], Feed], interval: float, tell: Callable[[Reader], object]) -> None:
        self.feed: Feed | None = None
        self.picture: Picture | None = None
        self.error: BaseException | None = None
        self._make, self._interval, self._tell = make, interval, tell
        self._wake = threading.Event()
        self._is_stopped = False
        self._lock = threading.Lock()
        self._detail: tuple[str, int, int | None] | None = None
        self._row: tuple[int | None] | None = None
        self._pinned: tuple[str, ...] | None = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """Stop the thread; with `wait`, wait up to 10 seconds for it to finish what it is reading."""
        self._is_stopped = True
        self._wake.set()
        if wait and self._thread.ident is not None:
            self._thread.join(10.0)

    @property
    def is_alive(self) -> bool:
        """Whether the thread is still running."""
        return self._thread.is_alive()

    def ask_detail(self, metric: str, first: int, last: int | None) -> None:
        """Request a part of a metric's course; a newer request replaces it."""
        with self._lock:
            self._detail = (metric, first, last)
        self._wake.set()

    def ask_row(self, update: int | None) -> None:
        """Request the values of one update; a newer request replaces it."""
        with self._lock:
            self._row = (update,)
        self._wake.set()

    def ask_pinned(self, metrics: tuple[str, ...]) -> None:
        """Request the whole course of these metrics, and no longer that of others; a newer request replaces it."""
        with self._lock:
            self._pinned = metrics
        self._wake.set()

    def wake(self) -> None:
        """Look at the run now."""
        self._wake.set()

    def _run(self) -> None:
        feed = None
        try:
            self.feed = feed = self._make()
            self._show(feed)
            self._follow(feed)
        except (Exception, PanicException) as error:  # raised again where the screen was started
            self.error = error
            self._tell(self)
        finally:
            if feed is not None:
                feed.close()

    def _show(self, feed: Feed) -> None:
        self.picture = feed.picture()
        if not self._is_stopped:
            self._tell(self)

    def _follow(self, feed: Feed) -> None:
        shown = time.monotonic()
        is_behind = changed = False
        while not self._is_stopped:
            began = time.monotonic()
            asked = self._answer(feed)
            changed = feed.look() or changed
            worked = feed.work()
            is_late = time.monotonic() - shown >= _PICTURES_SECS
            if asked or (worked and is_late) or (not worked and (changed or is_behind)):
                self._show(feed)
                shown, changed = time.monotonic(), False
                if worked:  # let the screen draw before the next step of work takes the processor
                    self._wake.wait(_DRAW_SECS)
            is_behind = worked
            if not worked:
                interval = self._interval * (LONG_FACTOR if feed.is_long else 1)
                self._wake.wait(max(0.0, interval - (time.monotonic() - began)))
            self._wake.clear()

    def _answer(self, feed: Feed) -> bool:
        """Answer the requests; return whether there were any."""
        with self._lock:
            detail, row, pinned = self._detail, self._row, self._pinned
            self._detail = self._row = self._pinned = None
        if detail is not None:
            feed.read_detail(*detail)
        if row is not None:
            feed.read_row(*row)
        if pinned is not None:
            feed.read_pinned(pinned)
        return detail is not None or row is not None or pinned is not None
