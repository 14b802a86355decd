"""Importing a log again: what is new is added, and another log of the same name is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.recorder.importing.esper_lite_events import an_update, write
from tests.recorder.importing.logs import import_log, unpacked

ReadRows = Callable[..., list[dict[str, Any]]]


def attempts(run: Path) -> list[dict[str, Any]]:
    """The records of all attempts of a run."""
    return [json.loads(path.read_text()) for path in sorted((run / "rank-0000" / "attempts").iterdir())]


def current(run: Path) -> list[dict[str, Any]]:
    """The rows that count, as everybody sees them."""
    from esper_analyzer import open_run

    return open_run(run).updates().collect().to_dicts()


def assert_refused(done: Result) -> None:
    """One line that says what to do."""
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert "exists already" in done.stderr
    assert "--run-id" in done.stderr


def test_a_log_that_grew_adds_what_is_new(tmp_path: Path, read_rows: ReadRows) -> None:
    """Two imports of a growing event file give the rows of one import of the whole, and a third adds nothing."""
    log = unpacked("cleanrl_ppo_cartpole_gym029.tfevents", tmp_path)
    whole = log.read_bytes()
    assert import_log(log, "--run-id", "whole", root=tmp_path / "runs").exit_code == 0
    log.write_bytes(whole[: len(whole) // 3])  # in the middle of an update, and of a record
    done = import_log(log, "--run-id", "grown", root=tmp_path / "runs")
    assert "torn: the file ends in the middle of a record" in done.stdout
    before = len(read_rows(tmp_path / "runs" / "grown"))
    log.write_bytes(whole)
    done = import_log(log, "--run-id", "grown", root=tmp_path / "runs")
    assert done.exit_code == 0
    assert f"after {before} that were imported before" in done.stdout
    ignored = {"attempt", "seq", "run_id", "dropped_before"}
    rows = {
        name: [
            {key: value for key, value in row.items() if key not in ignored}
            for row in current(tmp_path / "runs" / name)
        ]
        for name in ("whole", "grown")
    }
    assert len(rows["whole"]) == 195
    assert repr(rows["grown"]) == repr(rows["whole"])
    done = import_log(log, "--run-id", "grown", root=tmp_path / "runs")
    assert done.exit_code == 0
    assert "nothing is new, after 195 that were imported before" in done.stdout
    first, second = attempts(tmp_path / "runs" / "grown")
    (of_whole,) = attempts(tmp_path / "runs" / "whole")
    assert first["imported"]["updates"] == before
    assert second["imported"] == of_whole["imported"]


def test_a_last_update_that_was_incomplete_is_recorded_again(tmp_path: Path, read_rows: ReadRows) -> None:
    """The value loss is there but what follows is not: the next import supersedes that row."""
    log = unpacked("cleanrl_ppo_cartpole_gym029.tfevents", tmp_path)
    whole = log.read_bytes()
    place = [index for index in range(len(whole)) if whole.startswith(b"losses/entropy", index)][40]
    log.write_bytes(whole[: place + 5])
    import_log(log, "--run-id", "r", root=tmp_path / "runs")
    last = read_rows(tmp_path / "runs" / "r")[-1]
    assert (last["update"], last["entropy"]) == (40, None)
    log.write_bytes(whole)
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert "155 updates are new, after 41 that were imported before" in done.stdout
    rows = current(tmp_path / "runs" / "r")
    assert [row["update"] for row in rows] == list(range(195))
    assert all(row["entropy"] is not None for row in rows)


def test_a_csv_that_was_written_anew_with_another_column_is_the_same_log(tmp_path: Path) -> None:
    """Stable-Baselines3 writes its CSV anew when a key turns up: the rows count, not the bytes."""
    log = unpacked("sb3_lunar_progress.csv", tmp_path)
    with log.open(newline="") as file:
        lines = list(csv.DictReader(file))
    columns = list(lines[0])
    _write_csv(log, columns, lines[:11])
    assert import_log(log, "--run-id", "r", root=tmp_path / "runs").exit_code == 0
    _write_csv(log, ["eval/mean_reward", *reversed(columns)], lines)
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert "19 updates are new, after 10 that were imported before" in done.stdout, done.output
    assert [row["update"] for row in current(tmp_path / "runs" / "r")] == list(range(29))


def _write_csv(path: Path, columns: list[str], lines: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(lines)


def test_another_log_of_the_same_name_is_refused(tmp_path: Path, read_rows: ReadRows) -> None:
    """Whether it differs in its first number, in its last, or is shorter: the run stays as it is."""
    log = tmp_path / "a.events.jsonl"
    write(log, *(an_update(batch) for batch in range(1, 6)))
    assert import_log(log, root=tmp_path / "runs").exit_code == 0
    for batches in (
        [an_update(1, value_loss=3.0), *(an_update(batch) for batch in range(2, 9))],
        [*(an_update(batch) for batch in range(1, 4)), an_update(4, entropy=0.1), an_update(5), an_update(6)],
        [an_update(batch) for batch in range(1, 4)],
    ):
        write(log, *batches)
        assert_refused(import_log(log, root=tmp_path / "runs"))
    assert len(read_rows(tmp_path / "runs" / "a")) == 5
    assert len(attempts(tmp_path / "runs" / "a")) == 1


def test_a_run_that_was_recorded_is_refused(tmp_path: Path) -> None:
    """A recording of that name, an empty file in its place, and a run that was recorded on are no imports."""
    from esper_recorder import Recorder

    log = write(tmp_path / "a.jsonl", an_update(1), an_update(2))
    with Recorder.open(tmp_path / "runs", run_id="a") as recorder:
        recorder.record(update=0, policy_loss=0.0, value_loss=1.0)
    assert_refused(import_log(log, root=tmp_path / "runs"))
    (tmp_path / "runs" / "b").touch()
    assert_refused(import_log(log, "--run-id", "b", root=tmp_path / "runs"))
    assert import_log(log, "--run-id", "c", root=tmp_path / "runs").exit_code == 0
    with Recorder.open(tmp_path / "runs", run_id="c", resume="must") as recorder:
        recorder.record(update=7, policy_loss=0.0, value_loss=1.0)
    assert_refused(import_log(log, "--run-id", "c", root=tmp_path / "runs"))


@pytest.mark.parametrize("changed", ["1.0", "0.2"])
def test_other_options_make_another_log(changed: str, tmp_path: Path) -> None:
    """A log that is imported with another factor does not continue the run of the first one."""
    log = unpacked("skrl_pendulum.tfevents", tmp_path)
    import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert_refused(
        import_log(log, "--run-id", "r", "--value-loss-definition", f"factor={changed}", root=tmp_path / "runs")
    )


def test_a_run_joins_the_folder_of_its_log(tmp_path: Path, read_rows: ReadRows) -> None:
    """CleanRL logs to runs/<name>, and imports go to runs/<name> too; the log stays, and can be imported again."""
    folder = tmp_path / "runs" / "CartPole__1"
    folder.mkdir(parents=True)
    log = unpacked("cleanrl_ppo_cartpole_gym029.tfevents", tmp_path)
    log.rename(folder / "events.out.tfevents.1795681569.vm.1.0")
    assert import_log(folder, root=tmp_path / "runs").exit_code == 0
    assert len(read_rows(folder)) == 195
    assert "nothing is new" in import_log(folder, root=tmp_path / "runs").stdout
