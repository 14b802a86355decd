"""What a screen shows of a run, in bounded memory: the newest rows, the course of the value loss, a few counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.judging.verdict import RunFacts, Verdict, conclude
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.drift import LONG
from esper_analyzer.measuring.levels import level_of, loss_ratio
from esper_analyzer.measuring.snapshot import MetricState, as_number, state_of, updates_per_sec
from esper_analyzer.measuring.summary import Value
from esper_analyzer.reading.gaps import gaps_in
from esper_schemas.metric.metrics import HISTORY_LENGTH

if TYPE_CHECKING:
    from esper_analyzer.live.picture import Picture

RECENT_ROWS = 512
CHART_METRIC = "value_loss"


class View:
    """The state of one rank after the rows added so far, which must come in the order of their updates.

    Its size depends only on how often updates are missing. Adding rows costs those rows only.

    Attributes:
        recent: the newest 512 rows, all columns and Lv/Lp.
        chart: smallest and largest value loss over all updates.
        rows: number of rows.
        last_update, last_seq: of the newest row; None if there is none.
        missing: the newest ranges of updates that are not there.
        dropped: rows that the recorder dropped, as the rows say.
        judge: the state of every rule.
    """

    def __init__(self, settings: Settings = DEFAULT_SETTINGS) -> None:
        self.settings = settings
        self.judge = Judge(settings.rules)
        self.recent = pl.DataFrame()
        self.chart = Buckets()
        self.rows = 0
        self.last_update: int | None = None
        self.last_seq = -1
        self.missing: list[tuple[int, int]] = []
        self.dropped = 0

    def add(self, rows: pl.LazyFrame) -> list[Episode]:
        """Take in rows with the columns of a run, whose updates rise and come after those so far.

        Returns:
            What the judge raised in these rows.
        """
        rows = rows.with_columns(loss_ratio())
        counts = rows.select(
            pl.len(), pl.col("seq").max(), pl.col("dropped_before").sum(), last=pl.col("update").last()
        ).collect()
        count, last_seq, dropped, last_update = counts.row(0)
        if not count:
            return []
        self.missing += gaps_in(rows, self.last_update)
        self.chart.add(rows.select("update", CHART_METRIC), CHART_METRIC)
        self.recent = pl.concat([self.recent, rows.tail(RECENT_ROWS).collect()], how="diagonal").tail(RECENT_ROWS)
        self.rows += count
        self.dropped += dropped
        self.last_update = last_update
        self.last_seq = max(self.last_seq, last_seq)
        return list(self.judge.advance_all(rows))

    def state(self, name: str, length: int = HISTORY_LENGTH) -> MetricState:
        """Last value, history, trend and level of a metric, or of `loss_ratio`, from the newest rows."""
        values: list[Value] = []
        if name in self.recent.columns:
            values = self.recent[name].alias("values").drop_nulls().tail(max(length, LONG.length)).to_list()
        last = as_number(values[-1]) if values else None
        return state_of(name, values, level_of(name, last, thresholds=self.settings.thresholds), length)

    def verdict(self, *, dropped: int = 0, damage: int = 0, remarks: Sequence[str] = ()) -> Verdict:
        """The verdict on the run as it is after these rows; `dropped`, known from elsewhere, counts if it is more."""
        return conclude(self.judge, RunFacts(self.missing, max(self.dropped, dropped), damage, remarks))

    def updates_per_sec(self) -> float | None:
        """Speed over the last 50 updates of the current attempt; None if there is no telling."""
        return updates_per_sec(self.recent)


def view_of(picture: Picture, settings: Settings) -> View:
    """What can be drawn of a picture of the application, for where it ends; it judges nothing any more."""
    view = View(settings)
    view.recent = picture.recent
    view.chart = picture.history.of(CHART_METRIC)
    view.rows, view.last_update = picture.rows, picture.last_update
    return view
