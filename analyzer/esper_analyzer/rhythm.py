"""The rhythm of a recording: when each of its rows is due in a replay."""

from __future__ import annotations

import polars as pl


def replay_times(wall_time: pl.Series) -> pl.Series:
    """Seconds from the first row to each row; pauses between attempts and clocks set back take no time."""
    gaps = wall_time.diff().dt.total_microseconds().fill_null(0).cast(pl.Float64) / 1e6
    usual = gaps.filter(gaps > 0.0).median()
    longest = 100.0 * usual if isinstance(usual, float) else 0.0
    return gaps.clip(0.0, longest).cum_sum()
