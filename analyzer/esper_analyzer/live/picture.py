"""A picture: the state of one rank at one moment, as immutable values. A feed makes it, and a screen draws it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from esper_analyzer.judging import signals
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.drift import LONG
from esper_analyzer.measuring.history import History
from esper_analyzer.measuring.levels import levels_of
from esper_analyzer.measuring.places import Places
from esper_analyzer.measuring.snapshot import MetricState, as_number, state_of, steps_per_sec, updates_per_sec
from esper_schemas.metric.catalogue import EPISODE_RETURN, LOSS_RATIO, SLIDING_RETURN, leading
from esper_schemas.metric.metrics import HISTORY_LENGTH, Level
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds
from esper_schemas.run.ending import Ending, describe_ending, status_word

CHARTED = tuple(metric.name for metric in leading())
"""Metrics whose whole course is always in the picture; the course of any other metric is read on request."""

EXPLAINING = frozenset(signals.has_something_to_explain().meta.root_names())
"""Columns that say whether there is something to explain."""

RECENT_ROWS = 512
MAX_EVENTS = 1000
"""At most this many attempts are listed, and gaps named in a chart: the newest."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the list of alerts: an alert, or the start of an attempt.

    Attributes:
        update: the update at which it happened, or was first raised.
        level: level of an alert; unknown for an attempt.
        metric: the metric that it is about.
        message: the whole message.
        alert: the alert; None for an attempt.
    """

    update: int
    level: Level
    metric: str
    message: str
    alert: Alert | None = None

    @classmethod
    def of(cls, alert: Alert) -> Event:
        """Make the event for an alert."""
        return cls(alert.first, alert.level, alert.metric, alert.message, alert)

    @property
    def rank(self) -> int | None:
        """The rank that it is about, if the list is on several."""
        return None if self.alert is None else self.alert.rank

    @property
    def key(self) -> tuple[str, int | None]:
        """What stays the same of it from one picture to the next."""
        return (self.message, None) if self.alert is None else (self.alert.rule, self.alert.rank)

    @property
    def is_over(self) -> bool:
        """Whether it is over."""
        return self.alert is None or not self.alert.lasts


@dataclass(frozen=True, slots=True)
class Detail:
    """The course of one metric, read from the run for the updates from `first` to `last` (None: to the end)."""

    metric: str
    first: int
    last: int | None
    history: History

    def covers(self, metric: str, first: int, last: int) -> bool:
        """Whether it has these updates of the metric at a suitable resolution."""
        if metric != self.metric or first < self.first or (self.last is not None and last > self.last):
            return False
        span = self.history.span
        return self.history.width == 1 or span is None or span[1] - span[0] <= 8 * (last - first + 1)


@dataclass(frozen=True)
class Picture:
    """The state of one rank after the rows so far.

    Attributes:
        status: status of the rank, or what is done with it: `replay`.
        ending: how the rank ended, or that it goes on; None if the run is gone, or before the end of a replay.
        rows: number of rows so far.
        total: number of rows known to exist; more than `rows` while reading, or in a replay.
        recent: the newest 512 rows, all columns and Lv/Lp.
        history: the course of the metrics that the feed keeps, `CHARTED` on a screen; empty until it has been read.
        pinned: the course of further metrics, if they were requested.
        places: where the updates are on each axis; empty until the history has been read.
        events: one for each rule that was raised, in the order of a list, then the newest attempts.
        gaps: the newest ranges of missing updates.
        verdict: the verdict; None while the rows are still being judged.
        judged: number of rows that have been judged.
        damage: number of faults that are damage.
        detail: a part of the run at a higher resolution, if it was requested.
        row: the row at the cursor, if it was requested: its update, and its values or None if there is no such row.
    """

    status: str
    rows: int = 0
    total: int = 0
    recent: pl.DataFrame = field(default_factory=pl.DataFrame)
    history: History = field(default_factory=lambda: History.empty(CHARTED))
    pinned: History = field(default_factory=lambda: History.empty(()))
    places: Places = field(default_factory=Places)
    events: tuple[Event, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()
    verdict: Verdict | None = None
    judged: int = 0
    damage: int = 0
    detail: Detail | None = None
    row: tuple[int, Mapping[str, Any] | None] | None = None
    thresholds: Thresholds = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    ending: Ending | None = None

    def described_ending(self, *, is_imported: bool) -> str:
        """Return the status for people, and why the rank ended where that is known; one line that is safe to print."""
        if self.ending is None or self.ending.reason is None:
            return status_word(self.status, is_imported=is_imported)
        said = describe_ending(*self.ending, is_imported=is_imported)
        return said if self.status == self.ending.status else f"{self.status}, {said}"

    @property
    def last_update(self) -> int | None:
        """The newest update."""
        return int(self.recent["update"][-1]) if self.recent.height else None

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last update, as far as they are known."""
        if self.history.frame.height:
            return self.history.span
        if not self.recent.height:
            return None
        return int(self.recent["update"][0]), int(self.recent["update"][-1])

    @property
    def return_name(self) -> str:
        """The column that has the return: a sliding mean of episodes where the newest rows measured no other."""
        return SLIDING_RETURN if self.last(EPISODE_RETURN) is None else EPISODE_RETURN

    @property
    def has_return(self) -> bool:
        """Whether the newest rows measured the return, or a sliding mean of it."""
        return self.last(self.return_name) is not None

    @cached_property
    def levels(self) -> Mapping[str, Level]:
        """Level of the newest value of each `CHARTED` metric, computed once however often it is drawn."""
        return levels_of({name: self.last(name) for name in CHARTED}, CHARTED, self.thresholds)

    @cached_property
    def is_explainable(self) -> bool:
        """Whether a critic could explain anything of the returns of the newest row, beside those of the newest rows.

        After a task was solved it cannot: returns hardly vary, and explained variance says little.
        """
        if not self.recent.height or not EXPLAINING.issubset(self.recent.columns):
            return True
        return bool(self.recent.select(signals.has_something_to_explain()).to_series()[-1])

    def state(self, name: str, length: int = HISTORY_LENGTH) -> MetricState:
        """Return last value, history, trend and level of a metric, from the newest rows."""
        values, last = [], None
        if name in self.recent.columns and self.recent.height:
            values = self.recent[name].drop_nulls().tail(max(length, LONG.length)).to_list()
            last = self.recent[name][-1]
        return state_of(name, values, last, "unknown" if last is None else self.level(name), length)

    def last(self, name: str) -> float | None:
        """Return the newest measured value of a metric in the newest rows; None if there is none.

        Lv/Lp is that of the last update: an earlier one says nothing of losses that are not finite.
        """
        if name not in self.recent.columns or not self.recent.height:
            return None
        values = self.recent[name] if name == LOSS_RATIO else self.recent[name].drop_nulls()
        return as_number(values[-1]) if len(values) else None

    def course(self, name: str) -> Buckets | None:
        """Return the whole course of a metric; None if it is not in the picture."""
        return next((kept.of(name) for kept in (self.history, self.pinned) if name in kept.names), None)

    def level(self, name: str) -> Level:
        """Return the level of the newest value of any metric."""
        levels = self.levels
        return levels[name] if name in levels else levels_of({name: self.last(name)}, (name,), self.thresholds)[name]

    def age_secs(self, now: float | None = None) -> float | None:
        """Return the seconds from the newest row until `now` (seconds since 1970); None if the time is unknown."""
        if not self.recent.height:
            return None
        recorded = self.recent["wall_time"].tail(1).dt.epoch("us").item()
        return None if recorded is None else (time.time() if now is None else now) - recorded / 1e6

    @cached_property
    def updates_per_sec(self) -> float | None:
        """Speed over the last 50 updates of the current attempt; None if it is unknown."""
        return updates_per_sec(self.recent)

    @cached_property
    def steps_per_sec(self) -> float | None:
        """Environment steps per second over the same updates; None if it is unknown."""
        return steps_per_sec(self.recent)
