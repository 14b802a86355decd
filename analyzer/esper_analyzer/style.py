"""How numbers, levels and foreign text look on a terminal, in colour or not, in Unicode or ASCII."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from esper_analyzer.summary import Value
from esper_analyzer.trends import Trend
from esper_schemas.metrics import Level

MISSING = "—"

LEVEL_STYLE: dict[str, str] = {"healthy": "cyan", "warning": "yellow", "critical": "bold red", "unknown": "dim"}

STATUS_STYLE: dict[str, str] = {
    "live": "green",
    "stale": "yellow",
    "finished": "cyan",
    "failed": "bold red",
    "interrupted": "yellow",
    "crashed": "bold red",
    "unknown": "dim",
}

_TREND_MARKS = {"improving": "▼", "declining": "▲", "shifting": "◆", "stable": "→", "broken": "✗", "unknown": "·"}
_TREND_STYLE = {"improving": "green", "declining": "yellow", "broken": "bold red"}

_ASCII = str.maketrans(
    {
        "—": "-", "–": "-", "−": "-", "…": "...", "·": ".", "×": "x", "½": "1/2", "≥": ">=", "≤": "<=", "∞": "inf",
        "▲": "^", "▼": "v", "◆": "~", "→": "=", "✗": "!", "●": "*", "○": "o", "│": "|", "─": "-", "┈": "-",
        "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+", "┼": "+",
        "╭": "+", "╮": "+", "╰": "+", "╯": "+",
        "▁": "_", "▂": ".", "▃": "-", "▄": "=", "▅": "+", "▆": "*", "▇": "#", "█": "@", "µ": "u", "‖": "||",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    """What an output can show: escape codes for colour, characters beyond ASCII."""

    color: bool
    unicode: bool

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """Colour only on a terminal that is not dumb and without NO_COLOR; Unicode where the encoding has it."""
        color = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").replace("_", "")
        return cls(color=color, unicode=encoding.startswith(("utf", "gb18030")))

    def render(self, lines: Iterable[Text]) -> list[str]:
        """Each line as the string to write, without a line break."""
        return [self._render(line) for line in lines]

    def _render(self, line: Text) -> str:
        if not self.color:
            text = line.plain
        else:
            buffer = io.StringIO()
            console = Console(
                file=buffer, force_terminal=True, color_system="standard", width=10_000, legacy_windows=False
            )
            console.print(line, end="", soft_wrap=True, highlight=False)
            text = buffer.getvalue()
        return text if self.unicode else to_ascii(text)


def to_ascii(text: str) -> str:
    """The nearest text in ASCII; what has no likeness becomes a question mark."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def fit(text: str, width: int) -> str:
    """The text cut to `width` cells, with an ellipsis where something was cut off."""
    if cell_len(text) <= width:
        return text
    cut = Text(text)
    cut.truncate(max(width, 0), overflow="ellipsis")
    return cut.plain


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


def trend_mark(trend: Trend) -> Text:
    """Mark of the direction, and the signed change: where the number goes, in the colour of whether that is good."""
    mark = _TREND_MARKS[trend.label]
    if trend.label in ("improving", "declining", "shifting") and trend.change is not None:
        mark = "▲" if trend.change > 0 else "▼"
    change = percentage(trend.change) if trend.change is not None else ""
    return Text(f"{mark} {change}".rstrip(), style=_TREND_STYLE.get(trend.label, ""))


def level_text(level: Level) -> Text:
    """A level in its colour."""
    return Text(level, style=LEVEL_STYLE[level])


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


def write_lines(lines: Iterable[Text], stream: TextIO | None = None) -> None:
    """Write lines to a stream (standard output) as it can show them."""
    stream = stream or sys.stdout
    style = Style.of(stream)
    stream.write("".join(f"{line}\n" for line in style.render(lines)))
    stream.flush()
