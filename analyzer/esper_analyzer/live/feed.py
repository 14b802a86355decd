"""The base class of feeds, which make the pictures of a live run or a replay; independent of any screen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from polars import selectors

from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import MAX_EVENTS, RECENT_ROWS, Detail, Event, Picture
from esper_analyzer.measuring.history import History, history_of
from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.summary import in_calendar
from esper_analyzer.reading.segment_index import SCHEMA, Piece
from esper_schemas.errors import NotARunError

MANY_ROWS = 4096
JUDGED_AT_ONCE = 16_384
"""Rows judged in one step of work, which takes about a tenth of a second."""


class Feed(ABC):
    """Makes pictures of one rank of a run. Use it from one thread, except for methods that say otherwise.

    Attributes:
        run, rank: where the rows come from.
    """

    def __init__(self, run: JudgedRun, rank: int) -> None:
        self.run = run
        self.rank = rank
        self._detail: Detail | None = None
        self._pinned = History.empty(())
        self._row: tuple[int, Mapping[str, Any] | None] | None = None

    @property
    def is_long(self) -> bool:
        """Whether there are so many rows that one more hardly changes a picture."""
        return False

    @abstractmethod
    def look(self) -> bool:
        """Read what is new; return whether the picture has changed."""

    @abstractmethod
    def work(self) -> bool:
        """Do about a tenth of a second of the remaining work; return False if none was left."""

    @abstractmethod
    def picture(self) -> Picture:
        """Return the state now."""

    def finish(self) -> Picture:
        """Do all remaining work and return the picture; for a screen that is being closed."""
        while self.work():
            pass
        return self.picture()

    def close(self) -> None:  # noqa: B027 (most feeds keep nothing open)
        """Close what is open."""

    def read_detail(self, metric: str, first: int, last: int | None) -> None:
        """Include a part of a metric's course in the following pictures."""
        self._detail = Detail(metric, first, last, _course(self._between(first, last), (metric,)))

    def read_pinned(self, metrics: tuple[str, ...]) -> None:
        """Include the whole course of these metrics in the following pictures, in place of those read so before."""
        self._pinned = _course(self._all_rows(), metrics) if metrics else History.empty(())

    def read_row(self, update: int | None) -> None:
        """Include the exact values of one update in the following pictures."""
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
        """Return the rows that count, as they are now; an empty frame if the run no longer exists."""
        try:
            return self.run.updates(self.rank)
        except NotARunError:
            return pl.LazyFrame(schema=SCHEMA)


def _course(rows: pl.LazyFrame, names: tuple[str, ...]) -> History:
    """Read the course of metrics, and no other column than it needs."""
    known = rows.collect_schema().names()
    columns = [name for name in ("update", "value_loss", "policy_loss", *names) if name in known]
    return history_of(rows.select(selectors.by_name(*dict.fromkeys(columns))), names)


def events_of(alerts: Iterable[Alert], attempts: Iterable[tuple[int, int]]) -> tuple[Event, ...]:
    """Make the events of alerts, and behind them those of the newest attempts after the first."""
    later = sorted(((update, attempt) for attempt, update in attempts if attempt))[-MAX_EVENTS:]
    begun = (
        Event(update, "unknown", "attempt", f"Attempt {attempt} goes on from update {update}.")
        for update, attempt in later
    )
    return (*map(Event.of, alerts), *begun)


def end_of(rows: pl.LazyFrame, pieces: Sequence[Piece]) -> pl.DataFrame:
    """Return the newest 512 rows, with Lv/Lp, from as few segments as possible."""
    found, wanted = 0, 4 * RECENT_ROWS
    first = None
    for piece in reversed(pieces):
        found += piece.rows
        first = piece.first_update if first is None else min(first, piece.first_update)
        if found >= wanted:
            end = rows.filter(pl.col("update") >= first).collect()
            if end.height >= RECENT_ROWS:
                return newest_rows(pl.DataFrame(), end)
            wanted = 4 * found  # a later attempt supersedes most of them
    return newest_rows(pl.DataFrame(), rows.collect())


def newest_rows(recent: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the newest 512 of these rows, with Lv/Lp."""
    new = rows.tail(RECENT_ROWS).with_columns(loss_ratio())
    return pl.concat([recent, new], how="diagonal").tail(RECENT_ROWS) if recent.height else new
