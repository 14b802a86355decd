"""What judging one more update costs a training: `LiveMonitor`, its `level` and the trends, beside TensorBoard.

A monitor that has seen 100, 1,000 and 100,000 updates is called with sound ones, as the recorder would call it; the
same updates, as 40 scalars each, go to TensorBoard. Rounds are interleaved, so that a noisy machine disturbs all alike.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch.utils.tensorboard import SummaryWriter

from esper_analyzer import live_monitor
from esper_analyzer.measuring.trends import trend_signals_now
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas import METRICS

LENGTHS = (100, 1_000, 100_000)
ROUNDS = 10
UPDATES_PER_ROUND = 50
SCALARS = [name for name, metric in METRICS.items() if metric.dtype == "float64" and name != "elapsed_secs"][:40]
TREND_METRICS = ("value_loss", "policy_loss", "entropy", "kl_divergence", "explained_variance", "episode_return_mean")
SOUND = {
    "policy_loss": -0.01,
    "value_loss": 0.3,
    "value_loss_unclipped": 0.3,
    "return_std": 1.0,
    "value_std": 0.9,
    "value_target_scale": 1.0,
    "explained_variance": 0.7,
    "v_return_correlation": 0.8,
    "entropy": 0.6,
    "kl_divergence": 0.008,
    "clip_fraction": 0.1,
    "clip_fraction_positive": 0.1,
    "clip_fraction_negative": 0.05,
    "ratio_min": 0.8,
    "ratio_max": 1.25,
    "log_prob_max": -0.1,
    "pre_clip_grad_norm": 1.0,
    "episode_return_mean": 100.0,
    "episode_length_mean": 200.0,
}
"""About what a sound run measures; everything else is around 1."""


def sound_run(rows: int, first: int) -> pl.DataFrame:
    """Updates from `first` on in which every metric moves a little, none is out of bounds, and the return has risen."""
    rng = np.random.default_rng(first)
    measured: dict[str, Any] = {
        name: SOUND.get(name, 1.0) * rng.uniform(0.9, 1.1, rows)
        for name, metric in METRICS.items()
        if metric.dtype == "float64"
    }
    measured["episode_return_mean"] *= 1.0 - np.exp(-np.arange(first, first + rows) / 30.0)
    measured |= {"update": np.arange(first, first + rows), "skipped": [False] * rows}
    measured |= {"nan_grad_count": [0] * rows, "inf_grad_count": [0] * rows}
    return pl.DataFrame({name: pl.Series(measured.get(name, [None] * rows), dtype=SCHEMA[name]) for name in SCHEMA})


def timed(call: Callable[[], object]) -> float:
    """Microseconds of one call."""
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1e3


def main() -> None:
    """Run all of them and print one table."""
    monitors = {length: live_monitor() for length in LENGTHS}
    for length, monitor in monitors.items():
        monitor._judge.advance(sound_run(length, 0))
    costs: dict[str, list[float]] = {f"judge one more after {length:,}": [] for length in LENGTHS}
    level, trends, board_name = "level after it", f"trends of {len(TREND_METRICS)} metrics", "TensorBoard, 40 scalars"
    costs |= {level: [], trends: [], board_name: []}
    histories = [deque([SOUND[name]] * 30, maxlen=30) for name in TREND_METRICS]
    with tempfile.TemporaryDirectory() as place, SummaryWriter(Path(place)) as board:
        for number in range(ROUNDS):
            for length, monitor in monitors.items():
                name = f"judge one more after {length:,}"
                for row in sound_run(UPDATES_PER_ROUND, length + number * UPDATES_PER_ROUND).to_dicts():
                    costs[name].append(timed(partial(monitor, row)))
                    costs[level].append(timed(partial(getattr, monitor, "level")))
            for row in sound_run(UPDATES_PER_ROUND, number).to_dicts():
                for history, metric in zip(histories, TREND_METRICS, strict=True):
                    history.append(row[metric])
                costs[trends].append(timed(lambda: trend_signals_now([list(history) for history in histories])))
            for row in sound_run(UPDATES_PER_ROUND, number).to_dicts():
                costs[board_name].append(timed(partial(add_scalars, board, row)))
            board.flush()  # its thread must not be at work while the next ones are timed
    assert all(monitor.level == "healthy" for monitor in monitors.values()), "the run is not sound"
    threads, load = pl.thread_pool_size(), os.getloadavg()[0]
    print(f"microseconds: median, 90th percentile ({threads} polars threads, load {load:.2f})")
    for name, found in costs.items():
        print(f"  {name:32}{statistics.median(found):10,.0f}{statistics.quantiles(found, n=10)[-1]:10,.0f}")


def add_scalars(board: SummaryWriter, row: dict[str, Any]) -> None:
    """One update, as TensorBoard takes it."""
    for name in SCALARS:
        board.add_scalar(name, row[name], row["update"])


if __name__ == "__main__":
    main()
