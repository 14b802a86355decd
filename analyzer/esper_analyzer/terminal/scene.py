"""The state of the screen: the picture of a run, the part in the chart, the cursor, the selected alert.

A scene draws the panels and lists what else to read for a better drawing. It reads nothing itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.text import Text

from esper_analyzer.drawing import panels
from esper_analyzer.drawing.chart import Beside, Scaling
from esper_analyzer.drawing.heading import heading
from esper_analyzer.drawing.plot import Plot, draw_plot
from esper_analyzer.drawing.style import drawn_bands
from esper_analyzer.drawing.window import Window
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.rules import CHART_OF
from esper_analyzer.live.feed import MANY_ROWS
from esper_analyzer.live.picture import CHARTED, Event, Picture
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.levels import bands_of
from esper_analyzer.measuring.places import BY_UPDATE, UNITS, Ruler
from esper_analyzer.options import By
from esper_analyzer.terminal.layout import Layout
from esper_analyzer.terminal.others import LOOKS, Other
from esper_schemas.cleaning import printable

CHART_SECS = 10.0
"""New rows redraw the charts of a long history at most this often, because they hardly change them."""

_COMPACT_HEIGHT, _ROOMY_HEIGHT = 5, 10  # of the numbers, without the line of the return
_GAUGES_WIDTH = 60


SMOOTHINGS = (0.0, 0.6, 0.9, 0.97)
"""Weights of the past that a key goes through."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What somebody wants to see, whatever the run.

    Attributes:
        metric: the metric in the chart.
        by: the horizontal axis.
        pinned: the metrics whose small charts come first.
    """

    metric: str = CHARTED[0]
    by: By = "updates"
    pinned: tuple[str, ...] = ()


@dataclass(slots=True)
class Scene:
    """One rank of a run, as the screen shows it.

    Attributes:
        run, rank: the run and the rank on the screen.
        unicode: whether the terminal can show more than ASCII.
        picture: the state of the run.
        window: which part the chart shows, and where the cursor is.
        metric: the metric in the chart.
        scaling: the scale of the values in the chart.
        selected: the alert that is selected.
        plot: the chart as last drawn.
        drawn: when it was drawn, by the monotonic clock.
        charted: the picture it was drawn from.
        is_short: whether the values at the cursor share the line of the title.
        has_keys: whether a key shows the whole verdict.
        smoothing: weight of the past in the average that the chart draws; 0 draws the values alone.
        others: further runs in the chart.
        before_alert: the metric that was in the chart before an alert was selected.
        by: the horizontal axis that is wanted; that of updates is shown where the run has recorded nothing for it.
        pinned: the metrics whose small charts come first.
        color: whether the terminal shows colours.
    """

    run: JudgedRun
    rank: int
    unicode: bool
    picture: Picture = field(default_factory=lambda: Picture("opening"))
    window: Window = field(default_factory=Window)
    metric: str = CHARTED[0]
    scaling: Scaling = "auto"
    selected: Event | None = None
    plot: Plot = field(default_factory=lambda: Plot(Text(), 0, 0, 1))
    drawn: float = 0.0
    charted: Picture | None = None
    is_short: bool = False
    has_keys: bool = True
    smoothing: float = 0.0
    others: list[Other] = field(default_factory=list)
    before_alert: str | None = None
    by: By = "updates"
    pinned: tuple[str, ...] = ()
    color: bool = True

    @property
    def chosen(self) -> Chosen:
        """What somebody chose to see."""
        return Chosen(self.metric, self.by, self.pinned)

    @property
    def ruler(self) -> Ruler:
        """The horizontal axis of the charts."""
        return self.picture.places.ruler(self.by) or BY_UPDATE

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last update of the runs in the chart; None before the first update of the run.

        Those of other runs are at the updates of this run that are at the same places of the axis.
        """
        span = self.picture.span
        if span is None:
            return None
        ruler = self.ruler
        spans = [span, *(found for other in self.others if (found := other.span(ruler)) is not None)]
        return min(first for first, _ in spans), max(last for _, last in spans)

    @property
    def limits(self) -> tuple[int, int] | None:
        """First and last update in the chart."""
        span = self.span
        return None if span is None else self.window.limits(*span)

    @property
    def is_chart_due(self) -> bool:
        """Whether new rows alone are enough reason to redraw the charts."""
        limits = self.limits
        is_long = limits is not None and limits[1] - limits[0] >= MANY_ROWS
        is_same_status = self.charted is not None and self.charted.status == self.picture.status
        if not is_long or not is_same_status or not self.plot.text:  # there is no text while the history is being read
            return True
        return time.monotonic() - self.drawn >= CHART_SECS

    def course(self) -> Buckets | None:
        """Return the finest buckets at hand of the metric in the window; None if there are none."""
        limits, picture = self.limits, self.picture
        if limits is None:
            return None
        detail = picture.detail
        if detail is not None and detail.covers(self.metric, *limits):
            return detail.history.of(self.metric, *limits)
        if self.metric in picture.history.names:
            return picture.history.of(self.metric, *limits)
        return None

    def beside(self) -> list[Beside]:
        """Return the further lines of the chart: of the other runs, and the values themselves below their average."""
        limits, course, ruler = self.limits, self.course(), self.ruler
        if limits is None:
            return []
        lines = [] if not self.smoothing or course is None else [Beside(course, ruler=ruler)]
        for number, other in enumerate(self.others):
            found = other.beside(self.metric, limits, ruler)
            if found is not None:
                buckets, own = found
                _, color, mark = LOOKS[number % len(LOOKS)]
                shown = buckets.smoothed(self.smoothing) if self.smoothing else buckets
                lines.append(Beside(shown, color, mark, own))
        return lines

    def _names(self) -> list[tuple[str, str, str]]:
        """Return name, colour and mark of each run in the chart, if there are several."""
        if not self.others:
            return []
        names, by = [(self.run.header.run_id, "bright_cyan", "━")], self.ruler.by
        for number, other in enumerate(self.others):
            color, _, mark = LOOKS[number % len(LOOKS)]
            is_placed = not other.picture.rows or other.picture.places.ruler(by) is not None
            name = other.name if is_placed else f"{other.name} (no {by})"
            names.append((name, color, "━" if self.color and self.unicode else mark))
        return names

    def _axis(self) -> str:
        """Return what the title says of the horizontal axis."""
        if self.by == "updates" or not self.picture.history.frame.height:
            return ""
        return f"by {self.by}" if self.ruler.by == self.by else f"no {UNITS[self.by]} recorded"

    def next_axis(self) -> By | None:
        """Return the axis after this one, of those that the run has recorded; None if there is no other."""
        known = self.picture.places.known
        return known[(known.index(self.ruler.by) + 1) % len(known)] if len(known) > 1 else None

    def pin(self, metric: str) -> None:
        """Put a metric first among the small charts, after those that already are; or take it away from there."""
        kept = tuple(name for name in self.pinned if name != metric)
        self.pinned = kept if metric in self.pinned else (*kept, metric)

    def wanted_pinned(self) -> tuple[str, ...]:
        """Return the metrics whose course to read for a small chart."""
        return tuple(name for name in self.pinned if name not in self.picture.history.names)

    def chart_alert(self, event: Event) -> None:
        """Select an alert, and show the metric that it is about, or the one to look at for it, if it was recorded."""
        self.selected = event
        name = event.metric if event.metric in self.picture.recent.columns else CHART_OF.get(event.metric, "")
        if name in self.picture.recent.columns and name != "update":
            self.before_alert = self.before_alert or self.metric
            self.metric = name

    def clear_alert(self) -> None:
        """Select no alert, and show the metric that was in the chart before."""
        self.selected = None
        self.metric, self.before_alert = self.before_alert or self.metric, None

    def wanted_row(self) -> int | None:
        """Return the update at the cursor if its values have not been read yet."""
        cursor, row = self.window.cursor, self.picture.row
        return None if cursor is None or (row is not None and row[0] == cursor) else cursor

    def wanted_detail(self) -> tuple[str, int, int | None] | None:
        """Return the metric, first and last update (None: to the end) to read at a finer resolution, if any."""
        limits, span = self.limits, self.span
        if limits is None or span is None or not self.picture.history.frame.height:
            return None
        detail, history = self.picture.detail, self.picture.history
        if detail is not None and detail.covers(self.metric, *limits):
            return None
        if self.metric in history.names and (limits == span or history.width == 1):
            return None
        margin = limits[1] - limits[0] + 1  # so that panning on is smooth
        end = limits[1] + margin
        return self.metric, max(span[0], limits[0] - margin), None if end >= span[1] else end

    # ------------------------------------------------------------------ panels

    def heading(self, width: int, _height: int) -> list[Text]:
        """Draw the name of the run and its status."""
        return heading(self.run, self.rank, self.picture, width)

    def title(self, width: int, _height: int) -> list[Text]:
        """Draw the title of the chart, or the values at the cursor if they share its line."""
        if self.is_short and self.window.cursor is not None:
            return self.readout(width, 1)
        shown = self.limits if self.window.span is not None else None
        title = panels.chart_title(
            self.picture, self.metric, self.scaling, shown, self.course(), width,
            smoothing=self.smoothing, names=self._names(), beside=self.beside(), axis=self._axis(),
        )  # fmt: skip
        return [title]

    def chart(self, width: int, height: int) -> list[Text]:
        """Draw the chart, or the reason why there is none."""
        self.drawn, self.charted = time.monotonic(), self.picture
        course = self.course()
        if course is None or not course.frame.height:
            self.plot = Plot(Text(), 0, 0, 1)
            reason = "no updates yet" if not self.picture.rows else "reading …"
            if course is not None and self.picture.rows and self.picture.history.frame.height:
                reason = "not measured here"
            return [Text()] * (height // 2) + [Text(reason.center(width).rstrip(), style="dim")]
        self.plot = draw_plot(
            course.smoothed(self.smoothing) if self.smoothing else course,
            drawn_bands(self.metric, bands_of(self.metric, self.picture.thresholds)),
            width=width - 1,
            height=height,
            scaling=self.scaling,
            cursor=self.window.cursor,
            events=[event for event in self.picture.events if event.rank in (None, self.rank)],
            gaps=self.picture.gaps,
            beside=self.beside(),
            ruler=self.ruler,
            color=self.color,
            unicode=self.unicode,
        )
        return list(self.plot.text.split("\n"))

    def readout(self, width: int, _height: int) -> list[Text]:
        """Draw the values at the cursor."""
        return [panels.readout(self.picture, self.metric, self.window, width)]

    def side(self, width: int, height: int) -> list[Text]:
        """Draw the small charts one below the other."""
        return self._small(width, height, 1)

    def small(self, width: int, height: int) -> list[Text]:
        """Draw the small charts side by side."""
        columns = 3 if width >= 120 else 2
        return self._small(width, height, columns)

    def _small(self, width: int, height: int, columns: int) -> list[Text]:
        names = panels.shown_small(self.picture, self.metric, self.pinned)
        return panels.small_charts(
            self.picture, names, width, height, unicode=self.unicode, columns=columns, ruler=self.ruler
        )

    def numbers(self, width: int, height: int) -> list[Text]:
        """Draw the losses and the gauges."""
        compact = height - self.picture.has_return <= _COMPACT_HEIGHT
        return [
            *panels.losses(self.picture, width, head=not compact),
            *([Text()] if height - self.picture.has_return >= _ROOMY_HEIGHT else []),
            *panels.gauges(self.picture, min(width, _GAUGES_WIDTH), columns=2 if compact else 1),
        ]

    def alerts(self, width: int, height: int) -> list[Text]:
        """Draw the list of alerts."""
        events = self.picture.events
        selected = events.index(self.selected) if self.selected in events else None
        return panels.alert_lines(events, selected, width, height)

    def show(self, picture: Picture) -> None:
        """Show a newer picture; the alert that is selected stays so, as far as it is still there."""
        self.picture = picture
        if self.selected is not None:
            key = self.selected.key
            self.selected = next((event for event in picture.events if event.key == key), None)

    def layout(self, width: int, height: int) -> Layout:
        """Return the sizes of the panels on a screen of this size."""
        return Layout.of(width, height, is_calm=self.is_calm(width), has_return=self.picture.has_return)

    def is_calm(self, width: int) -> bool:
        """Whether the run is healthy and its verdict fits one line of this width."""
        verdict = self.picture.verdict
        if self.selected is not None or verdict is None or verdict.level != "healthy":
            return False
        return len(self.verdict(width, 2)) < 2

    def whole_verdict(self) -> str:
        """Return the verdict with all its reasons, or the full message of the selected alert."""
        if not self.picture.rows:
            return f"No updates yet.{self._why_it_ended()}"
        if self.selected is not None:
            course = f"\n\n{self.selected.alert.course}" if self.selected.alert is not None else ""
            head = f"Update {self.selected.update}  {self.selected.level}"
            return f"{head}\n\n{printable(self.selected.message)}{course}"
        verdict = self.picture.verdict
        if verdict is None:
            return "The run is still being judged."
        answers = [f"{name}: {one.level}. {printable(one.reason)}" for name, one in verdict.questions.items()]
        said = "\n\n".join([f"Verdict  {verdict.level}", *map(printable, verdict.reasons), "\n".join(answers)])
        return said + self._why_it_ended()

    def _why_it_ended(self) -> str:
        """Return why the run ended as a paragraph, where that is known; its line on the screen may be cut."""
        picture = self.picture
        if picture.ending is None or picture.ending.reason is None:
            return ""
        return f"\n\nThe run has ended: {picture.described_ending(is_imported=self.run.is_imported)}"

    def verdict(self, width: int, height: int) -> list[Text]:
        """Draw the selected alert, or the verdict if none is selected."""
        if self.selected is not None:
            return panels.selected_alert(self.selected, width, height)
        return panels.verdict(self.picture, width, height, has_keys=self.has_keys)
