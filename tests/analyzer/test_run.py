from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from esper_analyzer import open_run
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.reading.segment_index import SCHEMA
from esper_recorder import Recorder
from esper_schemas import NotARunError

Attempts = list[list[int]]

CASES: dict[str, tuple[Attempts, list[tuple[int, int]]]] = {
    "empty": ([[]], []),
    "one": ([[5]], [(5, 0)]),
    "plain": ([list(range(25))], [(update, 0) for update in range(25)]),
    "resumed where it ended": ([[0, 1, 2], [3, 4]], [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)]),
    "rolled back to a checkpoint": (
        [list(range(8)), [5, 6]],
        [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 1)],
    ),
    "rolled back twice": ([list(range(10)), [6, 7, 8], [3, 4]], [(0, 0), (1, 0), (2, 0), (3, 2), (4, 2)]),
    "rolled back further later": ([[0, 1, 2, 3], [2], [3, 4]], [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)]),
    "an update again within an attempt": ([[0, 1, 2, 1, 2, 3]], [(0, 0), (1, 0), (2, 0), (3, 0)]),
    "begun anew": ([[0, 1, 2], [0]], [(0, 1)]),
    "gaps": ([[0, 5, 6, 20]], [(0, 0), (5, 0), (6, 0), (20, 0)]),
}


def record_attempts(record: Callable[..., Path], attempts: Attempts) -> Path:
    """Record attempts one after the other; the value loss is the sequence number, so that rows can be told apart."""
    seq = 0
    path = Path()
    for updates in attempts:
        rows = [{"update": update, "value_loss": float(seq + i)} for i, update in enumerate(updates)]
        path = record(rows, resume="allow", segment_rows=4)
        seq += len(updates)
    return path


@pytest.mark.parametrize("case", CASES)
def test_the_default_view_holds_what_no_later_row_supersedes(record: Callable[..., Path], case: str) -> None:
    """Rows by update, each from the attempt, and the row, that counts."""
    attempts, expected = CASES[case]
    run = open_run(record_attempts(record, attempts))
    view = run.updates().collect()
    assert list(zip(view["update"], view["attempt"], strict=True)) == expected
    every = run.updates(all_attempts=True).collect()
    assert every["update"].to_list() == [update for attempt in attempts for update in attempt]
    assert every["seq"].to_list() == list(range(every.height))
    last_of = {(row["attempt"], row["update"]): row["seq"] for row in every.iter_rows(named=True)}
    assert [last_of[attempt, update] for update, attempt in expected] == view["seq"].to_list()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [1, 3])
def test_following_sees_what_reading_sees(record: Callable[..., Path], case: str, step: int) -> None:
    """A screen that followed every attempt shows the same rows as one that is opened afterwards."""
    attempts, expected = CASES[case]
    path = record([])
    feed = LiveFeed(open_run(path), 0)
    for updates in attempts:
        with Recorder.open(path.parent, run_id=path.name, resume="must", strict=True, segment_rows=4) as recorder:
            for i, update in enumerate(updates):
                recorder.record(update=update, policy_loss=-0.01, value_loss=float(update))
                if i % step == 0:
                    feed.look()
    feed.look()
    fresh = LiveFeed(open_run(path), 0)
    missing = open_run(path).report().updates.missing
    pictures = [followed.finish() for followed in (feed, fresh)]
    for picture in pictures:
        assert picture.rows == len(expected)
        assert not expected or picture.recent["update"].to_list() == [update for update, _ in expected]
        assert list(picture.gaps) == missing
        assert [event.update for event in picture.events if event.metric == "update"] == [
            last + 1 for _, last in missing[:1]
        ]
    assert_frame_equal(pictures[0].history.frame, pictures[1].history.frame)
    feed.close()
    fresh.close()


def test_one_schema_whatever_was_recorded(record: Callable[..., Path]) -> None:
    """An empty run has every column with its type; a metric that joined half-way is null before."""
    assert open_run(record([], "empty")).updates().collect_schema() == SCHEMA
    rows: list[dict[str, Any]] = [
        {"update": 0},
        {"update": 1, "extras": {"mine": 2.5}},
        {"update": 2, "nan_grad_count": 3},
    ]
    view = open_run(record(rows)).updates().collect()
    assert view.schema == {**SCHEMA, "mine": pl.Float64()}
    assert view["mine"].to_list() == [None, 2.5, None]
    assert view["nan_grad_count"].to_list() == [None, None, 3]


def test_stock_engines_give_the_same_numbers(record: Callable[..., Path]) -> None:
    """polars, pyarrow and duckdb read the sealed files with no help from us, and find what `updates` finds."""
    rows = [{"update": update, "value_loss": 1.0 / (update + 1), "skipped": update % 7 == 0} for update in range(50)]
    path = record(rows, segment_rows=16)
    ours = open_run(path).updates().collect()
    pattern = str(path / "rank-*" / "segments" / "*.parquet")
    assert_frame_equal(pl.read_parquet(pattern, hive_partitioning=False).sort("seq"), ours)
    files = sorted((path / "rank-0000" / "segments").glob("*.parquet"))
    stock = pl.from_arrow(pq.read_table(files[0]))
    assert isinstance(stock, pl.DataFrame)
    assert_frame_equal(stock, ours.head(16))
    query = f"select count(*), sum(value_loss), sum(skipped::int) from read_parquet('{pattern}')"
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchall()
    assert found == [(50, pytest.approx(ours["value_loss"].sum()), ours["skipped"].sum())]


def test_runs_are_found_by_path_by_name_and_as_the_latest(record: Callable[..., Path], tmp_path: Path) -> None:
    """A path, a name under the root, or nothing for the latest; anything else is one clear error."""
    first, second = record([{"update": 0}], "first"), record([], "second")
    root = tmp_path / "runs"
    assert open_run(first).path == first
    assert open_run("first", root).path == first
    assert open_run(None, root).path == second
    with pytest.raises(NotARunError, match=r"no run third.*latest there: first, second"):
        open_run("third", root)
    with pytest.raises(NotARunError, match="has no rank 3"):
        open_run(first).updates(3)
    assert repr(open_run(first)) == f"<Run {first} finished, ranks: 0>"


def test_each_end_has_its_status(record: Callable[..., Path]) -> None:
    """What the recorder says at the end is what a reader is told."""
    for status in ("finished", "failed", "interrupted"):
        run = open_run(record([{"update": 0}], status, close={"status": status}))
        assert run.status() == run.status(None) == status


def test_a_run_whose_writer_is_silent_goes_stale(record: Callable[..., Path], tmp_path: Path) -> None:
    """A writer that lives but has written nothing for longer than usual is stale, and live again when it writes."""
    with Recorder.open(tmp_path / "runs", run_id="quiet") as recorder:
        recorder.record(update=0, policy_loss=0.0, value_loss=1.0)
        run = open_run(recorder.path)
        assert run.status() == "live"
        for file in recorder.path.rglob("*"):
            os.utime(file, (time.time() - 70, time.time() - 70))
        assert run.status() == "stale"
        recorder.record(update=1, policy_loss=0.0, value_loss=1.0)
        assert run.status() == "live"
    assert run.status() == "finished"


def test_a_snapshot_is_the_state_after_the_last_update(record: Callable[..., Path]) -> None:
    """Last value, history of ten, trend and level of every metric, sparse ones from as far back as need be."""
    rows: list[dict[str, Any]] = [{"update": update, "value_loss": 2.0 - update / 700} for update in range(700)]
    rows[3]["episode_return_mean"] = 12.0
    snapshot = open_run(record(rows)).snapshot()
    assert snapshot.update == 699
    assert snapshot["episode_return_mean"].history == [12.0]
    assert snapshot["value_loss"].history == [row["value_loss"] for row in rows[-10:]]
    assert snapshot["value_loss"].level == "healthy"
    assert snapshot["loss_ratio"].level == "critical"
    assert open_run(record([], "empty")).snapshot()["value_loss"].last is None
