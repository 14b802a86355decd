"""Formats numbers for people: values, counts, changes, sizes and durations."""

from __future__ import annotations

import math
from datetime import datetime

from esper_analyzer.measuring.summary import Value

MISSING = "—"


def number(value: Value, decimals: int = 3) -> str:
    """Format a value with so many decimals, or in scientific notation if it is very small or very large."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size != 0.0 and (size < 10**-decimals or size >= 1e6):
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:.{decimals}f}"


def compact(value: Value) -> str:
    """Format a value in at most 8 characters."""
    if isinstance(value, bool) or value is None or isinstance(value, datetime) or not math.isfinite(value):
        return number(value)
    size = abs(value)
    if size != 0.0 and not 1e-3 <= size < 1e5:
        digits = 0 if value < 0.0 and size < 1e-99 else 1
        return f"{value:.{digits}e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    if isinstance(value, int):
        return str(value)
    if size < 1.0:
        return f"{value:.3g}"
    return f"{value:.{max(0, 3 - int(math.log10(size)))}f}"


def rate(per_sec: float) -> str:
    """Format a number of updates per second."""
    return f"{per_sec:.3g}" if per_sec < 1000 else count(round(per_sec))


def percentage(change: float | None) -> str:
    """Format a signed fraction as a percentage, or a large one as a multiple."""
    if change is None:
        return MISSING
    if not math.isfinite(change):
        return "+∞%" if change > 0 else "-∞%"
    if abs(change) < 9.9995:
        return f"{100 * change:+.1f}%"
    return f"{change:+.0f}×" if abs(change) < 1e4 else f"{change:+.0e}×".replace("e+0", "e").replace("e+", "e")


def count(number_of: int) -> str:
    """Format a count in groups of three digits."""
    return f"{number_of:,}".replace(",", " ")


def size(number_of_bytes: int) -> str:
    """Format a number of bytes in the most readable unit."""
    value = float(number_of_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(secs: float) -> str:
    """Format seconds as h:mm:ss."""
    whole = max(0, int(secs))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
