"""Colours and characters: how levels, statuses, trends and text look on a terminal, down to plain ASCII."""

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
    """What an output can show: colour by escape codes, characters beyond ASCII."""

    color: bool
    unicode: bool

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """Detect the style: colour on a terminal unless dumb or NO_COLOR is set, Unicode if the encoding has it."""
        color = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").replace("_", "")
        return cls(color=color, unicode=encoding.startswith(("utf", "gb18030")))

    def render(self, lines: Iterable[Text]) -> list[str]:
        """Return each line as the string to write, without a line break."""
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
    """Return the nearest text in ASCII; a character without a counterpart becomes a question mark."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def in_ascii(text: Text) -> Text:
    """Return the nearest text in ASCII, in the same colours."""
    parts = [(to_ascii(part.text), part.style or "") for part in text.render(_CONSOLE) if part.text]
    return Text.assemble(*parts, no_wrap=True)


def fit(text: str, width: int) -> str:
    """Cut a text to `width` cells, with an ellipsis at the end if it was longer."""
    if cell_len(text) <= width:
        return text
    cut = Text(text)
    cut.truncate(max(width, 0), overflow="ellipsis")
    return cut.plain


def trend_mark(trend: Trend) -> Text:
    """Return an arrow and the signed change. The arrow shows the direction, the colour whether it is an improvement."""
    mark = _TREND_MARKS[trend.label]
    if trend.label in ("improving", "declining", "shifting") and trend.change is not None:
        mark = "▲" if trend.change > 0 else "▼"
    change = percentage(trend.change) if trend.change is not None else ""
    return Text(f"{mark} {change}".rstrip(), style=_TREND_STYLE.get(trend.label, ""))


def level_text(level: Level) -> Text:
    """Return the name of a level in its colour."""
    return Text(level, style=LEVEL_STYLE[level])


def write_lines(lines: Iterable[Text], stream: TextIO | None = None) -> None:
    """Write lines to a stream, by default standard output, in the style that it can show."""
    stream = stream or sys.stdout
    style = Style.of(stream)
    stream.write("".join(f"{line}\n" for line in style.render(lines)))
    stream.flush()
