from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow
import pyarrow.dataset as ds
import pyarrow.parquet
import pytest

from esper_recorder import Recorder
from esper_schemas import METRICS

ROOT = Path(__file__).parents[2]
FORMAT = (ROOT / "schemas" / "FORMAT.md").read_text()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run named "mine" of two sealed segments, in the folder that it is looked for in."""
    monkeypatch.chdir(tmp_path)
    _record(range(10))
    return tmp_path / "runs" / "mine"


def _record(updates: Iterable[int], **extras: float) -> None:
    with Recorder.open(run_id="mine", resume="allow", segment_rows=5) as recorder:
        for i in updates:
            recorder.record(update=i, policy_loss=0.1, value_loss=i / 4, extras=extras)


def _snippets() -> list[str]:
    section = FORMAT[FORMAT.index("## Reading without Esper\n") :]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def _numbers(table: Any) -> list[tuple[int, float]]:
    """Update and value loss from whatever an engine returned."""
    if isinstance(table, duckdb.DuckDBPyRelation):
        table = table.to_arrow_table() if hasattr(table, "to_arrow_table") else table.arrow()
    columns = table.to_dict(as_series=False) if isinstance(table, pl.DataFrame) else table.to_pydict()
    return list(zip(columns["update"], columns["value_loss"], strict=True))


def _run(snippet: str, names: dict[str, Any]) -> list[list[tuple[int, float]]]:
    """The numbers that each expression of a snippet gives; `names` are those of the page so far."""
    results = []
    for statement in ast.parse(snippet).body:
        if isinstance(statement, ast.Expr):
            results.append(_numbers(eval(compile(ast.Expression(statement.value), "FORMAT.md", "eval"), names)))
        else:
            exec(compile(ast.Module([statement], []), "FORMAT.md", "exec"), names)
    return results


@pytest.mark.usefixtures("run")
def test_lines_of_reading_without_esper_give_the_rows() -> None:
    """Each engine's line in the document, run as it stands, gives the numbers that were recorded."""
    plain, _ = _snippets()
    results = _run(plain, {})
    assert len(results) == 3
    assert all(sorted(numbers) == [(i, i / 4) for i in range(10)] for numbers in results)


@pytest.mark.usefixtures("run")
def test_lines_of_reading_the_union_give_the_rows() -> None:
    """The lines for a metric that joined half-way read all rows of files that differ in their columns."""
    _record(range(10, 15), mine=0.5)
    plain, union = _snippets()
    names: dict[str, Any] = {}
    _run("\n".join(line for line in plain.splitlines() if line.startswith("import")), names)
    results = _run(union, names)
    assert len(results) == 3
    assert all(sorted(numbers) == [(i, i / 4) for i in range(15)] for numbers in results)


def test_active_file_is_read_by_stock_stream_readers(run: Path) -> None:
    """What the document says of the active file: both readers take it, without the columns of the identity."""
    with Recorder.open(run_id="mine", resume="must") as recorder:
        for i in range(3):
            recorder.record(update=i, policy_loss=0.1, value_loss=2.5)
        (path,) = (run / "rank-0000" / "active").glob("*.arrows")
        for names in (
            pyarrow.ipc.open_stream(path).read_all().to_pydict(),
            pl.read_ipc_stream(path).to_dict(as_series=False),
        ):
            assert names["value_loss"] == [2.5] * 3
            assert names["seq"] == [10, 11, 12]
            assert not {"run_id", "rank", "attempt"} & names.keys()


def test_columns_stand_as_documented(run: Path) -> None:
    """Identity, numbering, the metrics table, then extras, in every sealed file; the table is in all of them."""
    _record(range(10, 12), mine=0.5)
    first, _, second = sorted((run / "rank-0000" / "segments").glob("*.parquet"))
    fixed = ["run_id", "rank", "attempt", "seq", "dropped_before", *METRICS]
    assert pyarrow.parquet.read_schema(first).names == fixed
    assert pyarrow.parquet.read_schema(second).names == [*fixed, "mine"]
    assert ds.dataset(first.parent).schema.names == fixed
