"""A run as plain lines, one per update, for `tail` and `replay` in a pipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

import polars as pl

from esper_analyzer.drawing.plain_lines import plain_lines
from esper_analyzer.drawing.style import Style, to_ascii
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import level_and_rank
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import Picture
from esper_analyzer.live.ranks import RanksFeed
from esper_analyzer.reading.errors import quiet_panics
from esper_schemas.cleaning import printable
from esper_schemas.console import say
from esper_schemas.metric.severity import Thresholds
from esper_schemas.run.ending import describe_ending


class RunLines:
    """Writes the rows of a run as they are recorded, and says its status, in the end its alerts and its verdict."""

    def __init__(
        self,
        run: JudgedRun,
        rank: int | None,
        stream: TextIO,
        *,
        on_alert: Callable[[Alert], object] | None = None,
        is_new: bool = False,
        is_named: bool = False,
    ) -> None:
        """Begin to follow a run.

        Args:
            run, rank: what to follow; no rank follows the first, and judges all.
            stream: where to write the rows.
            on_alert, is_new: as for `LiveFeed`.
            is_named: whether each line begins with the name of the run.
        """
        if rank is None:
            self._feed: LiveFeed = RanksFeed(run, charted=(), on_alert=on_alert, is_new=is_new)
        else:
            self._feed = LiveFeed(run, rank, charted=(), on_alert=on_alert, is_new=is_new)
        self._name, self._thresholds = printable(run.header.run_id), run.settings.thresholds
        self._prefix = f"{self._name}: " if is_named else ""
        self._stream = stream
        self._shown_status = ""

    @property
    def has_ended(self) -> bool:
        """Whether no row can follow."""
        return self._feed.has_ended

    def write_earlier(self) -> None:
        """Write the rows from before the tail began."""
        write_rows(self._feed.take_earlier(), self._thresholds, self._stream, self._prefix)

    def look(self) -> None:
        """Write what is new, and say what has become of the run."""
        feed = self._feed
        feed.look()
        if feed.new_rows.height:
            write_rows(feed.new_rows.lazy(), self._thresholds, self._stream, self._prefix)
        while feed.work():
            pass
        now = "waiting for the first update"
        if feed.rows or feed.ending is None:
            now = "gone" if feed.ending is None else describe_ending(*feed.ending)
        if now != self._shown_status and (self._shown_status or now != "live"):
            say(f"{self._name}: {now}")
        self._shown_status = now

    def end(self) -> int:
        """Say how the run has ended. Return the number of faults that are damage."""
        self._feed.check()
        last = self._feed.picture()
        if self._feed.rows and last.verdict is not None:
            _say_end(self._name, last, last.verdict)
        return last.damage

    def close(self) -> None:
        """Close what is open."""
        self._feed.close()


def _say_end(name: str, picture: Picture, verdict: Verdict) -> None:
    """Say the verdict, and one line for each rule that was ever raised."""
    for event in picture.events:
        if event.alert is not None:
            of_rank = "" if event.rank is None else f"rank {event.rank}: "
            alert = f"{of_rank}{event.alert.title}, {event.alert.course}"
            say(f"{name}: {event.level} first at update {event.update}: {alert}")
    say(f"{name}: verdict {level_and_rank(verdict)}")


def write_rows(rows: pl.LazyFrame, thresholds: Thresholds, stream: TextIO, prefix: str = "") -> None:
    """Write a line for each of these rows, all with the same beginning."""
    with quiet_panics():
        text = "".join(f"{prefix}{line}\n" for line in plain_lines(rows, thresholds))
    stream.write(text if Style.of(stream).unicode else to_ascii(text))
    stream.flush()
