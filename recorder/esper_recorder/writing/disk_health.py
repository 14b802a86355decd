"""How well the disk does: what the recorder saw of it last, and when it takes it to be slow or in trouble."""

from __future__ import annotations

SLOW_WRITE_SECS = 0.05
"""After a write slower than this, writing moves to the background until the disk is healthy again."""

_SLOW_WRITES = 3  # in a row, until the disk is taken to be slow: one may have waited for a processor, or for the GIL


class DiskHealth:
    """What the last writes of a recorder were like.

    Attributes:
        is_failing: The last write in the background did not succeed.
        cannot_seal: The last segment could not be sealed.
        refuses_black_boxes: The last black box could not be written.
    """

    def __init__(self) -> None:
        self.is_failing = False
        self.cannot_seal = False
        self.refuses_black_boxes = False
        self._slow_writes = 0  # in a row, as far as the background saw

    def note_write(self, secs: float) -> None:
        """A write in the background took so long."""
        self._slow_writes = 0 if secs <= SLOW_WRITE_SECS else self._slow_writes + 1

    def note_slow_write(self) -> None:
        """A caller of `record` had to wait for the disk, or was refused by it."""
        self._slow_writes += 1

    @property
    def is_well(self) -> bool:
        """Whether callers of `record` may write themselves."""
        return self._slow_writes < _SLOW_WRITES and not self.is_failing

    @property
    def is_in_trouble(self) -> bool:
        """Whether it refused something that is to be tried again."""
        return self.is_failing or self.cannot_seal or self.refuses_black_boxes
