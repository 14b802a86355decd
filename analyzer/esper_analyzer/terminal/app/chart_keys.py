"""The keys of the screen that change what is shown of the pictures at hand: chart, alerts, metrics, pages of text."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import App
from textual.events import MouseScrollDown, MouseScrollUp

from esper_analyzer.drawing.chart import SCALINGS
from esper_analyzer.drawing.window import Window
from esper_analyzer.measuring.places import UNITS
from esper_analyzer.terminal.app.metric_grid import MetricGrid
from esper_analyzer.terminal.app.widgets import Chooser, Help, Panel
from esper_analyzer.terminal.choices import configuration_text, metric_entries, metrics_to_step_through
from esper_analyzer.terminal.keys import HELP
from esper_analyzer.terminal.scene import SMOOTHINGS, Scene


class ChartKeys(App[None]):
    """The part of the application that reads nothing.

    Attributes:
        scene: what the screen shows.
    """

    HELP_TEXT: ClassVar[str] = HELP
    scene: Scene
    _note: str

    def _renew(self, *, chart: bool = True) -> None:
        """Redraw the panels."""
        raise NotImplementedError

    # ------------------------------------------------------------------ chart

    def _set_window(self, window: Window) -> None:
        self.scene.window = window
        self._note = ""
        self._renew()

    def action_zoom(self, closer: bool) -> None:
        """Zoom in or out."""
        if self.scene.span is not None:
            self._set_window(self.scene.window.zoom(*self.scene.span, closer=closer))

    def action_whole(self) -> None:
        """Show the whole history."""
        self._set_window(replace(self.scene.window, span=None, right=None))

    def action_pan(self, share: float) -> None:
        """Pan to earlier or later updates."""
        if self.scene.span is not None:
            self._set_window(self.scene.window.pan(*self.scene.span, share))

    def action_edge(self, end: bool) -> None:
        """Jump to the beginning, or to the end and follow it."""
        if self.scene.span is not None:
            right = None if end else self.scene.span[0]
            cursor = None if self.scene.window.cursor is None else self.scene.span[int(end)]
            self._set_window(replace(self.scene.window, right=right, cursor=cursor))

    def action_cursor(self, direction: int) -> None:
        """Move the cursor by one column."""
        limits, span = self.scene.limits, self.scene.span
        if limits is not None and span is not None:
            step = max(1, round((limits[1] - limits[0] + 1) / max(1, self.scene.plot.columns)))
            self._set_window(self.scene.window.move(*span, direction * step))

    def action_alert(self, direction: int) -> None:
        """Select the next or previous alert, move the cursor there, and chart what it is about."""
        events, span = self.scene.picture.events, self.scene.span
        if not events or span is None:
            return
        index = 0 if self.scene.selected not in events else events.index(self.scene.selected) + direction
        event = events[max(0, min(index, len(events) - 1))]
        self.scene.chart_alert(event)
        self._set_window(self.scene.window.at(*span, event.update))

    def action_clear(self) -> None:
        """Clear the selected alert and the cursor."""
        self.scene.clear_alert()
        self._set_window(replace(self.scene.window, cursor=None))

    def action_scale(self) -> None:
        """Switch to the next scale of the values."""
        self.scene.scaling = SCALINGS[(SCALINGS.index(self.scene.scaling) + 1) % len(SCALINGS)]
        self._renew()

    def action_axis(self) -> None:
        """Switch to the next horizontal axis that the run has recorded."""
        by = self.scene.next_axis()
        if by is None:
            self._note = f"this run has recorded no {UNITS['steps']} and no {UNITS['time']}"
        else:
            self.scene.by, self._note = by, ""
        self._renew()

    def action_smooth(self) -> None:
        """Draw the next average instead of the values, or the values again."""
        self.scene.smoothing = SMOOTHINGS[(SMOOTHINGS.index(self.scene.smoothing) + 1) % len(SMOOTHINGS)]
        self._renew()

    def on_panel_clicked(self, message: Panel.Clicked) -> None:
        """Move the cursor to where the chart was clicked."""
        if message.panel.id == "chart" and self.scene.span is not None:
            update = self.scene.plot.update_at(message.x)
            if update is not None:
                self._set_window(self.scene.window.at(*self.scene.span, update))

    def on_mouse_scroll_up(self, _event: MouseScrollUp) -> None:
        """Zoom in."""
        self.action_zoom(True)

    def on_mouse_scroll_down(self, _event: MouseScrollDown) -> None:
        """Zoom out."""
        self.action_zoom(False)

    # ------------------------------------------------------------------ metrics and pages

    def action_metric(self, direction: int) -> None:
        """Chart the next or previous metric that has a small chart."""
        names = metrics_to_step_through(self.scene.picture)
        if names:
            at = names.index(self.scene.metric) if self.scene.metric in names else 0
            self._chart(names[(at + direction) % len(names)])

    def action_choose_metric(self) -> None:
        """Open the list of recorded metrics."""
        self.push_screen(Chooser("metric", metric_entries(self.scene.picture), unicode=self.scene.unicode), self._chart)

    def action_grid(self) -> None:
        """Show all recorded metrics, page by page."""
        names = [name for name, _ in metric_entries(self.scene.picture)]
        if names:
            self.push_screen(MetricGrid(self.scene, names), self._leave_grid)

    def _leave_grid(self, metric: str | None) -> None:
        self._chart(metric)
        self._renew()  # axis and pins may be others

    def _chart(self, metric: str | None) -> None:
        if metric is not None:
            self.scene.metric, self.scene.before_alert = metric, None
            self._renew()

    def action_verdict(self) -> None:
        """Show the whole verdict, or the full message of the selected alert."""
        self.push_screen(Help(self.scene.whole_verdict(), unicode=self.scene.unicode))

    def action_configuration(self) -> None:
        """Show what the header of the run says: its configuration and where it was recorded."""
        text = configuration_text(self.scene.run.header)
        self.push_screen(Help(text, unicode=self.scene.unicode))

    def action_help(self) -> None:
        """Open the help page."""
        self.push_screen(Help(self.HELP_TEXT, unicode=self.scene.unicode))
