"""The screen of `tail`: a thread makes the pictures, the keys choose what to show of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import Resize
from textual.message import Message

from esper_analyzer.drawing.heading import YOUNG_SECS
from esper_analyzer.drawing.style import Style
from esper_analyzer.drawing.window import Window
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.listing.kept_entries import KeptEntries
from esper_analyzer.listing.listing import headers
from esper_analyzer.live.feed import Feed
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import Picture
from esper_analyzer.live.ranks import RanksFeed
from esper_analyzer.live.reader import Reader
from esper_analyzer.reading.errors import RUN_ERRORS, describe_error
from esper_analyzer.terminal.app.chart_keys import ChartKeys
from esper_analyzer.terminal.app.metric_grid import MetricGrid
from esper_analyzer.terminal.app.run_chooser import RunChooser
from esper_analyzer.terminal.app.widgets import Draw, Panel
from esper_analyzer.terminal.keys import HINTS, KEYS, key_line
from esper_analyzer.terminal.layout import HEADING_HEIGHT, Layout
from esper_analyzer.terminal.others import Other
from esper_analyzer.terminal.scene import Chosen, Scene
from esper_schemas.cleaning import printable
from esper_schemas.run.directory import run_at
from esper_schemas.run.ending import GOING_ON
from esper_schemas.run.store import Place, parse_place, path_below

MIN_WIDTH, MIN_HEIGHT = 60, 20


class Fresh(Message):
    """A new picture is ready; it replaces one that has not been shown yet."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        super().__init__()

    def can_replace(self, message: Message) -> bool:
        """A newer picture of the same reader replaces this one."""
        return isinstance(message, Fresh) and message.reader is self.reader


class EsperApp(ChartKeys):
    """One rank of a run on the whole terminal, with the verdict on all of them unless only one was asked for.

    A subclass may show other pictures than those of a live run.

    Attributes:
        scene: what the screen shows.
        error: the error that ended the reading, if any.
        signal: the signal that ended the screen, if any.
    """

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    KEY_HINTS: ClassVar[tuple[str, ...]] = HINTS
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, action, show=False) for key, action in KEYS.items()),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
    ]

    def __init__(
        self,
        run: JudgedRun,
        rank: int | None,
        *,
        style: Style,
        interval: float = 0.25,
        on_alert: Callable[[Alert], object] | None = None,
        is_new: bool = False,
        root: Place | None = None,
        others: Sequence[JudgedRun] = (),
        chosen: Chosen | None = None,
    ) -> None:
        if os.environ.get("NO_COLOR") == "":  # an empty value means that it is not set
            del os.environ["NO_COLOR"]
        super().__init__(ansi_color=True)  # set here too, because Textual reads NO_COLOR now
        self.theme = "ansi-dark"  # uses the terminal's own colours and background
        shown, wish = min(run.ranks(), default=0) if rank is None else rank, chosen or Chosen()
        self.scene = Scene(
            run, shown, style.unicode, color=style.color, metric=wish.metric, by=wish.by, pinned=wish.pinned
        )
        self._is_of_one = rank is not None
        self._root = root if root is not None and path_below(run.path, root) is not None else run.path.parent
        self.error: BaseException | None = None
        self.signal: signal.Signals | None = None
        self._interval = interval
        self._on_alert, self._is_new = on_alert, is_new
        self._note = ""
        self._room = (MIN_WIDTH, MIN_HEIGHT)
        self._layout: Layout | None = None
        self._asked_row: int | None = None
        self._asked_detail: tuple[str, int, int | None] | None = None
        self._asked_pinned: tuple[str, ...] = ()
        self._reader = self._watched = self._new_reader(on_alert)
        self._others: list[Reader] = []
        for other in others:
            self._put_beside(other)

    def last_picture(self) -> Picture:
        """Return the picture to leave in the terminal, without reading or judging anything again."""
        if self._reader.error is not None or self._reader.is_alive:
            return self.scene.picture
        feed = self._reader.feed or self._new_feed(self.scene.run, self.scene.rank, None)
        try:
            return feed.finish()
        finally:
            feed.close()

    # ------------------------------------------------------------------ parts

    def compose(self) -> ComposeResult:
        """Create all panels; the size of the screen decides which are visible."""

        def panel(name: str, draw: Draw) -> Panel:
            return Panel(draw, name, unicode=self.scene.unicode)

        scene = self.scene
        yield panel("tiny", lambda width, height: [Text(_too_small(width, height))])
        yield panel("heading", scene.heading)
        yield panel("verdict", scene.verdict)
        with Container(id="middle"):
            with Container(id="course"):
                yield panel("title", scene.title)
                yield panel("chart", scene.chart)
                yield panel("readout", scene.readout)
            yield panel("side", scene.side)
        with Container(id="below"):
            yield panel("numbers", scene.numbers)
            yield panel("alerts", scene.alerts)
        yield panel("small", scene.small)
        yield panel("time", self._draw_time)
        yield panel("keys", self._draw_keys)

    def on_mount(self) -> None:
        """Start reading."""
        if not self.is_headless:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end_by, signal.SIGTERM)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)
        for reader in (self._reader, *self._others):
            reader.start()
        self.set_interval(1.0, self._every_second)

    def on_resize(self, event: Resize) -> None:
        """Show the panels that fit the new size."""
        self._room = width, height = event.size  # `self.size` changes only later
        self.screen_stack[0].set_class(width < MIN_WIDTH or height < MIN_HEIGHT, "-tiny")
        self._renew()

    def _lay_out(self) -> None:
        """Give each panel its size."""
        width, height = self._room
        layout = self.scene.layout(width, height)
        if layout == self._layout:
            return
        self._layout = layout
        self.scene.is_short = layout.is_short
        sizes: dict[str, tuple[int | str, int | str]] = {
            "heading": ("1fr", HEADING_HEIGHT),
            "verdict": ("1fr", layout.verdict),
            "side": (layout.side, "1fr"),
            "readout": ("1fr", int(not layout.is_short)),
            "below": ("1fr", layout.below),
            "numbers": layout.numbers,
            "alerts": layout.alerts,
            "small": ("1fr", layout.small),
        }
        for name, (columns, lines) in sizes.items():
            styles = self.screen_stack[0].query_one(f"#{name}").styles
            styles.width, styles.height = columns, lines
        self.screen_stack[0].query_one("#below").styles.layout = "vertical" if layout.is_stacked else "horizontal"

    def on_unmount(self) -> None:
        """Stop reading."""
        for reader in (self._reader, self._watched, *self._others):
            reader.stop()

    # ------------------------------------------------------------------ pictures

    def _new_reader(self, on_alert: Callable[[Alert], object] | None = None) -> Reader:
        make = partial(self._new_feed, self.scene.run, self.scene.rank, on_alert)
        return Reader(make, self._interval, lambda reader: self.post_message(Fresh(reader)))

    def _new_feed(self, run: JudgedRun, rank: int, on_alert: Callable[[Alert], object] | None) -> Feed:
        feed = LiveFeed if self._is_of_one else RanksFeed
        return feed(run, rank, on_alert=on_alert, is_new=self._is_new and on_alert is not None)

    @on(Fresh)
    def _take(self, message: Fresh) -> None:
        reader, error = message.reader, message.reader.error
        if reader in self._others:
            self._take_other(reader)
        elif error is not None and reader is self._watched and (reader is self._reader or self._on_alert is not None):
            self.error = error
            self.exit()
        elif error is not None and reader is self._reader:
            self._note = printable(" ".join(str(error).replace(f"{self.scene.run.path}{os.sep}", "").split()))
            self._renew()
        elif reader is self._reader and reader.picture is not None:
            self.scene.show(reader.picture)
            if isinstance(self.screen, MetricGrid):
                self.screen.redraw()
            self._renew(chart=self._is_chart_due())

    def _is_chart_due(self) -> bool:
        return self.scene.is_chart_due

    def _renew(self, *, chart: bool = True) -> None:
        """Redraw the panels; Textual draws once for any number of calls."""
        self._ask()
        self._lay_out()
        for panel in self.screen_stack[0].query(Panel):
            if chart or panel.id not in ("chart", "title", "side", "small"):
                panel.refresh()

    def _every_second(self) -> None:
        if not self.is_headless and not os.isatty(0):  # the terminal is gone and SIGHUP did not arrive
            self._hang_up()
        if (
            self.scene.charted is not self.scene.picture and self._is_chart_due()
        ):  # no picture has come since it became due
            self._renew()
        age = self.scene.picture.age_secs()
        if age is not None and age >= YOUNG_SECS and self.scene.picture.status in GOING_ON:
            self.screen_stack[0].query("#heading").refresh()

    def _ask(self) -> None:
        """Ask the reader once for what the scene lacks."""
        row, detail = self.scene.wanted_row(), self.scene.wanted_detail()
        if row is not None and row != self._asked_row:
            self._reader.ask_row(row)
        if detail is not None and detail != self._asked_detail:
            self._reader.ask_detail(*detail)
        pinned = self.scene.wanted_pinned()
        if pinned != self._asked_pinned and self.scene.picture.history.frame.height:
            self._reader.ask_pinned(pinned)
            self._asked_pinned = pinned
        self._asked_row, self._asked_detail = row, detail
        for reader, other in zip(self._others, self.scene.others, strict=True):
            if other.lacks(self.scene.metric) and other.picture.span is not None:
                reader.ask_detail(self.scene.metric, other.picture.span[0], None)

    # ------------------------------------------------------------------ panels

    def _draw_time(self, width: int, height: int) -> list[Text]:
        return []

    def _draw_keys(self, width: int, _height: int) -> list[Text]:
        if not self._note:
            return [Text(key_line(self.KEY_HINTS, width - 1), style="dim")]
        line = Text(f" {self._note}", style="dim")
        line.truncate(width - 1, overflow="ellipsis")
        return [line]

    # ------------------------------------------------------------------ what is shown

    def action_choose_run(self) -> None:
        """Open the list of runs below the folder of runs, to show another one."""
        self.push_screen(self._run_chooser(), self._switch_run)

    def action_overlay(self) -> None:
        """Open the list of runs to draw one of them over the run in the chart; if there are some, take them away."""
        if self._others:
            for reader in self._others:
                reader.stop(wait=False)
            self._others, self.scene.others = [], []
            self._set_window(Window())
        else:
            self.push_screen(self._run_chooser(), self._overlay)

    def _run_chooser(self) -> RunChooser:
        settings = self.scene.run.settings
        kept = KeptEntries([self._root], settings, "records", ())
        return RunChooser(headers([self._root], kept), settings, kept, unicode=self.scene.unicode)

    def _overlay(self, path: str | None) -> None:
        if path is None:
            return
        try:
            self._put_beside(JudgedRun(run_at(parse_place(path)), self.scene.run.settings))
        except RUN_ERRORS as error:
            self._note = printable(describe_error(error))
        else:
            self._others[-1].start()
        self._renew()

    def _put_beside(self, run: JudgedRun) -> None:
        """Draw another run over the one in the chart, by a reader of its own, which is to be started."""
        make = partial(LiveFeed, run, min(run.ranks(), default=0))
        self.scene.others.append(Other(run.header.run_id))
        self._others.append(Reader(make, self._interval, lambda reader: self.post_message(Fresh(reader))))

    def _take_other(self, reader: Reader) -> None:
        """Show what has been read of another run; one that cannot be read is taken away."""
        place = self._others.index(reader)
        if reader.error is not None:
            self._note = printable(" ".join(str(reader.error).split()))
            del self._others[place], self.scene.others[place]
        elif reader.picture is not None:
            self.scene.others[place].picture = reader.picture
        self._renew()

    def _switch_run(self, path: str | None) -> None:
        if path is None:
            return
        try:
            run = JudgedRun(run_at(parse_place(path)), self.scene.run.settings)
            self._switch(run, min(run.ranks(), default=0))
        except RUN_ERRORS as error:
            self._note = printable(describe_error(error))
            self._renew()

    def action_rank(self) -> None:
        """Show the next rank."""
        ranks = self.scene.run.ranks()
        if len(ranks) < 2:
            self._note = "this run has only one rank"
            self._renew()
            return
        later = [rank for rank in ranks if rank > self.scene.rank]
        self._switch(self.scene.run, later[0] if later else ranks[0])

    def _switch(self, run: JudgedRun, rank: int) -> None:
        """Show another run or rank. A reader with an `on_alert` goes on in the background."""
        if self._reader is not self._watched or self._on_alert is None:
            self._reader.stop(wait=False)
        scene = self.scene
        scene.run, scene.rank, scene.picture, scene.window, scene.selected = (
            run,
            rank,
            Picture("opening"),
            Window(),
            None,
        )
        self._note, self._asked_row, self._asked_detail, self._asked_pinned = "", None, None, ()
        self._reader = self._new_reader()
        self._reader.start()
        self._renew()

    # ------------------------------------------------------------------ end

    def action_interrupt(self) -> None:
        """End the screen as Ctrl-C ends a command."""
        self._end_by(signal.SIGINT)

    def _hang_up(self) -> None:
        """End on SIGHUP. If the terminal is gone, die by the signal, because there is nowhere to print to."""
        if os.isatty(0):
            self._end_by(signal.SIGHUP)
        else:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGHUP)

    def _end_by(self, number: signal.Signals) -> None:
        self.signal = number
        self.exit()


def _too_small(width: int, height: int) -> str:
    return f"{width}×{height} cells; {MIN_WIDTH}×{MIN_HEIGHT} are needed. q quits."
