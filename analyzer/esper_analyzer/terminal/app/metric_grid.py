"""The page of all metrics: a grid of small charts, page by page, of which one can be put into the main chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import ModalScreen

from esper_analyzer.drawing.grid import grid, places
from esper_analyzer.measuring.history import History, history_of
from esper_analyzer.reading.errors import RUN_ERRORS
from esper_analyzer.terminal.app.widgets import Panel
from esper_analyzer.terminal.keys import key_line
from esper_analyzer.terminal.scene import Scene

_READ_SECS = 5.0
"""Interval between two readings of the page that is shown."""

_HINTS = ("Enter charts", "Space pins", "Esc back")


class MetricGrid(ModalScreen[str | None]):
    """All metrics that the newest rows have measured, and the user's own; Enter returns the marked one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,g,q", "dismiss(None)"),
        Binding("right", "move(1)"),
        Binding("left", "move(-1)"),
        Binding("down", "row(1)"),
        Binding("up", "row(-1)"),
        Binding("pagedown,right_square_bracket,n", "page(1)"),
        Binding("pageup,left_square_bracket,p", "page(-1)"),
        Binding("enter", "choose"),
        Binding("space", "pin"),
        Binding("x", "axis"),
    ]

    def __init__(self, scene: Scene, names: Sequence[str]) -> None:
        """Show a page of metrics; the one in the chart is marked first.

        Args:
            scene: what the screen shows. Nothing later than the last update of its picture is read; its axis and what
                is pinned in it are changed here.
            names: the metrics, in their order; at least one.
        """
        super().__init__()
        self._scene, self._names = scene, list(names)
        self._at = self._names.index(scene.metric) if scene.metric in self._names else 0
        self._history = History.empty(())

    def compose(self) -> ComposeResult:
        """Create the page and the line of keys below it."""
        yield Panel(self._draw, "grid", unicode=self._scene.unicode)
        yield Panel(self._draw_keys, "grid-keys", unicode=self._scene.unicode)

    def on_mount(self) -> None:
        """Read the page, and again from time to time."""
        self.set_interval(_READ_SECS, self._read)

    def on_resize(self, _event: Resize) -> None:
        """Show the page that fits the new size."""
        self.call_after_refresh(self._renew)

    @property
    def _places(self) -> tuple[int, int]:
        size = self.query_one("#grid").size
        return places(size.width, size.height)

    def _page(self) -> list[str]:
        columns, rows = self._places
        start = self._at // (columns * rows) * columns * rows
        return self._names[start : start + columns * rows]

    def _draw(self, width: int, height: int) -> list[Text]:
        page, scene = self._page(), self._scene
        values = [scene.picture.last(name) for name in page]
        return grid(
            page, self._names[self._at], values, self._history, width, height, unicode=scene.unicode,
            pinned=scene.pinned, ruler=scene.ruler,
        )  # fmt: skip

    def _draw_keys(self, width: int, _height: int) -> list[Text]:
        columns, rows = self._places
        page, pages = self._at // (columns * rows) + 1, -(-len(self._names) // (columns * rows))
        hints = (
            f"page {page} of {pages}",
            *_HINTS,
            f"x axis: {self._scene.ruler.by}",
            "arrows choose",
            "PgUp PgDn page",
        )
        return [Text(key_line(hints, width - 1), style="dim")]

    def _renew(self) -> None:
        if not set(self._page()) <= set(self._history.names):
            self._read()
        self.redraw()

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _read(self) -> None:
        """Read the courses of the page. What cannot be read stays as it was; the screen below says why."""
        names, last = tuple(self._page()), self._scene.picture.last_update
        try:
            rows = self._scene.run.updates(self._scene.rank)
            history = history_of(rows if last is None else rows.filter(pl.col("update") <= last), names)
        except RUN_ERRORS:
            return
        self.app.call_from_thread(self._take, history)

    def _take(self, history: History) -> None:
        if self.is_attached:
            self._history = history
            self.query_one("#grid").refresh()

    def redraw(self) -> None:
        """Draw what the scene shows now."""
        for panel in self.query(Panel):
            panel.refresh()

    def action_move(self, steps: int) -> None:
        """Mark a metric so many places later or earlier."""
        self._at = max(0, min(self._at + steps, len(self._names) - 1))
        self._renew()

    def action_row(self, rows: int) -> None:
        """Mark the metric above or below."""
        self.action_move(rows * self._places[0])

    def action_page(self, pages: int) -> None:
        """Show the next or previous page."""
        columns, rows = self._places
        self.action_move(pages * columns * rows)

    def action_pin(self) -> None:
        """Put the marked metric first among the small charts of the screen, or take it away from there."""
        self._scene.pin(self._names[self._at])
        self.redraw()

    def action_axis(self) -> None:
        """Switch to the next horizontal axis, here and on the screen."""
        self._scene.by = self._scene.next_axis() or self._scene.by
        self.redraw()

    def action_choose(self) -> None:
        """Return the marked metric."""
        self.dismiss(self._names[self._at])
