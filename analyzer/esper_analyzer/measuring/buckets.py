"""The course of one metric for a chart: smallest and largest value per bucket. `History` makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

_MERGE = [
    pl.col("first").min(),
    pl.col("last").max(),
    pl.col("min").min(),
    pl.col("max").max(),
    pl.col("nonfinite").sum(),
]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Smallest and largest value of a metric in each bucket of `width` updates.

    `frame` has the columns `bucket` (update // width), `first`, `last` (updates of the bucket), `min`, `max` (of the
    finite values; null if there is none) and `nonfinite` (number of values that are not finite). A bucket without a
    measured value is left out.
    """

    frame: pl.DataFrame
    width: int = 1

    def smoothed(self, weight: float) -> Buckets:
        """Return an exponential moving average of the middles of the buckets, with the bias to 0 removed.

        It is that of TensorBoard, and of the pages, where a bucket is one update. Values that are not finite are kept
        as such and do not enter it.

        Args:
            weight: weight of the past, 0 to below 1.
        """
        mean = share = 0.0
        values: list[float | None] = []
        for low, high in self.frame.select("min", "max").iter_rows():
            if low is not None:
                mean = weight * mean + (1.0 - weight) * (low / 2 + high / 2)
                share = weight * share + (1.0 - weight)
            values.append(None if low is None else mean / share)
        line = pl.Series(values, dtype=pl.Float64)
        return replace(self, frame=self.frame.with_columns(min=line, max=line))

    def folded(self, columns: int) -> pl.DataFrame:
        """Return the frame with neighbouring buckets merged to at most `columns` buckets of equal width."""
        if self.frame.height <= columns:
            return self.frame
        first, last = self.frame["first"][0], self.frame["last"][-1]
        column = (pl.col("first") - first) * columns // (last - first + 1)
        return self.frame.group_by(column.alias("bucket"), maintain_order=True).agg(_MERGE)
