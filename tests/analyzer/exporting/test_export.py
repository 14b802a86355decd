"""Exports: what the reader of each format finds in the file is what the run has, NaN and infinities included."""

from __future__ import annotations

import math
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from esper_analyzer import Run, open_run
from esper_analyzer.exporting.event_file import tags_of
from esper_recorder import Recorder
from esper_recorder.importing.account import Account
from esper_recorder.importing.tfevents.reader import EventFiles
from esper_schemas.errors import NotARunError, UsageError
from esper_schemas.testing.golden import NAMES, RUNS

NUMBERS = (math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, -0.0, 0.1 + 0.2, None, 1e300, 2.0**53 + 2)
NAMED = ("reward/near", "/reward/near", "plain", 'a "quoted", one', "größe", "losses/value_loss")
CONFIG = {
    "gamma": 0.99,
    "envs": 8,
    "clip": True,
    "name": "größe",
    "net": {"sizes": [8, 8], "act": "elu"},
    "none": None,
    "huge": 10**30,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two ranks, the first of which was resumed in the middle; each column of floats has every unusual number."""
    root = tmp_path_factory.mktemp("exported")
    for rank, attempts in ((0, ((0, 10), (7, 12))), (1, ((0, 5),))):
        for first, last in attempts:
            with Recorder.open(
                root, run_id="mine", config=CONFIG, resume="allow", rank=rank, world_size=2, segment_rows=4
            ) as recorder:
                for update in range(first, last):
                    odd = NUMBERS[update % len(NUMBERS)]
                    recorder.record(
                        update=update,
                        policy_loss=0.5 * update,
                        value_loss=1.0 if odd is None else odd,
                        entropy=odd,
                        env_steps=2**53 + update,
                        skipped=update == 3,
                        extras={name: odd for name in NAMED if update > 2},
                    )
    return open_run(root / "mine")


def bits(column: Any) -> list[bytes | None]:
    """Each number of a column of floats as its bits, so that NaN equals NaN and -0.0 is not 0.0."""
    return [None if number is None else struct.pack("<d", number) for number in column.to_pylist()]


def read_by_duckdb(query: str) -> pa.Table:
    """What duckdb finds."""
    found = duckdb.sql(query)
    assert found is not None
    return found.to_arrow_table()


def assert_same(found: pa.Table, expected: pl.DataFrame) -> None:
    """Both have the same columns and values, floats bit for bit, empty columns whatever their type."""
    assert found.column_names == expected.columns
    wanted = expected.to_arrow()
    for name in expected.columns:
        if expected[name].dtype == pl.Float64 and found[name].null_count < found.num_rows:
            assert bits(found[name].cast(pa.float64())) == bits(wanted[name]), name
        elif expected[name].dtype == pl.Datetime:
            assert found[name].cast(pa.timestamp("us", "UTC")).to_pylist() == wanted[name].to_pylist(), name
        else:
            assert found[name].to_pylist() == wanted[name].to_pylist(), name


# ---------------------------------------------------------------------- Parquet and CSV


def test_parquet_is_read_by_arrow_and_duckdb(run: Run, tmp_path: Path) -> None:
    """All ranks, the rows that count, every column with its type, and every number bit for bit."""
    path = run.export(tmp_path / "mine.parquet")
    expected = run.updates().collect()
    assert expected["rank"].to_list() == [0] * 12 + [1] * 5
    assert expected.filter(pl.col("rank") == 0)["attempt"].to_list() == [0] * 7 + [1] * 5
    assert_same(pq.read_table(path), expected)
    assert pq.read_table(path).schema.field("env_steps").type == pa.int64()
    assert_same(read_by_duckdb(f"SELECT * FROM '{path}'"), expected)


def test_csv_is_read_by_arrow_and_duckdb(run: Run, tmp_path: Path) -> None:
    """Text brings back the same bits; null is an empty cell, which is not NaN."""
    path = run.export(tmp_path / "mine.csv")
    expected = run.updates().collect()
    options = pa_csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
    assert_same(pa_csv.read_csv(path, convert_options=options), expected)
    duck = read_by_duckdb(f"SELECT * FROM read_csv('{path}')")
    assert_same(duck, expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_golden_run_is_exported_as_it_is_read(name: str, tmp_path: Path) -> None:
    """Crashed, resumed, repaired, torn and skipped: the file has what `updates` has, and every event its scalars."""
    golden = open_run(RUNS / name)
    expected = golden.updates().collect()
    assert_same(pq.read_table(golden.export(tmp_path / "run.parquet")), expected)
    events = EventAccumulator(str(golden.export(tmp_path / "run.tfevents").parent))
    events.Reload()
    first = expected.filter(pl.col("rank") == golden.ranks()[0])
    steps = [event.step for event in events.Scalars("losses/value_loss")] if first.height else []
    assert steps == first.filter(pl.col("value_loss").is_not_null())["update"].to_list()


# ---------------------------------------------------------------------- event files


def test_event_files_are_read_by_tensorboard(run: Run, tmp_path: Path) -> None:
    """Every value of the rank is a scalar of its tag, as float32, at its update and wall time."""
    path = run.export(tmp_path / "tb" / "mine" / "events.out.tfevents.mine", rank=1)
    events = EventAccumulator(str(path.parent), size_guidance={"scalars": 0})
    events.Reload()
    rows = run.updates(1).collect()
    tags = tags_of([name for name in rows.columns if name not in ("run_id", "update", "wall_time")])
    measured = {tags[name]: name for name in tags if rows[name].null_count() < rows.height}
    found = set(events.Tags()["scalars"])
    assert found == measured.keys() - {tags[name] for name in ("rank", "attempt", "seq", "dropped_before")}
    assert {"losses/value_loss", "policy/entropy", "work/env_steps", "work/skipped", "reward/near"} <= found
    assert {"extras/reward/near", "extras/plain", "extras/losses/value_loss"} <= found
    for tag in found:
        values = rows[measured[tag]].cast(pl.Float64)
        with np.errstate(over="ignore"):
            wanted = [
                (update, time.timestamp(), np.float32(value).tobytes())
                for update, time, value in zip(rows["update"], rows["wall_time"], values, strict=True)
                if value is not None
            ]
        got = [(event.step, event.wall_time, np.float32(event.value).tobytes()) for event in events.Scalars(tag)]
        assert got == wanted, tag
    assert events.file_version == 2.0


def test_event_files_have_the_hyper_parameters(run: Run, tmp_path: Path) -> None:
    """The hparams plugin finds each one by name, numbers as numbers, and what is none as text."""
    path = run.export(tmp_path / "tfevents")
    events = EventAccumulator(str(path.parent))
    events.Reload()
    (content,) = events.PluginTagToContent("hparams").values()
    found = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in found.items()} == {
        "gamma": 0.99,
        "envs": 8.0,
        "clip": True,
        "name": "größe",
        "net.sizes": "[8, 8]",
        "net.act": "elu",
        "none": "null",
        "huge": str(10**30),
    }


def test_an_exported_event_file_can_be_imported(run: Run, tmp_path: Path) -> None:
    """Our own reader of event files takes it too, with nothing that it cannot read."""
    path, account = run.export(tmp_path / "run.tfevents"), Account()
    read = EventFiles([path])
    steps = [
        step
        for points in read.points(lambda _: None, account)
        for key, step in zip(points.keys, points.steps, strict=True)
        if key == "losses/policy_loss"
    ]
    assert steps == list(range(12))
    assert read.config["gamma"] == 0.99
    assert not account.unreadable.count


def test_no_two_columns_have_one_tag() -> None:
    """An extra in the place of a metric, or of another extra, is moved to the group `extras`."""
    columns = ["value_loss", "losses/value_loss", "extras/losses/value_loss", "a", "/a/", "extras/a", "a/b", "/a/b"]
    tags = tags_of(columns)
    assert len(set(tags.values())) == len(columns)
    assert tags["value_loss"] == "losses/value_loss"
    assert (tags["a"], tags["a/b"]) == ("extras/a", "a/b")


# ---------------------------------------------------------------------- the file


def test_an_existing_file_is_refused_and_replaced_with_force(run: Run, tmp_path: Path) -> None:
    """The old file stays as it was until the new one is whole, and nothing else is left beside it."""
    path = tmp_path / "mine.csv"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.csv exists already.*--force"):
        run.export(path)
    assert path.read_text() == "mine"
    run.export(path, force=True)
    assert path.read_text().startswith("run_id,rank,")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["mine.parquet", "mine.csv", "mine.tfevents"])
def test_an_export_that_fails_leaves_nothing(run: Run, tmp_path: Path, name: str) -> None:
    """Where the disk takes no more, the file that should be replaced is untouched, and nothing is beside it."""
    path = tmp_path / name
    path.write_text("mine")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run.export(path, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [("mine.txt", r"must end in \.parquet or \.csv.*found 'mine\.txt'"), ("folder.csv", "is a folder")],
)
def test_a_wrong_name_is_one_line(run: Run, tmp_path: Path, name: str, message: str) -> None:
    """A name that says no format, and a folder, are refused before anything is written."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=message):
        run.export(tmp_path / name, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_rank_that_is_not_there(run: Run, tmp_path: Path) -> None:
    """The error names the ranks that there are."""
    with pytest.raises(NotARunError, match="no rank 7"):
        run.export(tmp_path / "mine.csv", rank=7)


# ---------------------------------------------------------------------- the command


def test_the_command_exports_and_says_what(run: Run, tmp_path: Path, command: Callable[..., Any]) -> None:
    """One line says what was written, and another one why not."""
    path = tmp_path / "out" / "mine.csv"
    done = command("export", "--run", run.path, "-o", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{path}: 17 updates of 2 ranks\n")
    again = command("export", "--run", run.path, "-o", path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "exists already" in again.stderr
    events = command("export", "--run", run.path, "-o", tmp_path / "tfevents.mine", "--rank", "1")
    assert events.stderr == f"{tmp_path / 'tfevents.mine'}: 5 updates of rank 1\n"
    assert command("export", "--run", run.path, "-o", path, "--rank", "all").returncode == 2


def test_a_damaged_run_is_exported_as_far_as_it_can_be_read(
    record: Callable[..., Path], tmp_path: Path, command: Callable[..., Any]
) -> None:
    """The rows of the whole segments are there, and exit code 3 says that others may be missing."""
    path = record([{"update": update} for update in range(12)], segment_rows=4)
    segment = path / "rank-0000" / "segments" / "00000001.parquet"
    damaged = bytearray(segment.read_bytes())
    damaged[100] ^= 0xFF
    segment.write_bytes(damaged)
    done = command("export", "--run", path, "-o", tmp_path / "run.parquet")
    assert done.returncode == 3
    assert "the run is damaged, and rows may be missing" in done.stderr
    assert pq.read_table(tmp_path / "run.parquet")["update"].to_pylist() == [0, 1, 2, 3, 8, 9, 10, 11]


def test_a_run_without_rows_has_its_columns(record: Callable[..., Path], tmp_path: Path) -> None:
    """An empty run is exported too: a table with columns and no rows, and an event file without a scalar."""
    empty = open_run(record([]))
    assert pq.read_table(empty.export(tmp_path / "run.parquet")).column_names == empty.updates().collect().columns
    events = EventAccumulator(str(empty.export(tmp_path / "tb" / "tfevents").parent))
    events.Reload()
    assert events.Tags()["scalars"] == []
