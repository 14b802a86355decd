"""`tail` and `replay`: the same screen, fed by a run that is being written or by the rows of one that was."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import polars as pl

from esper_analyzer.drawing.style import Style, to_ascii
from esper_analyzer.drawing.terminal_size import terminal_size
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.clock import replay_times
from esper_analyzer.live.follow import LiveRun
from esper_analyzer.live.view import View, view_of
from esper_analyzer.measuring.levels import Thresholds, level, loss_ratio
from esper_analyzer.reading.run_reader import GOING_ON, Status
from esper_analyzer.terminal.on_alert import AlertCommand
from esper_analyzer.terminal.screen import Frame, draw_screen, plain_line
from esper_schemas.cleaning import printable

if TYPE_CHECKING:
    from esper_analyzer.live.picture import Picture

INTERVAL_SECS = 0.25
STATUS_INTERVAL_SECS = 1.0
REPLAY_SECS = 25.0
"""A replay takes about this long, unless a speed is given."""

_FRAMES_PER_SEC = 20
_PLAIN_COLUMNS = ("update", "value_loss", "policy_loss", "skipped")


def once(run: JudgedRun, rank: int, stream: TextIO | None = None) -> int:
    """Print one frame of the screen, as large as the terminal or COLUMNS × LINES; returns the number of damages."""
    stream = stream or sys.stdout
    live = LiveRun(run, rank)
    try:
        live.refresh()
        _write_frame(live.view, Frame(run, rank, live.status(), verdict=live.verdict()), stream)
    finally:
        live.close()
    return live.damage


def _write_frame(view: View, frame: Frame, stream: TextIO) -> None:
    width, height = terminal_size(stream)
    if stream.isatty():
        height -= 1  # the prompt that follows takes a line
    stream.write("\n".join(draw_screen(view, frame, width=width, height=height, style=Style.of(stream))) + "\n")
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

    on_alert = None if alerts is None else lambda alert: alerts.put([alert])
    return run_app(run, rank, interval=interval, on_alert=on_alert, is_new=is_new, leave=_leave)


def _leave(run: JudgedRun, rank: int, last: Picture) -> None:
    """What was last on the screen stays in the terminal."""
    status = run.status(rank) if last.status == "replay" else last.status
    _write_frame(view_of(last, run.settings), Frame(run, rank, status, verdict=last.verdict), sys.stdout)


def _refresh(live: LiveRun, alerts: AlertCommand | None) -> pl.DataFrame:
    rows = live.refresh()
    if alerts is not None:
        alerts.put(live.raised)
    return rows


def _say_notices(alerts: AlertCommand | None) -> None:
    for notice in alerts.notices() if alerts is not None else ():
        print(printable(notice), file=sys.stderr)


def _follow_as_lines(
    run: JudgedRun, rank: int, alerts: AlertCommand | None, interval: float, stream: TextIO, *, is_new: bool
) -> int:
    live = LiveRun(run, rank)
    try:
        live.refresh()  # what has been recorded before is no news
        if alerts is not None and is_new:
            alerts.put(live.raised)
        thresholds = live.run.settings.thresholds
        _write_rows(live.take_earlier(), thresholds, stream)
        said = ""
        for status in _looks(live, interval):
            rows = _refresh(live, alerts)
            if rows.height:
                _write_rows(rows.lazy(), thresholds, stream)
            _say_notices(alerts)
            now = "waiting for the first update" if not live.view.rows else status
            if now != said and (said or now != "live"):
                print(f"{printable(live.run.header.run_id)}: {now}", file=sys.stderr)
            said = now
        live.check()
        if live.view.rows:
            print(f"{printable(live.run.header.run_id)}: verdict {live.verdict().level}", file=sys.stderr)
    finally:
        live.close()
    return live.damage


def _looks(live: LiveRun, interval: float) -> Iterator[Status]:
    """One status for each look at the run, `interval` seconds apart; the last one is final, after the last row.

    The status is asked for before the rows are read, so that no row is left when it says that the run has ended.
    """
    status: Status = live.status()
    asked = time.monotonic()
    while True:
        began = time.monotonic()
        if status in GOING_ON and began - asked >= STATUS_INTERVAL_SECS:
            status, asked = live.status(), began
        yield status
        if status not in GOING_ON:
            return
        time.sleep(max(0.0, interval - (time.monotonic() - began)))


def _write_rows(rows: pl.LazyFrame, thresholds: Thresholds, stream: TextIO) -> None:
    columns = rows.select(*_PLAIN_COLUMNS, loss_ratio(), level("value_loss", thresholds).alias("level"))
    lines = [plain_line(row, row["level"]) + "\n" for row in columns.collect().iter_rows(named=True)]
    text = "".join(lines)
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
