"""A training of rsl_rl that goes on, is loaded, is interrupted, or cannot be recorded."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tests.adapters.rsl_rl_runs import ROLLOUT, STEPS, Points, make_runner, rows_of
from tests.forked import TRAINING, run_code

from esper_analyzer import Run, live_monitor, open_run
from esper_recorder.adapters.rsl_rl import attach
from esper_schemas.errors import RunExistsError, UsageError


def seen(run: Run) -> list[tuple[int, int, int, float]]:
    """Update, attempt, environment steps and rsl_rl's own number of the rows that count."""
    return [(row["update"], row["attempt"], row["env_steps"], row["iteration"]) for row in rows_of(run)]


def opened(folder: Path) -> Run:
    """The run that these tests record."""
    return open_run(folder / "runs" / "mine")


# ---------------------------------------------------------------------- going on


def test_learning_again_goes_on_with_the_run(tmp_path: Path) -> None:
    """A second `learn` is another attempt. Updates count on, although rsl_rl uses its last number twice."""
    runner = make_runner(tmp_path, {})
    runner.learn(3)
    runner.learn(2)
    expected = [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 1, 2), (4, 1, 3)]
    assert seen(opened(tmp_path)) == [
        (update, attempt, ROLLOUT * (update + 1), iteration) for update, attempt, iteration in expected
    ]
    assert opened(tmp_path).report().updates.superseded == 0


@pytest.mark.parametrize("envs", [4, 8])
def test_a_checkpoint_supersedes_exactly_the_updates_behind_it(tmp_path: Path, envs: int) -> None:
    """A runner that has loaded the checkpoint of iteration 2 continues with update 3, with any number of environments.

    rsl_rl uses the number 2 again for it. A checkpoint from after that continues behind the second update of that
    number, not the first.
    """
    make_runner(tmp_path, {}).learn(5)
    for attempt, (checkpoint, updates) in enumerate(((2, 3), (4, 1)), start=1):
        runner = make_runner(tmp_path, {"resume": "allow"}, Points(envs))
        runner.load(str(tmp_path / "logs" / f"model_{checkpoint}.pt"))
        runner.learn(updates)
        rows = seen(opened(tmp_path))
        steps = 3 * ROLLOUT
        past = [(0, 0, ROLLOUT, 0), (1, 0, 2 * ROLLOUT, 1), (2, 0, steps, 2)]
        assert rows[:3] == past
        new = [(3 + number, 1, steps + (number + 1) * STEPS * envs, 2 + number) for number in range(3)]
        assert rows[3:6] == new
        if attempt == 2:
            assert rows[6:] == [(6, 2, steps + 4 * STEPS * envs, 4)]
    assert opened(tmp_path).updates(all_attempts=True).select(pl.len()).collect().item() == 9


def test_an_older_checkpoint_that_the_same_runner_loads(tmp_path: Path) -> None:
    """A runner that goes back to an older checkpoint continues behind that one, and supersedes what came after it."""
    runner = make_runner(tmp_path, {})
    runner.learn(5)
    runner.load(str(tmp_path / "logs" / "model_2.pt"))
    runner.learn(1)
    assert [(update, attempt) for update, attempt, _, _ in seen(opened(tmp_path))] == [(0, 0), (1, 0), (2, 0), (3, 1)]


def test_a_new_runner_begins_anew(tmp_path: Path) -> None:
    """A runner that has loaded nothing counts from 0, and its first update supersedes all that is there."""
    make_runner(tmp_path, {}).learn(2)
    make_runner(tmp_path, {"resume": "allow"}).learn(1)
    assert seen(opened(tmp_path)) == [(0, 1, ROLLOUT, 0)]


# ---------------------------------------------------------------------- being interrupted


def test_an_exception_ends_the_run_with_all_its_updates(tmp_path: Path) -> None:
    """`with attach(runner)` closes the run as what it is; a further `learn` goes on with it."""
    runner = make_runner(tmp_path, {})
    env: Any = runner.env
    for error, status, updates in ((KeyboardInterrupt, "interrupted", 2), (ZeroDivisionError, "failed", 4)):
        env.raise_at = (env.steps + 2 * STEPS + 3, error)
        with pytest.raises(error), attach(runner):
            runner.learn(9)
        runner.alg.storage.clear()  # rsl_rl itself cannot go on in the middle of a rollout
        assert opened(tmp_path).status() == status
        assert [update for update, _, _, _ in seen(opened(tmp_path))] == list(range(updates))


def test_rows_are_safe_at_once_and_a_second_learn_takes_the_run_up(tmp_path: Path) -> None:
    """After an exception that was caught all updates can be read; `learn` again closes that attempt and goes on."""
    runner = make_runner(tmp_path, {})
    env: Any = runner.env
    env.raise_at = (2 * STEPS + 3, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        runner.learn(9)
    assert opened(tmp_path).status() == "live"
    assert len(rows_of(opened(tmp_path))) == 2
    runner.alg.storage.clear()  # rsl_rl itself cannot go on in the middle of a rollout
    runner.learn(1)
    found = opened(tmp_path)
    assert [(update, attempt) for update, attempt, _, _ in seen(found)] == [(0, 0), (1, 0), (2, 1)]
    assert found.status() == "finished"
    assert "learn() was called again" in str(found.attempts()[0].reason)


@pytest.mark.parametrize(("code", "status"), [("0", "finished"), ("3", "failed")])
def test_an_exit_in_the_environment_is_planned_if_its_code_says_so(tmp_path: Path, code: str, status: str) -> None:
    """`sys.exit(0)` in the middle of a training leaves a finished run; with another code it failed."""
    script = f"""
import sys
from pathlib import Path
from tests.adapters.rsl_rl_runs import STEPS, make_runner
runner = make_runner(Path(sys.argv[1]), {{}})
runner.env.raise_at = (STEPS + 3, SystemExit({code}))
runner.learn(9)
"""
    assert run_code(script, tmp_path, imports=TRAINING).returncode == int(code)
    found = opened(tmp_path)
    assert (found.status(), len(rows_of(found))) == (status, 1)
    assert ("learn() did not return" in (found.attempts()[-1].reason or "")) == (status == "failed")


def test_a_training_that_an_exception_ended_is_not_finished(tmp_path: Path) -> None:
    """A program that catches what ends its training, and then ends well, leaves a failed run."""
    script = """
import sys
from pathlib import Path
from tests.adapters.rsl_rl_runs import STEPS, make_runner
runner = make_runner(Path(sys.argv[1]), {})
runner.env.raise_at = (STEPS + 3, ZeroDivisionError)
try:
    runner.learn(9)
except ZeroDivisionError:
    pass
"""
    run_code(script, tmp_path, imports=TRAINING)
    found = opened(tmp_path)
    assert (found.status(), len(rows_of(found))) == ("failed", 1)
    assert "learn() did not return" in (found.attempts()[-1].reason or "")


@pytest.mark.slow
def test_ctrl_c_in_a_script_of_a_few_lines(tmp_path: Path) -> None:
    """A program that ends by Ctrl-C, with nothing but the Writer, leaves a sealed run that says so."""
    script = """
import os, signal, sys
from pathlib import Path
from tests.adapters.rsl_rl_runs import make_runner
from esper_recorder.adapters.rsl_rl import attach
runner = make_runner(Path(sys.argv[1]), {})
attach(runner, on_update=lambda row: row["update"] == 1 and os.kill(os.getpid(), signal.SIGINT))
runner.learn(9999)
"""
    ended = run_code(script, tmp_path, imports=TRAINING)
    assert "KeyboardInterrupt" in ended.stderr
    assert ended.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    found = opened(tmp_path)
    assert found.status() == "interrupted"
    assert len(rows_of(found)) == 2
    assert not found.faults()


def test_a_monitor_sees_every_update(tmp_path: Path) -> None:
    """`attach` takes an `on_update` that rsl_rl's configuration cannot hold, since it is copied."""
    monitor, runner = live_monitor(), make_runner(tmp_path, {})
    attach(runner, on_update=monitor)
    runner.learn(3)
    assert monitor.level == opened(tmp_path).report().verdict.level


# ---------------------------------------------------------------------- what is refused


def test_a_run_that_exists_is_refused_before_training(tmp_path: Path) -> None:
    """A name that is taken is an error before the first step, not a run overwritten."""
    make_runner(tmp_path, {}).learn(1)
    runner = make_runner(tmp_path, {})
    with pytest.raises(RunExistsError, match="mine exists already"):
        runner.learn(1)
    assert runner.env.steps == 0  # type: ignore[attr-defined]
    assert "log" not in vars(runner.logger)


def test_other_algorithms_are_refused(tmp_path: Path) -> None:
    """An algorithm that is not PPO, such as a distillation, has other losses: it is refused before a run is made."""

    class Distillation:
        def train_mode(self) -> None:
            """As rsl_rl asks for it."""

    runner: Any = make_runner(tmp_path, {})
    runner.alg = Distillation()
    with pytest.raises(UsageError, match="records PPO of rsl_rl, found Distillation"):
        runner.learn(1)
    assert not (tmp_path / "runs").exists()


class OwnRunner:
    """A runner that is no subclass of rsl_rl's, in the shape of one."""

    def __init__(self, made: Any) -> None:
        self.alg, self.env, self.cfg, self.logger, self.device = made.alg, made.env, made.cfg, made.logger, made.device
        self.current_learning_iteration = 0

    def learn(self, updates: int) -> None:
        """As `OnPolicyRunner.learn`, as far as this test needs it."""
        self.logger.init_logging_writer()
        for it in range(updates):
            with torch.inference_mode():
                for _ in range(STEPS):
                    step = self.env.step(self.alg.act(self.env.get_observations()))
                    self.alg.process_env_step(*step)
                    self.logger.process_env_step(*step[1:])
                self.alg.compute_returns(step[0])
            losses = self.alg.update()
            self.current_learning_iteration = it
            spread = self.alg.get_policy().output_std
            self.logger.log(it, 0, updates, 1.0, 1.0, losses, self.alg.learning_rate, spread, None)
        self.logger.stop_logging_writer()


def test_a_runner_of_ones_own_is_attached(tmp_path: Path) -> None:
    """The Writer does not guess which object is a runner: one that it does not know is refused until it is attached."""
    runner = OwnRunner(make_runner(tmp_path, {}))
    with pytest.raises(UsageError, match=r"attach\(runner\) before learn"):
        runner.learn(1)
    assert not (tmp_path / "runs").exists()
    attach(runner)
    runner.learn(2)
    rows = rows_of(opened(tmp_path))
    assert [(row["update"], row["env_steps"]) for row in rows] == [(0, ROLLOUT), (1, 2 * ROLLOUT)]
    assert all(row["explained_variance"] is not None and row["kl_divergence"] is not None for row in rows)
    assert opened(tmp_path).status() == "finished"


def test_what_cannot_be_measured_stops_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A storage of another shape costs the metrics of the rollout, not the update; strict raises."""
    for strict in (False, True):
        runner: Any = make_runner(tmp_path, {"strict": strict, "run_id": f"strict-{strict}"})
        update = runner.alg.update

        def odd(runner: Any = runner, update: Any = update) -> Any:
            losses = update()
            runner.alg.storage.returns = runner.alg.storage.returns[:1]
            return losses

        runner.alg.update = odd
        if strict:
            with pytest.raises(UsageError, match="shape"), attach(runner):
                runner.learn(1)
            continue
        with caplog.at_level(logging.WARNING, "esper_recorder"):
            runner.learn(1)
        (row,) = rows_of(open_run(tmp_path / "runs" / "strict-False"))
        assert row["return_mean"] is None
        assert row["value_loss"] is not None
        assert "could not measure the rollout: UsageError" in caplog.text
