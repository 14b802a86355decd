"""What judging a long run costs: in a storm of alerts, in a sound run, and in one that hardly measures anything.

Usage: python tests/bench/judge_cost.py [updates]   (default 1,000,000)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from esper_analyzer.judging.alert_log import AlertLog
from esper_analyzer.judging.judge import Judge
from esper_analyzer.reading.segment_index import SCHEMA

Columns = dict[str, NDArray[Any]]

TYPES = {name: SCHEMA.get(name, pl.Float64) for name in Judge().columns}
"""The columns that are judged: those of the metrics table, and the extras that stand in for some."""


def storm(updates: int) -> Columns:
    """Noise of all sizes in every column: a hundred alerts in a thousand updates."""
    rng = np.random.default_rng(0)
    return {name: rng.lognormal(size=updates) for name, kind in TYPES.items() if kind == pl.Float64}


def sound(updates: int) -> Columns:
    """A run that learns as one on CartPole does: slow trends and noise."""
    rng = np.random.default_rng(1)
    learned = 1.0 - np.exp(-10.0 * np.arange(updates) / updates)

    def noisy(value: Any, std: float) -> NDArray[np.float64]:
        return np.asarray(value + std * rng.normal(size=updates))

    explained, std = noisy(0.5 + 0.45 * learned, 0.01), noisy(10.0 + 20.0 * learned, 1.0)
    returns = noisy(20.0 + 460.0 * learned, 8.0)
    return {
        "entropy": noisy(0.65 - 0.4 * learned, 0.004),
        "explained_variance": explained,
        "episode_return_mean": returns,
        "episode_length_mean": returns,
        "return_mean": noisy(30.0, 2.0),
        "return_std": std,
        "value_std": 0.95 * std,
        "value_loss": 0.5 * std**2 * (1.0 - explained),
        "policy_loss": noisy(-0.01, 0.003),
        "kl_divergence": np.abs(noisy(0.006, 0.002)),
        "clip_fraction": np.abs(noisy(0.06, 0.02)),
        "clip_range": np.full(updates, 0.2),
        "ratio_max": 1.3 + np.abs(noisy(0.0, 0.3)),
        "ratio_min": np.full(updates, 0.6),
        "pre_clip_grad_norm": np.abs(noisy(0.5, 0.1)),
    }


def sparse(updates: int) -> Columns:
    """The losses and the entropy of a sound run, and the return of every twentieth update."""
    whole = sound(updates)
    returns = np.where(np.arange(updates) % 20 == 0, whole["episode_return_mean"], np.nan)
    return {name: whole[name] for name in ("value_loss", "policy_loss", "entropy")} | {"episode_return_mean": returns}


def judge_secs(updates: int) -> dict[str, tuple[float, int]]:
    """Seconds of each kind of run, the reading of one Parquet file included, and how often a rule was raised."""
    found: dict[str, tuple[float, int]] = {}
    with TemporaryDirectory() as place:
        for make in (storm, sound, sparse):
            columns: Columns = {"update": np.arange(updates), **make(updates)}
            made = [
                pl.Series(name, columns[name], kind, nan_to_null=True)
                if name in columns
                else pl.Series(name, [None], kind).new_from_index(0, updates)
                for name, kind in TYPES.items()
            ]
            path = Path(place) / f"{make.__name__}.parquet"
            pl.DataFrame(made).write_parquet(path)
            began = time.perf_counter()
            judge, log = Judge(), AlertLog()
            for begun in judge.advance_all(pl.scan_parquet(path)):
                log.add(begun)
            raised = sum(alert.count for alert in log.alerts(judge.in_force.values()))
            found[make.__name__] = time.perf_counter() - began, raised
    return found


def print_judge_secs(updates: int, reference: float | None = None) -> None:
    """Print what judging costs, beside the seconds of hand-written polars for one series, where those are known."""
    print(f"judging {updates:,} updates, in seconds per million")
    for name, (secs, raised) in judge_secs(updates).items():
        beside = "" if reference is None else f"  {secs / reference:6.2f} × hand-written"
        print(f"  judge, {name:29}{secs * 1e6 / updates:9.3f} s{beside}  raised {raised:,} times")


if __name__ == "__main__":
    print_judge_secs(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
