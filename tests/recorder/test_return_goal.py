"""The declared goal of the return: in the header, by the trainer, told by the reader, and old runs without one."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

from esper_analyzer import open_run, read_settings
from esper_analyzer.cli import main as analyze
from esper_recorder import Recorder
from esper_recorder.cli import main as rec
from esper_schemas.errors import UsageError
from esper_schemas.exit_codes import ExitCode


def flat(root: Path, run_id: str = "flat", **options: Any) -> Path:
    """A run of 100 updates at −500, sealed."""
    with Recorder.open(root, run_id=run_id, env="Corridor-v0", **options) as recorder:
        for update in range(100):
            recorder.record(update=update, policy_loss=-0.1, value_loss=1.0, episode_return_mean=-500.0)
    return recorder.path


def call(*arguments: str | Path) -> Result:
    """Run `esper-analyze` in this process."""
    return CliRunner().invoke(analyze, [str(one) for one in arguments])


def test_the_goal_is_in_the_header_and_a_resumed_run_keeps_it(tmp_path: Path) -> None:
    """A whole number becomes a float; a later attempt changes nothing."""
    path = flat(tmp_path, return_goal=-100)
    assert json.loads((path / "run.json").read_text())["return_goal"] == -100.0
    Recorder.open(tmp_path, run_id="flat", resume="must", return_goal=7.0).close()
    assert open_run(path).return_goal == -100.0


@pytest.mark.parametrize("goal", [math.nan, math.inf, "475", True, [1]])
def test_a_goal_that_is_no_number_makes_no_run(tmp_path: Path, goal: Any) -> None:
    """It is refused in one line, before there is a folder."""
    with pytest.raises(UsageError, match=r"^return_goal must be a finite number, such as 475, or None, found "):
        Recorder.open(tmp_path / "runs", run_id="mine", return_goal=goal)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("written", "known"), [("475", 475.0), ("NaN", None), ("1e999", None), ("null", None)])
def test_what_another_writer_put_into_the_header(tmp_path: Path, written: str, known: float | None) -> None:
    """A whole number counts; one that is not finite is no goal, and no damage."""
    path = flat(tmp_path, return_goal=-100.0)
    header = (path / "run.json").read_text()
    (path / "run.json").write_text(header.replace("-100.0", written))
    assert open_run(path).return_goal == known


def test_the_reader_declares_a_goal(tmp_path: Path) -> None:
    """By an option, which goes before the settings, which go before the run; each is judged anew."""
    path = flat(tmp_path)
    undeclared = call("check", "--run", path)
    assert "to the goal" not in undeclared.output
    told = call("check", "--run", path, "--return-goal", "-100")
    assert told.exit_code == ExitCode.VERDICT
    assert "no return came 15 % of the way to the goal" in told.output
    settings = tmp_path / "esper.toml"
    settings.write_text('[return_goals]\n"Corridor-v0" = -100\n"CartPole-v1" = 475\n')
    assert open_run(path, settings=read_settings(settings)).return_goal == -100.0
    assert call("check", "--run", path, "--thresholds", settings).exit_code == ExitCode.VERDICT
    above = call("check", "--run", path, "--thresholds", settings, "--return-goal", "-501")
    assert above.exit_code == ExitCode.FINE


@pytest.mark.slow
@pytest.mark.parametrize("command", ["runs", "fleet"])
def test_the_goal_of_the_reader_is_that_of_many_runs(tmp_path: Path, command: str) -> None:
    """Without it the run is no worse than a warning; with it it is critical for being far from it."""
    flat(tmp_path)
    (row,) = json.loads(call(command, tmp_path, "--format", "json").stdout)["runs"]
    assert (row["verdict"]["level"], row["return_goal"], row["goal_reached"]) == ("warning", None, None)
    (row,) = json.loads(call(command, tmp_path, "--return-goal", "-100", "--format", "json").stdout)["runs"]
    assert (row["verdict"]["level"], row["return_goal"], row["goal_reached"]) == ("critical", -100.0, None)
    assert row["verdict"]["reason"].startswith("In 80 measured updates no return came 15 % of the way to the goal")


def test_documents_say_when_the_goal_was_reached(tmp_path: Path) -> None:
    """The report, its sentence on learning, and the rows of lists name one update; of ranks, that of the first one."""
    for rank, step in enumerate((4.0, 8.0)):
        with Recorder.open(
            tmp_path, run_id="ranks", resume="allow", rank=rank, world_size=2, return_goal=300
        ) as recorder:
            for update in range(100):
                earned = 20.0 + step * update
                recorder.record(update=update, policy_loss=-0.1, value_loss=1.0, episode_return_mean=earned)
    run = open_run(tmp_path / "ranks")
    reached = [run.report(rank).run.goal_reached for rank in (0, 1)]
    assert reached == [75, 40]
    for rank, last in enumerate(reached):
        learning = run.report(rank).verdict.questions["learning"].reason
        assert learning.endswith(f"; it reached its goal at update {last}.")
    document = json.loads(run.report(None).to_json())["run"]
    assert (document["return_goal"], document["goal_reached"]) == (300.0, 40)
    (row,) = csv.DictReader(io.StringIO(call("runs", tmp_path, "--format", "csv").stdout))
    assert (row["return_goal"], row["goal_reached"]) == ("300.0", "75")
    call("fleet", tmp_path, "--format", "parquet", "-o", tmp_path / "fleet.parquet")
    table = pl.read_parquet(tmp_path / "fleet.parquet").select("return_goal", "goal_reached")
    assert_frame_equal(table, pl.DataFrame({"return_goal": [300.0], "goal_reached": [75]}))


@pytest.mark.parametrize("goal", ["nan", "inf"])
def test_a_goal_of_the_reader_that_is_no_number(tmp_path: Path, goal: str) -> None:
    """One line and exit code 2."""
    refused = call("report", "--run", flat(tmp_path), "--return-goal", goal)
    assert refused.exit_code == ExitCode.USAGE
    assert "return_goal must be a finite number" in refused.output + (refused.stderr or "")


def test_settings_with_a_goal_that_is_no_number(tmp_path: Path) -> None:
    """The file, the place, what was expected and what was found."""
    settings = tmp_path / "esper.toml"
    settings.write_text('[return_goals]\n"CartPole-v1" = "high"\n')
    with pytest.raises(
        UsageError, match=r"return_goals.CartPole-v1 must be a finite number, such as 475, found 'high'"
    ):
        read_settings(settings)


@pytest.mark.parametrize(("given", "goal"), [([], 475.0), (["--return-goal", "300"], 300.0)])
def test_the_built_in_trainer_declares_the_goal(tmp_path: Path, given: list[str], goal: float) -> None:
    """That of Gymnasium's registry, or the one that is given; a resumed run refuses another."""
    small = ["--updates", "2", "--num-envs", "2", "--rollout-steps", "16", "--minibatches", "1"]
    where = ["--out", str(tmp_path), "--run-id", "mine", "--device", "cpu"]
    assert CliRunner().invoke(rec, ["train", *small, *where, *given]).exit_code == ExitCode.FINE
    assert open_run(tmp_path / "mine").return_goal == goal
    refused = CliRunner().invoke(rec, ["train", "--resume", *where, "--return-goal", "5"])
    assert refused.exit_code == ExitCode.USAGE
    assert "--return-goal is for a new run" in refused.output + (refused.stderr or "")
