"""The commands `tail` and `replay`: an application on a terminal, one frame, or a line per update in a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TextIO

import polars as pl

from esper_analyzer.drawing.style import Style
from esper_analyzer.drawing.terminal_size import terminal_size
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.clock import REPLAY_SECS, replay_times
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import Picture
from esper_analyzer.live.ranks import RanksFeed
from esper_analyzer.measuring.places import not_recorded
from esper_analyzer.options import INTERVAL_SECS
from esper_analyzer.reading.errors import quiet_panics
from esper_analyzer.terminal.frame import draw_frame
from esper_analyzer.terminal.lines import RunLines, write_rows
from esper_analyzer.terminal.on_alert import AlertCommand
from esper_analyzer.terminal.others import Other
from esper_analyzer.terminal.scene import Chosen, Scene
from esper_schemas.cleaning import printable
from esper_schemas.console import has_reader, say
from esper_schemas.metric.severity import Thresholds
from esper_schemas.run.store import Place

_FRAMES_PER_SEC = 20


def once(
    run: JudgedRun,
    rank: int | None = None,
    stream: TextIO | None = None,
    *,
    others: Sequence[JudgedRun] = (),
    chosen: Chosen | None = None,
) -> int:
    """Print one frame of the screen, as large as the terminal or COLUMNS × LINES. Return the number of damages.

    Args:
        run: the run.
        rank: the rank to show and judge; None shows the first and judges all.
        stream: where to print it; standard output by default.
        others: runs to draw over it in the chart.
        chosen: what to show of them.

    Raises:
        UsageError: one of the runs has recorded nothing for the axis that is wanted.
    """
    stream, wish = stream or sys.stdout, chosen or Chosen()
    with quiet_panics():
        shown, picture = _finished(RanksFeed(run) if rank is None else LiveFeed(run, rank), wish)
        beside = [
            Other(other.header.run_id, _finished(LiveFeed(other, min(other.ranks(), default=0)), wish)[1])
            for other in others
        ]
    for one, its in ((run, picture), *zip(others, (other.picture for other in beside), strict=True)):
        if its.rows and its.places.ruler(wish.by) is None:
            raise not_recorded(printable(str(one.path)), wish.by)
    _write_frame(run, shown, picture, stream, beside, wish)
    return max([picture.damage, *(other.picture.damage for other in beside)])


def _finished(feed: LiveFeed, chosen: Chosen) -> tuple[int, Picture]:
    """Return the rank of a feed, and the picture when all of it is read that is to be shown."""
    try:
        picture = feed.finish()
        if picture.span is not None and chosen.metric not in picture.history.names:
            feed.read_detail(chosen.metric, picture.span[0], None)
        feed.read_pinned(tuple(name for name in chosen.pinned if name not in picture.history.names))
        return feed.rank, feed.picture()
    finally:
        feed.close()


def _write_frame(
    run: JudgedRun, rank: int, picture: Picture, stream: TextIO, others: Sequence[Other], chosen: Chosen
) -> None:
    width, height = terminal_size(stream)
    if stream.isatty():
        height -= 1  # the prompt that follows takes a line
    lines = draw_frame(
        run, rank, picture, width=width, height=height, style=Style.of(stream), others=others, chosen=chosen
    )
    stream.write("\n".join(lines) + "\n")
    stream.flush()


def follow(
    run: JudgedRun,
    rank: int | None = None,
    *,
    interval: float = INTERVAL_SECS,
    on_alert: str | None = None,
    is_new: bool = False,
    root: Place | None = None,
    stream: TextIO | None = None,
    others: Sequence[JudgedRun] = (),
    chosen: Chosen | None = None,
) -> int:
    """Follow a run: on a terminal as an application until the user quits, elsewhere a line per update until it ends.

    Return the number of damages.

    Args:
        run: the run.
        rank: the rank to follow and judge; None follows the first and judges all.
        interval: seconds between looks at the run.
        on_alert: shell command to run for each alert raised from now on; see `AlertCommand`.
        is_new: whether the run began after the tail; then all its alerts run the command.
        root: folder of the runs that the application lists; see `run_app`.
        stream: where to show it; standard output by default.
        others: runs to draw over it in the chart; elsewhere their lines come as well, each with the name of its run.
        chosen: what the application shows first.
    """
    alerts = AlertCommand(on_alert, run) if on_alert is not None else None
    try:
        with alerts or nullcontext():
            if stream is None and is_possible():
                return _follow_in_app(
                    run, rank, alerts, interval=interval, is_new=is_new, root=root, others=others, chosen=chosen
                )
            return _follow_as_lines(run, rank, alerts, interval, stream or sys.stdout, is_new=is_new, others=others)
    finally:
        _say_notices(alerts)


def is_possible() -> bool:
    """Whether the application can run: it draws on standard error and reads the keys from standard input."""
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    is_terminal = all(stream is not None and stream.isatty() for stream in streams)
    return is_terminal and os.environ.get("TERM") not in ("dumb", "unknown")


def _follow_in_app(
    run: JudgedRun,
    rank: int | None,
    alerts: AlertCommand | None,
    *,
    interval: float,
    is_new: bool,
    root: Place | None,
    others: Sequence[JudgedRun],
    chosen: Chosen | None,
) -> int:
    from esper_analyzer.terminal.app.start import run_app  # Textual is slow to import

    told = _alert_callback(alerts)
    return run_app(
        run, rank, interval=interval, on_alert=told, is_new=is_new, leave=_leave, root=root, others=others,
        chosen=chosen,
    )  # fmt: skip


def _alert_callback(alerts: AlertCommand | None) -> Callable[[Alert], object] | None:
    return None if alerts is None else lambda alert: alerts.put([alert])


def _leave(scene: Scene, last: Picture) -> None:
    """Leave the last frame of the screen in the terminal, with all runs that were in it."""
    run, rank = scene.run, scene.rank
    ending = run.ending(rank)
    picture = replace(last, status=ending.status, ending=ending) if last.status == "replay" else last
    _write_frame(run, rank, picture, sys.stdout, scene.others, scene.chosen)


def _say_notices(alerts: AlertCommand | None) -> None:
    for notice in alerts.notices() if alerts is not None else ():
        say(notice)


def _follow_as_lines(
    run: JudgedRun,
    rank: int | None,
    alerts: AlertCommand | None,
    interval: float,
    stream: TextIO,
    *,
    is_new: bool,
    others: Sequence[JudgedRun],
) -> int:
    told, is_named = _alert_callback(alerts), bool(others)
    with quiet_panics():
        followed = [RunLines(run, rank, stream, on_alert=told, is_new=is_new, is_named=is_named)]
        followed += [RunLines(other, rank, stream, is_named=True) for other in others]
    try:
        for one in followed:
            one.write_earlier()
        while True:
            began = time.monotonic()
            for one in followed:
                one.look()
            _say_notices(alerts)
            if all(one.has_ended for one in followed):
                break
            if not has_reader(stream):
                raise BrokenPipeError  # there may be nothing to write for hours
            time.sleep(max(0.0, interval - (time.monotonic() - began)))
        return max(one.end() for one in followed)
    finally:
        for one in followed:
            one.close()


@dataclass(frozen=True, slots=True)
class _Clock:
    """When each row of a replay is due: recorded time since the first row, divided by the speed."""

    speed: float | None
    span: float

    @property
    def at_once(self) -> bool:
        """Whether the replay runs as fast as possible."""
        return self.speed == 0.0 or self.span <= 0.0

    def due(self, elapsed: float) -> float:
        return elapsed / (self.speed or max(self.span / REPLAY_SECS, 1e-9))


def replay(
    run: JudgedRun,
    rank: int,
    *,
    speed: float | None = None,
    root: Place | None = None,
    stream: TextIO | None = None,
) -> int:
    """Show a run from its beginning, row by row, at its recorded speed. Return the number of damages.

    Args:
        run: the run.
        rank: the rank to show.
        speed: how many times faster than recorded; 0 means as fast as possible. By default the replay takes about
            25 seconds on a terminal, and is as fast as possible elsewhere.
        root: as for `follow`.
        stream: where to show it; standard output by default.
    """
    if stream is None and is_possible():
        from esper_analyzer.terminal.app.start import run_replay  # Textual is slow to import

        return run_replay(run, rank, speed=speed, leave=_leave, root=root)
    found = run.look(rank)
    rows = found.updates()
    with quiet_panics():
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
        write_rows(rows.slice(start, until - start), thresholds, stream)
        start = until


def _due_until(times: pl.Series, clock: _Clock, start: int, now: float) -> int:
    """Return the index after the last row due `now` seconds after the start; at full speed, 2 % of the rows a step."""
    if clock.at_once:
        return min(len(times), start + max(1, len(times) // 50))
    low, high = start, len(times)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if clock.due(times[middle]) <= now else (low, middle)
    return low
