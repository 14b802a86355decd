"""The rows that count, read from the format alone, against the analyzer's view of the same runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_schemas import RunDirectory
from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.current import current_rows
from esper_schemas.examining.run import examine_run


def record(root: Path, attempts: list[list[int]]) -> Path:
    """A run with these updates in its attempts, three rows a segment; each row has a number of its own."""
    number = 0
    for updates in attempts:
        with Recorder.open(root, run_id="run", resume="allow", segment_rows=3, git_commit="") as recorder:
            for update in updates:
                extras = {"mine": float(number)} if number % 2 else {}
                recorder.record(update=update, policy_loss=float(number), value_loss=0.0, extras=extras)
                number += 1
    return root / "run"


def read(run: Path, columns: list[str] | None = None) -> list[pa.RecordBatch]:
    """Its rows, batch after batch."""
    with RunDirectory(run).open() as folder:
        (rank,) = examine_run(folder, run.name, "records").ranks
        return list(current_rows(rank, columns))


def theirs(run: Path) -> list[tuple[int, float]]:
    """Update and number of each row in the analyzer's view."""
    return open_run(run).updates().select("update", "policy_loss").collect().rows()


def ours(run: Path) -> list[tuple[int, float]]:
    """The same, read from the format."""
    batches = read(run, ["update", "policy_loss"])
    return [(row["update"], row["policy_loss"]) for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "attempts",
    [
        [list(range(8))],
        [list(range(8)), list(range(5, 11))],
        [list(range(8)), list(range(4, 7)), list(range(2, 9))],
        [[0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7]],
        [[0, 1, 2, 3, 4, 5, 6, 2, 3], [3, 4, 5]],
        [[5, 3, 5, 3, 1, 1, 1]],
    ],
    ids=["straight", "resumed", "resumed twice", "rolled back", "rolled back, then resumed", "to and fro"],
)
def test_rows_are_those_of_the_analyzer(tmp_path: Path, attempts: list[list[int]]) -> None:
    """Whatever was resumed or rolled back, the rows that count are the same, in the same order."""
    run = record(tmp_path, attempts)
    assert ours(run) == theirs(run)
    assert ours(run)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=3))
def test_any_history_reads_as_the_analyzer_reads_it(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[list[int]]
) -> None:
    """The same for histories that nobody would write by hand."""
    run = record(tmp_path_factory.mktemp("history"), attempts)
    assert ours(run) == theirs(run)


def test_a_run_that_is_being_recorded_is_read_to_its_last_row(tmp_path: Path) -> None:
    """Rows of the active segment come last, with all columns of the segment."""
    with Recorder.open(tmp_path, run_id="run", segment_rows=3) as recorder:
        for update in range(5):
            recorder.record(update=update, policy_loss=1.0, value_loss=2.0)
        batches = read(tmp_path / "run")
        assert [update for batch in batches for update in batch.column("update").to_pylist()] == [0, 1, 2, 3, 4]
        assert {"run_id", "rank", "attempt", "seq", "value_loss"} <= set(batches[-1].schema.names)


def test_columns_that_a_segment_lacks_are_left_out(tmp_path: Path) -> None:
    """A column that joined half-way is in the batches of the segments that have it, and in no other."""
    run = record(tmp_path, [[0, 1]])
    names = [batch.schema.names for batch in read(run, ["update", "mine"])]
    assert names == [["update"], ["update", "mine"]]


def test_damage_that_was_not_looked_for_is_named(tmp_path: Path) -> None:
    """A sealed file whose pages are damaged ends in an error that names it."""
    run = record(tmp_path, [list(range(6))])
    file = run / "rank-0000" / "segments" / "00000001.parquet"
    damaged = bytearray(file.read_bytes())
    damaged[40:2000] = bytes(1960)
    file.write_bytes(damaged)
    with pytest.raises(RunDamagedError, match=r"00000001\.parquet"):
        read(run)
