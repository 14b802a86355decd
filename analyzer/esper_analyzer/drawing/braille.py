"""Small charts of a few cells: the extremes of a metric over its history, in braille dots or, in ASCII, in blocks."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from esper_analyzer.drawing.sparklines import NOT_FINITE, sparkline
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.places import BY_UPDATE, Ruler

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row from the top, then by column
_SEEN, _MUCH = 3.0, 5.0  # a gap is wider than so many columns, and so many times as wide as usual


def small_chart(
    buckets: Buckets, width: int, height: int, *, unicode: bool = True, ruler: Ruler = BY_UPDATE
) -> list[str]:
    """Draw the whole history from left to right in `height` lines of `width` characters, by the axis of `ruler`.

    Each column of dots shows the smallest and the largest value of its updates, joined to its neighbours. A `!` in
    the top line marks a cell with a value that is not finite. In ASCII, the chart shows only the largest values.
    """
    if not buckets.frame.height or width < 1:
        return [" " * width] * height
    columns = _columns(buckets, 2 * width, ruler)
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


def _columns(buckets: Buckets, count: int, ruler: Ruler) -> list[tuple[float, float] | None]:
    """Return the extremes of each column: NaN if a value is not finite, None if nothing was measured.

    The first update is in the first column and the last one in the last. Where there are fewer updates than columns,
    the columns between two of them are on a line, unless the gap is much wider than usual.
    """
    frame = buckets.folded(count)
    places = ruler.all_at(((frame["first"] + frame["last"]) / 2).to_numpy())
    start, end = ruler.at(frame["first"][0]), ruler.at(frame["last"][-1])
    at = np.rint((places - start) / ((end - start) or 1.0) * (count - 1)).astype(np.int64).tolist()
    extremes: list[tuple[float, float] | None] = [None] * count
    for column, (low, high, broken) in zip(at, frame.select("min", "max", "nonfinite").iter_rows(), strict=True):
        before = extremes[column]
        if broken or (before is not None and math.isnan(before[0])):
            extremes[column] = (math.nan, math.nan)
        elif before is None:
            extremes[column] = (low, high)
        else:
            extremes[column] = (min(before[0], low), max(before[1], high))
    widest = max(_SEEN, _MUCH * float(np.median(np.diff(at)))) if len(at) > 1 else 0.0
    for left, right in pairwise(at):
        if 1 < right - left <= widest:
            _join(extremes, left, right)
    return extremes


def _join(extremes: list[tuple[float, float] | None], left: int, right: int) -> None:
    """Draw a line between two columns through the middles of their extremes, if both are finite."""
    begin, end = extremes[left], extremes[right]
    if begin is None or end is None or math.isnan(begin[0]) or math.isnan(end[0]):
        return
    first, last = (low / 2 + high / 2 for low, high in (begin, end))
    for column in range(left + 1, right):
        share = (column - left) / (right - left)
        value = min(max((1.0 - share) * first + share * last, min(first, last)), max(first, last))
        extremes[column] = (value, value)


def _largest(columns: list[tuple[float, float] | None]) -> float | None:
    largest = [column[1] for column in columns if column is not None]
    if any(math.isnan(value) for value in largest):
        return math.nan
    return max(largest, default=None)
