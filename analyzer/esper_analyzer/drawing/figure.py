"""The figure of plotext that charts are drawn in: imported with the first chart, and without the manual of plotext."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

FRAME_COLOR = 8
"""The terminal's colour number of axes and labels: grey."""

_THEME = "esper"
_MANUAL = "plotext._doc.doc"


@contextmanager
def cleared_figure() -> Iterator[Any]:
    """Yield plotext's only figure: cleared, independent of the terminal's size, without plotext's colours."""
    plotext = _plotext()
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.theme(_THEME)
    try:
        yield figure
    finally:
        figure.clear()


def marker(mark: str, color: int, style: str | None = None) -> Any:
    """Return the marker that draws a character, or "braille", in one of the terminal's colours."""
    plotext = _plotext()
    return plotext.marker(mark, plotext.pixel(color, "default", style))


@cache
def _plotext() -> ModuleType:
    """Import plotext. It would lay out its manual at once, which takes three times as long as all the rest of it."""
    empty = ModuleType(_MANUAL)
    empty.__dict__["docs"] = None
    manual = sys.modules.setdefault(_MANUAL, empty)
    try:
        import plotext
    finally:
        if manual is empty:
            del sys.modules[_MANUAL]
    plotext.add_theme(_THEME, text=FRAME_COLOR)  # sets no background, so the terminal keeps its own, light or dark
    return plotext  # type: ignore[no-any-return]
