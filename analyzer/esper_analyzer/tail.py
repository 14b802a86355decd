"""`tail` and `replay`: the same screen, fed by a run that is being written or by the rows of one that was."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TextIO

import polars as pl

from esper_analyzer.follow import LiveRun
from esper_analyzer.health import Thresholds, level, loss_ratio
from esper_analyzer.on_alert import AlertCommand
from esper_analyzer.run import Run, Status
from esper_analyzer.screen import Frame, draw_screen, plain_line
from esper_analyzer.style import Style, clean, to_ascii
from esper_analyzer.terminal import FullScreen, full_screen, terminal_size
from esper_analyzer.view import View

INTERVAL_SECS = 0.25
STATUS_INTERVAL_SECS = 1.0
REPLAY_SECS = 25.0
"""A replay takes about this long, unless a speed is given."""

_FRAMES_PER_SEC = 20
_PLAIN_COLUMNS = ("update", "value_loss", "policy_loss", "skipped")


def once(run: Run, rank: int, stream: TextIO | None = None) -> int:
    """Print one frame of the screen, as large as the terminal or COLUMNS × LINES; returns the number of damages."""
    stream = stream or sys.stdout
    live = LiveRun(run, rank)
    live.refresh()
    live.check()
    width, height = terminal_size(stream)
    frame = Frame(run, rank, live.status(), damage=live.damage)
    if stream.isatty():
        height -= 1  # the prompt that follows takes a line
    stream.write("\n".join(draw_screen(live.view, frame, width=width, height=height, style=Style.of(stream))) + "\n")
    stream.flush()
    live.close()
    return live.damage


def follow(
    run: Run,
    rank: int,
    *,
    interval: float = INTERVAL_SECS,
    on_alert: str | None = None,
    is_new: bool = False,
    stream: TextIO | None = None,
) -> int:
    """Show a run until it ends; full screen on a terminal, else one line per update. Returns the number of damages.

    Args:
        run: the run.
        rank: the rank to follow.
        interval: seconds between looks at the run.
        on_alert: shell command that is run for each alert raised from now on; see `AlertCommand`.
        is_new: whether the run began after the tail, so that all its alerts count.
        stream: where to show it; standard output by default.
    """
    stream = stream or sys.stdout
    live = LiveRun(run, rank)
    alerts = AlertCommand(on_alert, run, rank) if on_alert is not None else None
    try:
        with alerts or nullcontext():
            live.refresh()  # what has been recorded before is no news
            if alerts is not None and is_new:
                alerts.put(live.raised)
            if stream.isatty():
                with full_screen(stream) as screen:
                    _follow_on_screen(live, alerts, screen, interval, stream)
                once(run, rank, stream)
            else:
                _follow_as_lines(live, alerts, interval, stream)
            live.check()
    finally:
        live.close()
        _say_notices(alerts)
    return live.damage


def _refresh(live: LiveRun, alerts: AlertCommand | None) -> pl.DataFrame:
    rows = live.refresh()
    if alerts is not None:
        alerts.put(live.raised)
    return rows


def _say_notices(alerts: AlertCommand | None) -> None:
    for notice in alerts.notices() if alerts is not None else ():
        print(clean(notice), file=sys.stderr)


def _follow_on_screen(
    live: LiveRun, alerts: AlertCommand | None, screen: FullScreen, interval: float, stream: TextIO
) -> None:
    drawn: object = None
    for status in _looks(live, interval):
        _refresh(live, alerts)
        state = (terminal_size(stream), status, live.view.rows, live.view.last_seq)
        if state == drawn:
            continue
        drawn, (width, height) = state, state[0]
        waiting = "waiting for the first update, " if not live.view.rows else ""
        frame = Frame(live.run, live.rank, status, f"{waiting}Ctrl-C to leave", live.damage)
        screen.draw(draw_screen(live.view, frame, width=width, height=height, style=Style.of(stream)))


def _follow_as_lines(live: LiveRun, alerts: AlertCommand | None, interval: float, stream: TextIO) -> None:
    thresholds = live.run.settings.thresholds
    _write_rows(live.run.updates(live.rank).filter(pl.col("seq") <= live.view.last_seq), thresholds, stream)
    said = ""
    for status in _looks(live, interval):
        rows = _refresh(live, alerts)
        if rows.height:
            _write_rows(rows.lazy(), thresholds, stream)
        _say_notices(alerts)
        now = "waiting for the first update" if not live.view.rows else status
        if now != said and (said or now != "live"):
            print(f"{live.run.header.run_id}: {now}", file=sys.stderr)
        said = now


def _looks(live: LiveRun, interval: float) -> Iterator[Status]:
    """One status for each look at the run, `interval` seconds apart; the last one is final, after the last row.

    The status is asked for before the rows are read, so that no row is left when it says that the run has ended.
    """
    status: Status = live.status()
    asked = time.monotonic()
    while True:
        began = time.monotonic()
        if status in ("live", "stale") and began - asked >= STATUS_INTERVAL_SECS:
            status, asked = live.status(), began
        yield status
        if status not in ("live", "stale"):
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


def replay(run: Run, rank: int, *, speed: float | None = None, stream: TextIO | None = None) -> None:
    """Show a run from its beginning, row by row, in the rhythm of its recording.

    Args:
        run: the run.
        rank: the rank to show.
        speed: how many times faster than recorded; 0 as fast as possible. By default such that it takes about
            25 seconds on a terminal, and as fast as possible elsewhere.
        stream: where to show it; standard output by default.
    """
    stream = stream or sys.stdout
    rows = run.updates(rank)
    times = replay_times(rows.select("wall_time").collect().to_series())
    clock = _Clock(speed if speed is not None or stream.isatty() else 0.0, float(times.max() or 0.0))  # type: ignore[arg-type]
    if not stream.isatty():
        _replay_as_lines(rows, run.settings.thresholds, times, clock, stream)
        return
    with full_screen(stream) as screen:
        _replay_on_screen(run, rank, rows, times, clock, screen, stream)
    once(run, rank, stream)


def replay_times(wall_time: pl.Series) -> pl.Series:
    """Seconds from the first row to each row; pauses between attempts and clocks set back take no time."""
    gaps = wall_time.diff().dt.total_microseconds().fill_null(0).cast(pl.Float64) / 1e6
    usual = gaps.filter(gaps > 0.0).median()
    longest = 100.0 * usual if isinstance(usual, float) else 0.0
    return gaps.clip(0.0, longest).cum_sum()


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


def _replay_on_screen(
    run: Run, rank: int, rows: pl.LazyFrame, times: pl.Series, clock: _Clock, screen: FullScreen, stream: TextIO
) -> None:
    view = View(run.settings)
    began, start = time.monotonic(), 0
    status = "replay"
    while start < len(times):
        until = _due_until(times, clock, start, time.monotonic() - began)
        if until > start:
            view.add(rows.slice(start, until - start))
            start = until
        width, height = terminal_size(stream)
        note = f"replay, {100 * start // len(times)} % of {len(times)} updates, Ctrl-C to leave"
        frame = Frame(run, rank, status, note)
        screen.draw(draw_screen(view, frame, width=width, height=height, style=Style.of(stream)))
        if not clock.at_once:
            time.sleep(1.0 / _FRAMES_PER_SEC)


def _due_until(times: pl.Series, clock: _Clock, start: int, now: float) -> int:
    """Index after the last row that is due `now` seconds after the beginning; as fast as possible is 2 % a step."""
    if clock.at_once:
        return min(len(times), start + max(1, len(times) // 50))
    low, high = start, len(times)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if clock.due(times[middle]) <= now else (low, middle)
    return low
