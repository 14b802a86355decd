"""Colours and characters: how levels, statuses, trends and text look on a terminal, down to plain ASCII."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len
from rich.text import Text

from esper_analyzer.wording import TrendWords, is_advisory, level_word
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Bands, Level

if TYPE_CHECKING:
    from rich.console import Console

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

_TREND_STYLE = {"better": "green", "worse": "yellow", "broken": "bold red"}

_ASCII = str.maketrans(
    {
        "—": "-", "–": "-", "−": "-", "…": "...", "·": ".", "×": "x", "½": "1/2", "≥": ">=", "≤": "<=", "∞": "inf",
        "▲": "^", "▼": "v", "◆": "~", "→": "=", "✗": "!", "●": "*", "○": "o", "│": "|", "─": "-", "┈": "-",
        "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+", "┼": "+",
        "╭": "+", "╮": "+", "╰": "+", "╯": "+",
        "▁": "_", "▂": ".", "▃": "-", "▄": "=", "▅": "+", "▆": "*", "▇": "#", "█": "@", "µ": "u", "‖": "H",
        "░": ":", "▒": "%", "━": "=", "▶": ">", "▏": "|", "◄": "<", "►": ">", "↑": "^", "↓": "v",
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
            console = _console(file=buffer, force_terminal=True, color_system="standard", width=10_000)
            console.print(line, end="", soft_wrap=True, highlight=False)
            text = buffer.getvalue()
        return text if self.unicode else to_ascii(text)


def _console(**how: Any) -> Console:
    from rich.console import Console  # half of what rich takes to import, and text without colours needs none of it

    return Console(legacy_windows=False, **how)


def to_ascii(text: str) -> str:
    """Return the nearest text in ASCII; a character without a counterpart becomes a question mark."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def in_ascii(text: Text) -> Text:
    """Return the nearest text in ASCII, in the same colours."""
    parts = [(to_ascii(part.text), part.style or "") for part in text.render(_console(width=1000)) if part.text]
    return Text.assemble(*parts, no_wrap=True)


def fit(text: str, width: int) -> str:
    """Cut a text to `width` cells, with an ellipsis at the end if it was longer."""
    if cell_len(text) <= width:
        return text
    cut = Text(text)
    cut.truncate(max(width, 0), overflow="ellipsis")
    return cut.plain


def trend_style(words: TrendWords) -> str:
    """Return the colour of a trend: whether it is better, worse or broken."""
    return _TREND_STYLE.get(words.tone, "")


def level_text(level: Level) -> Text:
    """Return the name of a level in its colour."""
    return Text(level, style=LEVEL_STYLE[level])


def metric_level_text(metric: str, level: Level) -> Text:
    """Return the level of a metric's value in its colour. Beyond its bounds Lv/Lp is advisory, without a colour."""
    return Text(level_word(metric, level), style="" if is_advisory(metric, level) else LEVEL_STYLE[level])


def alarm_style(metric: str, level: Level) -> str:
    """Return the colour of a warning or a critical level; an empty style for the others, and for Lv/Lp."""
    return LEVEL_STYLE[level] if level in ("warning", "critical") and not is_advisory(metric, level) else ""


def drawn_bands(metric: str, bands: Bands | None) -> Bands | None:
    """Return the thresholds that a chart of a metric draws. Those of Lv/Lp are never drawn as critical."""
    if bands is None or metric != LOSS_RATIO:
        return bands
    return replace(bands, warning=(*bands.warning, *bands.critical), critical=())


def write_lines(lines: Iterable[Text], stream: TextIO | None = None) -> None:
    """Write lines to a stream, by default standard output, in the style that it can show."""
    stream = stream or sys.stdout
    style = Style.of(stream)
    stream.write("".join(f"{line}\n" for line in style.render(lines)))
    stream.flush()
