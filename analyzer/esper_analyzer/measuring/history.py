"""The course of several metrics over any number of updates, in bounded memory: smallest and largest value per bucket.

All buckets span the same number of updates, which doubles when there would be too many buckets. Because both extremes
are kept, a spike is never lost, however long the run. A history is immutable: adding rows makes a new object, so a
screen can still show the old one while another thread reads on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import polars as pl
from polars import selectors

from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.levels import loss_ratio
from esper_schemas.metric.catalogue import LOSS_RATIO

MAX_BUCKETS = 2048


@dataclass(frozen=True, slots=True)
class History:
    """Smallest and largest finite value of each metric in each bucket of `width` updates.

    Attributes:
        names: the metrics.
        frame: columns `bucket` (update // width), `first`, `last` (updates in it), `rows`, and for each metric
            `NAME/min`, `NAME/max` (null if nothing finite was measured) and `NAME/nonfinite` (a count).
        width: updates per bucket.
    """

    names: tuple[str, ...]
    frame: pl.DataFrame
    width: int = 1

    @classmethod
    def empty(cls, names: tuple[str, ...]) -> History:
        """Make the history of no rows."""
        schema: dict[str, pl.DataType] = {name: pl.Int64() for name in ("bucket", "first", "last", "rows")}
        for name in names:
            schema |= {f"{name}/min": pl.Float64(), f"{name}/max": pl.Float64(), f"{name}/nonfinite": pl.Int64()}
        return cls(names, pl.DataFrame(schema=schema))

    @property
    def rows(self) -> int:
        """Number of updates in the history."""
        return int(self.frame["rows"].sum())

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last update; None if the history is empty."""
        return (int(self.frame["first"][0]), int(self.frame["last"][-1])) if self.frame.height else None

    def with_rows(self, rows: pl.LazyFrame | pl.DataFrame) -> History:
        """Return the history with later rows added, whose updates rise; the cost depends only on those rows."""
        few = isinstance(rows, pl.DataFrame)  # starting the streaming engine would cost more than the work
        rows = rows.lazy()
        width = self.width
        if not self.frame.height:
            first, last = rows.select(first=pl.col("update").min(), last=pl.col("update").max()).collect().row(0)
            while first is not None and last // width - first // width >= MAX_BUCKETS:
                width *= 2
        new = self._fold(rows, width, few=few)
        if not self.frame.height:
            return History(self.names, new, width)
        if not new.height:
            return self
        meets = new["bucket"][0] == self.frame["bucket"][-1]
        kept = self.frame.head(-1) if meets else self.frame
        joint = self._merge(pl.concat([self.frame.tail(1), new])) if meets else new
        frame = pl.concat([kept, joint], rechunk=True)
        while frame.height > MAX_BUCKETS:
            width *= 2
            frame = self._merge(frame.with_columns(pl.col("bucket") // 2))
        return History(self.names, frame, width)

    def until(self, update: int) -> History:
        """Return only the buckets that end at or before an update."""
        return History(self.names, self.frame.filter(pl.col("last") <= update), self.width)

    def of(self, name: str, first: int | None = None, last: int | None = None) -> Buckets:
        """Return the buckets with values of one metric that overlap the updates from `first` to `last`."""
        found = self.frame.lazy().select(
            "bucket",
            "first",
            "last",
            pl.col(f"{name}/min").alias("min"),
            pl.col(f"{name}/max").alias("max"),
            pl.col(f"{name}/nonfinite").cast(pl.UInt32).alias("nonfinite"),
        )
        inside = pl.col("min").is_not_null() | (pl.col("nonfinite") > 0)
        inside &= pl.lit(True) if first is None else pl.col("last") >= first
        inside &= pl.lit(True) if last is None else pl.col("first") <= last
        return Buckets(found.filter(inside).collect(), self.width)

    def _fold(self, rows: pl.LazyFrame, width: int, *, few: bool) -> pl.DataFrame:
        if LOSS_RATIO in self.names:
            rows = rows.with_columns(loss_ratio())
        known = rows.collect_schema()
        parts: list[pl.Expr] = [pl.col("update").min().alias("first"), pl.col("update").max().alias("last")]
        parts.append(pl.len().cast(pl.Int64).alias("rows"))
        for name in self.names:
            value = as_it_is(name).cast(pl.Float64) if name in known else pl.lit(None, pl.Float64)
            finite = pl.when(value.is_finite()).then(value)
            parts += [finite.min().alias(f"{name}/min"), finite.max().alias(f"{name}/max")]
            parts.append((~value.is_finite()).sum().cast(pl.Int64).alias(f"{name}/nonfinite"))
        folded = rows.group_by(bucket=pl.col("update") // width).agg(parts).sort("bucket")
        folded = folded.select(self.frame.columns)
        return folded.collect(engine="in-memory" if few else "streaming")

    def _merge(self, frame: pl.DataFrame) -> pl.DataFrame:
        how = {"first": pl.Expr.min, "last": pl.Expr.max, "rows": pl.Expr.sum}
        parts = [merge(pl.col(name)) for name, merge in how.items()]
        for name in self.names:
            parts += [pl.col(f"{name}/min").min(), pl.col(f"{name}/max").max(), pl.col(f"{name}/nonfinite").sum()]
        return frame.group_by("bucket", maintain_order=True).agg(parts)


def as_it_is(name: str) -> pl.Expr:
    """Select a column by its exact name; `pl.col` would interpret names such as "*" or "^v.*$"."""
    return selectors.by_name(name).as_expr()


def history_of(rows: pl.LazyFrame | pl.DataFrame, names: tuple[str, ...]) -> History:
    """Make the history of these metrics over the rows of a run."""
    return History.empty(names).with_rows(rows)


def with_frames(history: History, frames: list[pl.DataFrame]) -> History:
    """Return a history with several frames of rows added in order."""
    return reduce(lambda sofar, rows: sofar.with_rows(rows), frames, history)
