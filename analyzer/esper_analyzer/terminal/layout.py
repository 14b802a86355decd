"""The size of each panel for each size of the screen, in the application and in a printed frame."""

from __future__ import annotations

from dataclasses import dataclass

HEADING_HEIGHT = 2

_SIDE_WIDTH, _SMALL_HEIGHT = 56, 3


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of the panels in cells, from the top down; 0 if a panel does not fit. The chart takes the rest.

    Attributes:
        verdict: lines of the verdict, below the heading.
        side: width of the small charts beside the main one.
        is_short: whether the line for the values at the cursor is missing below the chart.
        is_stacked: whether the alerts are below the numbers rather than beside them.
        numbers, alerts: width and lines of the numbers and the alerts, below the chart.
        small: lines of the small charts at the bottom.
    """

    verdict: int
    side: int
    is_short: bool
    is_stacked: bool
    numbers: tuple[int, int]
    alerts: tuple[int, int]
    small: int

    @property
    def below(self) -> int:
        """Lines of numbers and alerts together."""
        return self.numbers[1] + self.alerts[1] if self.is_stacked else self.numbers[1]

    @classmethod
    def of(cls, width: int, height: int, *, is_calm: bool, has_return: bool) -> Layout:
        """Return the layout for a screen of this size.

        Args:
            width, height: cells of the screen.
            is_calm: whether the whole verdict fits one line.
            has_return: whether the numbers have a line for the return.
        """
        more = int(has_return)
        is_tall = width >= 100 and height >= 45
        is_wide = width >= 150 and height >= 30
        is_stacked = width < 100 or height < 30
        if is_stacked:
            numbers = width, (5 if height >= 16 else 3) + more
            alerts = width, 2 if height >= 24 else 1 if height >= 20 else 0
        else:
            numbers = 100 if is_wide and width >= 180 else 80 if is_wide else 58, (14 if is_tall else 8) + more
            alerts = width - numbers[0], numbers[1]
        verdict = 4 if is_tall or width < 80 else 3
        if height < 20:
            verdict = 2 if height >= 16 else 1
        return cls(
            verdict=1 if is_calm and not is_tall else verdict,
            side=_SIDE_WIDTH if is_wide else 0,
            is_short=height < 24,
            is_stacked=is_stacked,
            numbers=numbers,
            alerts=alerts,
            small=0 if is_stacked or is_wide else _SMALL_HEIGHT,
        )
