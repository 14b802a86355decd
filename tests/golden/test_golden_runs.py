from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from tests.golden.golden import (
    differences,
    read_all_rows,
    read_expected,
    read_report,
    report_names,
    stored_report,
)

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_schemas import RunDirectory, Seal
from esper_schemas.examining.run import verify_run
from esper_schemas.run.files import Folder
from esper_schemas.testing import golden

REPORTS = [(name, report, options) for name in golden.NAMES for report, options in report_names(name).items()]
_READ = ["run_id", "rank", "attempt", "seq", "dropped_before", "update", "value_loss", "wall_time"]


def test_runs_of_every_kind_are_there() -> None:
    """A run that lost its folder, its report or its rows does not go untested."""
    kinds = "crashed dropped extras_halfway failed finished imported interrupted nonfinite repaired resumed skipped"
    assert [*kinds.split(), "torn", "two_ranks"] == golden.NAMES


@pytest.mark.parametrize(("name", "report", "options"), REPORTS, ids=[report for _, report, _ in REPORTS])
def test_report_says_what_version_0_1_said(name: str, report: str, options: list[str], tmp_path: Path) -> None:
    """Every key of the report of 0.1.0 is there with its value, and the exit code is the same."""
    exit_code, document = read_report(golden.copy_run(name, tmp_path), *options)
    expected_code, expected = stored_report(report)
    assert differences(expected, document) == []
    assert exit_code == expected_code


@pytest.mark.parametrize("name", golden.NAMES)
def test_rows_are_those_that_version_0_1_read(name: str, tmp_path: Path) -> None:
    """All rows, and those of the default view ordered by rank and update, are bit for bit what 0.1.0 read."""
    path, expected = golden.copy_run(name, tmp_path), golden.rows(name)
    assert golden.wrong_columns(expected, read_all_rows(path)) == []
    current = expected.filter(expected.column("is_current")).sort_by([("rank", "ascending"), ("update", "ascending")])
    assert golden.wrong_columns(current.drop_columns("is_current"), open_run(path).updates().collect().to_arrow()) == []


@pytest.mark.parametrize("name", golden.NAMES)
def test_run_is_no_more_damaged_than_it_was(name: str, tmp_path: Path) -> None:
    """A run of 0.1.0 that was crashed, torn or repaired passes verify, with the faults and attempts that it had."""
    path = golden.copy_run(name, tmp_path)
    found = verify_run(RunDirectory(path))
    assert not found.is_damaged, found.faults
    assert found.rows == golden.rows(name).num_rows
    assert read_expected(path) == golden.expected(name)


@pytest.mark.parametrize("name", golden.NAMES)
def test_run_is_resumed_and_keeps_its_rows(name: str, tmp_path: Path) -> None:
    """The recorder adds an attempt to a run of 0.1.0; its rows stay as they were, and verify finds it whole."""
    path, expected = golden.copy_run(name, tmp_path), golden.rows(name).drop_columns("is_current")
    ranks = [rank.rank for rank in RunDirectory(path).ranks()]
    for rank in ranks:
        options: dict[str, Any] = {"rank": rank, "world_size": len(ranks)}
        with Recorder.open(tmp_path, run_id=name, resume="must", segment_rows=3, **options) as recorder:
            for update in range(100, 105):
                assert recorder.record(update=update, policy_loss=0.1, value_loss=update / 4)
    found = verify_run(RunDirectory(path))
    assert not found.is_damaged, found.faults
    rows = read_all_rows(path)
    is_new = pc.greater_equal(rows.column("update"), 100)
    assert rows.filter(is_new).column("update").to_pylist() == [*range(100, 105)] * len(ranks)
    assert golden.wrong_columns(expected, rows.filter(pc.invert(is_new)).drop_columns("is_current")) == []


# ------------------------------------------------------------------ without Esper


def _by_polars(paths: list[str]) -> pa.Table:
    return pl.concat([pl.scan_parquet(path) for path in paths], how="diagonal").select(_READ).collect().to_arrow()


def _by_pyarrow(paths: list[str]) -> pa.Table:
    schema = pa.unify_schemas([pq.read_schema(path) for path in paths])
    return ds.dataset(paths, schema=schema).to_table(columns=_READ)


def _by_duckdb(paths: list[str]) -> pa.Table:
    names = ", ".join(_READ)
    found = duckdb.sql(f"select {names} from read_parquet({paths}, union_by_name=true)")
    assert found is not None
    return found.to_arrow_table()


@pytest.mark.parametrize("read", [_by_polars, _by_pyarrow, _by_duckdb], ids=["polars", "pyarrow", "duckdb"])
@pytest.mark.parametrize("name", golden.NAMES)
def test_engines_read_the_sealed_rows(name: str, read: Callable[[list[str]], pa.Table], tmp_path: Path) -> None:
    """An engine that knows nothing of Esper finds, bit for bit, the rows of the sealed segments."""
    path = golden.copy_run(name, tmp_path)
    paths = sorted(map(str, path.glob("rank-*/segments/*.parquet")))
    seals = [_seal(seal) for seal in sorted(path.glob("rank-*/seals/*.json"))]
    rows = read(paths).sort_by([("rank", "ascending"), ("seq", "ascending")])
    assert rows.num_rows == sum(seal.rows for seal in seals)
    in_segments = set(_places(rows))
    all_rows = golden.rows(name)
    expected = all_rows.filter(pa.array([place in in_segments for place in _places(all_rows)]))
    assert _places(expected) == _places(rows)
    columns = [column for column in _READ if column in all_rows.column_names]
    assert golden.wrong_columns(expected.select(columns), rows) == []


def _seal(path: Path) -> Seal:
    with Folder.at(path.parent) as folder:
        return Seal.read(folder, path.name)


def _places(rows: pa.Table) -> list[tuple[int, int]]:
    return list(zip(rows.column("rank").to_pylist(), rows.column("seq").to_pylist(), strict=True))
