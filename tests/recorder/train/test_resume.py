"""`esper-rec train --resume`: what was killed or interrupted goes on as if nothing had happened, or says why not."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tests.recorder.train.checkpoints import read_checkpoint

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.train.checkpoint import Checkpoint
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.trainer import Trainer

Rec = Callable[..., Any]  # the fixtures of conftest.py that run esper-rec
CPU = torch.device("cpu")
SMALL = ["--num-envs", "4", "--rollout-steps", "16"]
# Everything that a checkpoint must hold takes part: annealing, both normalisers, the stop on KL.
FULL = [*SMALL, "--updates", "24", "--seed", "3", "--normalize-observations", "--target-kl", "0.0005"]
TIMES = {"update_secs": None, "rollout_secs": None}
NOT_COMPARED = ("wall_time", "elapsed_secs", "update_secs", "rollout_secs", "run_id", "attempt", "seq")


@pytest.fixture(scope="module")
def uninterrupted(rec_in: Rec, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The rows of a run with the options `FULL` that nothing happened to."""
    cwd = tmp_path_factory.mktemp("uninterrupted") / "work"
    cwd.mkdir()
    done = rec_in(cwd, "train", *FULL, "--run-id", "r")
    assert done.code == 0, done.err
    rows = rows_of(cwd / "runs/r")
    assert rows["update"].to_list() == list(range(24))
    assert rows["early_stop_epoch"].null_count() < 24
    return rows


def flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a trainer's state by their path, tensors as lists."""
    leaves: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, dict):
            leaves |= {f"{name}.{inner}": leaf for inner, leaf in flat(value).items()}
        else:
            leaves[name] = value.tolist() if isinstance(value, torch.Tensor) else value
    return leaves


def rows_of(run: Path, *, all_attempts: bool = False) -> pl.DataFrame:
    """What the analyzer reads of a run, without what two equal runs differ in."""
    return open_run(run).updates(all_attempts=all_attempts).collect().drop(NOT_COMPARED)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_records_what_it_would_have(
    rec: Rec, runs: Path, uninterrupted: pl.DataFrame
) -> None:
    """SIGKILL at a row, amid writing the checkpoint, before and after its rename: every row is bit for bit the same."""
    start = ["train", *FULL, "--run-id", "r", "--checkpoint-updates", "4"]
    kills = [
        ("row recorded", 7, 4),  # after updates 0 to 6; the checkpoint is at 4
        ("checkpoint half written", 2, 4),  # the one at 8; the first is the one that every attempt begins with
        ("checkpoint not renamed", 3, 8),  # the one at 12
        ("checkpoint renamed", 3, 16),  # the one at 16
        ("row recorded", 1, 16),
    ]
    for number, (place, count, resumes_at) in enumerate(kills):
        done = rec(*(start if number == 0 else ["train", "--resume"]), die=(place, count, signal.SIGKILL))
        assert done.code == -signal.SIGKILL, done.err
        assert read_checkpoint(runs / "r/checkpoint.pt").state["next_update"] == resumes_at
        assert open_run(runs / "r").status() == "crashed"
    done = rec("train", "--resume", "--run-id", "r")
    assert done.code == 0, done.err
    assert "resuming runs/r after 16 of 24 updates" in done.err
    assert "updates     24 of 24, resumed after 16" in done.out

    run = open_run(runs / "r")
    assert rows_of(runs / "r").equals(uninterrupted, null_equal=True)
    assert [attempt.status for attempt in run.attempts()] == [None] * 5 + ["finished"]
    assert run.faults() == []
    # What was done twice gave the same twice: the superseded rows hide no difference.
    every = rows_of(runs / "r", all_attempts=True)
    assert len(every) > 24
    assert every.unique().sort("update").equals(uninterrupted, null_equal=True)
    assert not list(runs.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"normalize_observations": True, "target_kl": 0.0005},
        {"scale_value_targets": False, "anneal_lr": False},
        {"num_envs": 1, "rollout_steps": 1, "minibatches": 1, "updates": 60},  # some updates have no sample
    ],
)
def test_at_every_update_a_checkpoint_holds_all_that_decides_what_comes_next(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """A new trainer that goes on from the file gives the same row and ends in the same state, at each update."""
    config = PPOConfig(**({"num_envs": 16, "rollout_steps": 8, "updates": 20, "hidden_size": 8} | options))

    def new() -> Trainer:
        return Trainer(config, make_env(config.env, config.num_envs, seed=config.seed, device=CPU), CPU)

    going_on, path = new(), tmp_path / "checkpoint.pt"
    for update in range(config.num_updates):
        path.write_bytes(Checkpoint("uuid", config, "cpu", going_on.state_dict()).to_bytes())
        row = going_on.run_update(update)
        resumed = new()
        resumed.load_state_dict(read_checkpoint(path).state)
        again = resumed.run_update(resumed.next_update)
        assert repr(row | TIMES) == repr(again | TIMES)  # as text, because NaN is not equal to itself
        assert flat(resumed.state_dict()) == flat(going_on.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_ctrl_c_not_one_update_is_done_again(
    rec: Rec, runs: Path, uninterrupted: pl.DataFrame, number: signal.Signals
) -> None:
    """A signal amid an update leaves a checkpoint from before it and the command to type; resuming loses nothing."""
    start = ["train", *FULL, "--run-id", "r", "--checkpoint-updates", "100"]
    done = rec(*start, die=("minibatch trained", 101, number))
    assert done.code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], done.err
    assert "esper-rec train --resume --out runs --run-id r" in done.out
    # The options of before may be given again.
    done = rec("train", "--resume", "--out", "runs", "--run-id", "r", *FULL, "--device", "cpu")
    assert done.code == 0, done.err
    assert rows_of(runs / "r", all_attempts=True).equals(uninterrupted, null_equal=True)
    assert [attempt.status for attempt in open_run(runs / "r").attempts()] == ["interrupted", "finished"]


@pytest.mark.slow
def test_a_run_killed_before_its_first_row_is_resumed_from_the_start(
    rec: Rec, runs: Path, uninterrupted: pl.DataFrame
) -> None:
    """The first checkpoint is there before the first update."""
    done = rec("train", *FULL, "--run-id", "r", die=("checkpoint renamed", 1, signal.SIGKILL))
    assert done.code == -signal.SIGKILL
    assert rec("train", "--resume").code == 0
    assert rows_of(runs / "r").equals(uninterrupted, null_equal=True)


def test_a_complete_run_is_left_as_it_is_and_can_be_made_longer(rec: Rec, runs: Path) -> None:
    """Exit 0 and no new attempt; with --updates it goes on, and the learning rate falls to the new end."""
    assert rec("train", *SMALL, "--updates", "4", "--run-id", "r").code == 0
    done = rec("train", "--resume")
    assert done.code == 0
    assert "runs/r is complete with 4 updates; --updates N trains it for longer" in done.err
    assert len(open_run(runs / "r").attempts()) == 1
    done = rec("train", "--resume", "--updates", "3")
    assert (done.code, done.err) == (2, "esper-rec: runs/r has 4 updates already, more than the 3 asked for\n")

    # The new length holds from the first moment on, also for a resume after this one.
    assert rec("train", "--resume", "--updates", "8", die=("row recorded", 1, signal.SIGKILL)).code == -signal.SIGKILL
    done = rec("train", "--resume")
    assert done.code == 0, done.err
    rates = rows_of(runs / "r")["learning_rate"].to_list()
    assert rates == [4e-4 * (1 - update / 4) for update in range(4)] + [4e-4 * (1 - u / 8) for u in range(4, 8)]

    assert rec("train", "--resume", "--total-steps", "600").code == 0
    assert len(rows_of(runs / "r")) == 10


def test_a_run_killed_between_its_last_checkpoint_and_its_end_is_finished_by_a_resume(rec: Rec, runs: Path) -> None:
    """Nothing is left to train, but the run is sealed and no longer reads as crashed."""
    done = rec(*["train", *SMALL, "--updates", "4", "--run-id", "r"], die=("checkpoint renamed", 2, signal.SIGKILL))
    assert done.code == -signal.SIGKILL
    assert rec("train", "--resume").code == 0
    run = open_run(runs / "r")
    assert (run.status(), len(rows_of(runs / "r", all_attempts=True))) == ("finished", 4)


@pytest.mark.slow
def test_episodes_of_gymnasium_start_anew_and_those_cut_off_are_not_counted(rec: Rec, runs: Path) -> None:
    """Pendulum's episodes take 200 steps: those cut off at 180 never end, the next end 200 steps after the resume."""
    options = ["--env", "Pendulum-v1", "--num-envs", "2", "--rollout-steps", "90", "--updates", "5", "--run-id", "r"]
    assert rec("train", *options, die=("row recorded", 2, signal.SIGINT)).code == 130
    done = rec("train", "--resume")
    assert done.code == 0, done.err
    assert "unfinished episodes start again" in done.err
    rows = rows_of(runs / "r")
    assert rows["episodes"].to_list() == [0, 0, 0, 0, 2]
    assert rows["episode_length_mean"].to_list() == [None] * 4 + [200.0]
    assert rows["env_steps"].to_list() == rows["samples"].cum_sum().to_list()
    assert open_run(runs / "r").header.config["episodes_on_resume"] == "restart"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gamma", "0.9"], "--gamma 0.9: the run was started with --gamma 0.995,"),
        (
            ["--seed", "5", "--no-anneal-lr", "--no-value-clip", "--num-envs", "4"],
            "--no-anneal-lr, --no-value-clip: the run was started with --seed 0, --anneal-lr, --value-clip 10",
        ),
        (["--env", "Pendulum-v1"], "--env Pendulum-v1: the run was started with --env CartPole-v1"),
        (["--device", "cuda"], "--device cuda: the run was started with --device cpu"),
        (["--updates", "9", "--total-steps", "9"], "not both"),
        (["--updates", "2"], "has 3 updates already"),
        (["--run-id", "other"], "other"),
        (["--run-id", "../r"], "a run id is"),
        (["--out", "nowhere"], "there is no run to resume under nowhere; name the folder of runs with --out"),
    ],
)
def test_an_option_that_contradicts_the_run_is_refused(
    rec: Rec, runs: Path, interrupted: Path, options: list[str], words: str
) -> None:
    """One line that names what was given and what the run has; the run is left as it is."""
    shutil.copytree(interrupted, runs)
    done = rec("train", "--resume", *options)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert [path.name for path in runs.parent.iterdir()] == ["runs"]
    assert len(open_run(runs / "r").attempts()) == 1


def test_a_run_that_is_being_recorded_is_not_resumed(rec: Rec, runs: Path, interrupted: Path) -> None:
    """While another writer holds the lock: one line, exit code 2."""
    shutil.copytree(interrupted, runs)
    with Recorder.open(runs, run_id="r", resume="must"):
        done = rec("train", "--resume")
    assert done.code == 2
    assert "held by another writer" in done.err
    assert done.err.count("\n") == 1


def test_a_run_without_checkpoints_says_so(rec: Rec, runs: Path) -> None:
    """--checkpoint-updates 0 writes none, not even on Ctrl-C, and then there is nothing to resume from."""
    options = [*SMALL, "--updates", "3", "--checkpoint-updates", "0"]
    done = rec("train", *options, "--run-id", "r", die=("row recorded", 2, signal.SIGINT))
    assert done.code == 130
    assert "--resume" not in done.out
    assert not (runs / "r/checkpoint.pt").exists()
    done = rec("train", "--resume")
    assert done.code == 2
    assert "there is no runs/r/checkpoint.pt to resume from" in done.err
