"""Folders of TorchRL's CSVLogger: a file for each number."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import DATA, balance, import_log

from esper_analyzer import open_run


def experiment(folder: Path) -> Path:
    """Unpack a training that SIGKILL ended after 48 updates."""
    with tarfile.open(DATA / "torchrl_csv.tar.gz") as packed:
        packed.extractall(folder / "ppo" / "PPO_1", filter="data")
    return folder / "ppo" / "PPO_1"


def written(log: Path, name: str) -> dict[int, float]:
    """What TorchRL wrote of a number, by step."""
    lines = (log / "scalars" / f"{name}.csv").read_text().splitlines()
    return {int(step): float(value) for step, value in (line.split(",") for line in lines)}


@pytest.mark.parametrize("part", ["", "scalars", "..", "../.."])
def test_every_number_of_an_experiment_arrives(part: str, tmp_path: Path) -> None:
    """Each value at its step, whether the experiment, its scalars, or a folder above is named."""
    log = experiment(tmp_path / "outputs")
    done = import_log(log / part, "--run-id", "r", root=tmp_path / "runs")
    assert (done.exit_code, balance(done)["trainer"]) == (0, "TorchRL"), done.output
    rows = open_run(tmp_path / "runs" / "r").updates().collect().to_dicts()
    assert [row["update"] for row in rows] == list(range(48))
    for name, column, factor in (
        ("train/loss_critic", "value_loss", 0.5),
        ("train/loss_objective", "policy_loss", 1.0),
        ("train/reward", "episode_return_mean", 1.0),
        ("train/lr", "learning_rate", 1.0),
    ):
        assert {row["env_steps"]: row[column] for row in rows} == {
            step: factor * value for step, value in written(log, name).items()
        }
    assert {row["wall_time"] for row in rows} == {None}


def test_an_experiment_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each update comes once all of its files have their line; a line without its end is waited for."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    whole = experiment(tmp_path / "whole")
    log, run = tmp_path / "log", tmp_path / "runs" / "r"
    shutil.copytree(whole, log)
    files = sorted((log / "scalars").rglob("*.csv"))
    for path in files:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:30]) + lines[30][:4])
    with followed(log, run) as found:
        found.await_line("following")
        assert len(rows_of(run)) == 30
        for path in files:
            path.write_bytes((whole / path.relative_to(log)).read_bytes())
        found.await_rows(48)
    assert found.account.unreadable.count == 0


def test_lines_that_are_no_points_are_named(tmp_path: Path) -> None:
    """A text, and a last line that does not end."""
    log = experiment(tmp_path)
    with (log / "scalars" / "train" / "lr.csv").open("a") as file:
        file.write("what\n25088,0.")
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    said = balance(done)["not readable"]
    assert "train/lr ('what' is no step and value)" in said
    assert "train/lr (torn: its last line does not end)" in said
