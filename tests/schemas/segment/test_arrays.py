"""Columns as NumPy arrays, and back, are those of pyarrow, which would import pandas for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from esper_schemas.segment.arrays import column_of, is_valid, repeated, values_of

COLUMNS = {
    "float64": pa.array([1.5, None, float("nan"), float("inf"), -0.0, 2.0], pa.float64()),
    "float32": pa.array([1.5, None, 2.0], pa.float32()),
    "int64": pa.array([1, -(2**63), 2**63 - 1], pa.int64()),
    "int32": pa.array([1, -5, 7], pa.int32()),
    "uint8": pa.array([1, 255, 7], pa.uint8()),
    "bool": pa.array([True, False, True] * 7, pa.bool_()),
    "none": pa.nulls(3, pa.float64()),
    "empty": pa.array([], pa.float64()),
    "empty bool": pa.array([], pa.bool_()),
}


@pytest.mark.parametrize("part", [slice(None), slice(1, None), slice(1, 2), slice(2, 2)], ids=str)
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_values_are_those_of_pyarrow(column: pa.Array, part: slice) -> None:
    """With and without nulls, whole and from any row on."""
    piece = column[part]
    found = values_of(piece)
    expected = piece.to_numpy(zero_copy_only=False).astype(found.dtype)
    np.testing.assert_array_equal(found, expected, strict=True)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    assert is_valid(piece).tolist() == piece.is_valid().to_pylist()


def test_a_time_is_an_integer_of_its_unit() -> None:
    """Microseconds since 1970, whatever the zone."""
    times = pa.array([datetime(1970, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    assert values_of(times).tolist() == [86_400_000_000]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.5, None, float("nan")], pa.float64()), ([1, 2**62], pa.int64()), ([], pa.float64()), ([None], pa.float64())],
)
def test_a_column_is_that_of_pyarrow(values: list[float | None], kind: pa.DataType) -> None:
    """With a null for each None, and NaN as it is."""
    made, expected = column_of(values, kind), pa.array(values, kind)
    made.validate(full=True)
    assert made.type == expected.type
    assert list(map(str, made.to_pylist())) == list(map(str, expected.to_pylist()))


@pytest.mark.parametrize(("value", "kind"), [("läuft", pa.string()), ("", pa.string()), (-7, pa.int32())])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_repeated_value_is_in_each_row(value: int | str, kind: pa.DataType, rows: int) -> None:
    """Texts and integers."""
    made = repeated(value, kind, rows)
    made.validate(full=True)
    assert made.equals(pa.array([value] * rows, kind))


WITHOUT_PANDAS = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise SystemError("somebody imports pandas")

sys.meta_path.insert(0, Watch())
from esper_recorder import Recorder
recorder = Recorder.open(sys.argv[1], run_id="r", segment_rows=10)
for update in range(25):
    recorder.minibatch(value_loss=0.5, grad_norm=None if update % 2 else 1.0)
    recorder.record(update=update, policy_loss=0.1, value_loss=0.2, entropy=None if update % 3 else 1.0, extra=2)
raise ValueError("which a black box is written for")
"""


def test_recording_imports_no_pandas(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]], read_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    """Neither sealing nor a black box, in the background or while Python ends: pandas would hold a training up."""
    done = run_python(WITHOUT_PANDAS, tmp_path)
    assert "ValueError" in done.stderr
    assert "pandas" not in done.stderr
    rank = tmp_path / "r/rank-0000"
    assert len(list((rank / "segments").iterdir())) == 3
    assert len(list((rank / "states").iterdir())) == 3
    assert len(list((rank / "blackbox").glob("*.parquet"))) == 1
    assert len(read_rows(tmp_path / "r")) == 25
