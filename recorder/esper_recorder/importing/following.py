"""Following a log while it is written: when to look again, when it is over, and whether its files are still the same.

A reader reads what there is. At the end of that it asks `is_over`: if so, it finishes; if not, it yields "nothing yet",
waits, and reads on. A log that is read once is over from the start, so there is one way to read it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

POLL_SECS = 0.25
"""How often a log is looked at."""

QUIET_SECS = 1.0
"""After this long without anything new, a log is quiet: what belongs together has probably been written."""

GONE_SECS = 5.0
"""A file that is replaced may be missing for a moment. After this long it was removed."""

SETTLED_SECS = 3.0
"""A log that is rewritten is waited for at most so long until it no longer changes: it may grow all the time."""

_COMPARED_BYTES = 4096


class RewrittenError(Exception):
    """A file of the log is not the one that was read so far: the log must be read from its beginning."""


class Following:
    """Decides whether a log may still grow, and waits for it.

    Args:
        is_asked_to_end: Says whether a signal, for example, asks to end.
        until_idle: Seconds without anything new after which the log is over; None to go on until asked to end.
        say: Called with a line for a person.

    Attributes:
        is_over: Whether readers finish at the end of what there is.
        has_caught_up: Whether everything that was there at first has been read.
        on_caught_up: Called once that is so.
        problem: Why the log is over, if that is not as it should be; otherwise empty.
    """

    def __init__(
        self,
        is_asked_to_end: Callable[[], bool],
        *,
        until_idle: float | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.is_over = False
        self.has_caught_up = False
        self.on_caught_up: Callable[[], None] = lambda: None
        self.problem = ""
        self._is_asked_to_end = is_asked_to_end
        self._until_idle = until_idle
        self._say = say
        self._said: set[str] = set()
        self._grew_at = time.monotonic()
        self._gone_since: float | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing new has come for a second."""
        return time.monotonic() - self._grew_at >= QUIET_SECS

    def grew(self) -> None:
        """Note that something new was read."""
        self._grew_at = time.monotonic()

    def say_once(self, line: str) -> None:
        """Say a line to the person, unless it has been said before."""
        if line not in self._said:
            self._said.add(line)
            self._say(line)

    def wait(self) -> None:
        """Note that everything there was has been read; wait until it is time to look again, or the log is over."""
        if not self.has_caught_up:
            self.has_caught_up = True
            self.on_caught_up()
        self.pause()

    def pause(self) -> None:
        """Wait as `wait` does, while some of what was there at first is kept back."""
        if not self._is_asked_to_end():
            time.sleep(POLL_SECS)
        idle = time.monotonic() - self._grew_at
        if self._is_asked_to_end() or (self._until_idle is not None and idle >= self._until_idle):
            self.is_over = True

    def note_gone(self, path: Path) -> None:
        """Note that a file is missing: after `GONE_SECS` the log is over."""
        self._gone_since = self._gone_since or time.monotonic()
        if time.monotonic() - self._gone_since >= GONE_SECS:
            self.end(f"{path} was removed while it was followed")

    def note_there(self) -> None:
        """Note that no file is missing."""
        self._gone_since = None

    def end(self, problem: str) -> None:
        """End because of a problem; what was read is kept."""
        self.problem = self.problem or problem
        self.is_over = True


class ReadOnce(Following):
    """A log that is not followed: it is over from the start."""

    def __init__(self) -> None:
        super().__init__(lambda: True)
        self.is_over = True


READ_ONCE = ReadOnce()


class Watched:
    """One file of a log that is followed; tells whether there may be more of it, and whether it is another one.

    Appending leaves the file, its beginning and the bytes before the place that was read as they were. Anything else
    is a `RewrittenError`: the file was truncated or replaced, or written anew in place, as Stable-Baselines3 does with
    its progress.csv when a key turns up.
    """

    def __init__(self, path: Path, file: BinaryIO, following: Following) -> None:
        self._path = path
        self._file = file
        self._following = following
        self._state = _state_of(os.fstat(file.fileno()))
        self._is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._head = self._tail = b""
        self._read_to = 0

    @property
    def is_over(self) -> bool:
        """Whether the end of this file is the end of the log. What comes through a pipe ends only once."""
        return self._following.is_over or not self._is_regular

    def note_read(self, offset: int) -> None:
        """Note that the file has been read to this offset, and nothing more was there."""
        if self._is_regular:
            self._read_to = offset
            self._head, self._tail = self._around(offset)

    def has_changed(self) -> bool:
        """Whether the file has changed since the last look.

        Raises:
            RewrittenError: what was read is no longer there.
        """
        try:
            there = _state_of(self._path.stat())
        except FileNotFoundError:
            self._following.note_gone(self._path)
            return False
        self._following.note_there()
        if there == self._state:
            return False
        is_same = there[0] == self._state[0] and there[1] >= self._read_to
        if not is_same or self._around(self._read_to) != (self._head, self._tail):
            raise RewrittenError
        self._state = there
        return True

    def _around(self, offset: int) -> tuple[bytes, bytes]:
        """The first bytes of the file, and those before an offset."""
        size = min(offset, _COMPARED_BYTES)
        number = self._file.fileno()
        return os.pread(number, size, 0), os.pread(number, size, offset - size)


def _state_of(found: os.stat_result) -> tuple[tuple[int, int], int, int]:
    return (found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns


def wait_until_settled(path: Path, following: Following) -> None:
    """Wait until a log that is being rewritten has not changed from one look to the next."""
    before, began = None, time.monotonic()
    while not following.is_over and time.monotonic() - began < SETTLED_SECS:
        try:
            now = [_state_of(file.stat()) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        except OSError:
            now = []
        if now and now == before:
            return
        before = now
        following.wait()
