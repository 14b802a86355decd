"""The levels of health: their order, and the palette that terminals, pages and notebooks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from esper_schemas.metric.metrics import Level

LEVELS: tuple[Level, ...] = get_args(Level)
"""Every level, in order of severity."""


def severity_of(level: Level) -> int:
    """The severity of a level: −1 unknown, 0 healthy, 1 warning, 2 critical."""
    return LEVELS.index(level) - 1


def level_at(severity: int) -> Level:
    """The level of a severity, −1 to 2."""
    return LEVELS[severity + 1]


@dataclass(frozen=True, slots=True)
class Ground:
    """The colours of a level on a light or a dark page: for text, a box around text, and a band behind a curve."""

    text: str
    tint: str
    band: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """How a level looks.

    Attributes:
        style: Style on a terminal, as Rich names it.
        mark: One character that shows the level without colour.
        sign: The emoji for Markdown.
        color: Colour for a background that may be light or dark.
        light: Colours on a light page.
        dark: Colours on a dark page.
    """

    style: str
    mark: str
    sign: str
    color: str
    light: Ground
    dark: Ground


PALETTE: dict[Level, Look] = {
    "unknown": Look("dim", "?", "❔", "#888888", Ground("#5a616a", "#eeefec"), Ground("#a9b1b9", "#24292e")),
    "healthy": Look("cyan", "✓", "✅", "#1f9e77", Ground("#0b6b5c", "#e4f3ef"), Ground("#55cdb4", "#12312b")),
    "warning": Look(
        "yellow",
        "!",
        "⚠️",
        "#c98a00",
        Ground("#8a5200", "#fdf1dc", "rgba(214, 141, 0, .12)"),
        Ground("#f2bb55", "#35290f", "rgba(242, 187, 85, .13)"),
    ),
    "critical": Look(
        "bold red",
        "✗",
        "❌",
        "#e0443e",
        Ground("#b3231a", "#fce8e6", "rgba(200, 40, 30, .12)"),
        Ground("#ff8d82", "#3d1a17", "rgba(255, 100, 90, .17)"),
    ),
}
"""How each level looks."""
