"""The Stable-Baselines3 adapter, on real trainings of CartPole that last a fraction of a second."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.adapters.sb3_runs import ENVS, ROLLOUT, STEPS, Fixed, make_ppo, rows_of

from esper_analyzer import Run, live_monitor, open_run
from esper_recorder.adapters.sb3 import RecorderCallback
from esper_schemas.errors import UsageError

# ---------------------------------------------------------------------- the values


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[dict[str, Any]], PPO]:
    """A run of 8 updates, what SB3's own JSON logger wrote of it (the last update is missing there), the model."""
    place = tmp_path_factory.mktemp("logged")
    model = make_ppo(ent_coef=0.01)
    model.set_logger(configure(str(place / "sb3"), ["json"]))
    model.learn(8 * ROLLOUT, callback=RecorderCallback(place / "runs", run_id="mine"))
    model.logger.close()
    lines = (place / "sb3" / "progress.json").read_text().splitlines()
    return open_run(place / "runs" / "mine"), [json.loads(line) for line in lines[1:]], model


def test_every_update_has_the_values_that_sb3_logs(logged: tuple[Run, list[dict[str, Any]], PPO]) -> None:
    """Each update is recorded with SB3's numbers, value loss halved and the sign of the entropy turned."""
    run, own_log, model = logged
    rows = rows_of(run)
    assert [row["update"] for row in rows] == list(range(8))
    assert [row["env_steps"] for row in rows] == [ROLLOUT * (update + 1) for update in range(8)]
    assert len(own_log) == 7
    last = {name: float(value) for name, value in model.logger.name_to_value.items()}
    for row, theirs in zip(rows, [*own_log, last], strict=True):
        assert row["value_loss"] == 0.5 * theirs["train/value_loss"] == row["value_loss_unclipped"]
        assert row["policy_loss"] == theirs["train/policy_gradient_loss"]
        assert row["entropy"] == -theirs["train/entropy_loss"]
        assert row["kl_divergence"] == pytest.approx(theirs["train/approx_kl"])
        for name in ("clip_fraction", "explained_variance", "learning_rate", "clip_range"):
            assert row[name] == theirs[f"train/{name}"], name
        assert (row["entropy_coef"], row["vf_coef"], row["value_target_scale"]) == (0.01, 0.5, 1.0)
        assert (row["epochs_run"], row["minibatches"], row["samples"]) == (2, 4, ROLLOUT)
        assert row["early_stop_epoch"] is None
        assert row["rollout_secs"] > 0.0
        assert row["update_secs"] > 0.0


def test_value_loss_is_half_the_squared_error_of_the_rollout(tmp_path: Path) -> None:
    """Where nothing is learned, the value loss is ½·mean((V − G)²) of the rollout, by whatever else was recorded."""
    model = make_ppo(learning_rate=1e-12, n_epochs=1)
    model.learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="still"))
    (row,) = rows_of(open_run(tmp_path / "still"))
    assert row["value_loss"] == pytest.approx(0.5 * (row["value_nrmse"] * row["return_std"]) ** 2, rel=1e-4)
    buffer = model.rollout_buffer
    assert row["value_loss"] == pytest.approx(0.5 * np.mean((buffer.values - buffer.returns) ** 2), rel=1e-4)


def test_rollout_metrics_agree_with_sb3(logged: tuple[Run, list[dict[str, Any]], PPO]) -> None:
    """What is computed from the rollout buffer is what SB3 has of it: returns, values, and what they explain."""
    run, _, model = logged
    row, buffer = rows_of(run)[-1], model.rollout_buffer
    for name, array in (("return", buffer.returns), ("value", buffer.values), ("advantage", buffer.advantages)):
        assert row[f"{name}_mean"] == pytest.approx(array.mean(), rel=1e-4)
        assert row[f"{name}_std"] == pytest.approx(array.std(), rel=1e-4)
    assert (row["value_min"], row["value_max"]) == (buffer.values.min(), buffer.values.max())
    assert row["return_p50"] == pytest.approx(np.median(buffer.returns))
    error = buffer.returns - buffer.values
    bias = float(error.mean() ** 2 / buffer.returns.var())
    assert row["value_nrmse"] ** 2 == pytest.approx(1.0 - row["explained_variance"] + bias, rel=1e-4)
    correlation = np.corrcoef(buffer.values.ravel(), buffer.returns.ravel())[0, 1]
    assert row["v_return_correlation"] == pytest.approx(correlation, rel=1e-3)


def test_explained_variance_of_constant_returns_is_null(tmp_path: Path) -> None:
    """SB3 logs NaN where the returns do not vary; that is recorded as not measured, and the update all the same."""
    model = make_ppo(Fixed())
    torch.nn.init.zeros_(model.policy.value_net.weight)
    model.learn(STEPS, callback=RecorderCallback(tmp_path, run_id="fixed"))
    assert math.isnan(model.logger.name_to_value["train/explained_variance"])
    run = open_run(tmp_path / "fixed")
    (row,) = rows_of(run)
    assert row["explained_variance"] is row["value_nrmse"] is None
    assert row["return_std"] == 0.0
    assert run.header.env == "Fixed"


# ---------------------------------------------------------------------- episodes


def test_episodes_are_those_of_the_rollout(tmp_path: Path) -> None:
    """Returns are the mean over episodes that ended in the rollout; null, and a count of 0, where none did."""
    model = make_ppo(Fixed(length=48))  # 32 steps a rollout: none ends in the 1st and the 4th, one in each between
    model.learn(4 * STEPS, callback=RecorderCallback(tmp_path, run_id="episodes"))
    rows = rows_of(open_run(tmp_path / "episodes"))
    assert [row["episodes"] for row in rows] == [0, 1, 1, 0]
    assert [row["episode_length_mean"] for row in rows] == [None, 48.0, 48.0, None]
    assert [row["episode_return_mean"] for row in rows] == [None, 0.0, 0.0, None]


def test_episode_returns_are_not_those_of_the_last_hundred(logged: tuple[Run, list[dict[str, Any]], PPO]) -> None:
    """The episodes of all rollouts together are those of SB3's window, which its own number averages over."""
    run, _, model = logged
    rows = [row for row in rows_of(run) if row["episodes"]]
    assert model.ep_info_buffer is not None
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert sum(row["episodes"] for row in rows) == len(returns)
    assert sum(row["episodes"] * row["episode_return_mean"] for row in rows) == pytest.approx(sum(returns))
    assert len({row["episode_return_mean"] for row in rows}) > 1


def test_episodes_that_no_monitor_reports_are_unknown(tmp_path: Path) -> None:
    """Without a Monitor wrapper SB3 knows no returns; the count is then null too, never 0."""
    model = make_ppo(DummyVecEnv([lambda: Fixed(length=5)]))
    model.learn(STEPS, callback=RecorderCallback(tmp_path, run_id="bare"))
    (row,) = rows_of(open_run(tmp_path / "bare"))
    assert row["episodes"] is row["episode_return_mean"] is None


# ---------------------------------------------------------------------- which updates there are


def test_the_training_is_not_changed(tmp_path: Path) -> None:
    """With the callback the weights come out bit for bit as without it."""
    plain, recorded = make_ppo().learn(4 * ROLLOUT), make_ppo()
    recorded.learn(4 * ROLLOUT, callback=RecorderCallback(tmp_path))
    for name, tensor in plain.policy.state_dict().items():
        assert torch.equal(tensor, recorded.policy.state_dict()[name]), name
    assert plain.logger.name_to_value == recorded.logger.name_to_value


@pytest.mark.parametrize("log_interval", [4, None])
def test_log_interval_does_not_matter(tmp_path: Path, log_interval: int) -> None:
    """Every update is recorded however seldom SB3 logs."""
    make_ppo().learn(6 * ROLLOUT, callback=RecorderCallback(tmp_path, run_id="seldom"), log_interval=log_interval)
    rows = rows_of(open_run(tmp_path / "seldom"))
    assert [row["update"] for row in rows] == list(range(6))
    assert len({row["value_loss"] for row in rows}) == 6


def test_an_update_stopped_by_target_kl_says_so(tmp_path: Path) -> None:
    """The epoch of an early stop is recorded; the number of minibatches is null, since SB3 does not tell it."""
    make_ppo(target_kl=1e-12, n_epochs=5).learn(2 * ROLLOUT, callback=RecorderCallback(tmp_path, run_id="stopped"))
    for row in rows_of(open_run(tmp_path / "stopped")):
        assert row["epochs_run"] == row["early_stop_epoch"] == 1
        assert row["minibatches"] is None


def test_a_rollout_that_is_cut_short_is_no_update(tmp_path: Path) -> None:
    """Where another callback ends the training in a rollout, only the updates before it are recorded."""
    monitor = live_monitor()
    seen: list[float] = []

    def watch(row: Any) -> None:
        monitor(row)
        seen.append(row["value_loss"])

    callback = RecorderCallback(tmp_path, run_id="cut", on_update=watch)
    stop = ConvertCallback(lambda locals_, globals_: len(seen) < 2)
    make_ppo().learn(9 * ROLLOUT, callback=[callback, stop])
    run = open_run(tmp_path / "cut")
    assert [row["value_loss"] for row in rows_of(run)] == seen
    assert len(seen) == 2
    assert run.status() == "finished"
    assert monitor.level == run.report().verdict.level


def test_learning_again_goes_on_with_the_run(tmp_path: Path) -> None:
    """A second and third `learn` are attempts of one run; updates and steps count on, also where SB3 begins at 0."""
    callback, model = RecorderCallback(tmp_path, run_id="again"), make_ppo()
    model.learn(2 * ROLLOUT, callback=callback)
    model.learn(2 * ROLLOUT, callback=callback, reset_num_timesteps=False)
    model.learn(2 * ROLLOUT, callback=callback)
    assert model.num_timesteps == 2 * ROLLOUT
    assert callback.path == tmp_path / "again"
    rows = rows_of(open_run(callback.path))
    assert [row["update"] for row in rows] == list(range(6))
    assert [row["env_steps"] for row in rows] == [ROLLOUT * (update + 1) for update in range(6)]
    assert [row["attempt"] for row in rows] == [0, 0, 1, 1, 2, 2]


def test_a_loaded_model_supersedes_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    """A model saved after two updates resumes its run at the third, whatever was recorded after it was saved."""
    model = make_ppo()
    with RecorderCallback(tmp_path, run_id="loaded") as callback:
        model.learn(2 * ROLLOUT, callback=callback)
        model.save(tmp_path / "model.zip")
        model.learn(3 * ROLLOUT, callback=callback, reset_num_timesteps=False)
    loaded = PPO.load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    with pytest.raises(UsageError, match="another model"):
        loaded.learn(ROLLOUT, callback=callback, reset_num_timesteps=False)
    resumed = RecorderCallback(tmp_path, run_id="loaded", resume="allow")
    loaded.learn(ROLLOUT, callback=resumed, reset_num_timesteps=False)
    run = open_run(tmp_path / "loaded")
    assert [(row["update"], row["attempt"]) for row in rows_of(run)] == [(0, 0), (1, 0), (2, 2)]
    assert run.updates(all_attempts=True).select(pl.len()).collect().item() == 6


# ---------------------------------------------------------------------- the header


def test_the_header_says_who_and_how(tmp_path: Path) -> None:
    """Trainer, environment, device, definition and hyper-parameters are in the header, schedules by their start."""
    model = make_ppo(
        learning_rate=LinearSchedule(1e-3, 0.0, 1.0),
        policy_kwargs={"net_arch": [8], "activation_fn": torch.nn.Tanh, "optimizer_kwargs": {"eps": 1e-5}},
    )
    model.learn(2 * ROLLOUT, callback=RecorderCallback(tmp_path, run_id="header", config={"note": "mine", "seed": 7}))
    run = open_run(tmp_path / "header")
    header = run.header
    assert (header.trainer, header.env, header.device) == (
        f"stable-baselines3 {stable_baselines3.__version__}",
        "CartPole-v1",
        "cpu",
    )
    assert header.value_loss_definition == {
        "source": "mean((V - G)^2)",
        "factor": 0.5,
        "clipping": "none",
        "clip_range": None,
        "reduction": "all minibatches",
        "coefficient_included": False,
        "targets_normalised": False,
        "assumed": False,
    }
    config = dict(header.config)
    assert (config["learning_rate"], config["clip_range"], config["clip_range_vf"]) == (1e-3, 0.2, None)
    assert config["scheduled"] == ["learning_rate"]
    assert (config["n_steps"], config["n_envs"], config["gamma"], config["total_timesteps"]) == (32, 2, 0.99, 128)
    assert (config["policy"], config["algorithm"]) == ("ActorCriticPolicy", "PPO")
    assert config["policy_kwargs"] == {"net_arch": [8], "activation_fn": "Tanh", "optimizer_kwargs": {"eps": 1e-5}}
    assert (config["note"], config["seed"]) == ("mine", 7)
    rates = [row["learning_rate"] for row in rows_of(run)]
    assert rates == pytest.approx([0.5e-3, 0.0])


def test_a_clipped_prediction_is_declared(tmp_path: Path) -> None:
    """With `clip_range_vf` the loss is that of the clipped prediction alone, and no unclipped loss is known."""
    model = make_ppo(VecNormalize(make_vec_env("CartPole-v1", ENVS, seed=0)), clip_range_vf=0.15)
    model.learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="clipped"))
    run = open_run(tmp_path / "clipped")
    definition = run.header.value_loss_definition
    assert (definition["clipping"], definition["clip_range"], definition["factor"]) == ("clipped", 0.15, 0.5)
    assert definition["targets_normalised"]
    assert run.header.config["normalize_rewards"]
    assert run.header.env == "CartPole-v1"
    (row,) = rows_of(run)
    assert row["value_loss"] == 0.5 * model.logger.name_to_value["train/value_loss"]
    assert row["value_loss_unclipped"] is None
