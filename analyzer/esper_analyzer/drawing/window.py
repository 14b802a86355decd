"""The updates in the chart: the whole history, or a zoomed part that moves or follows the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

MIN_SPAN = 8
"""The chart shows at least this many updates, if there are as many."""

_ZOOM = 2.0


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the updates of a run that may still be growing.

    Attributes:
        span: number of updates to show; None for all.
        right: the last update to show; None follows the newest.
        cursor: the update at the cursor; None without a cursor.
    """

    span: int | None = None
    right: int | None = None
    cursor: int | None = None

    def limits(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last update to show of a run that has the updates `first` to `last` now."""
        if self.span is None or self.span >= last - first + 1:
            return first, last
        right = last if self.right is None else max(first + self.span - 1, min(self.right, last))
        return right - self.span + 1, right

    def zoom(self, first: int, last: int, *, closer: bool) -> Window:
        """Show half or twice as many updates. The update at the cursor, or else the last one, stays in place."""
        low, high = self.limits(first, last)
        shown, whole = high - low + 1, last - first + 1
        span = round(shown / _ZOOM if closer else shown * _ZOOM)
        span = max(min(MIN_SPAN, whole), span)
        if span >= whole:
            return replace(self, span=None, right=None)
        if self.cursor is None or not low <= self.cursor <= high:
            return replace(self, span=span, right=None if high == last else high)
        right = self.cursor + round((high - self.cursor) * span / shown)
        return replace(self, span=span, right=None if right >= last else right)

    def pan(self, first: int, last: int, share: float) -> Window:
        """Move by a share of the updates shown, to later ones if positive."""
        if self.span is None:
            return self
        low, high = self.limits(first, last)
        right = high + round(share * (high - low + 1))
        return replace(self, right=None if right >= last else max(right, first + self.span - 1))

    def move(self, first: int, last: int, steps: int) -> Window:
        """Move the cursor by this many updates, and the window with it. A new cursor starts at an edge in view."""
        low, high = self.limits(first, last)
        start = self.cursor if self.cursor is not None else high if steps < 0 else low
        return self.at(first, last, start + (steps if self.cursor is not None else 0))

    def at(self, first: int, last: int, update: int) -> Window:
        """Move the cursor to an update and bring it into view."""
        update = max(first, min(update, last))
        low, high = self.limits(first, last)
        if self.span is None or low <= update <= high:
            return replace(self, cursor=update)
        right = update if update > high else update + self.span - 1
        if update < low - self.span or update > high + self.span:  # after a jump, centre the window on it
            right = update + self.span // 2
        return replace(self, cursor=update, right=None if right >= last else right)
