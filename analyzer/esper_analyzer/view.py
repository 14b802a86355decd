"""What a screen shows of a run, in bounded memory: the newest rows, the course of the value loss, a few counts."""

from __future__ import annotations

from statistics import median

import polars as pl

from esper_analyzer.buckets import Buckets
from esper_analyzer.health import LOSS_RATIO, level_of, loss_ratio
from esper_analyzer.snapshot import MetricState, as_number
from esper_analyzer.trends import trend_of
from esper_analyzer.verdict import RunFacts, Verdict, judge
from esper_schemas.metrics import HISTORY_LENGTH

RECENT_ROWS = 512
CHART_METRIC = "value_loss"

_MAX_GAPS = 10_000
_MAX_SPREADS = 2048


class View:
    """The state of one rank after the rows added so far, which must come in the order of their updates.

    Its size does not depend on the length of the run. Adding rows costs those rows only.

    Attributes:
        recent: the newest 512 rows, all columns and Lv/Lp.
        chart: smallest and largest value loss over all updates.
        rows: number of rows.
        last_update, last_seq: of the newest row; None if there is none.
        missing: the newest ranges of updates that are not there.
        dropped: rows that the recorder dropped.
    """

    def __init__(self) -> None:
        self.recent = pl.DataFrame()
        self.chart = Buckets()
        self.rows = 0
        self.last_update: int | None = None
        self.last_seq = -1
        self.missing: list[tuple[int, int]] = []
        self.dropped = 0
        self._spreads: list[float] = []  # standard deviations of returns, evenly taken over the run
        self._spread_stride = 1

    def add(self, rows: pl.LazyFrame) -> None:
        """Take in rows with the columns of a run, whose updates rise and come after those so far."""
        rows = rows.with_columns(loss_ratio())
        counts = rows.select(
            pl.len(), pl.col("seq").max(), pl.col("dropped_before").sum(), last=pl.col("update").last()
        ).collect()
        count, last_seq, dropped, last_update = counts.row(0)
        if not count:
            return
        self._add_gaps(rows)
        self.chart.add(rows.select("update", CHART_METRIC), CHART_METRIC)
        self._add_spreads(rows, count)
        self.recent = pl.concat([self.recent, rows.tail(RECENT_ROWS).collect()], how="diagonal").tail(RECENT_ROWS)
        self.rows += count
        self.dropped += dropped
        self.last_update = last_update
        self.last_seq = max(self.last_seq, last_seq)

    def state(self, name: str, length: int = HISTORY_LENGTH) -> MetricState:
        """Last value, history, trend and level of a metric, or of `loss_ratio`, from the newest rows."""
        if name not in self.recent.columns:
            return MetricState(None, [], trend_of(name, []), "unknown")
        values = self.recent[name].drop_nulls().tail(max(length, HISTORY_LENGTH)).to_list()
        last = values[-1] if values else None
        return MetricState(
            last=last,
            history=values[-length:],
            trend=trend_of(name if name != LOSS_RATIO else "", map(as_number, values)),
            level=level_of(name, as_number(last)),
        )

    def verdict(self, *, damage: int = 0, definition_is_assumed: bool = False) -> Verdict:
        """The verdict on the run as it is after these rows."""
        facts = RunFacts(
            updates=self.rows,
            missing=self.missing,
            dropped=self.dropped,
            damage=damage,
            return_std=median(self._spreads) if self._spreads else None,
            definition_is_assumed=definition_is_assumed,
        )
        return judge(self.recent, facts)

    def updates_per_sec(self) -> float | None:
        """Speed over the last 50 updates of the current attempt; None if there is no telling."""
        if self.recent.height < 2:
            return None
        newest = self.recent.tail(50).filter(pl.col("attempt") == pl.col("attempt").last())
        secs = newest["elapsed_secs"].drop_nulls()
        span = secs[-1] - secs[0] if len(secs) > 1 else 0.0
        return (len(secs) - 1) / span if span > 0.0 else None

    def _add_gaps(self, rows: pl.LazyFrame) -> None:
        before = pl.col("update").shift(1).fill_null(pl.lit(self.last_update, pl.Int64))
        gaps = rows.select(first=before + 1, last=pl.col("update") - 1).filter(pl.col("last") >= pl.col("first"))
        self.missing += [(first, last) for first, last in gaps.collect().iter_rows()]
        del self.missing[:-_MAX_GAPS]

    def _add_spreads(self, rows: pl.LazyFrame, count: int) -> None:
        while count // self._spread_stride > _MAX_SPREADS:
            self._spread_stride *= 2
        spread = pl.col("return_std")
        taken = rows.filter(pl.col("update") % self._spread_stride == 0).select(spread.filter(spread.is_finite()))
        self._spreads += taken.collect().to_series().to_list()
        while len(self._spreads) > _MAX_SPREADS:
            self._spreads = self._spreads[::2]
            self._spread_stride *= 2
