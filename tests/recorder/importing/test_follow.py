"""A log that is followed: each row as soon as it is complete, and in the end the run of an import of the whole."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stable_baselines3.common.logger import CSVOutputFormat
from tests.recorder.importing.esper_lite_events import an_update
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import DATA, import_log, unpacked

from esper_recorder.importing import finding
from esper_recorder.importing.point_log import Given

CLEANRL = ("losses/value_loss", "losses/policy_loss", "losses/approx_kl", "losses/clipfrac")


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a test waits for less."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)


def lines_of(steps: Sequence[int], value_loss: float = 1.0, **others: float) -> bytes:
    """JSON lines in the words of CleanRL, one record for each step."""
    records = [{"step": step, **dict.fromkeys(CLEANRL, value_loss), **others} for step in steps]
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def add(log: Path, data: bytes) -> None:
    """Append to a log."""
    with log.open("ab") as file:
        file.write(data)


def attempts(run: Path) -> list[dict[str, Any]]:
    """The records of all attempts of a run."""
    return [json.loads(path.read_text()) for path in sorted((run / "rank-0000" / "attempts").iterdir())]


def assert_as_imported(log: Path, run: Path) -> None:
    """The run has the rows and the fingerprint of an import of the whole log, which adds nothing to it."""
    whole = run.with_name(f"{run.name}-whole")
    done = import_log(log, "--run-id", whole.name, root=run.parent)
    assert done.exit_code == 0, done.output
    assert repr(rows_of(run)) == repr(rows_of(whole))
    assert attempts(run)[-1]["imported"] == attempts(whole)[-1]["imported"]
    assert "nothing is new" in import_log(log, "--run-id", run.name, root=run.parent).stdout


def test_a_row_is_there_before_the_next_update_begins(tmp_path: Path) -> None:
    """Events come in pieces that end anywhere; an update is imported when its last key is there, the last one too."""
    whole = unpacked("cleanrl_ppo_cartpole_gym029.tfevents", tmp_path).read_bytes()
    last_keys = [place for place in range(len(whole)) if whole.startswith(b"charts/SPS", place)]
    log, run = tmp_path / "log" / "events.out.tfevents.1.vm.1.0", tmp_path / "runs" / "r"
    log.parent.mkdir()
    with followed(log.parent, run) as found:
        found.await_line("waiting")
        log.touch()
        add(log, whole[: last_keys[0] + 20])
        assert found.await_rows(1)[0]["entropy"] is not None  # the first one once the log is quiet
        add(log, whole[last_keys[0] + 20 : last_keys[2] + 3])
        found.await_rows(2)
        add(log, whole[last_keys[2] + 3 : last_keys[2] + 20])
        assert found.await_rows(3)[2]["env_steps"] is not None
        add(log, whole[last_keys[2] + 20 : last_keys[9] + 20])
        found.await_rows(10)
    assert len(attempts(run)) == 1
    assert len(rows_of(run)) == 10
    with followed(log.parent, run) as found:  # a follower that is started again goes on
        add(log, whole[last_keys[9] + 20 :])
        found.await_rows(195)
    assert_as_imported(log.parent, run)


def test_a_metric_that_is_first_measured_after_the_dialect_is_settled_is_that_metric(tmp_path: Path) -> None:
    """A log of an unknown trainer that pauses behind its first update is read as if it had not paused."""
    log, run = tmp_path / "log.jsonl", tmp_path / "runs" / "r"
    rows = [{"value_loss": 1.0, "policy_loss": 0.5} | ({"entropy": 0.25} if place else {}) for place in range(4)]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    add(log, lines[0])
    with followed(log, run) as found:
        found.await_rows(1)
        add(log, b"".join(lines[1:]))
    assert [row["entropy"] for row in rows_of(run)] == [None, 0.25, 0.25, 0.25]
    assert_as_imported(log, run)


def test_a_value_that_comes_late_records_its_update_again(tmp_path: Path) -> None:
    """The row that was there is superseded, and the account knows only one update."""
    log, run = tmp_path / "log.jsonl", tmp_path / "runs" / "r"
    log.write_bytes(lines_of([1, 2, 3]))
    with followed(log, run) as found:
        found.await_rows(3)
        add(log, json.dumps({"step": 3, "late": 7.0}).encode() + b"\n" + lines_of([4])[:-9])
        found.await_rows(3)
        add(log, lines_of([4])[-9:])
        assert [row["late"] for row in found.await_rows(4)] == [None, None, 7.0, None]
    assert (found.account.updates, found.account.unreadable.count) == (4, 0)
    assert_as_imported(log, run)


def test_the_next_file_of_a_folder_is_read_on(tmp_path: Path) -> None:
    """rsl_rl begins a file with each learn(); one that comes before the others is read from the beginning."""
    both, run = unpacked("rsl_rl_two_learns", tmp_path), tmp_path / "runs" / "r"
    first, second = sorted(both.iterdir())
    log = tmp_path / "log"
    log.mkdir()
    shutil.copy(first, log)
    with followed(log, run) as found:
        found.await_rows(40)
        part = second.read_bytes()
        target = log / second.name
        target.touch()
        add(target, part[: len(part) // 2])
        add(target, part[len(part) // 2 :])
        found.await_rows(50)
    assert_as_imported(log, run)
    first.rename(log / first.name.replace("1795683577", "1695683577"))
    with followed(log, tmp_path / "runs" / "r2") as found:
        found.await_rows(90)
        shutil.copy(second, log / second.name.replace("1795683583", "1595683577"))
        found.await_line("was rewritten")
        found.await_rows(100)
    assert_as_imported(log, tmp_path / "runs" / "r2")


def test_settings_that_come_before_the_log_are_not_taken_for_it(tmp_path: Path) -> None:
    """Tune writes `params.json` first; `result.json` is the log, also while it has one line only."""
    log, run = tmp_path / "PPO_CartPole", tmp_path / "runs" / "r"
    log.mkdir()
    (log / "params.json").write_text(json.dumps({"lr": 0.1, "model": {"fcnet": [64, 64]}}, indent=2))
    with followed(log, run) as found:
        found.await_line("waiting")
        (log / "result.json").write_bytes(lines_of([1]))
        found.await_rows(1)
        add(log / "result.json", lines_of([2]))
        found.await_rows(2)
    assert any("not read: params.json" in note for note in found.account.notes)


def test_a_csv_that_stable_baselines3_writes_anew_is_the_same_log(tmp_path: Path) -> None:
    """Its own writer writes the file anew when a key turns up; the run goes on in the same attempt."""
    records = [json.loads(line) for line in unpacked("sb3_lunar_progress.json", tmp_path).read_text().splitlines()]
    log, run = tmp_path / "progress.csv", tmp_path / "runs" / "r"
    writer = CSVOutputFormat(str(log))
    with followed(log, run) as found:
        for number, record in enumerate(records[:20]):
            if number == 12:
                found.await_rows(11)
            extra = {"eval/mean_reward": 1.5} if number >= 12 else {}
            writer.write({**record, **extra}, dict.fromkeys({**record, **extra}, ()))
        found.await_rows(19)
        found.await_line("was rewritten")
        writer.close()
    assert len(attempts(run)) == 1
    assert_as_imported(log, run)


def test_a_header_that_is_completed_while_it_is_looked_at_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer may end the first line just after it was read without its end: that is no error, and is read next."""
    log, run, kind_of = tmp_path / "log.csv", tmp_path / "runs" / "r", finding.kind_of
    log.write_text("update,policy_lo")

    def kind_then_more(path: Path) -> str:
        kind = kind_of(path)
        if not kind:
            log.write_text("update,policy_loss,value_loss\n0,-0.5,1.5\n")
        return kind

    monkeypatch.setattr(finding, "kind_of", kind_then_more)
    with followed(log, run) as found:
        found.await_rows(1)


@pytest.mark.parametrize("how", ["truncated", "replaced"])
def test_a_log_that_is_begun_anew_supersedes_what_differs(how: str, tmp_path: Path) -> None:
    """Rows that are the same stay; from the first other one on, the log is another attempt."""
    log, run = tmp_path / "log.jsonl", tmp_path / "runs" / "r"
    log.write_bytes(lines_of(range(1, 9)))
    new = lines_of([1, 2, 3]) + lines_of([4, 5], value_loss=2.0)
    with followed(log, run) as found:
        found.await_rows(8)
        if how == "truncated":
            os.truncate(log, len(lines_of([1, 2, 3])))
            found.await_line("was rewritten")
            add(log, lines_of([4, 5], value_loss=2.0))
        else:
            (tmp_path / "new").write_bytes(new)
            (tmp_path / "new").rename(log)
        rows = found.await_rows(5)
        assert [row["value_loss"] for row in rows] == [1.0, 1.0, 1.0, 2.0, 2.0]
        add(log, lines_of([6], value_loss=3.0))
        found.await_rows(6)
    assert [attempt["status"] for attempt in attempts(run)] == ["interrupted", "finished"]
    assert "rewritten" in attempts(run)[0]["reason"]
    assert_as_imported(log, run)


def test_the_log_of_another_trainer_does_not_go_on_in_the_run(tmp_path: Path) -> None:
    """The header of a run names one trainer: what is there is sealed, and one line says what to do."""
    log, run = tmp_path / "log.jsonl", tmp_path / "runs" / "r"
    log.write_bytes(lines_of([1, 2, 3]))
    with followed(log, run) as found:
        found.await_rows(3)
        unpacked("sb3_lunar_progress.json", tmp_path).rename(log)
        found.await_line("was rewritten")
    assert "another log has taken the place" in str(found.error)
    assert "--run-id" in str(found.error)
    assert len(rows_of(run)) == 3


def test_a_log_that_is_removed_ends_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a grace in which another file may take its place; what was read is sealed, with its fingerprint."""
    monkeypatch.setattr("esper_recorder.importing.following.GONE_SECS", 0.0)
    log, run = tmp_path / "log.jsonl", tmp_path / "runs" / "r"
    log.write_bytes(lines_of([1, 2, 3]))
    with followed(log, run) as found:
        found.await_rows(3)
        log.unlink()
    assert str(found.error) == f"{log} was removed while it was followed; the updates so far are sealed in {run}"
    assert attempts(run)[0]["status"] == "interrupted"
    log.write_bytes(lines_of([1, 2, 3]))
    assert_as_imported(log, run)


def test_a_log_without_losses_is_said_while_it_is_followed(tmp_path: Path) -> None:
    """It may still get some; in the end there is no run."""
    log = unpacked("tianshou_default_no_update_tags.tfevents", tmp_path)
    with followed(log, tmp_path / "runs" / "r") as found:
        found.await_line("no update yet")
    assert "expected the losses of a PPO" in str(found.error)
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------- other formats

Grow = Callable[[Path, int], None]


def _grow_csv(log: Path, count: int) -> None:
    lines = (DATA / "lightning_metrics.csv").read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: count + 1]))


def _grow_console(log: Path, count: int) -> None:
    line = "(worker) step:{} - critic/vf_loss:{} - actor/pg_loss:0.5 - actor/ppo_kl:0.0 - actor/pg_clipfrac:0.1\n"
    log.write_text("a banner\n" + "".join(line.format(number, number + 0.5) for number in range(1, count + 1)))


def _grow_esper_lite(log: Path, count: int) -> None:
    log.write_text("".join(json.dumps(an_update(batch)) + "\n" for batch in range(1, count + 1)))


def _grow_trackio(log: Path, count: int) -> None:
    if not log.exists():
        log.write_bytes(gzip.decompress((DATA / "trackio_cleanrl.db.gz").read_bytes()))
        with sqlite3.connect(log) as database:
            database.execute("CREATE TABLE kept AS SELECT * FROM metrics ORDER BY id")
            database.execute("DELETE FROM metrics")
    with sqlite3.connect(log) as database:
        database.execute(
            "INSERT INTO metrics SELECT * FROM kept WHERE id NOT IN (SELECT id FROM metrics) ORDER BY id"
            " LIMIT ? - (SELECT count(*) FROM metrics)",
            (count,),
        )
    database.close()


def _grow_parquet(log: Path, count: int) -> None:
    table = pa.table({"step": list(range(count)), **{key: [0.5] * count for key in CLEANRL}})
    pq.write_table(table, log.with_name("new"))
    log.with_name("new").rename(log)


@pytest.mark.parametrize(
    ("name", "grow"),
    [
        ("metrics.csv", _grow_csv),
        ("console.log", _grow_console),
        ("e.events.jsonl", _grow_esper_lite),
        ("trackio.db", _grow_trackio),
        ("history.parquet", _grow_parquet),
    ],
)
def test_every_format_is_followed(name: str, grow: Grow, tmp_path: Path) -> None:
    """A log of each kind that gets longer adds its rows to the same attempt."""
    log, run = tmp_path / name, tmp_path / "runs" / "r"
    grow(log, 6)
    with followed(log, run, Given()) as found:
        found.await_rows(6)
        grow(log, 15)
        found.await_rows(15)
    assert len(attempts(run)) == 1
    assert_as_imported(log, run)
