"""`esper-rec train --stop-on`: a training that goes bad ends, sealed and resumable, and says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.train.checkpoints import read_checkpoint

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_schemas import RunDirectory

Rec = Callable[..., Any]  # the fixtures of conftest.py that run esper-rec

SMALL = ["--num-envs", "4", "--rollout-steps", "16", "--seed", "1", "--epochs", "1", "--minibatches", "1"]
BAD = [*SMALL, "--learning-rate", "1", "--updates", "300"]  # critical at update 38: the critic explains nothing


def test_a_run_that_goes_bad_is_stopped(rec: Rec, runs: Path) -> None:
    """Exit code 1, one line on why; the run is sealed as interrupted, with a checkpoint at its last update."""
    done = rec("train", *BAD, "--stop-on", "critical", "--run-id", "r")
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    (said,) = [line for line in done.err.splitlines() if "stop" in line]
    run = RunDirectory(runs / "r")
    (attempt,) = run.rank(0).attempts()
    assert attempt.status == "interrupted"
    assert attempt.reason is not None
    assert attempt.reason.startswith("--stop-on critical: ")
    assert said == f"stopped by {attempt.reason}"
    report = open_run(run.path).report()
    assert report.verdict.level == "critical"
    assert report.verdict.reasons[0] in attempt.reason
    assert f"updates     {attempt.rows} of 300" in done.out
    assert "esper-analyze report --run runs/r" in done.out
    assert 10 < attempt.rows < 100
    assert report.updates.last == attempt.rows - 1
    assert read_checkpoint(run.path / "checkpoint.pt").state["next_update"] == attempt.rows
    assert not list((run.path / "rank-0000/active").iterdir())


def test_a_run_that_stays_behind_a_sound_one_is_stopped(rec: Rec, runs: Path) -> None:
    """Beside a reference that learned, a policy that is paid for chance is critical after 30 updates below it."""
    with Recorder.open(runs, run_id="sound") as sound:
        for i in range(100):
            earned = min(20.0 + 8.0 * i, 500.0) + i % 5
            sound.record(update=i, policy_loss=0.1, value_loss=1.0, env_steps=64 * (i + 1), episode_return_mean=earned)
    options = ["--epochs", "4", "--learning-rate", "1e-3", "--entropy-coef", "5", "--updates", "110"]
    slow = [*SMALL[:-4], *options, "--run-id", "slow", "--stop-on", "critical"]
    done = rec("train", *slow, "--reference", "sound")
    assert done.code == 1, done.err
    (attempt,) = RunDirectory(runs / "slow").rank(0).attempts()
    said = "--stop-on critical: In 30 measured updates the return was less than 50 % of the way up to its references"
    assert attempt.reason is not None
    assert attempt.reason.startswith(said)


def test_a_reference_is_for_stop_on(rec: Rec, runs: Path) -> None:
    """Without --stop-on nothing judges beside it, and one that is not there is named before anything is made."""
    done = rec("train", *SMALL, "--updates", "3", "--reference", "sound")
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith("--reference is what --stop-on judges beside; give --stop-on as well")
    done = rec("train", *SMALL, "--updates", "3", "--reference", "nowhere", "--stop-on", "critical")
    assert done.code == 2
    assert (
        "no run nowhere under runs (latest there: none); pass a path, or the name of a run in that folder" in done.err
    )
    assert not runs.exists()
    with Recorder.open(runs, run_id="hopper", env="Hopper-v5") as hopper:
        for i in range(30):
            hopper.record(update=i, policy_loss=0.1, value_loss=1.0, episode_return_mean=float(i))
    done = rec("train", *SMALL, "--updates", "3", "--reference", "hopper", "--stop-on", "critical")
    assert done.code == 2
    assert "--reference hopper is of Hopper-v5, and trained is CartPole-v1; name a run of CartPole-v1" in done.err
    assert [path.name for path in runs.iterdir()] == ["hopper"]


def test_the_first_run_of_a_sweep_has_no_reference_yet(rec: Rec, runs: Path) -> None:
    """The folder of runs may be named from the beginning: it says that nothing is there, and trains."""
    again = ["--stop-on", "critical", "--reference", "runs"]
    done = rec("train", *SMALL, "--updates", "3", "--run-id", "first", *again)
    assert done.code == 0, done.err
    said = "warning: judged alone: fewer than 3 other runs of CartPole-v1 with esper-rec train in runs are healthy"
    assert said in done.err
    with Recorder.open(runs, run_id="sound", env="CartPole-v1") as sound:
        for i in range(30):
            sound.record(update=i, policy_loss=0.1, value_loss=1.0, episode_return_mean=float(i))
    resume = ["train", "--resume", "--run-id", "first"]
    done = rec(*resume, "--updates", "30", *again[:3], "sound")
    assert (done.code, said in done.err) == (0, False), done.err
    done = rec(*resume, "--updates", "31", *again[:3], "first")
    assert (done.code, "judged alone: the only reference is this run itself" in done.err) == (0, True), done.err


def test_a_stopped_run_can_be_resumed_and_stopped_again(rec: Rec, runs: Path) -> None:
    """It goes on where it was stopped, with no gap; with a warm-up before it may be stopped again."""
    first = rec("train", *BAD, "--stop-on", "critical", "--run-id", "r")
    assert first.code == 1, first.err
    done = RunDirectory(runs / "r").rank(0).attempts()[0].rows
    further = rec("train", "--resume", "--updates", str(done + 3), "--run-id", "r")
    assert further.code == 0, further.err
    assert f"resuming runs/r after {done} of {done + 3} updates" in further.err
    again = rec("train", "--resume", "--updates", "300", "--stop-on", "critical", "--run-id", "r")
    assert again.code == 1, again.err
    attempts = RunDirectory(runs / "r").rank(0).attempts()
    assert [attempt.status for attempt in attempts] == ["interrupted", "finished", "interrupted"]
    assert attempts[2].rows > 10
    updates = open_run(runs / "r").updates().collect()["update"]
    assert updates.to_list() == list(range(sum(attempt.rows for attempt in attempts)))


def test_a_warning_is_enough_where_asked_for(rec: Rec, runs: Path) -> None:
    """`--stop-on warning` stops no later than `critical` does, also at a verdict that is critical at once."""
    rows = {}
    for level in ("warning", "critical"):
        done = rec("train", *BAD, "--stop-on", level, "--run-id", level)
        assert done.code == 1, done.err
        (attempt,) = RunDirectory(runs / level).rank(0).attempts()
        assert attempt.reason is not None
        assert attempt.reason.startswith(f"--stop-on {level}: ")
        rows[level] = attempt.rows
    assert rows["warning"] <= rows["critical"]


def test_a_sound_run_is_not_stopped(rec: Rec, runs: Path) -> None:
    """It ends as planned: exit code 0, status finished."""
    done = rec("train", "--updates", "25", "--stop-on", "warning", "--run-id", "r")
    assert done.code == 0, done.err
    assert "stop" not in done.err
    (attempt,) = RunDirectory(runs / "r").rank(0).attempts()
    assert (attempt.status, attempt.rows, attempt.reason) == ("finished", 25, None)


def test_without_it_a_bad_run_goes_on(rec: Rec, runs: Path) -> None:
    """Judging is asked for; it is no default."""
    done = rec("train", *BAD, "--updates", "60", "--run-id", "r")
    assert done.code == 0, done.err
    assert RunDirectory(runs / "r").rank(0).attempts()[0].rows == 60
    assert any(alert.level == "critical" for alert in open_run(runs / "r").report().alerts)


@pytest.mark.parametrize("value", ["healthy", "never", ""])
def test_another_level_is_a_usage_error(rec: Rec, runs: Path, value: str) -> None:
    """One line that names the two there are; no run is created."""
    done = rec("train", "--stop-on", value)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "warning" in done.err
    assert "critical" in done.err
    assert not runs.exists()
