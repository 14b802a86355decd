"""Ground truth of the calibration study: whether a finished run was broken, by bounds on what it achieved.

The bounds were written down when only sound runs had been looked at. They know nothing of the analyzer's rules:
they ask what the policy earned and what the critic explained in the end, not how the run looked on its way.

A run is *broken* if at least one of these holds, and healthy otherwise, whatever was done to it:

- **return**: the mean return of the episodes of its last fifth, on the environment's own reward, is below
  `RETURN_BOUNDS`. Each bound lies between a random policy and what sound runs of this length reach, far from both.
- **critic**: the median explained variance is below `EXPLAINED_VARIANCE_BOUND`, over the last updates in which
  there was something to explain: a fifth as many as the run has, but at least `MIN_UPDATES`. There is something
  to explain where the returns' standard deviation is at least `MIN_SPREAD` of their absolute mean. A policy that
  never fails leaves the critic nothing: in a solved CartPole all returns are equal within a few percent, and the
  share that a critic explains of that remainder is noise. Such updates do not count, neither for nor against.
- **not finite**: a loss among its last `MIN_UPDATES` updates is not finite, or all of these were skipped: nothing
  is being learned any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from esper_analyzer import open_run
from esper_schemas.run.directory import find_runs

RETURN_BOUNDS = {"CartPole-v1": 150.0, "Acrobot-v1": -200.0, "Pendulum-v1": -600.0}
"""On the environments' own rewards. A random policy gets about 20, −499 and −1,200; the worst sound run of the study
227, −102 and −366, the median one 500, −90 and −169. The bound of CartPole is nearer to the random policy than to the
best, because a policy that has learned to balance may still drift off the track, which ends episodes at 150 to 250."""

EXPLAINED_VARIANCE_BOUND = 0.2
"""The critic of a sound run explains more than 0.8 of the variance by then, the worst 0.38; a constant explains 0."""

MIN_SPREAD = 0.1
"""Returns that vary less than this share of their mean leave nothing to explain. All rewards of these environments
have one sign, so that the mean measures the size of the returns."""

LAST_SHARE = 0.2
"""Share of a run's updates that its outcome is taken from."""

MIN_UPDATES = 5
"""Fewer updates than this decide nothing."""

REASONS = ("return", "critic", "not finite")
"""Why a run can be broken."""

TABLE_SCHEMA = {
    "scenario": pl.String,
    "seed": pl.Int64,
    "half": pl.String,
    "env": pl.String,
    "sound": pl.Boolean,
    "break_update": pl.Int64,
    "updates": pl.Int64,
    "final_return": pl.Float64,
    "final_explained_variance": pl.Float64,
    "broken": pl.Boolean,
    "reasons": pl.String,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run achieved.

    Attributes:
        final_return: Mean return of the episodes that ended in its last fifth, unscaled; None if none ended.
        final_explained_variance: See above; None where fewer than `MIN_UPDATES` updates count.
        reasons: Those of `REASONS` that hold.
    """

    final_return: float | None
    final_explained_variance: float | None
    reasons: tuple[str, ...]

    @property
    def broken(self) -> bool:
        """Whether any bound was missed."""
        return bool(self.reasons)


def outcome_of(updates: pl.LazyFrame, *, env: str, reward_scale: float = 1.0) -> Outcome:
    """The outcome of a finished run.

    Args:
        updates: Its rows, as `Run.updates()` gives them.
        env: Id of its environment, a key of `RETURN_BOUNDS`.
        reward_scale: What its rewards were multiplied by, which is undone here.
    """
    wanted = ("episodes", "episode_return_mean", "explained_variance", "return_std", "return_mean", "skipped")
    rows = updates.select("update", *wanted, "value_loss", "policy_loss").sort("update").collect()
    last = max(MIN_UPDATES, math.ceil(LAST_SHARE * len(rows)))
    final_return = _mean_return(rows.tail(last), reward_scale)
    final_explained_variance = _explained_variance(rows, last)
    missed = {
        "return": final_return is not None and not final_return >= RETURN_BOUNDS[env],
        "critic": final_explained_variance is not None and not final_explained_variance >= EXPLAINED_VARIANCE_BOUND,
        "not finite": _is_not_finite(rows.tail(MIN_UPDATES)),
    }
    return Outcome(
        final_return, final_explained_variance, tuple(name for name, is_missed in missed.items() if is_missed)
    )


def _mean_return(rows: pl.DataFrame, reward_scale: float) -> float | None:
    """Mean return of all episodes that ended in `rows`, on the environment's own scale."""
    ended = rows.filter(pl.col("episodes") > 0)
    if ended.is_empty():
        return None
    total = ended.select((pl.col("episode_return_mean") * pl.col("episodes")).sum()).item()
    return float(total) / reward_scale / int(ended["episodes"].sum())


def _explained_variance(rows: pl.DataFrame, last: int) -> float | None:
    """Median over the last `last` rows in which there was something to explain; a NaN explains nothing."""
    has_spread = pl.col("return_std") >= MIN_SPREAD * pl.col("return_mean").abs()
    counted = rows.filter(has_spread & pl.col("explained_variance").is_not_null()).tail(last)
    if len(counted) < MIN_UPDATES:
        return None
    return float(counted.select(pl.col("explained_variance").fill_nan(-math.inf).median()).item())


def _is_not_finite(rows: pl.DataFrame) -> bool:
    losses = [loss for name in ("value_loss", "policy_loss") for loss in rows[name].drop_nulls()]
    return bool(rows["skipped"].all()) or not all(math.isfinite(loss) for loss in losses)


def half_of(seed: int) -> Literal["tuning", "held-back"]:
    """Which half a run belongs to: thresholds are tuned on one, and what they are worth is reported on the other.

    Odd seeds from 5 on are held back. The first five seeds were looked at, all of them, while rules were sketched.
    """
    return "held-back" if seed % 2 and seed >= 5 else "tuning"


def table(root: Path) -> pl.DataFrame:
    """The outcome of every finished run of the study under `root`.

    Returns:
        One row each, ordered by scenario and seed: `scenario`, `seed`, `half`, `env`, `sound`, `break_update`,
        `updates` (in all), `final_return`, `final_explained_variance`, `broken`, `reasons` (separated by commas).
    """
    records: list[dict[str, Any]] = []
    for directory in find_runs(root):
        run = open_run(directory.path)
        config = run.header.config
        if "scenario" not in config or run.status() != "finished":
            continue
        outcome = outcome_of(run.updates(), env=config["env"], reward_scale=config["reward_scale"])
        kept = ("scenario", "seed", "env", "sound", "break_update")
        records.append(
            {name: config[name] for name in kept}
            | {
                "half": half_of(config["seed"]),
                "updates": config["num_updates"],
                "final_return": outcome.final_return,
                "final_explained_variance": outcome.final_explained_variance,
                "broken": outcome.broken,
                "reasons": ", ".join(outcome.reasons),
            }
        )
    return pl.DataFrame(records, schema=TABLE_SCHEMA).sort("scenario", "seed")


def summary(outcomes: pl.DataFrame) -> pl.DataFrame:
    """One row per scenario of `table`: its runs, how many were broken and why, medians of what they achieved."""
    return (
        outcomes.group_by("sound", "scenario")
        .agg(
            pl.len().alias("runs"),
            pl.col("broken").sum(),
            *(pl.col("reasons").str.contains(reason).sum().alias(reason) for reason in REASONS),
            pl.col("final_return").median().round(1),
            pl.col("final_explained_variance").median().round(2),
        )
        .sort("sound", "scenario", descending=[True, False])
    )
