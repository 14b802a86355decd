"""Whole short runs through the real recorder: reproducible, complete, and null where nothing was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from esper_recorder import Recorder
from esper_recorder.train.config import PPOConfig, option_name
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.trainer import Trainer, resolve_device
from esper_schemas import METRICS
from esper_schemas.errors import UsageError

CPU = torch.device("cpu")
TIMES = ("wall_time", "elapsed_secs", "update_secs", "rollout_secs", "run_id")
NEVER_ON_CPU = {
    "amp_loss_scale",
    "amp_overflow",
    "gpu_memory_allocated_bytes",
    "gpu_memory_reserved_bytes",
    "gpu_memory_peak_bytes",
}


def record_run(root: Path, run_id: str, **overrides: Any) -> pl.DataFrame:
    """Train a few updates into a run; its rows as stock polars reads them."""
    settings: dict[str, Any] = {"env": "CartPole-v1", "num_envs": 8, "rollout_steps": 32, "updates": 4}
    config = PPOConfig.for_env(**(settings | overrides))
    env = make_env(config.env, config.num_envs, seed=config.seed, device=CPU)
    with Recorder.open(root, run_id=run_id, strict=True) as recorder:
        Trainer(config, env, CPU).train(recorder)
    env.close()
    return pl.read_parquet(root / run_id / "rank-0000/segments/*.parquet").sort("update")


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole-v1", "gym:CartPole-v1", "Pendulum-v1"])
def test_two_runs_of_one_seed_record_identical_values(tmp_path: Path, env: str) -> None:
    """On the CPU everything but the times is equal to the last bit; another seed differs."""
    first = record_run(tmp_path, "a", env=env, seed=5)
    torch.rand(3)  # what else happens in the process must not matter
    again = record_run(tmp_path, "b", env=env, seed=5)
    other = record_run(tmp_path, "c", env=env, seed=6)
    assert first.drop(TIMES).equals(again.drop(TIMES), null_equal=True)
    assert not first["value_loss"].equals(other["value_loss"])


def test_every_field_that_can_be_known_is_filled(tmp_path: Path) -> None:
    """A CPU run leaves null only what it cannot measure; no metric of the table is forgotten."""
    rows = record_run(tmp_path, "r", updates=4, target_kl=1e-9)
    empty = {name for name in METRICS if rows[name].null_count() == len(rows)}
    assert empty == NEVER_ON_CPU | {"skip_reason"}
    assert rows["update"].to_list() == [0, 1, 2, 3]
    assert rows["skipped"].to_list() == [False] * 4
    assert rows["env_steps"].to_list() == rows["samples"].cum_sum().to_list()
    assert (rows["samples"] < 8 * 32).any()


def test_no_ended_episode_is_null_and_not_zero(tmp_path: Path) -> None:
    """A rollout in which no episode ended has 0 episodes and no mean return; the first ones come later."""
    rows = record_run(tmp_path, "r", env="Pendulum-v1", rollout_steps=90, updates=3)
    assert rows["episodes"].to_list() == [0, 0, 8]
    assert rows["episode_return_mean"].is_null().to_list() == [True, True, False]
    assert rows["episode_length_mean"].to_list() == [None, None, 200.0]


def test_a_rollout_without_a_single_sample_is_a_skipped_row(tmp_path: Path) -> None:
    """Where every row only resets, there is nothing to train on: no losses, skipped, and the reason."""
    rows = record_run(tmp_path, "r", num_envs=1, rollout_steps=1, minibatches=1, updates=100)
    empty = rows.filter(pl.col("samples") == 0)
    assert len(empty) >= 1
    assert empty["skipped"].all()
    assert set(empty["skip_reason"]) == {5}
    for name in ("value_loss", "policy_loss", "value_min", "episode_return_mean", "ratio_max"):
        assert empty[name].is_null().all(), name
    assert rows.filter(pl.col("samples") == 1)["skipped"].any() is False


def test_a_preset_is_overridden_by_what_is_given() -> None:
    """Defaults, then the environment's preset, then the caller; --updates replaces a preset's length."""
    config = PPOConfig.for_env("Pendulum-v1", gamma=0.5, updates=7)
    assert (config.gamma, config.normalize_observations, config.num_updates) == (0.5, True, 7)
    assert PPOConfig.for_env("gym:Pendulum-v1").gamma == PPOConfig.for_env("Pendulum-v1").gamma
    assert PPOConfig(total_steps=4097).num_updates == 2


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"gamma": 1.5}, "1.5"),
        ({"num_envs": 0}, "0"),
        ({"learning_rate": 0.0}, "0"),
        ({"value_clip": -1.0}, "-1"),
        ({"seed": -1}, "-1"),
        ({"clip_range": float("nan")}, "nan"),
        ({"minibatches": 4097}, "4097"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(wrong: dict[str, Any], found: str) -> None:
    """One line with the option, the range and what was found."""
    with pytest.raises(UsageError) as caught:
        PPOConfig(**wrong)
    message = str(caught.value)
    assert option_name(next(iter(wrong))) in message
    assert message.endswith(f"found {found}")
    assert "\n" not in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_is_refused_and_auto_is_not() -> None:
    """Asking for CUDA where there is none is an error; auto takes the CPU."""
    with pytest.raises(UsageError, match="--device cuda"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU
