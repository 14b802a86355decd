"""How levels, trends and lines of text look on a terminal, in colour or not, in Unicode or ASCII."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from esper_analyzer.measuring.trends import Trend
from esper_analyzer.wording import percentage
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Level

LEVEL_STYLE = {level: look.style for level, look in PALETTE.items()}

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

_CONSOLE = Console(width=1000, legacy_windows=False)

_ASCII = str.maketrans(
    {
        "—": "-", "–": "-", "−": "-", "…": "...", "·": ".", "×": "x", "½": "1/2", "≥": ">=", "≤": "<=", "∞": "inf",
        "▲": "^", "▼": "v", "◆": "~", "→": "=", "✗": "!", "●": "*", "○": "o", "│": "|", "─": "-", "┈": "-",
        "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+", "┼": "+",
        "╭": "+", "╮": "+", "╰": "+", "╯": "+",
        "▁": "_", "▂": ".", "▃": "-", "▄": "=", "▅": "+", "▆": "*", "▇": "#", "█": "@", "µ": "u", "‖": "H",
        "░": ":", "━": "=", "▶": ">", "▏": "|", "◄": "<", "►": ">", "↑": "^",
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


def in_ascii(text: Text) -> Text:
    """The nearest text in ASCII, in the same colours."""
    parts = [(to_ascii(part.text), part.style or "") for part in text.render(_CONSOLE) if part.text]
    return Text.assemble(*parts, no_wrap=True)


def fit(text: str, width: int) -> str:
    """The text cut to `width` cells, with an ellipsis where something was cut off."""
    if cell_len(text) <= width:
        return text
    cut = Text(text)
    cut.truncate(max(width, 0), overflow="ellipsis")
    return cut.plain


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


def write_lines(lines: Iterable[Text], stream: TextIO | None = None) -> None:
    """Write lines to a stream (standard output) as it can show them."""
    stream = stream or sys.stdout
    style = Style.of(stream)
    stream.write("".join(f"{line}\n" for line in style.render(lines)))
    stream.flush()
