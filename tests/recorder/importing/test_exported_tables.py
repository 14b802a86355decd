"""Tables that trackers export: a row for each number, a file for each number, and columns named by runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import balance, import_log, unpacked

KEYS = ("losses/value_loss", "losses/policy_loss", "losses/entropy", "losses/approx_kl", "losses/clipfrac")
ROWS = [
    {"global_step": 128 * (place + 1), **{key: 0.5 + place + at for at, key in enumerate(KEYS)}} for place in range(3)
]
LONG = [{"step": row["global_step"], "key": key, "value": row[key]} for row in ROWS for key in KEYS]
BY_KEY = sorted(LONG, key=lambda point: KEYS.index(str(point["key"])))
BEGAN = datetime(2026, 11, 28, tzinfo=UTC)


def table(rows: list[dict[str, Any]]) -> str:
    """A CSV of these rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def named(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    """The same rows with other names of their columns."""
    return [{names.get(key, key): cell for key, cell in row.items()} for row in rows]


def timed(rows: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """The same rows with the milliseconds since 1970 at which they were logged."""
    return [
        {**more, **_in_order_of_mlflow(row), "timestamp": int((BEGAN.timestamp() + row["step"]) * 1000)} for row in rows
    ]


def _in_order_of_mlflow(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("key", "value", "step")}


def columns_of_wandb(run: str, keys: tuple[str, ...] = KEYS) -> list[dict[str, Any]]:
    """Rows as the page of W&B exports a chart."""
    return [
        {"Step": row["global_step"]}
        | {f"{run} - {key}{end}": row[key] for key in keys for end in ("", "__MIN", "__MAX")}
        for row in ROWS
    ]


FILES: dict[str, str] = {
    "interleaved.csv": table(LONG),
    "tbparse.csv": table(named(BY_KEY, key="tag")),
    "mlflow.csv": table(timed(BY_KEY, run_id="ca32")).rstrip("\n"),  # as its page does
    "melt.csv": table(named(BY_KEY, key="variable")),
    "a_number_that_came_once.csv": table([{**LONG[0], "key": "seed", "value": 1}, *BY_KEY]),
    "aim.csv": table(named(timed(LONG, **{"run.hash": "ab"}), key="metric.name")),
    "comet.json": json.dumps(
        [
            {**point, "value": str(point["value"])} | {"runContext": None}
            for point in named(timed(BY_KEY), key="metricName")
        ]
    ).replace('"value"', '"metricValue"'),
    "lines.jsonl": "".join(json.dumps(row) + "\n" for row in LONG),
    "wandb_chart.csv": table(columns_of_wandb("sunny-sun-1")),
}


def is_right(run: Path) -> None:
    """Check that the run has all rows and columns of CleanRL."""
    rows = rows_of(run)
    found = [(row["env_steps"], row["value_loss"], row["policy_loss"], row["clip_fraction"]) for row in rows]
    assert found == [(128, 0.5, 1.5, 4.5), (256, 1.5, 2.5, 5.5), (384, 2.5, 3.5, 6.5)]
    assert json.loads((run / "run.json").read_text())["trainer"] == "CleanRL"


@pytest.mark.parametrize("name", FILES)
def test_an_exported_table_is_read_by_the_names_of_its_numbers(name: str, tmp_path: Path) -> None:
    """Whatever the columns are called, and in whatever order the rows are."""
    log = tmp_path / name
    log.write_text(FILES[name])
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    is_right(tmp_path / "runs" / "r")
    assert (balance(done)["not readable"], balance(done)["refused"]) == ("none", "none")


def test_times_in_milliseconds_are_the_times_of_the_updates(tmp_path: Path) -> None:
    """MLflow and Comet count from 1970 in milliseconds."""
    log = tmp_path / "mlflow.csv"
    log.write_text(FILES["mlflow.csv"])
    import_log(log, root=tmp_path / "runs")
    times = [row["wall_time"] for row in rows_of(tmp_path / "runs" / "mlflow")]
    assert times == [BEGAN + timedelta(seconds=steps) for steps in (128, 256, 384)]


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_times_in_any_unit_are_the_times_of_the_updates(tmp_path: Path, per_second: int) -> None:
    """Seconds, milliseconds, microseconds and nanoseconds since 1970 are told apart by their size."""
    losses = {"policy_loss": 0.1, "value_loss": 0.5}
    records = [{"_timestamp": (1_764_000_000 + 60 * at) * per_second, "update": at, **losses} for at in range(1, 7)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    import_log(tmp_path / "log.jsonl", "--run-id", "r", root=tmp_path / "runs")
    rows = rows_of(tmp_path / "runs" / "r")
    first = datetime.fromtimestamp(1_764_000_060, UTC)
    assert [row["wall_time"] - first for row in rows] == [timedelta(minutes=at) for at in range(6)]
    assert [row["elapsed_secs"] for row in rows] == [60.0 * at for at in range(6)]


def test_times_that_count_from_the_beginning_of_a_log_are_no_times_of_the_day(tmp_path: Path) -> None:
    """Seconds since the log began become `elapsed_secs`, and no row is said to be of 1970."""
    (tmp_path / "log.jsonl").write_text(
        "".join(
            json.dumps({"_timestamp": 100.0 * at, "update": at, "policy_loss": 0.1, "value_loss": 0.5}) + "\n"
            for at in range(1, 7)
        )
    )
    done = import_log(tmp_path / "log.jsonl", "--run-id", "r", root=tmp_path / "runs")
    rows = rows_of(tmp_path / "runs" / "r")
    assert [row["elapsed_secs"] for row in rows] == [0.0, 100.0, 200.0, 300.0, 400.0, 500.0], done.output
    assert {row["wall_time"] for row in rows} == {None}


def test_parquet_of_the_exporter_of_neptune(tmp_path: Path) -> None:
    """Steps are decimals, times are timestamps, and what is no series of floats has no float."""
    rows = [
        {
            "run_id": run,
            "attribute_path": point["key"],
            "step": Decimal(str(point["step"])),
            "timestamp": BEGAN,
            "float_value": point["value"],
            "string_value": None,
        }
        for run in ("RUN-1", "RUN-2")
        for point in BY_KEY
    ]
    rows.insert(0, {**rows[0], "attribute_path": "sys/name", "step": None, "float_value": None, "string_value": "a"})
    log = tmp_path / "part_0.parquet"
    pq.write_table(pa.Table.from_pylist(rows), log)
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has rows of several runs: run_id is 'RUN-1', and then 'RUN-2'" in done.stderr
    done = import_log(log, "--source-run", "RUN-2", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    is_right(tmp_path / "runs" / "part_0")


def test_steps_that_begin_anew_are_not_mixed(tmp_path: Path) -> None:
    """Where each number has its rows together, a second training comes behind the first, and not between."""
    log = tmp_path / "twice.csv"
    twice = [point for key in KEYS for _ in range(2) for point in LONG if point["key"] == key]
    log.write_text(table(twice))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["env_steps"] for row in rows_of(tmp_path / "runs" / "twice")] == [128, 256, 384] * 2
    assert "the step falls (384 to 128)" in balance(done)["note"]


def test_a_table_with_many_columns_is_not_in_long_form(tmp_path: Path) -> None:
    """Among them are one for the name of the run, and one for the value of the states."""
    log = tmp_path / "own.csv"
    log.write_text("name,step,vf,pg,kl,entropy,lr,value\n" + "".join(f"a,{n},1,2,3,4,5,6\n" for n in (128, 256)))
    done = import_log(log, "--map", "vf=value_loss", "--map", "pg=policy_loss", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["value"] for row in rows_of(tmp_path / "runs" / "own")] == [6.0, 6.0]


def test_values_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    """By the name of their number."""
    log = tmp_path / "long.csv"
    log.write_text(table([*LONG, {"step": 384, "key": "note", "value": "end"}]))
    done = import_log(log, root=tmp_path / "runs")
    assert balance(done)["keys left out"] == "note (text, in 1 rows)"


def test_a_long_table_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are in the order in which they were logged, so an update is there once its rows are."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    log, run = tmp_path / "live.csv", tmp_path / "runs" / "r"
    first, second = table(LONG[:10]), table(LONG[10:]).partition("\n")[2]
    log.write_text(first)
    with followed(log, run) as found:
        found.await_line("following")
        found.await_rows(2)
        with log.open("a") as file:
            file.write(second)
        found.await_rows(3)


def tables_of_tensorboard(folder: Path, run: str) -> None:
    """A file for each tag, named as browsers name them."""
    for key in KEYS:
        rows = [
            {"Wall time": BEGAN.timestamp() + row["global_step"], "Step": row["global_step"], "Value": row[key]}
            for row in ROWS
        ]
        (folder / f"run-{run}-tag-{key.replace('/', '_')}.csv").write_text(table(rows))


def tables_of_wandb(folder: Path, run: str) -> None:
    """A file for each chart."""
    for place, key in enumerate(KEYS):
        (folder / f"wandb_export_{place}.csv").write_text(table(columns_of_wandb(run, (key,))))


def tables_of_mlflow(folder: Path, run: str) -> None:
    """A file for each metric."""
    for key in KEYS:
        rows = timed([point for point in LONG if point["key"] == key], run_id=run)
        (folder / f"{key.replace('/', '_')}.csv").write_text(table(rows).rstrip("\n"))


FOLDERS: list[Callable[[Path, str], None]] = [tables_of_tensorboard, tables_of_wandb, tables_of_mlflow]


@pytest.mark.parametrize("write", FOLDERS)
def test_a_folder_with_a_table_for_each_number_is_one_log(write: Callable[[Path, str], None], tmp_path: Path) -> None:
    """The numbers come together by time or step; a tag whose slashes a browser took is that of the trainer."""
    folder = tmp_path / "exported"
    folder.mkdir()
    write(folder, "CartPole-v1__ppo__1")
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    is_right(tmp_path / "runs" / "exported")


def test_event_files_are_read_rather_than_a_sample_of_them(tmp_path: Path) -> None:
    """Somebody exported a few tables into the folder of the log."""
    folder = tmp_path / "logs"
    folder.mkdir()
    unpacked("cleanrl_ppo_cartpole_gym029.tfevents", folder)
    tables_of_tensorboard(folder, "a")
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "logs")) == 195
    assert "read from cleanrl_ppo_cartpole_gym029.tfevents; not read: run-a-tag-" in balance(done)["note"]


def test_tags_of_a_trainer_that_nobody_knows_end_in_a_metric(tmp_path: Path) -> None:
    """Of `Mine_value_loss`, the slash was before the metric. A table of TensorBoard with 1,000 rows is a sample."""
    folder = tmp_path / "exported"
    folder.mkdir()
    rows = "Wall time,Step,Value\n" + "".join(f"{1.5e9 + n},{n},{n}.5\n" for n in range(1000))
    for key in ("Mine_value_loss", "Mine_policy_loss"):
        (folder / f"run-.-tag-{key}.csv").write_text(rows)
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["Mine/value_loss"].startswith("value_loss")
    assert "exports a sample of a longer log" in balance(done)["note"]


def test_a_torn_table_of_a_folder_is_named(tmp_path: Path) -> None:
    """With the name of its file."""
    folder = tmp_path / "exported"
    folder.mkdir()
    tables_of_tensorboard(folder, "a")
    torn = folder / "run-a-tag-losses_clipfrac.csv"
    torn.write_text(torn.read_text()[:-5])
    done = import_log(folder, root=tmp_path / "runs")
    assert balance(done)["not readable"] == f"{torn.name}, line 4 (torn: it does not end)"


def test_files_of_several_runs_are_not_read_as_one(tmp_path: Path) -> None:
    """--source-run chooses one by the name in its files."""
    folder = tmp_path / "exported"
    folder.mkdir()
    tables_of_tensorboard(folder, "a")
    tables_of_tensorboard(folder, "b")
    done = import_log(folder, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has files of several runs: a, b; choose one with --source-run" in done.stderr
    assert import_log(folder, "--source-run", "b", root=tmp_path / "runs").exit_code == 0
    is_right(tmp_path / "runs" / "exported")
    done = import_log(folder, "--source-run", "c", "--run-id", "other", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--source-run: it has no run 'c'; found a, b" in done.stderr


def test_columns_of_several_runs_are_not_read_as_one(tmp_path: Path) -> None:
    """A chart of W&B shows several runs; --source-run chooses one by its name."""
    log = tmp_path / "chart.csv"
    other = [{key: cell for key, cell in row.items() if key != "Step"} for row in columns_of_wandb("b - 2")]
    log.write_text(table([one | two for one, two in zip(columns_of_wandb("a"), other, strict=True)]))
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has columns of several runs: a, b - 2; choose one" in done.stderr
    assert import_log(log, "--source-run", "b - 2", root=tmp_path / "runs").exit_code == 0
    is_right(tmp_path / "runs" / "chart")
    done = import_log(log, "--source-run", "c", "--run-id", "other", root=tmp_path / "runs")
    assert "--source-run: it has no run 'c'; found a, b - 2" in done.stderr


def test_one_table_of_one_number_says_what_to_do(tmp_path: Path) -> None:
    """No update has one loss only."""
    tables_of_tensorboard(tmp_path, "a")
    done = import_log(tmp_path / "run-a-tag-losses_value_loss.csv", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has one number only; put the tables of both losses into one folder, and pass that" in done.stderr
