"""What is left of a run where less of it is recorded: the columns that common loggers write.

SB3's keys are those of `stable_baselines3/ppo/ppo.py` and `common/on_policy_algorithm.py`, CleanRL's those of
`cleanrl/ppo.py`. A key stands beside the column that is the same number, but for a factor or its sign.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import polars as pl

from esper_schemas.metric.catalogue import STAND_INS
from esper_schemas.metric.payload import METRICS

STEPS = frozenset({"update", "env_steps"})
"""Every logger has them: its rows are numbered, and its x-axis is the number of steps."""

SB3: Mapping[str, str] = {
    "rollout/ep_rew_mean": "episode_return_mean",
    "rollout/ep_len_mean": "episode_length_mean",
    "train/policy_gradient_loss": "policy_loss",
    "train/value_loss": "value_loss",
    "train/entropy_loss": "entropy",
    "train/approx_kl": "kl_divergence",
    "train/clip_fraction": "clip_fraction",
    "train/clip_range": "clip_range",
    "train/explained_variance": "explained_variance",
    "train/learning_rate": "learning_rate",
}
"""`train/loss` (all losses together), `train/std`, `train/n_updates` and `train/clip_range_vf` have no column. SB3
shows the mean of the last 100 episodes, and the runs here have the mean of those that ended in the rollout; `SLIDING`
names the runs with what SB3 would have shown of them.
"""

CLEANRL: Mapping[str, str] = {
    "charts/episodic_return": "episode_return_mean",
    "charts/episodic_length": "episode_length_mean",
    "charts/learning_rate": "learning_rate",
    "losses/policy_loss": "policy_loss",
    "losses/value_loss": "value_loss",
    "losses/entropy": "entropy",
    "losses/approx_kl": "kl_divergence",
    "losses/clipfrac": "clip_fraction",
    "losses/explained_variance": "explained_variance",
}
"""`losses/old_approx_kl` (the estimator k1) and `charts/SPS` have no column. CleanRL shows every episode by itself, and
the runs here have their mean in an update."""

LOSSES = frozenset({"policy_loss", "value_loss"})

SETS: Mapping[str, frozenset[str]] = {
    "everything": STEPS | frozenset(METRICS),
    "what SB3 logs": STEPS | frozenset(SB3.values()),
    "what CleanRL logs": STEPS | frozenset(CLEANRL.values()),
    "losses and returns": STEPS | LOSSES | {"episode_return_mean"},
    "losses only": STEPS | LOSSES,
}
"""Columns that are kept, by the name of the set."""

SLIDING = "what SB3 logs, with its means of the last 100 episodes"
"""The name of what `with_sliding_means` leaves, beside those of `SETS`."""

WINDOW = 100
"""Episodes in SB3's means."""


def with_sliding_means(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a run as SB3's own log has it: return and length are the means of the last `WINDOW` episodes.

    An update in which none ended repeats the mean before it, as SB3 does. Of the episodes of one update only their mean
    is known, so each counts as that.
    """
    there = [name for name in rows.columns if name in SETS["what SB3 logs"] and name not in STAND_INS]
    ended = rows["episodes"].to_list() if "episodes" in rows.columns else [None] * rows.height
    means = [
        _sliding_mean(rows[name].to_list(), ended).alias(sliding)
        for name, sliding in STAND_INS.items()
        if name in rows.columns
    ]
    return rows.select(there).with_columns(means)


def _sliding_mean(means: Sequence[float | None], ended: Sequence[int | None]) -> pl.Series:
    """The mean of the last episodes after each update, from the mean of those that ended in it and their number."""
    newest: deque[float] = deque(maxlen=WINDOW)
    found = []
    for mean, count in zip(means, ended, strict=True):
        if mean is not None and count:
            newest.extend([mean] * min(count, WINDOW))
        found.append(math.fsum(newest) / len(newest) if newest else None)
    return pl.Series(found, dtype=pl.Float64)
