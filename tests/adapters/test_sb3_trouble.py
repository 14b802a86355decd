"""The Stable-Baselines3 adapter when something goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EventCallback,
    EveryNTimesteps,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.adapters.sb3_runs import ENVS, ROLLOUT, STEPS, Fixed, RaiseAt, make_ppo, rows_of
from tests.forked import TRAINING, run_code

from esper_analyzer import open_run
from esper_recorder.adapters.sb3 import RecorderCallback
from esper_schemas.errors import RunExistsError, UsageError


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")])
def test_an_exception_ends_the_run_with_all_its_updates(
    tmp_path: Path, error: type[BaseException], status: str
) -> None:
    """As a context manager the callback closes the run as what it is, with every update that was made."""
    with pytest.raises(error), RecorderCallback(tmp_path, run_id="cut") as callback:
        make_ppo().learn(9 * ROLLOUT, callback=[callback, RaiseAt(2 * STEPS + 5, error)])
    run = open_run(tmp_path / "cut")
    assert run.status() == status
    assert len(rows_of(run)) == 2


def test_rows_are_safe_at_once_and_a_second_learn_takes_the_run_up(tmp_path: Path) -> None:
    """After an exception that was caught all updates can be read; `learn` again adds an attempt behind them."""
    callback, model = RecorderCallback(tmp_path, run_id="caught"), make_ppo()
    with pytest.raises(ZeroDivisionError):
        model.learn(9 * ROLLOUT, callback=[callback, RaiseAt(2 * STEPS + 5, ZeroDivisionError)])
    run = open_run(tmp_path / "caught")
    assert run.status() == "live"
    assert len(rows_of(run)) == 2
    model.learn(ROLLOUT, callback=callback, reset_num_timesteps=False)
    assert [(row["update"], row["attempt"]) for row in rows_of(run)] == [(0, 0), (1, 0), (2, 1)]
    assert run.status() == "finished"


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(3)", "failed"),
        ("1 / 0", "failed"),
        ("return False", "finished"),
        ("sys.exit(0)", "finished"),
        ("raise SystemExit", "finished"),
    ],
)
def test_a_callback_that_ends_the_program_or_the_training(tmp_path: Path, end: str, status: str) -> None:
    """A training that an exit code or a caught exception has ended is not finished; one that ended as planned is."""
    script = f"""
import sys
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from esper_recorder.adapters.sb3 import RecorderCallback
class Stop(BaseCallback):
    def _on_step(self):
        if self.num_timesteps >= 40:
            {end}
        return True
model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, device="cpu")
try:
    model.learn(9999, callback=[RecorderCallback(sys.argv[1], run_id="script"), Stop()])
except ZeroDivisionError:
    pass
"""
    run_code(script, tmp_path, imports=TRAINING)
    run = open_run(tmp_path / "script")
    assert (run.status(), len(rows_of(run))) == (status, 1)
    assert ("learn() did not return" in (run.attempts()[-1].reason or "")) == (status == "failed")


def test_a_planned_exit_in_the_environment(tmp_path: Path) -> None:
    """A signal handler that ends the program with `sys.exit(0)` in the middle of a step leaves a finished run."""
    script = """
import os, signal, sys
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from esper_recorder.adapters.sb3 import RecorderCallback
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Ended(gym.Wrapper):
    steps = 0
    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().step(action)
env = VecNormalize(make_vec_env("CartPole-v1", 1, wrapper_class=Ended))
model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu")
model.learn(9999, callback=RecorderCallback(sys.argv[1], run_id="script"))
"""
    assert run_code(script, tmp_path, imports=TRAINING).returncode == 0
    run = open_run(tmp_path / "script")
    assert (run.status(), run.attempts()[-1].reason, len(rows_of(run))) == ("finished", None, 1)


def test_a_planned_exit_between_the_updates_of_an_own_loop(tmp_path: Path) -> None:
    """A loop without `learn` ends as any other program: it has finished, unless something says that it failed."""
    script = """
import sys
from stable_baselines3 import PPO
from esper_recorder.adapters.sb3 import RecorderCallback
model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, device="cpu")
_, callback = model._setup_learn(9999, RecorderCallback(sys.argv[1], run_id="script"))
callback.on_training_start({}, {})
for update in range(3):
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 32)
    model.train()
    if update == 1:
        sys.exit(0)
"""
    run_code(script, tmp_path, imports=TRAINING)
    run = open_run(tmp_path / "script")
    assert (run.status(), len(rows_of(run))) == ("finished", 1)


def test_the_environment_is_as_before_and_can_be_saved_meanwhile(tmp_path: Path) -> None:
    """Checkpoints of the model and of `VecNormalize` hold nothing of ours; nothing is left of it after `learn`."""
    env = VecNormalize(make_vec_env("CartPole-v1", ENVS, seed=0))
    saves = CheckpointCallback(STEPS, str(tmp_path / "saved"), save_vecnormalize=True)
    model = make_ppo(env)
    model.learn(2 * ROLLOUT, callback=[RecorderCallback(tmp_path, run_id="saved"), saves])
    assert "step_wait" not in vars(env.unwrapped)
    assert type(model).load(next((tmp_path / "saved").glob("*.zip")), device="cpu").num_timesteps
    assert VecNormalize.load(str(next((tmp_path / "saved").glob("*.pkl"))), env.venv).num_envs == ENVS


def test_ctrl_c_in_a_script_of_three_lines(tmp_path: Path) -> None:
    """A program that ends by Ctrl-C, with nothing but the callback, leaves a sealed run that says so."""
    script = """
import os, signal, sys
from stable_baselines3 import PPO
from esper_recorder.adapters.sb3 import RecorderCallback
ctrl_c = lambda row: row["update"] == 1 and os.kill(os.getpid(), signal.SIGINT)
model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, device="cpu")
model.learn(9999, callback=RecorderCallback(sys.argv[1], run_id="script", on_update=ctrl_c))
"""
    ended = run_code(script, tmp_path, imports=TRAINING)
    assert "KeyboardInterrupt" in ended.stderr
    run = open_run(tmp_path / "script")
    assert run.status() == "interrupted"
    assert len(rows_of(run)) == 2
    assert not run.faults()


def test_other_algorithms_are_refused(tmp_path: Path) -> None:
    """An A2C logs other losses under the same names: it is refused before a run is made."""
    model = A2C("MlpPolicy", "CartPole-v1", device="cpu")
    with pytest.raises(UsageError, match="found A2C, which logs other quantities"):
        model.learn(100, callback=RecorderCallback(tmp_path, run_id="a2c"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "around",
    [
        lambda callback: EveryNTimesteps(ROLLOUT, callback),
        lambda callback: [CheckpointCallback(ROLLOUT, "saved"), EveryNTimesteps(ROLLOUT, CallbackList([callback]))],
        lambda callback: EvalCallback(make_vec_env("CartPole-v1", 1), callback_after_eval=callback, eval_freq=STEPS),
        lambda callback: EvalCallback(
            make_vec_env("CartPole-v1", 1), callback_on_new_best=callback, eval_freq=STEPS, warn=False
        ),
    ],
    ids=["event", "list", "after_eval", "on_new_best"],
)
def test_a_place_without_rollouts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: Callable[[BaseCallback], Any]
) -> None:
    """Inside a callback of events nothing could be recorded: that is said before a run is made, with what to do."""
    monkeypatch.chdir(tmp_path)
    callback = RecorderCallback(run_id="inside")
    with pytest.raises(UsageError, match=r"is inside E\w+, which .* as callback=\[RecorderCallback"):
        make_ppo().learn(ROLLOUT, callback=around(callback))
    assert not Path("runs").exists()
    make_ppo().learn(ROLLOUT, callback=callback)  # the same object in a good place
    assert len(rows_of(open_run("runs/inside"))) == 1


class PassesOn(EventCallback):
    """A callback of events that passes rollouts on, too."""

    def _on_rollout_start(self) -> None:
        assert self.callback is not None
        self.callback.on_rollout_start()

    def _on_rollout_end(self) -> None:
        assert self.callback is not None
        self.callback.on_rollout_end()

    def _on_step(self) -> bool:
        return self._on_event()

    def _on_training_end(self) -> None:
        assert self.callback is not None
        self.callback.on_training_end()


@pytest.mark.parametrize(
    "around",
    [
        lambda callback: [CheckpointCallback(ROLLOUT, "saved"), callback],
        lambda callback: CallbackList([CallbackList([callback, CheckpointCallback(STEPS, "saved")])]),
        lambda callback: [EveryNTimesteps(STEPS, CheckpointCallback(1, "saved")), callback],
        PassesOn,
    ],
    ids=["beside", "lists", "after", "own"],
)
def test_every_place_that_hears_of_rollouts_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: Callable[[BaseCallback], Any]
) -> None:
    """Beside other callbacks, in lists of lists, and inside one that passes everything on, every update is a row."""
    monkeypatch.chdir(tmp_path)
    make_ppo().learn(2 * ROLLOUT, callback=around(RecorderCallback(run_id="heard")))
    run = open_run("runs/heard")
    assert (run.status(), len(rows_of(run))) == ("finished", 2)


def test_a_run_that_exists_is_refused_before_training(tmp_path: Path) -> None:
    """A name that is taken is an error before the first step, not a run overwritten."""
    make_ppo().learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="taken"))
    model = make_ppo()
    with pytest.raises(RunExistsError, match="taken exists already"):
        model.learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="taken"))
    assert model.num_timesteps == 0


def test_numbers_that_another_callback_took_away_are_a_counted_gap(tmp_path: Path) -> None:
    """Where another callback empties SB3's log first, the update is a dropped row, never one of zeros."""

    class Dump(BaseCallback):
        def _on_rollout_start(self) -> None:
            self.logger.dump()

        def _on_step(self) -> bool:
            return True

    make_ppo().learn(3 * ROLLOUT, callback=[Dump(), RecorderCallback(tmp_path, run_id="dumped")])
    run = open_run(tmp_path / "dumped")
    assert [row["update"] for row in rows_of(run)] == [2]
    assert run.report().updates.dropped == 2


def test_what_cannot_be_measured_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrapper with episodes of its own shape costs the metrics of the rollout, not the update; strict raises."""

    class Odd(Fixed):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return *super().step(action)[:4], {"episode": {"score": 1.0}}

    monkeypatch.chdir(tmp_path)
    model = make_ppo(DummyVecEnv([Odd]))
    with caplog.at_level(logging.WARNING, "esper_recorder"):
        model.learn(STEPS, callback=RecorderCallback(run_id="odd"), log_interval=None)  # type: ignore[arg-type]
    (row,) = rows_of(open_run("runs/odd"))
    assert row["return_mean"] is None
    assert row["value_loss"] is not None
    assert "could not measure the rollout: KeyError" in caplog.text
    with pytest.raises(KeyError), RecorderCallback(run_id="strict", strict=True) as callback:
        model.learn(STEPS, callback=callback, log_interval=None)  # type: ignore[arg-type]
