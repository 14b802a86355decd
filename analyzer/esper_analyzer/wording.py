"""How numbers are written for people: values, counts, changes, sizes, durations."""

from __future__ import annotations

import math
from datetime import datetime

from esper_analyzer.measuring.summary import Value

MISSING = "—"


def number(value: Value, decimals: int = 3) -> str:
    """A value with so many decimals; in scientific notation where those would say nothing or too much."""
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
    """A value in at most 8 characters."""
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
    """Updates per second."""
    return f"{per_sec:.3g}" if per_sec < 1000 else count(round(per_sec))


def percentage(change: float | None) -> str:
    """A signed fraction as percentage; a large one as multiple."""
    if change is None:
        return MISSING
    if not math.isfinite(change):
        return "+∞%" if change > 0 else "-∞%"
    if abs(change) < 9.9995:
        return f"{100 * change:+.1f}%"
    return f"{change:+.0f}×" if abs(change) < 1e4 else f"{change:+.0e}×".replace("e+0", "e").replace("e+", "e")


def count(number_of: int) -> str:
    """A count with thin groups of three digits."""
    return f"{number_of:,}".replace(",", " ")


def size(number_of_bytes: int) -> str:
    """Bytes in the unit that reads best."""
    value = float(number_of_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(secs: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(0, int(secs))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
