"""Experiment trackers beside W&B and Trackio: MLflow's files and database, Sacred, series of add_scalars."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import DATA, balance, import_log, unpacked
from tests.waiting import wait_until

HANG_SECS = 300
OF_TRACKER = {"wall_time", "elapsed_secs", "time/fps"}


def mlflow_run(folder: Path) -> Path:
    """Unpack the run of MLflow's file store."""
    with tarfile.open(DATA / "mlflow_run.tar.gz") as packed:
        packed.extractall(folder / "mlruns" / "0" / "ca32", filter="data")
    return folder / "mlruns" / "0" / "ca32"


LOGS: dict[str, Callable[[Path], Path]] = {
    "MLflow, files": mlflow_run,
    "MLflow, its metrics": lambda folder: mlflow_run(folder) / "metrics",
    "MLflow, database": lambda folder: unpacked("mlflow.db", folder),
    "Sacred": lambda folder: unpacked("sacred_metrics.json", folder),
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_a_tracker_has_the_numbers_of_the_csv(log: Callable[[Path], Path], tmp_path: Path) -> None:
    """The same training of Stable-Baselines3: every column of every update, and the times that the tracker has."""
    csv = unpacked("sb3_cartpole_progress.csv", tmp_path)
    import_log(csv, "--run-id", "csv", root=tmp_path / "runs")
    done = import_log(log(tmp_path), "--run-id", "tracker", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["not readable"] == balance(done)["refused"] == "none"
    assert balance(done)["trainer"] == "Stable-Baselines3"
    exact, tracked = rows_of(tmp_path / "runs" / "csv"), rows_of(tmp_path / "runs" / "tracker")
    assert [row["wall_time"] for row in tracked] == sorted(row["wall_time"] for row in tracked)
    assert len(tracked) == len(exact) == 58
    for row, shown in zip(exact, tracked, strict=True):
        measured = {name: value for name, value in row.items() if value is not None and name not in OF_TRACKER}
        assert {name: shown[name] for name in measured} == pytest.approx(measured, rel=1e-12)


def test_parameters_of_mlflow_are_in_the_header(tmp_path: Path) -> None:
    """Numbers as numbers, and the environment where a parameter names it."""
    from esper_analyzer import open_run

    for name, log in (("files", mlflow_run(tmp_path)), ("database", unpacked("mlflow.db", tmp_path))):
        import_log(log, "--run-id", name, root=tmp_path / "runs")
        header = open_run(tmp_path / "runs" / name).header
        assert (header.env, header.config["learning_rate"]) == ("CartPole-v1", 0.0006)


def test_a_run_of_mlflow_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points come into many files; a line without its end is waited for, metrics of the machine change nothing."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    whole = mlflow_run(tmp_path / "whole")
    log, run = tmp_path / "log", tmp_path / "runs" / "r"
    shutil.copytree(whole, log)
    files = [path for path in (log / "metrics").rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    with followed(log, run) as found:
        found.await_line("following")
        assert 20 < len(rows_of(run)) < 40
        for path in files:
            content = (whole / path.relative_to(log)).read_bytes()
            with path.open("ab") as file:
                file.write(content[len(content) // 2 :])
        (log / "metrics" / "system").mkdir()
        (log / "metrics" / "system" / "cpu").write_text("1795813023756 12.0 0\n")
        found.await_rows(58)
    assert found.account.unreadable.count == 0
    assert found.account.not_imported == {"metrics of the machine": 1}


def test_files_that_are_flushed_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look in between finds the newest updates in some files only; the others still belong to them."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 5.0)
    whole = mlflow_run(tmp_path / "whole")
    log, run = tmp_path / "log", tmp_path / "runs" / "r"
    shutil.copytree(whole, log)
    late = [path for path in (log / "metrics").rglob("*") if path.is_file() and path.name != "value_loss"]
    for path in late:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with followed(log, run) as found:
        time.sleep(0.3)  # many looks
        for path in late:
            path.write_bytes((whole / path.relative_to(log)).read_bytes())
        found.await_rows(58)
    assert found.account.refused.count == 0


def test_lines_of_mlflow_that_are_none_are_named(tmp_path: Path) -> None:
    """A line without numbers, and a last line that does not end."""
    log = mlflow_run(tmp_path)
    with (log / "metrics" / "train" / "loss").open("a") as file:
        file.write("what\n1795813023756 0.5")
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["not readable"] == (
        "train/loss ('what' is no time, value and step), train/loss (torn: its last line does not end)"
    )


def test_the_folder_of_an_experiment_names_its_runs(tmp_path: Path) -> None:
    """Which of them is meant, nothing tells."""
    log = mlflow_run(tmp_path)
    shutil.copytree(log, log.with_name("d417"))
    shutil.copy(log / "meta.yaml", log.parent)
    done = import_log(log.parent, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "pass one of the folders in it: ca32, d417" in done.stderr


def test_numbers_that_are_not_finite_in_a_database_of_mlflow(tmp_path: Path) -> None:
    """MLflow stores them as other numbers. One of several runs is chosen by its name or its identity."""
    log = unpacked("mlflow.db", tmp_path)
    with sqlite3.connect(log) as database:
        mark = "run_uuid = (SELECT run_uuid FROM runs)"
        last = f"{mark} AND step = (SELECT max(step) FROM metrics)"
        database.execute(f"UPDATE metrics SET value = 0, is_nan = 1 WHERE key = 'train/value_loss' AND {last}")
        database.execute(f"UPDATE metrics SET value = 1.7976931348623157e308 WHERE key = 'train/loss' AND {last}")
    database.close()
    done = import_log(log, "--run-id", "r", "--source-run", "ppo", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    last_row = rows_of(tmp_path / "runs" / "r")[-1]
    assert math.isnan(last_row["value_loss"])
    assert last_row["loss"] == math.inf
    with sqlite3.connect(log) as database:
        names = [name for (_, name, *_) in database.execute("PRAGMA table_info(runs)")]
        columns = ", ".join(name for name in names if name != "run_uuid")
        database.execute(f"INSERT INTO runs (run_uuid, {columns}) SELECT 'second', {columns} FROM runs")
        database.execute(
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('a', 1, 1, 'second', 1, 0)"
        )
    database.close()
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has 2 runs (ppo: " in done.stderr
    done = import_log(log, "--source-run", "second", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "found 1 key and neither (a)" in done.stderr


def test_what_no_tracker_writes_is_no_defect(tmp_path: Path) -> None:
    """A database and a document with other types than they should have: what is usable is read."""
    log = unpacked("mlflow.db", tmp_path)
    with sqlite3.connect(log) as database:
        database.execute("UPDATE metrics SET timestamp = 'soon', value = x'00' WHERE key = 'train/loss'")
        database.execute("UPDATE metrics SET step = 'x', key = x'ff' WHERE key = 'time/fps'")
    database.close()
    done = import_log(log, "--run-id", "database", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "database")) > 50
    series = {
        "steps": [10**400, None, {}, 3, 4],
        "timestamps": [1, None, "x", "x", "x"],
        "values": [1, "a", [], 2.0, 3.0],
    }
    document = tmp_path / "metrics.json"
    document.write_text(json.dumps({"value_loss": series, "policy_loss": series}))
    done = import_log(document, "--run-id", "document", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["value_loss"] for row in rows_of(tmp_path / "runs" / "document")] == [1.0, 2.0, 3.0]
    document.write_text(json.dumps({"value_loss": {"steps": 1, "timestamps": None, "values": "x"}}))
    done = import_log(document, "--run-id", "none", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("module", ["torch.utils.tensorboard", "tensorboardX"])
@pytest.mark.parametrize(
    ("tag", "key"),
    [("losses", "losses/{}"), ("agent0/losses", "agent0/losses/{}"), ("the losses", "the losses/{}"), ("", "{}")],
)
def test_series_of_add_scalars_are_found_whatever_their_tag(module: str, tag: str, key: str, tmp_path: Path) -> None:
    """PyTorch joins tag and name with `_`, tensorboardX makes folders in folders; without a tag each is its own."""
    names = ("agent1/value_loss", "policy_loss", "some thing")
    with importlib.import_module(module).SummaryWriter(str(tmp_path / "log")) as writer:
        for step in (1, 2, 3):
            for name in names:
                writer.add_scalars(tag or name, {name: 0.5 * step}, step)
    keys = [key.format(name) for name in names]
    if module == "tensorboardX":  # it replaces what is no word in a tag, and not in the name of a folder
        keys = [made.replace("the losses", "the_losses") if tag else made.replace(" ", "_") for made in keys]
    mapping = ["--map", f"{keys[0]}=value_loss", "--map", f"{keys[1]}=policy_loss"]
    done = import_log(tmp_path / "log", *mapping, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert set(keys) <= set(balance(done))
    assert [row["value_loss"] for row in rows_of(tmp_path / "runs" / "r")] == [0.5, 1.0, 1.5]


@pytest.mark.slow
def test_series_that_begin_while_they_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A series has a folder of its own, which turns up with its first point."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    script = (
        "import sys; from torch.utils.tensorboard import SummaryWriter; writer = SummaryWriter(sys.argv[1])\n"
        "for line in sys.stdin:\n"
        "    name, step = line.split()\n"
        "    writer.add_scalars('losses', {'value_loss': 1.0, 'policy_loss': 0.1, name: 0.5}, int(step))\n"
        "    writer.add_scalar('return', 1.0, int(step))\n"
        "    writer.flush(); [inner.flush() for inner in writer.all_writers.values()]\n"
    )
    log, run = tmp_path / "log", tmp_path / "runs" / "r"
    command = [sys.executable, "-c", script, str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as writer:
        lines = writer.stdin
        assert lines is not None

        def write(name: str, steps: range) -> None:
            lines.writelines(f"{name} {step}\n" for step in steps)
            lines.flush()

        write("entropy", range(3))
        wait_until(lambda: log.exists(), "there is no log")
        with followed(log, run):
            wait_until(lambda: [row["entropy"] for row in rows_of(run)] == [0.5] * 3, "a series is missing")
            write("clip_fraction", range(3, 7))  # without an entropy, a row waits for the next one
            measured = [None] * 3 + [0.5] * 3
            wait_until(lambda: [row["clip_fraction"] for row in rows_of(run)][:6] == measured, "a series is missing")
        lines.close()


def test_the_value_loss_may_come_before_its_rollout(tmp_path: Path) -> None:
    """W&B writes the keys of a record in any order; the update is that of the record all the same."""
    csv = unpacked("sb3_cartpole_progress.csv", tmp_path)
    import_log(csv, "--run-id", "csv", root=tmp_path / "runs")
    header, *lines = csv.read_text().splitlines()
    records: list[dict[str, Any]] = []
    for line in lines:
        values = {key: float(cell) for key, cell in zip(header.split(","), line.split(","), strict=True) if cell}
        step = int(values["time/total_timesteps"])
        records.append({**dict(sorted(values.items(), reverse=True)), "global_step": step})
    log = tmp_path / "history.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = import_log(log, "--run-id", "json", root=tmp_path / "runs")
    assert balance(done)["refused"] == "none"
    assert repr(rows_of(tmp_path / "runs" / "json")) == repr(rows_of(tmp_path / "runs" / "csv"))
