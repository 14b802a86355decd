"""The course of one metric as a chart draws it: smallest and largest value per bucket. `History` makes it."""

from __future__ import annotations

from dataclasses import dataclass

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
    finite values; null if there is none) and `nonfinite` (how many are not). A bucket in which the metric was not
    measured is not there.
    """

    frame: pl.DataFrame
    width: int = 1

    def folded(self, columns: int) -> pl.DataFrame:
        """The frame with neighbouring buckets merged until there are at most so many, each as wide as the others."""
        if self.frame.height <= columns:
            return self.frame
        first, last = self.frame["first"][0], self.frame["last"][-1]
        column = (pl.col("first") - first) * columns // (last - first + 1)
        return self.frame.group_by(column.alias("bucket"), maintain_order=True).agg(_MERGE)
