"""The thread that reads a run for a screen, so that no key and no redraw ever waits for a file or for the judge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from polars.exceptions import PanicException

from esper_analyzer.live.feed import Feed
from esper_analyzer.live.picture import Picture

_PICTURES_SECS = 0.25
"""While there is work left, its progress is shown this often."""

_DRAW_SECS = 0.05

LONG_FACTOR = 4
"""A run of many rows is looked at so many times less often: one row more hardly changes its picture."""


class Reader:
    """Makes pictures of a run in a thread of its own, until it is stopped.

    Args:
        make: makes the feed; called in the thread, since that looks at the run's files.
        interval: seconds between looks at the run; four times as long where it has more than 4,096 rows.
        tell: told, in the thread, that there is a new `picture`, or an `error` that ended the reading.

    Attributes:
        feed: the feed, once it is there.
        picture: the newest picture.
        error: what ended the reading.
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
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """End, and wait for the end of what is being read if so wanted."""
        self._is_stopped = True
        self._wake.set()
        if wait and self._thread.ident is not None:
            self._thread.join(10.0)

    @property
    def is_alive(self) -> bool:
        """Whether it has not come to its end yet."""
        return self._thread.is_alive()

    def ask_detail(self, metric: str, first: int, last: int | None) -> None:
        """Have a part of a metric's course read; only the newest such wish counts."""
        with self._lock:
            self._detail = (metric, first, last)
        self._wake.set()

    def ask_row(self, update: int | None) -> None:
        """Have the values of one update read; only the newest such wish counts."""
        with self._lock:
            self._row = (update,)
        self._wake.set()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def _run(self) -> None:
        feed = None
        try:
            self.feed = feed = self._make()
            self._show(feed)
            self._follow(feed)
        except (Exception, PanicException) as error:  # whatever it is, it is raised where the screen was started
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
                if worked:  # let it be drawn before the next piece of work takes the processor
                    self._wake.wait(_DRAW_SECS)
            is_behind = worked
            if not worked:
                interval = self._interval * (LONG_FACTOR if feed.is_long else 1)
                self._wake.wait(max(0.0, interval - (time.monotonic() - began)))
            self._wake.clear()

    def _answer(self, feed: Feed) -> bool:
        """Do what was asked for."""
        with self._lock:
            detail, row = self._detail, self._row
            self._detail = self._row = None
        if detail is not None:
            feed.read_detail(*detail)
        if row is not None:
            feed.read_row(*row)
        return detail is not None or row is not None
