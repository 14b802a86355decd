"""Words and numbers for people: values, changes, trends, levels, thresholds, counts, sizes and durations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from esper_analyzer.measuring.summary import Value
from esper_analyzer.measuring.trends import Trend
from esper_analyzer.reading.gaps import Range, missing_updates
from esper_schemas.metric.catalogue import DECLARED, LOSS_RATIO
from esper_schemas.metric.metrics import DEFAULT_TREND_THRESHOLD, Bands, Level, Limit

MISSING = "—"

ADVISORY = "advisory"
"""What people read instead of `warning` or `critical` beside Lv/Lp, which decides nothing."""

LIKELY = 0.5
"""Below this confidence the values of a large change do not move one way, so it is neither rising nor falling."""


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


def listed(names: Sequence[str], most: int) -> str:
    """Name some things, for example "a, b and 3 more" of which `most` is 2."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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


def missing(ranges: Sequence[Range], stride: int, most: int) -> str:
    """Name the updates that are missing in this stride, of the first ranges, for example "10 to 12, 15, …"."""
    ends = (missing_updates(one, stride) for one in ranges[:most])
    named = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in ends)
    return named + ", …" * (len(ranges) > most)


def rate(per_sec: float) -> str:
    """Format a number of updates per second."""
    return f"{per_sec:.3g}" if per_sec < 1000 else count(round(per_sec))


def percentage(change: float | None) -> str:
    """Format a signed fraction as a short percentage, or a large one as a multiple."""
    if change is None:
        return MISSING
    if not math.isfinite(change):
        return "+∞%" if change > 0 else "-∞%"
    if abs(change) < 9.995:
        return f"{100 * change:+.{int(abs(change) < 0.0995)}f}%".replace("-0.0%", "+0.0%")
    return f"{change:+.0f}×" if abs(change) < 999.5 else f"{change:+.0e}×".replace("e+0", "e").replace("e+", "e")


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


@dataclass(frozen=True, slots=True)
class TrendWords:
    """A trend as people read it. Without a trend every text is empty.

    Attributes:
        full: arrow, change, direction and whether that is better, as in `▲ +135% rising, worse`.
        narrow: arrow, change and the word that says most, as in `▲ +135% worse`.
        short: arrow and that word, as in `▲ worse`, in at most 10 characters.
        sure: confidence that it rises or falls, as in `99%`; empty if it does neither.
        tone: `better`, `worse` or `broken`, which have colours; else empty.
    """

    full: str = ""
    narrow: str = ""
    short: str = ""
    sure: str = ""
    tone: Literal["better", "worse", "broken", ""] = ""


def trend_words(metric: str, trend: Trend) -> TrendWords:
    """Return the words for a trend of a metric. All screens, pages and lines have them from here.

    A change that reaches the metric's threshold is `rising` or `falling`, and `better` or `worse` if the metric has a
    better direction. It is `unsteady` if the values do not move one way: if it is less than `LIKELY`, or if it is no
    trend by its label. Any smaller change is `steady`.
    """
    if trend.label == "broken":
        return TrendWords("✗ not finite", "✗ not finite", "✗ broken", tone="broken")
    if trend.label == "unknown" or trend.change is None:
        return TrendWords()
    change = percentage(trend.change)
    threshold = DECLARED[metric].trend_threshold if metric in DECLARED else None
    is_large = trend.label != "stable" or abs(trend.change) >= (threshold or DEFAULT_TREND_THRESHOLD)
    confidence = trend.confidence or 0.0
    if not is_large or trend.label == "stable" or confidence < LIKELY:
        mark, word = ("◆", "unsteady") if is_large else ("→", "steady")
        text = f"{mark} {change} {word}"
        return TrendWords(text, text, f"{mark} {word}")
    mark, way = ("▲", "rising") if trend.change > 0 else ("▼", "falling")
    sure = f"{100 * confidence:.0f}%"
    if trend.label == "shifting":
        text = f"{mark} {change} {way}"
        return TrendWords(text, text, f"{mark} {way}", sure)
    tone: Literal["better", "worse"] = "better" if trend.label == "improving" else "worse"
    return TrendWords(f"{mark} {change} {way}, {tone}", f"{mark} {change} {tone}", f"{mark} {tone}", sure, tone)


def is_advisory(metric: str, level: Level) -> bool:
    """Whether people read `ADVISORY` for this level of a metric."""
    return metric == LOSS_RATIO and level in ("warning", "critical")


def level_word(metric: str, level: Level) -> str:
    """Return the word that people read for the level of a metric's value."""
    return ADVISORY if is_advisory(metric, level) else level


def thresholds_of(metric: str, bands: Bands | None) -> str:
    """Describe the thresholds of a metric for people; empty if it has none."""
    if bands is None or metric != LOSS_RATIO:
        return str(bands or "")
    return f"{ADVISORY} {_either(bands.warning)}, above all {_either(bands.critical)}"


def limits(bands: Bands | None) -> str:
    """Describe the bounds of a metric in few characters, those of a warning first; empty if it has none."""
    parts = [_either(bounds) for bounds in (bands.warning, bands.critical) if bounds] if bands is not None else []
    return f"limits {', then '.join(parts)}" if parts else ""


def _either(bounds: tuple[Limit, ...]) -> str:
    return " or ".join(map(str, bounds))
