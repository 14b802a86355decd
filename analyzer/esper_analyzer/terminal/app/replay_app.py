"""The screen of `replay`: the screen of `tail` plus a time line, with keys to play, pause and move."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from esper_analyzer.drawing import panels
from esper_analyzer.drawing.style import Style
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.clock import Clock
from esper_analyzer.live.feed import Feed
from esper_analyzer.live.recorded import RecordedFeed
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.keys import HELP, REPLAY_HELP, REPLAY_HINTS, REPLAY_KEYS
from esper_schemas.run.store import Place

FRAMES_PER_SEC = 10
"""How often a playing replay redraws."""

_INTERVAL_SECS = 10.0  # a replay has new pictures only when it asks for them


class ReplayApp(EsperApp):
    """One rank of a run, shown from its beginning."""

    KEY_HINTS: ClassVar[tuple[str, ...]] = REPLAY_HINTS
    HELP_TEXT: ClassVar[str] = HELP + REPLAY_HELP
    BINDINGS: ClassVar[list[BindingType]] = [Binding(key, action, show=False) for key, action in REPLAY_KEYS.items()]

    def __init__(
        self, run: JudgedRun, rank: int, *, style: Style, speed: float | None = None, root: Place | None = None
    ) -> None:
        self._speed = speed
        self._ticked = time.monotonic()
        super().__init__(run, rank, style=style, interval=_INTERVAL_SECS, root=root)

    def on_mount(self) -> None:
        """Start the clock; Textual calls `on_mount` of the base class as well."""
        self.screen.add_class("-replay")
        self.set_interval(1 / FRAMES_PER_SEC, self._tick)

    def _new_feed(self, run: JudgedRun, rank: int, on_alert: Callable[[Alert], object] | None) -> Feed:
        return RecordedFeed(run, rank, speed=self._speed)

    def _is_chart_due(self) -> bool:
        return True

    def _draw_time(self, width: int, height: int) -> list[Text]:
        clock = self._clock
        return [] if clock is None else [panels.time_line(clock, width)]

    @property
    def _clock(self) -> Clock | None:
        feed = self._reader.feed
        return feed.clock if isinstance(feed, RecordedFeed) else None

    def _tick(self) -> None:
        now = time.monotonic()
        passed, self._ticked = now - self._ticked, now
        if self._clock is not None and self._clock.playing:
            self._clock.advance(passed)
            self._seek()

    def _seek(self, to: int | None = None) -> None:
        """Show the moment of the clock, or jump to another one and pause."""
        feed, clock = self._reader.feed, self._clock
        if not isinstance(feed, RecordedFeed) or clock is None:
            return
        if to is not None:
            clock.seek(to)
            clock.playing = False
        feed.seek(clock.position)
        self._reader.wake()
        self.screen_stack[0].query("#time").refresh()

    def action_play(self) -> None:
        """Play or pause."""
        if self._clock is not None:
            self._clock.toggle()
            self._note = ""
            self._seek()

    def action_speed(self, factor: float) -> None:
        """Multiply the speed by `factor`."""
        if self._clock is not None:
            self._clock.scale(factor)
            self._renew()

    def action_timing(self) -> None:
        """Switch between the recorded speed and a fixed rate."""
        if self._clock is not None:
            self._clock.toggle_timing()
            self._renew()

    def action_step(self, rows: int) -> None:
        """Move by one update, forward or back."""
        if self._clock is not None:
            self._seek(self._clock.position + rows)

    def action_next_alert(self, later: bool) -> None:
        """Go to where the next or previous alert is raised, and pause."""
        feed, clock = self._reader.feed, self._clock
        if not isinstance(feed, RecordedFeed) or clock is None:
            return
        to = feed.alert_after(clock.position) if later else feed.alert_before(clock.position)
        if to is not None:
            self.scene.selected, self._note = None, ""
            self._seek(to)
            return
        self._note = f"no {'later' if later else 'earlier'} alert"
        self._note += "" if feed.is_judged or not later else " found yet; still judging"
        self._renew()
