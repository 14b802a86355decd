"""Which updates the chart shows: the whole history, or a part of it that is zoomed, moved, or follows the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

MIN_SPAN = 8
"""The chart never shows fewer updates than this, unless there are fewer."""

_ZOOM = 2.0


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the updates of a run, which goes on growing meanwhile.

    Attributes:
        span: number of updates shown; None for all.
        right: the last of them; None follows the newest.
        cursor: the update at the cursor; None without one.
    """

    span: int | None = None
    right: int | None = None
    cursor: int | None = None

    def limits(self, first: int, last: int) -> tuple[int, int]:
        """First and last update to show, of a run whose updates are `first` to `last` now."""
        if self.span is None or self.span >= last - first + 1:
            return first, last
        right = last if self.right is None else max(first + self.span - 1, min(self.right, last))
        return right - self.span + 1, right

    def zoom(self, first: int, last: int, *, closer: bool) -> Window:
        """Half, or twice, as many updates; what is at the cursor, else at the end, stays where it is."""
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
        """Moved by a share of what is shown: to the later updates if positive."""
        if self.span is None:
            return self
        low, high = self.limits(first, last)
        right = high + round(share * (high - low + 1))
        return replace(self, right=None if right >= last else max(right, first + self.span - 1))

    def move(self, first: int, last: int, steps: int) -> Window:
        """The cursor moved by so many updates, and what is shown with it; it begins at the newest."""
        low, high = self.limits(first, last)
        start = self.cursor if self.cursor is not None else high if steps < 0 else low
        return self.at(first, last, start + (steps if self.cursor is not None else 0))

    def at(self, first: int, last: int, update: int) -> Window:
        """The cursor at an update, which is brought into view."""
        update = max(first, min(update, last))
        low, high = self.limits(first, last)
        if self.span is None or low <= update <= high:
            return replace(self, cursor=update)
        right = update if update > high else update + self.span - 1
        if update < low - self.span or update > high + self.span:  # a jump: with as much before it as after
            right = update + self.span // 2
        return replace(self, cursor=update, right=None if right >= last else right)
