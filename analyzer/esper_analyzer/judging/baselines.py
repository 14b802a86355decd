"""Baselines: a run is compared with its own beginning, and with what has been usual in it so far.

The whole-run forms of these numbers are expressions in `signals`. Here they are added as columns to rows that arrive
in portions, so that a run of any length can be continued from a few numbers.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from esper_analyzer.judging import signals

USUAL_RETURN_STD = pl.col("usual_return_std")
RETURN_START = pl.col("return_start")
RETURN_SIZE = pl.col("return_size")
LOSS_RATIO_BASELINE = pl.col("loss_ratio_baseline")
"""The columns that `Baselines` adds, for signals that take such an expression as an argument."""

_KNOWN_FROM = {
    "return_start": signals.START_ROWS,
    "return_size": signals.START_ROWS,
    "loss_ratio_baseline": signals.BASELINE_ROWS[1],
}
"""The row of the run from which each baseline that is made from its beginning is known."""

COLUMNS = ("usual_return_std", *_KNOWN_FROM)
READS = ("return_std", "episode_return_mean", "value_loss", "policy_loss")
"""Columns from which the baselines are made."""


class Baselines:
    """Adds to each row the baselines that were known when it was recorded."""

    def __init__(self) -> None:
        self._rows = 0
        self._variance_sum, self._variance_count = 0.0, 0
        self._beginning: pl.DataFrame | None = None  # the first rows, until all baselines are made
        self._constants: dict[str, float | None] = {}
        self._constant_columns: list[pl.Series] = []  # of one row, once they no longer change

    def extend(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the next rows of a run with `COLUMNS` (Float64) added."""
        if rows.height == 1 and self._constant_columns:
            return rows.hstack(
                [pl.Series("usual_return_std", [self._usual_now(rows)], pl.Float64), *self._constant_columns]
            )
        self._look_at_beginning(rows)
        columns = [self._usual_return_std(rows).alias("usual_return_std")]
        for name, first in _KNOWN_FROM.items():
            known = min(max(self._rows + rows.height - first, 0), rows.height)  # the last so many rows
            values = [None] * (rows.height - known) + [self._constants.get(name)] * known
            columns.append(pl.Series(name, values, pl.Float64))
        self._rows += rows.height
        if self._rows >= signals.BASELINE_ROWS[1]:
            self._constant_columns = [pl.Series(name, [self._constants.get(name)], pl.Float64) for name in _KNOWN_FROM]
        return rows.hstack(columns)

    def _usual_now(self, rows: pl.DataFrame) -> float | None:
        """As `_usual_return_std`, for one row, at a fraction of the cost."""
        std = rows.item(0, "return_std")
        variance = math.nan if std is None else std * std
        if math.isfinite(variance):
            self._variance_sum += variance
            self._variance_count += 1
        return math.sqrt(self._variance_sum / self._variance_count) if self._variance_count else None

    def _usual_return_std(self, rows: pl.DataFrame) -> pl.Series:
        with np.errstate(over="ignore"):
            variance = rows["return_std"].to_numpy() ** 2
        counts = np.isfinite(variance)
        # One running sum, so that rounding does not depend on the size of the portions.
        total = np.concatenate([[self._variance_sum], np.where(counts, variance, 0.0)]).cumsum()[1:]
        count = self._variance_count + counts.cumsum()
        self._variance_sum, self._variance_count = float(total[-1]), int(count[-1])
        usual = np.sqrt(total / np.maximum(count, 1))
        first = int(np.searchsorted(count, 1))  # the first row with a known value
        return pl.Series([*([None] * first), *usual[first:]], dtype=pl.Float64) if first else pl.Series(usual)

    def _look_at_beginning(self, rows: pl.DataFrame) -> None:
        """Compute the baselines from the first rows of the run, once all of these have arrived."""
        last = signals.BASELINE_ROWS[1]
        if self._rows >= last:
            return
        head = rows.select(READS).head(last - self._rows)
        self._beginning = head if self._beginning is None else pl.concat([self._beginning, head])
        start = {"return_start": signals.return_start(), "return_size": signals.return_size()}
        if "return_start" not in self._constants and self._beginning.height >= signals.START_ROWS:
            self._constants |= self._beginning.select(**start).row(0, named=True)
        if self._beginning.height >= last:
            ratio = self._beginning.select(loss_ratio_baseline=signals.loss_ratio_baseline())
            self._constants |= ratio.row(0, named=True)
            self._beginning = None
