"""Colours on a terminal, read back from the escape codes of what was written."""

from __future__ import annotations

from collections.abc import Iterator

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

_CONSOLE = Console(width=1000, legacy_windows=False)


def red_parts(lines: str) -> Iterator[str]:
    """Yield each part of this output that is drawn in red or on red."""
    for line in lines.split("\n"):
        for part in Text.from_ansi(line).render(_CONSOLE):
            style = part.style
            if isinstance(style, Style) and part.text.strip() and (_red(style.color) or _red(style.bgcolor)):
                yield part.text


def is_red(code: str) -> bool:
    """Whether the escape code with these numbers sets a red foreground or background."""
    return any(red_parts(f"\x1b[{code}mx\x1b[0m"))


def _red(color: Color | None) -> bool:
    """Whether a colour is nearer to red than to anything else: much more red than green and blue."""
    if color is None or color.is_default:
        return False
    red, green, blue = color.get_truecolor()
    return red >= 128 and red > 1.5 * max(green, blue)
