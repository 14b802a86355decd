"""The course of one metric over any number of updates, in bounded memory: smallest and largest value per bucket.

A bucket spans the same number of updates as every other, and that number doubles when there would be too many
buckets. Keeping both extremes means that a spike is never lost, however long the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

MAX_BUCKETS = 2048

_MERGE = [
    pl.col("first").min(),
    pl.col("last").max(),
    pl.col("min").min(),
    pl.col("max").max(),
    pl.col("nonfinite").sum(),
]
_EMPTY = pl.DataFrame(
    schema={
        "bucket": pl.Int64, "first": pl.Int64, "last": pl.Int64, "min": pl.Float64, "max": pl.Float64,
        "nonfinite": pl.UInt32,
    }
)  # fmt: skip


@dataclass(slots=True)
class Buckets:
    """Smallest and largest value of a metric in each bucket of `width` updates.

    `frame` has the columns `bucket` (update // width), `first`, `last` (updates of the bucket that carry the
    metric), `min`, `max` (of the finite values; null if there is none) and `nonfinite` (how many are not).
    """

    frame: pl.DataFrame = field(default_factory=_EMPTY.clone)
    width: int = 1

    def add(self, rows: pl.LazyFrame, metric: str) -> None:
        """Take in rows (columns `update` and the metric) that come after all rows so far."""
        value = pl.col(metric)
        finite = pl.when(value.is_finite()).then(value)
        if not self.frame.height:
            first, last = rows.select(first=pl.col("update").min(), last=pl.col("update").max()).collect().row(0)
            while first is not None and (last - first) // self.width >= MAX_BUCKETS:
                self.width *= 2
        new = (
            rows.filter(value.is_not_null())
            .group_by(bucket=pl.col("update") // self.width)
            .agg(
                first=pl.col("update").min(),
                last=pl.col("update").max(),
                min=finite.min(),
                max=finite.max(),
                nonfinite=(~value.is_finite()).sum().cast(pl.UInt32),
            )
            .sort("bucket")
            .collect(engine="streaming")
        )
        self.frame = _merge(pl.concat([self.frame, new]))
        while self.frame.height > MAX_BUCKETS:
            self.width *= 2
            self.frame = _merge(self.frame.with_columns(pl.col("bucket") // 2))

    def folded(self, columns: int) -> pl.DataFrame:
        """The frame with neighbouring buckets merged until there are at most so many, each as wide as the others."""
        if self.frame.height <= columns:
            return self.frame
        first, last = self.frame["first"][0], self.frame["last"][-1]
        column = (pl.col("first") - first) * columns // (last - first + 1)
        return self.frame.group_by(column.alias("bucket"), maintain_order=True).agg(_MERGE)


def _merge(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("bucket", maintain_order=True).agg(_MERGE).cast({"nonfinite": pl.UInt32})
