"""Databases of Trackio: several runs, rows that SQLite has not moved into the database yet, and other databases."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.logs import balance, import_log, unpacked

ReadRows = Callable[..., list[dict[str, Any]]]

ADD = "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)"


def test_one_of_several_runs_is_chosen_by_name(tmp_path: Path, read_rows: ReadRows) -> None:
    """Without a name the error lists the runs; what is no JSON object is named."""
    log = unpacked("trackio_cleanrl.db", tmp_path)
    with sqlite3.connect(log) as database:
        losses = b'{"losses/value_loss": 2.0, "losses/policy_loss": 0.1, "losses/approx_kl": 0, "losses/clipfrac": 0}'
        for step, metrics in ((128, losses), (200, b"[1]"), (256, losses), (300, b"{")):
            database.execute(ADD, ("2", "2026-11-26T09:00:00", "second", step, metrics))
    database.close()
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has 2 runs (r, second); choose one with --source-run" in done.stderr
    done = import_log(log, "--source-run", "second", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["env_steps"] for row in read_rows(tmp_path / "runs" / "trackio_cleanrl")] == [128, 256]
    assert "row 2 of run second (its metrics are no JSON object), row 4" in balance(done)["not readable"]
    done = import_log(log, "--source-run", "third", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has no run 'third', only: r, second" in done.stderr


def test_losses_that_are_not_finite_are_read(tmp_path: Path, read_rows: ReadRows) -> None:
    """Trackio writes them as text; the updates in which a training broke must not be the ones that are left out."""
    log = unpacked("trackio_cleanrl.db", tmp_path)
    metrics = '{"losses/value_loss": "%s", "losses/policy_loss": "%s", "losses/approx_kl": 0, "losses/clipfrac": 0}'
    with sqlite3.connect(log) as database:
        for step, losses in ((100_352, ("Infinity", "-Infinity")), (100_864, ("NaN", "NaN"))):
            row = database.execute("SELECT run_id, timestamp, run_name FROM metrics").fetchone()
            database.execute(ADD, (*row, step, (metrics % losses).encode()))
    database.close()
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    *_, before, last = read_rows(tmp_path / "runs" / "trackio_cleanrl")
    assert (before["env_steps"], before["value_loss"], before["policy_loss"]) == (100_352, math.inf, -math.inf)
    assert last["env_steps"] == 100_864
    assert math.isnan(last["value_loss"])


def test_rows_beside_the_database_are_read(tmp_path: Path, read_rows: ReadRows) -> None:
    """While Trackio runs, the latest rows are in a log of SQLite's."""
    log = unpacked("trackio_cleanrl.db", tmp_path)
    database = sqlite3.connect(log)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    last = database.execute("SELECT run_id, timestamp, run_name, metrics FROM metrics").fetchone()
    database.execute(ADD, (*last[:3], 100_352, last[3]))
    database.commit()
    done = import_log(log, root=tmp_path / "runs")
    database.close()
    assert done.exit_code == 0, done.output
    assert read_rows(tmp_path / "runs" / "trackio_cleanrl")[-1]["env_steps"] == 100_352


@pytest.mark.parametrize("kind", ["other", "torn"])
def test_another_database_is_one_line(kind: str, tmp_path: Path) -> None:
    """Without the table of Trackio, or cut in the middle."""
    log = unpacked("trackio_cleanrl.db", tmp_path)
    if kind == "torn":
        log.write_bytes(log.read_bytes()[:20_000])
    else:
        log.unlink()
        with sqlite3.connect(log) as database:
            database.execute("CREATE TABLE a (b)")
        database.close()
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, ""), done.output
    assert "expected a database of Trackio" in done.stderr
