"""A picture: the state of one rank at one moment, as immutable values. A feed makes it, and a screen draws it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from esper_analyzer.judging.alerts import Alert, Episode
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.measuring.drift import LONG
from esper_analyzer.measuring.history import History
from esper_analyzer.measuring.levels import DEFAULT_THRESHOLDS, Thresholds, levels_of
from esper_analyzer.measuring.snapshot import MetricState, as_number, state_of, updates_per_sec
from esper_schemas.metric.catalogue import leading
from esper_schemas.metric.levels import level_at
from esper_schemas.metric.metrics import HISTORY_LENGTH, Level

CHARTED = tuple(metric.name for metric in leading())
"""Metrics whose whole course is always in the picture; the course of any other metric is read on request."""

RECENT_ROWS = 512
MAX_EVENTS = 1000
"""At most this many events are listed, the newest."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the list of alerts: an alert, missing updates, or the start of an attempt.

    Attributes:
        update: the update at which it happened.
        level: level of an alert; unknown for other events.
        metric: the metric that it is about.
        text: the message; empty for an alert, whose message is made only when it is shown.
        episode: the alert; None for other events.
    """

    update: int
    level: Level
    metric: str
    text: str = ""
    episode: Episode | None = None

    @classmethod
    def of(cls, episode: Episode) -> Event:
        """Make the event for an alert of the judge."""
        return cls(episode.update, level_at(episode.severity), episode.rule.metric, episode=episode)

    @classmethod
    def of_gap(cls, alert: Alert) -> Event:
        """Make the event for missing updates."""
        return cls(alert.update, alert.level, alert.metric, alert.message)

    @property
    def message(self) -> str:
        """The whole message."""
        return self.episode.alert().message if self.episode is not None else self.text

    def is_over(self, update: int) -> bool:
        """Whether the event was over at an update."""
        if self.episode is None:
            return True
        return self.episode.until is not None and self.episode.until <= update


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
        status: status of the rank.
        rows: number of rows so far.
        total: number of rows known to exist; more than `rows` while reading, or in a replay.
        recent: the newest 512 rows, all columns and Lv/Lp.
        history: the course of the metrics that the feed keeps, `CHARTED` on a screen; empty until it has been read.
        events: the newest events, in order of their updates.
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
    events: tuple[Event, ...] = ()
    verdict: Verdict | None = None
    judged: int = 0
    damage: int = 0
    detail: Detail | None = None
    row: tuple[int, Mapping[str, Any] | None] | None = None
    thresholds: Thresholds = field(default_factory=lambda: DEFAULT_THRESHOLDS)

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

    @cached_property
    def levels(self) -> Mapping[str, Level]:
        """Level of the newest value of each `CHARTED` metric, computed once however often it is drawn."""
        return levels_of({name: self.last(name) for name in CHARTED}, CHARTED, self.thresholds)

    def state(self, name: str, length: int = HISTORY_LENGTH) -> MetricState:
        """Return last value, history, trend and level of a `CHARTED` metric, from the newest rows."""
        values = []
        if name in self.recent.columns:
            values = self.recent[name].drop_nulls().tail(max(length, LONG.length)).to_list()
        return state_of(name, values, self.levels[name], length)

    def last(self, name: str) -> float | None:
        """Return the newest value of a metric in the newest rows; None if it was not measured there."""
        if name not in self.recent.columns:
            return None
        values = self.recent[name].drop_nulls()
        return as_number(values[-1]) if len(values) else None

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
