"""MaskablePPO and RecurrentPPO of sb3-contrib, recorded by the adapter for Stable-Baselines3."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import pytest
import sb3_contrib
import torch
from sb3_contrib import TRPO
from stable_baselines3.common.logger import configure
from tests.adapters.sb3_runs import (
    ENVS,
    ROLLOUT,
    STEPS,
    Fixed,
    RaiseAt,
    make_maskable,
    make_ppo,
    make_recurrent,
    rows_of,
)

from esper_analyzer import open_run
from esper_recorder.adapters.sb3 import RecorderCallback
from esper_schemas.errors import UsageError

Make = Callable[..., Any]

CONTRIB = pytest.mark.parametrize("make", [make_maskable, make_recurrent], ids=["MaskablePPO", "RecurrentPPO"])
ALL = pytest.mark.parametrize("make", [make_ppo, make_maskable, make_recurrent], ids=["PPO", "Maskable", "Recurrent"])


@pytest.mark.slow
@CONTRIB
@pytest.mark.parametrize("clip_range_vf", [None, 0.15])
def test_every_update_has_the_values_that_contrib_logs(tmp_path: Path, make: Make, clip_range_vf: float | None) -> None:
    """Each update, the last one too, is recorded with the logged numbers; value loss halved, entropy with its sign."""
    model = make(ent_coef=0.01, clip_range_vf=clip_range_vf)
    model.set_logger(configure(str(tmp_path / "own"), ["json"]))
    model.learn(5 * ROLLOUT, callback=RecorderCallback(tmp_path, run_id="mine"))
    model.logger.close()
    own_log = [json.loads(line) for line in (tmp_path / "own" / "progress.json").read_text().splitlines()[1:]]
    last = {name: float(value) for name, value in model.logger.name_to_value.items()}
    rows = rows_of(open_run(tmp_path / "mine"))
    assert [row["update"] for row in rows] == list(range(5))
    for row, theirs in zip(rows, [*own_log, last], strict=True):
        assert row["value_loss"] == 0.5 * theirs["train/value_loss"]
        assert row["value_loss_unclipped"] == (row["value_loss"] if clip_range_vf is None else None)
        assert row["policy_loss"] == theirs["train/policy_gradient_loss"]
        assert row["entropy"] == -theirs["train/entropy_loss"]
        assert row["kl_divergence"] == pytest.approx(theirs["train/approx_kl"])
        for name in ("clip_fraction", "explained_variance", "learning_rate", "clip_range"):
            assert row[name] == theirs[f"train/{name}"], name
        assert (row["epochs_run"], row["minibatches"], row["samples"]) == (2, 4, ROLLOUT)
        assert row["env_steps"] == ROLLOUT * (row["update"] + 1)
        assert row["episodes"] is not None


@CONTRIB
def test_metrics_of_the_rollout_are_those_of_the_buffer(tmp_path: Path, make: Make) -> None:
    """Values, returns and advantages are those of the rollout, which has no padding."""
    model = make()
    model.learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="mine"))
    (row,) = rows_of(open_run(tmp_path / "mine"))
    buffer = model.rollout_buffer
    for name, array in (("return", buffer.returns), ("value", buffer.values), ("advantage", buffer.advantages)):
        assert array.size == ROLLOUT
        assert row[f"{name}_mean"] == pytest.approx(array.mean(), rel=1e-4)
        assert row[f"{name}_std"] == pytest.approx(array.std(), rel=1e-4)
    error = buffer.returns - buffer.values
    assert row["explained_variance"] == pytest.approx(1.0 - error.var() / buffer.returns.var(), rel=1e-4)


@CONTRIB
def test_value_loss_is_half_the_squared_error_of_the_samples(tmp_path: Path, make: Make) -> None:
    """Where nothing is learned, the value loss is ½·mean((V − G)²) of the rollout: padding is in no mean."""
    model = make(learning_rate=1e-12, n_epochs=1)
    model.learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="still"))
    (row,) = rows_of(open_run(tmp_path / "still"))
    buffer = model.rollout_buffer
    assert row["value_loss"] == pytest.approx(0.5 * np.mean((buffer.values - buffer.returns) ** 2), rel=1e-3)


@CONTRIB
def test_the_training_is_not_changed(tmp_path: Path, make: Make) -> None:
    """With the callback the weights come out bit for bit as without it."""
    plain, recorded = make().learn(4 * ROLLOUT), make()
    recorded.learn(4 * ROLLOUT, callback=RecorderCallback(tmp_path))
    for name, tensor in plain.policy.state_dict().items():
        assert torch.equal(tensor, recorded.policy.state_dict()[name]), name
    assert plain.logger.name_to_value == recorded.logger.name_to_value


@ALL
def test_the_black_box_has_every_minibatch(tmp_path: Path, make: Make) -> None:
    """The means of the minibatches are the logged numbers of their update; none is missing, and each has its norm."""
    with pytest.raises(ZeroDivisionError), RecorderCallback(tmp_path, run_id="box") as callback:
        make().learn(9 * ROLLOUT, callback=[callback, RaiseAt(2 * STEPS + 5, ZeroDivisionError)])
    (file,) = (tmp_path / "box" / "rank-0000" / "blackbox").glob("*.parquet")
    minibatches = pq.ParquetFile(file).read().to_pylist()
    rows = rows_of(open_run(tmp_path / "box"))
    assert [found["epoch"] for found in minibatches] == [1, 1, 2, 2] * 2
    assert len(rows) == 2
    for row, of_update in zip(rows, (minibatches[:4], minibatches[4:]), strict=True):
        for name in ("value_loss", "policy_loss", "entropy", "clip_fraction"):
            assert np.mean([found[name] for found in of_update]) == pytest.approx(row[name], rel=1e-6), name
        last_epoch = [found["kl_divergence"] for found in of_update[2:]]
        assert np.mean(last_epoch) == pytest.approx(row["kl_divergence"], rel=1e-6)
        assert all(found["grad_norm"] > 0.0 for found in of_update)
        assert all(found["ratio_max"] >= 1.0 - 1e-6 for found in of_update)


def test_ratios_of_padding_are_no_ratios(tmp_path: Path) -> None:
    """The largest ratio in the black box leaves out padding, whose own ratio would be far from 1."""
    padded: list[float] = []

    def make_env() -> Any:
        env: Any = Fixed(length=5)
        env.action_space = gym.spaces.Box(-1.0, 1.0, (2,))
        return env

    model: Any = make_recurrent(make_env, learning_rate=1e-12, policy_kwargs={"log_std_init": -3.0})
    evaluate = model.policy.evaluate_actions

    def measured(*arguments: Any) -> Any:
        found = evaluate(*arguments)
        padded.append(float(found[1].detach().max().exp()))  # the old log-probability of padding is 0
        return found

    model.policy.evaluate_actions = measured
    with pytest.raises(ZeroDivisionError), RecorderCallback(tmp_path, run_id="box") as callback:
        model.learn(9 * ROLLOUT, callback=[callback, RaiseAt(STEPS + 5, ZeroDivisionError)])
    (file,) = (tmp_path / "box" / "rank-0000" / "blackbox").glob("*.parquet")
    ratios = pq.ParquetFile(file).read()["ratio_max"].to_pylist()
    assert ratios == pytest.approx([1.0] * len(ratios), abs=1e-3)
    assert min(padded) > 2.0


def test_the_header_says_which_algorithm(tmp_path: Path) -> None:
    """Trainer, algorithm and definition are those of sb3-contrib; the padding of RecurrentPPO is named."""
    make_recurrent().learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="recurrent"))
    make_maskable(clip_range_vf=0.2).learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="maskable"))
    recurrent, maskable = open_run(tmp_path / "recurrent").header, open_run(tmp_path / "maskable").header
    assert recurrent.trainer == maskable.trainer == f"sb3-contrib {sb3_contrib.__version__}"
    assert recurrent.versions["sb3_contrib"] == sb3_contrib.__version__
    assert (recurrent.config["algorithm"], maskable.config["algorithm"]) == ("RecurrentPPO", "MaskablePPO")
    assert recurrent.value_loss_definition["source"] == "mean(((V - G)^2)[not padding])"
    assert maskable.value_loss_definition["source"] == "mean((V_old + clamp(V - V_old, -clip, clip) - G)^2)"
    assert (recurrent.env, maskable.env, recurrent.config["n_envs"]) == ("CartPole-v1", "Masked", ENVS)


def test_trpo_is_refused(tmp_path: Path) -> None:
    """TRPO logs other quantities under the same names: one line says so, before a run is made."""
    model = TRPO("MlpPolicy", "CartPole-v1", device="cpu")
    with pytest.raises(UsageError, match="found TRPO, which logs other quantities") as refused:
        model.learn(100, callback=RecorderCallback(tmp_path, run_id="trpo"))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_an_update_stopped_by_target_kl_says_so(tmp_path: Path) -> None:
    """The minibatch at which the KL divergence stopped the update is in the losses; no step was taken for it."""
    model = make_recurrent(target_kl=1e-12, n_epochs=5)
    model.learn(2 * ROLLOUT, callback=RecorderCallback(tmp_path, run_id="stopped"))
    for row in rows_of(open_run(tmp_path / "stopped")):
        assert row["epochs_run"] == row["early_stop_epoch"] == 1
        assert row["minibatches"] is None
        assert math.isfinite(row["value_loss"])
