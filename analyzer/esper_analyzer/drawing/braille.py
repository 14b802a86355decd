"""Small charts of a few cells: the extremes of a metric over its history, in braille dots or, in ASCII, in blocks."""

from __future__ import annotations

import math

from esper_analyzer.drawing.sparklines import NOT_FINITE, sparkline
from esper_analyzer.measuring.buckets import Buckets

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row from the top, then by column


def small_chart(buckets: Buckets, width: int, height: int, *, unicode: bool = True) -> list[str]:
    """Draw the whole history from left to right in `height` lines of `width` characters.

    Each column of dots shows the smallest and the largest value of its updates, joined to its neighbours. A `!` in
    the top line marks a cell with a value that is not finite. In ASCII, the chart shows only the largest values.
    """
    if not buckets.frame.height or width < 1:
        return [" " * width] * height
    columns = _columns(buckets, 2 * width)
    if not unicode:
        largest = [_largest(columns[2 * cell : 2 * cell + 2]) for cell in range(width)]
        return [" " * width] * (height - 1) + [sparkline(largest)]
    finite = [bound for column in columns if column is not None for bound in column if math.isfinite(bound)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = 4 * height - 1
    cells = [[0] * width for _ in range(height)]
    marked = set()
    before: tuple[int, int] | None = None
    for x, column in enumerate(columns):
        if column is None:
            continue
        if not math.isfinite(column[0]):
            marked.add(x // 2)
            before = None
            continue
        bottom, top = (_place(value, low, high, scale) for value in column)
        if before is not None:  # close the gap to the column before
            bottom, top = min(bottom, before[1] + 1), max(top, before[0] - 1)
        before = tuple(_place(value, low, high, scale) for value in column)  # type: ignore[assignment]
        for y in range(bottom, top + 1):
            row = scale - y
            cells[row // 4][x // 2] |= _DOTS[row % 4][x % 2]
    lines = [[chr(0x2800 + cell) if cell else " " for cell in row] for row in cells]
    for cell in marked:
        lines[0][cell] = NOT_FINITE
    return ["".join(line) for line in lines]


def _place(value: float, low: float, high: float, scale: int) -> int:
    if low == high:
        return scale // 2
    share = (value - low) / (high - low) if math.isfinite(high - low) else (value / 2 - low / 2) / (high / 2 - low / 2)
    return round(share * scale)


def _columns(buckets: Buckets, count: int) -> list[tuple[float, float] | None]:
    """Return the extremes of each column: NaN if a value is not finite, None if nothing was measured.

    Fewer buckets than columns fill the left end, one column each.
    """
    frame = buckets.folded(count)
    first, last = int(frame["first"][0]), int(frame["last"][-1])
    span = max(last - first + 1, count)
    extremes: list[tuple[float, float] | None] = [None] * count
    for start, end, low, high, broken in frame.select("first", "last", "min", "max", "nonfinite").iter_rows():
        column = ((start + end) // 2 - first) * count // span
        before = extremes[column]
        if broken or (before is not None and math.isnan(before[0])):
            extremes[column] = (math.nan, math.nan)
        elif before is None:
            extremes[column] = (low, high)
        else:
            extremes[column] = (min(before[0], low), max(before[1], high))
    return extremes


def _largest(columns: list[tuple[float, float] | None]) -> float | None:
    largest = [column[1] for column in columns if column is not None]
    if any(math.isnan(value) for value in largest):
        return math.nan
    return max(largest, default=None)
