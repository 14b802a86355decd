"""`tail` and `replay`: as an application on a terminal, as one frame, or as a line per update in a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TextIO

import polars as pl

from esper_analyzer.drawing.plain_lines import plain_lines
from esper_analyzer.drawing.style import Style, to_ascii
from esper_analyzer.drawing.terminal_size import terminal_size
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.clock import REPLAY_SECS, replay_times
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import Picture
from esper_analyzer.measuring.levels import Thresholds
from esper_analyzer.terminal.frame import draw_frame
from esper_analyzer.terminal.on_alert import AlertCommand
from esper_schemas.cleaning import printable
from esper_schemas.console import say

INTERVAL_SECS = 0.25

_FRAMES_PER_SEC = 20


def once(run: JudgedRun, rank: int, stream: TextIO | None = None) -> int:
    """Print one frame of the screen, as large as the terminal or COLUMNS × LINES; returns the number of damages."""
    stream = stream or sys.stdout
    feed = LiveFeed(run, rank)
    try:
        picture = feed.finish()
    finally:
        feed.close()
    _write_frame(run, rank, picture, stream)
    return picture.damage


def _write_frame(run: JudgedRun, rank: int, picture: Picture, stream: TextIO) -> None:
    width, height = terminal_size(stream)
    if stream.isatty():
        height -= 1  # the prompt that follows takes a line
    lines = draw_frame(run, rank, picture, width=width, height=height, style=Style.of(stream))
    stream.write("\n".join(lines) + "\n")
    stream.flush()


def follow(
    run: JudgedRun,
    rank: int,
    *,
    interval: float = INTERVAL_SECS,
    on_alert: str | None = None,
    is_new: bool = False,
    stream: TextIO | None = None,
) -> int:
    """Show a run: on a terminal as an application, until the user leaves; else a line per update, until it ends.

    Returns the number of damages.

    Args:
        run: the run.
        rank: the rank to follow.
        interval: seconds between looks at the run.
        on_alert: shell command that is run for each alert raised from now on; see `AlertCommand`.
        is_new: whether the run began after the tail, so that all its alerts count.
        stream: where to show it; standard output by default.
    """
    alerts = AlertCommand(on_alert, run, rank) if on_alert is not None else None
    try:
        with alerts or nullcontext():
            if stream is None and is_possible():
                return _follow_in_app(run, rank, alerts, interval=interval, is_new=is_new)
            return _follow_as_lines(run, rank, alerts, interval, stream or sys.stdout, is_new=is_new)
    finally:
        _say_notices(alerts)


def is_possible() -> bool:
    """Whether there is a terminal for the application, which draws on standard error and reads standard input."""
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    is_terminal = all(stream is not None and stream.isatty() for stream in streams)
    return is_terminal and os.environ.get("TERM") not in ("dumb", "unknown")


def _follow_in_app(run: JudgedRun, rank: int, alerts: AlertCommand | None, *, interval: float, is_new: bool) -> int:
    from esper_analyzer.terminal.app.start import run_app  # Textual is slow to import

    return run_app(run, rank, interval=interval, on_alert=_teller(alerts), is_new=is_new, leave=_leave)


def _teller(alerts: AlertCommand | None) -> Callable[[Alert], object] | None:
    return None if alerts is None else lambda alert: alerts.put([alert])


def _leave(run: JudgedRun, rank: int, last: Picture) -> None:
    """What was last on the screen stays in the terminal."""
    picture = replace(last, status=run.status(rank)) if last.status == "replay" else last
    _write_frame(run, rank, picture, sys.stdout)


def _say_notices(alerts: AlertCommand | None) -> None:
    for notice in alerts.notices() if alerts is not None else ():
        say(notice)


def _follow_as_lines(
    run: JudgedRun, rank: int, alerts: AlertCommand | None, interval: float, stream: TextIO, *, is_new: bool
) -> int:
    feed = LiveFeed(run, rank, charted=(), on_alert=_teller(alerts), is_new=is_new)
    name, thresholds = printable(run.header.run_id), run.settings.thresholds
    try:
        _write_rows(feed.take_earlier(), thresholds, stream)  # what has been recorded before is no news
        said = ""
        while True:
            began = time.monotonic()
            feed.look()
            if feed.new_rows.height:
                _write_rows(feed.new_rows.lazy(), thresholds, stream)
            while feed.work():
                pass
            _say_notices(alerts)
            now = feed.status if feed.rows or feed.status == "gone" else "waiting for the first update"
            if now != said and (said or now != "live"):
                say(f"{name}: {now}")
            said = now
            if feed.has_ended:
                break
            time.sleep(max(0.0, interval - (time.monotonic() - began)))
        feed.check()
        verdict = feed.picture().verdict
        if feed.rows and verdict is not None:
            say(f"{name}: verdict {verdict.level}")
    finally:
        feed.close()
    return feed.damage


def _write_rows(rows: pl.LazyFrame, thresholds: Thresholds, stream: TextIO) -> None:
    text = "".join(f"{line}\n" for line in plain_lines(rows, thresholds))
    stream.write(text if Style.of(stream).unicode else to_ascii(text))
    stream.flush()


@dataclass(frozen=True, slots=True)
class _Clock:
    """When each row of a replay is due: recorded time since the first row, divided by the speed."""

    speed: float | None
    span: float

    @property
    def at_once(self) -> bool:
        """Whether the replay is as fast as can be."""
        return self.speed == 0.0 or self.span <= 0.0

    def due(self, elapsed: float) -> float:
        return elapsed / (self.speed or max(self.span / REPLAY_SECS, 1e-9))


def replay(run: JudgedRun, rank: int, *, speed: float | None = None, stream: TextIO | None = None) -> int:
    """Show a run from its beginning, row by row, in the rhythm of its recording; returns the number of damages.

    Args:
        run: the run.
        rank: the rank to show.
        speed: how many times faster than recorded; 0 as fast as possible. By default such that it takes about
            25 seconds on a terminal, and as fast as possible elsewhere.
        stream: where to show it; standard output by default.
    """
    if stream is None and is_possible():
        from esper_analyzer.terminal.app.start import run_replay  # Textual is slow to import

        return run_replay(run, rank, speed=speed, leave=_leave)
    found = run.look(rank)
    rows = found.updates()
    times = replay_times(rows.select("wall_time").collect().to_series())
    clock = _Clock(0.0 if speed is None else speed, float(times.max() or 0.0))  # type: ignore[arg-type]
    _replay_as_lines(rows, run.settings.thresholds, times, clock, stream or sys.stdout)
    return found.damage


def _replay_as_lines(
    rows: pl.LazyFrame, thresholds: Thresholds, times: pl.Series, clock: _Clock, stream: TextIO
) -> None:
    began, start = time.monotonic(), 0
    while start < len(times):
        until = _due_until(times, clock, start, time.monotonic() - began)
        if until == start:
            time.sleep(1.0 / _FRAMES_PER_SEC)
            continue
        _write_rows(rows.slice(start, until - start), thresholds, stream)
        start = until


def _due_until(times: pl.Series, clock: _Clock, start: int, now: float) -> int:
    """Index after the last row that is due `now` seconds after the beginning; as fast as possible is 2 % a step."""
    if clock.at_once:
        return min(len(times), start + max(1, len(times) // 50))
    low, high = start, len(times)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if clock.due(times[middle]) <= now else (low, middle)
    return low
