"""`sparkline`: the shape of a few values as a row of blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable

BLOCKS = "▁▂▃▄▅▆▇█"
NOT_FINITE = "!"
"""The mark for NaN and infinities."""

ABSENT = " "
"""The mark for null."""


def sparkline(values: Iterable[float | None]) -> str:
    """Return one character for each value, from the lowest block for the smallest to the highest for the largest.

    Constant values get the middle block, NaN and infinities a `!`, nulls a blank. No values return an empty string.
    """
    values = list(values)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_block(value, low, high) for value in values)


def _block(value: float | None, low: float, high: float) -> str:
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return NOT_FINITE
    if low == high:
        return BLOCKS[len(BLOCKS) // 2 - 1]
    share = (value - low) / (high - low) if math.isfinite(high - low) else (value / 2 - low / 2) / (high / 2 - low / 2)
    return BLOCKS[min(len(BLOCKS) - 1, int(share * len(BLOCKS)))]
