"""The figure of plotext that charts are drawn in: imported with the first chart, and without what no chart needs."""

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
_MANUAL, _TESTS, _PILLOW = "plotext._doc.doc", "plotext._tests.run", "PIL"


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
    """Import plotext without what no chart needs, and what takes four times as long as all the rest of it.

    That is its manual, which it would lay out at once, its tests, which import `unittest`, and Pillow, which is for
    pictures. All of them can be imported afterwards. In `sys.modules`, None is a module that cannot be imported.
    """
    parts: dict[str, ModuleType | None] = {_MANUAL: _module(_MANUAL, docs=None), _TESTS: _module(_TESTS, test=_test)}
    absent = {name: part for name, part in {**parts, _PILLOW: None}.items() if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]
    try:
        import plotext
    finally:
        for name in absent:
            del sys.modules[name]
    plotext.add_theme(_THEME, text=FRAME_COLOR)  # sets no background, so the terminal keeps its own, light or dark
    return plotext  # type: ignore[no-any-return]


def _module(name: str, **contents: object) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def _test(*arguments: Any, **options: Any) -> Any:
    """Run the tests of plotext: what `plotext.test` is until they are imported."""
    from plotext._tests.run import test

    return test(*arguments, **options)
