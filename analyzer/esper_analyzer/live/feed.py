"""Where the pictures of a screen come from: what a live run and a replay have in common. It knows no screen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from polars import selectors

from esper_analyzer.judging.alerts import gap_alerts
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import RECENT_ROWS, Detail, Event, Picture
from esper_analyzer.measuring.history import history_of
from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.summary import in_calendar
from esper_analyzer.reading.segment_index import SCHEMA, Piece
from esper_schemas.errors import NotARunError
from esper_schemas.metric.catalogue import LOSS_RATIO

MANY_ROWS = 4096
JUDGED_AT_ONCE = 16_384
"""Rows that are judged in one piece of work: about a tenth of a second."""


class Feed(ABC):
    """Pictures of one rank of a run. All of it is used from one thread, except where it says otherwise.

    Attributes:
        run, rank: where the rows come from.
    """

    def __init__(self, run: JudgedRun, rank: int) -> None:
        self.run = run
        self.rank = rank
        self._detail: Detail | None = None
        self._row: tuple[int, Mapping[str, Any] | None] | None = None

    @property
    def is_long(self) -> bool:
        """Whether there are so many rows that one more hardly changes a picture."""
        return False

    @abstractmethod
    def look(self) -> bool:
        """Take in what is new; whether the picture is another one now."""

    @abstractmethod
    def work(self) -> bool:
        """Do a tenth of a second of what is left to do; False if nothing was left."""

    @abstractmethod
    def picture(self) -> Picture:
        """The state now."""

    def finish(self) -> Picture:
        """The picture once nothing is left to do; for when the screen is closed."""
        while self.work():
            pass
        return self.picture()

    def close(self) -> None:  # noqa: B027 (most feeds keep nothing open)
        """Give back what is open."""

    def read_detail(self, metric: str, first: int, last: int | None) -> None:
        """Have a part of a metric's course in the pictures to come."""
        rows = self._between(first, last)
        names = (metric,)
        columns = ["update", "value_loss", "policy_loss"] + [metric] * (metric not in (LOSS_RATIO, "update"))
        known = rows.collect_schema().names()
        rows = rows.select(selectors.by_name(*dict.fromkeys(name for name in columns if name in known)))
        self._detail = Detail(metric, first, last, history_of(rows, names))

    def read_row(self, update: int | None) -> None:
        """Have the exact values of one update in the pictures to come."""
        found = None
        if update is not None:
            rows = self._between(update, update).with_columns(loss_ratio(), in_calendar(selectors.temporal())).collect()
            found = (update, rows.row(0, named=True) if rows.height else None)
        self._row = found

    def _between(self, first: int, last: int | None) -> pl.LazyFrame:
        inside = pl.col("update") >= first
        if last is not None:
            inside &= pl.col("update") <= last
        return self._all_rows().filter(inside)

    def _all_rows(self) -> pl.LazyFrame:
        """The rows that count, as they are now; none if the run is gone."""
        try:
            return self.run.updates(self.rank)
        except NotARunError:
            return pl.LazyFrame(schema=SCHEMA)


def data_events(gaps: Iterable[tuple[int, int]], attempts: Iterable[tuple[int, int]]) -> list[Event]:
    """The events of missing updates and of attempts after the first."""
    found = [Event.of_gap(alert) for gap in gaps for alert in gap_alerts([gap])]
    for attempt, update in attempts:
        if attempt:
            found.append(Event(update, "unknown", "attempt", f"Attempt {attempt} goes on from update {update}."))
    return found


def end_of(rows: pl.LazyFrame, pieces: Sequence[Piece]) -> pl.DataFrame:
    """The newest 512 rows, with Lv/Lp, reading as few of the segments before them as can be."""
    found, wanted = 0, 4 * RECENT_ROWS
    first = None
    for piece in reversed(pieces):
        found += piece.rows
        first = piece.first_update if first is None else min(first, piece.first_update)
        if found >= wanted:
            end = rows.filter(pl.col("update") >= first).collect()
            if end.height >= RECENT_ROWS:
                return newest_rows(pl.DataFrame(), end)
            wanted = 4 * found  # a later attempt has superseded most of them
    return newest_rows(pl.DataFrame(), rows.collect())


def newest_rows(recent: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The newest 512 of these rows, with Lv/Lp."""
    new = rows.tail(RECENT_ROWS).with_columns(loss_ratio())
    return pl.concat([recent, new], how="diagonal").tail(RECENT_ROWS) if recent.height else new
