"""The golden runs, which version 0.1.0 recorded, with the rows, attempts and faults that every reader must find.

    golden_runs/<name>/          a run as it was recorded
    golden_rows/<name>.parquet   its rows of all attempts; `is_current` marks rows that no later row supersedes
    golden_expected.json         its attempts and faults

They take 0.6 MB, or 0.2 MB in the wheel. Host name, process id and boot id are replaced by neutral values.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esper_schemas.run.records import Attempt
from esper_schemas.testing.damage import Address

_FOLDER = Path(__file__).parent
RUNS, ROWS, EXPECTED = _FOLDER / "golden_runs", _FOLDER / "golden_rows", _FOLDER / "golden_expected.json"

NAMES = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
"""The names of all golden runs; a name says what is special about its run."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a reader must find in a golden run, apart from its rows.

    Attributes:
        faults: rank, segment and kind of each fault except notes; none of them is damage.
        attempts: the attempts of each rank, in order. One whose status is None never ended: its process was killed.
    """

    faults: frozenset[Address]
    attempts: dict[int, list[Attempt]]


def copy_run(name: str, root: Path) -> Path:
    """Copy a golden run into `root`, where a test may change it."""
    return Path(shutil.copytree(RUNS / name, root / name))


def expected(name: str) -> Expected:
    """The faults and attempts of a golden run."""
    entry = _all_expected()[name]
    return Expected(
        frozenset((fault["rank"], fault["segment"], fault["kind"]) for fault in entry["faults"]),
        {int(rank): [Attempt(**attempt) for attempt in attempts] for rank, attempts in entry["attempts"].items()},
    )


@cache
def _all_expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return found


def rows(name: str) -> pa.Table:
    """The rows of all attempts of a golden run, sorted by rank and sequence number.

    Columns that are null in every row are left out. `is_current` is not a column of the run: it marks rows that no
    later row supersedes.
    """
    return pq.read_table(ROWS / f"{name}.parquet", partitioning=None)


def wrong_columns(expected: pa.Table, found: pa.Table) -> list[str]:
    """Names of the columns that differ, bit for bit. A column that `expected` lacks must be null in every row.

    Raises:
        ValueError: the tables have different numbers of rows.
    """
    if expected.num_rows != found.num_rows:
        raise ValueError(f"expected {expected.num_rows:,} rows, found {found.num_rows:,}")
    wrong = [name for name in expected.column_names if name not in found.column_names]
    for name in found.column_names:
        if name not in expected.column_names:
            is_same = found.column(name).null_count == found.num_rows
        else:
            is_same = bits(expected.column(name)) == bits(found.column(name))
        wrong += [] if is_same else [name]
    return wrong


def bits(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; floats as their bits, since NaN does not equal itself."""
    if pa.types.is_float64(column.type):
        column = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
    values: list[Any] = column.to_pylist()
    return values
