from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esper_recorder import PPOUpdatePayload, Recorder
from esper_recorder.writing.journal import MAX_EXTRAS
from esper_schemas import METRICS, RunDirectory, read_segments
from esper_schemas.examining.run import verify_run
from esper_schemas.metric.payload import dtype_of
from esper_schemas.segment.scan import ActiveSegment, SealedSegment
from esper_schemas.testing.strategies import payload_rows

ReadRows = Callable[..., list[dict[str, Any]]]

EXTREMES = [0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan, 5e-324, -1.7976931348623157e308, 0.1]
STRANGE_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF0_0000_DEAD_BEEF))[0]

SOMETIMES = settings(max_examples=10, suppress_health_check=list(HealthCheck))


def _bits(value: Any) -> Any:
    """A value so that equal means the same bits."""
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // datetime.resolution
    return struct.pack("<d", value) if isinstance(value, float) else value


def _check(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Each row holds what is expected of it, bit for bit, and null in every other metric."""
    filled_in = {"run_id", "rank", "attempt", "seq", "dropped_before", "wall_time", "elapsed_secs"}
    assert len(rows) == len(expected)
    for seq, (row, values) in enumerate(zip(rows, expected, strict=True)):
        assert row["seq"] == seq
        got = {
            name: _bits(value)
            for name, value in row.items()
            if value is not None and name not in filled_in - values.keys()
        }
        assert got == {name: _bits(value) for name, value in values.items()}


def _rows(*extras: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of any values but the time, which Python cannot show in every year that a column can hold."""
    row = payload_rows(extras).map(lambda row: {name: row[name] for name in row if name != "wall_time"})
    return st.lists(row, min_size=1, max_size=40)


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("by", ["keywords", "payload", "numpy"])
@SOMETIMES
@given(rows=_rows("mine", "é x"))
def test_rows_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, read_rows: ReadRows, sealed: bool, by: str, rows: list[dict[str, Any]]
) -> None:
    """Rows of any values and any sets of metrics are the same in the active file and after sealing, on every path."""
    numpy = {"float64": np.float64, "int64": np.int64, "int32": np.int32, "bool": np.bool_}
    root = tmp_path_factory.mktemp("rows")
    recorder = Recorder.open(root, run_id="r", segment_rows=7, strict=True)
    for row in rows:
        if by == "payload":
            metrics = {name: value for name, value in row.items() if name in METRICS}
            extras = {name: value for name, value in row.items() if name not in METRICS}
            assert recorder.record(PPOUpdatePayload(**metrics, extras=extras))
        elif by == "numpy":
            assert recorder.record(**{name: numpy[dtype_of(name)](value) for name, value in row.items()})
        else:
            assert recorder.record(**row)
    if sealed:
        recorder.close()
        assert all(isinstance(segment, SealedSegment) for segment in read_segments(RunDirectory(root / "r").rank(0)))
    _check(read_rows(root / "r"), rows)
    recorder.close()


def test_same_set_of_metrics_takes_the_fast_path_bit_for_bit(tmp_path: Path, read_rows: ReadRows) -> None:
    """The fast path, taken from the second row of a kind on, writes what the careful one does."""
    values = [*EXTREMES, STRANGE_NAN, 3, True, 2**53, -(2**53)]
    expected = [
        {
            "update": i,
            "policy_loss": float(v),
            "value_loss": float(v),
            "env_steps": i,
            "skipped": False,
            "mine": float(v),
        }
        for i, v in enumerate(values)
    ]
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i, value in enumerate(values):
            recorder.record(
                update=i, policy_loss=value, value_loss=value, env_steps=i, skipped=False, extras={"mine": value}
            )
        _check(read_rows(tmp_path / "r"), expected)
    _check(read_rows(tmp_path / "r"), expected)


def test_none_means_absent_on_every_path(tmp_path: Path, read_rows: ReadRows) -> None:
    """None, given by keyword, in a payload or in extras, is a null, whatever the rows around it carry."""
    expected: list[dict[str, Any]] = []
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i in range(12):
            entropy = None if i % 3 else 0.5
            extra = None if i % 2 else 1.5
            recorder.record(update=i, policy_loss=0.1, value_loss=0.2, entropy=entropy, extras={"mine": extra})
            row = {"update": i, "policy_loss": 0.1, "value_loss": 0.2, "entropy": entropy, "mine": extra}
            expected.append({name: value for name, value in row.items() if value is not None})
    _check(read_rows(tmp_path / "r"), expected)


def test_tensors_are_taken_for_numbers(tmp_path: Path, read_rows: ReadRows) -> None:
    """Zero-dimensional CPU tensors of any type are stored exactly, also those that carry a gradient."""
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i in range(3):
            assert recorder.record(
                update=torch.tensor(i),
                policy_loss=torch.tensor(0.1, requires_grad=True) * 2,
                value_loss=torch.tensor(0.1, dtype=torch.float64),
                entropy=torch.tensor(0.5, dtype=torch.bfloat16),
                skipped=torch.tensor(False),
                env_steps=np.int64(2**62),
            )
    small = float(np.float32(0.1) * np.float32(2))
    expected = {"policy_loss": small, "value_loss": 0.1, "entropy": 0.5, "skipped": False, "env_steps": 2**62}
    _check(read_rows(tmp_path / "r"), [{"update": i, **expected} for i in range(3)])


def test_values_that_only_look_plain_do_not_slip_through_the_fast_path(tmp_path: Path, read_rows: ReadRows) -> None:
    """Behind rows of a known set, a number in place of a bool, a float in place of an int and the like are checked."""
    good: dict[str, Any] = {"policy_loss": 0.1, "value_loss": 0.2, "skipped": False, "epochs_run": 1, "env_steps": 1}
    odd: list[dict[str, Any]] = [{"skipped": 1}, {"skipped": 1.0}, {"epochs_run": 2.0}, {"env_steps": 7.0}]
    left_out: list[dict[str, Any]] = [
        {"skipped": 2}, {"epochs_run": 2**31}, {"env_steps": 0.5}, {"env_steps": 2**63}, {"entropy": 2**53 + 1},
        {"env_steps": True}, {"epochs_run": np.True_},
    ]  # fmt: skip
    bad: list[dict[str, Any]] = [
        {"policy_loss": 10**400}, {"value_loss": "x"}, {"value_loss": None}, {"value_loss": 2**53 + 1},
    ]  # fmt: skip
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for i in range(3):
            assert recorder.record(update=i, **good)
        for i, change in enumerate(odd):
            assert recorder.record(update=3 + i, **{**good, **change})
        for change in bad:
            assert not recorder.record(update=99, **{**good, **change})
        assert recorder.record(update=7, **good)
        for i, change in enumerate(left_out):
            assert recorder.record(update=8 + i, **{**good, **change})
        assert recorder.dropped_rows == len(bad)
    rows = read_rows(tmp_path / "r")
    assert [row["update"] for row in rows] == list(range(8 + len(left_out)))
    assert [row["skipped"] for row in rows[3:5]] == [True, True]
    for row, change in zip(rows[8:], left_out, strict=True):
        assert all(row[name] is None for name in change)
        assert all(row[name] == value for name, value in good.items() if name not in change)
    assert (rows[5]["epochs_run"], rows[6]["env_steps"]) == (2, 7)
    assert rows[7]["dropped_before"] == len(bad)
    assert rows[7]["seq"] == 7 + len(bad)


def test_extra_that_joins_half_way_is_a_column_from_there_on(tmp_path: Path, read_rows: ReadRows) -> None:
    """A new name begins a new segment with one column more; rows before and rows without it are null there."""
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i in range(9):
            extras = {"second": 2.5} if i >= 6 else {}
            if i in (3, 4, 7):
                extras["first"] = float(i)
            assert recorder.record(update=i, policy_loss=0.1, value_loss=0.2, extras=extras)
    rows = read_rows(tmp_path / "r")
    assert [row.get("first") for row in rows] == [None, None, None, 3.0, 4.0, None, None, 7.0, None]
    assert [row.get("second") for row in rows] == [None] * 6 + [2.5] * 3
    names = [pq.read_schema(path).names[-2:] for path in sorted((tmp_path / "r").rglob("*.parquet"))]
    assert names == [list(METRICS)[-2:], [list(METRICS)[-1], "first"], ["first", "second"]]


def test_misspelt_metric_is_kept_and_warned_of_once(
    tmp_path: Path, read_rows: ReadRows, caplog: pytest.LogCaptureFixture
) -> None:
    """A keyword close to a metric's name is recorded under the name given, and the log asks what was meant."""
    with caplog.at_level(logging.WARNING), Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i in range(3):
            recorder.record(update=i, policy_loss=0.1, value_loss=0.2, entrpy=0.7, something_else=1.0)
    assert [row["entrpy"] for row in read_rows(tmp_path / "r")] == [0.7] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'r'}: 'entrpy' is recorded as a metric of its own; did you mean 'entropy'?"
    ]


def test_recorder_fills_in_time(tmp_path: Path, read_rows: ReadRows) -> None:
    """The recorder notes when each update ended; a caller that knows better is believed."""
    before, began = datetime.now(UTC), perf_counter()
    given = datetime(2020, 2, 2, 2, 2, 2, 222222, tzinfo=UTC)
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i in range(3):
            recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
        for i in range(3):
            recorder.record(update=i, policy_loss=0.1, value_loss=0.2, wall_time=given, elapsed_secs=7.5)
    rows = read_rows(tmp_path / "r")
    times = [row["wall_time"] for row in rows[:3]]
    assert before.replace(microsecond=0) <= times[0] <= times[1] <= times[2] <= datetime.now(UTC)
    elapsed = [row["elapsed_secs"] for row in rows[:3]]
    assert 0 < elapsed[0] < elapsed[1] < elapsed[2] < perf_counter() - began
    assert [(row["wall_time"], row["elapsed_secs"]) for row in rows[3:]] == [(given, 7.5)] * 3


def test_time_in_another_unit_is_left_out_on_every_path(tmp_path: Path, read_rows: ReadRows) -> None:
    """Behind rows with a time in microseconds as in the first row, one in another unit is refused, which says how."""
    now = 1_764_000_000
    with Recorder.open(tmp_path, run_id="r", fill_in_times=False) as recorder:
        for i, given in enumerate([now, now * 10**6, now * 10**6, now, now * 1000, now * 10**9]):
            assert recorder.record(update=i, policy_loss=0.1, value_loss=0.2, elapsed_secs=0.0, wall_time=given)
    times = [row["wall_time"] for row in read_rows(tmp_path / "r")]
    assert times == [None, *[datetime.fromtimestamp(now, UTC)] * 2, None, None, None]
    refused = RunDirectory(tmp_path / "r").rank(0).attempts()[0].refused_values["wall_time"]
    assert refused["count"] == 4
    assert "give time.time_ns() // 1000, or leave it out" in refused["reason"]


def test_true_is_no_update(tmp_path: Path, read_rows: ReadRows) -> None:
    """`update=True` is dropped, and does not supersede the row of update 1."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for i in range(3):
            assert recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
        assert not recorder.record(update=True, policy_loss=0.3, value_loss=0.4)
        assert recorder.dropped_rows == 1
    assert [row["update"] for row in read_rows(tmp_path / "r")] == [0, 1, 2]


@SOMETIMES
@given(rows=_rows())
def test_stock_readers_give_the_values_of_the_sealed_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    """polars and pyarrow, without any help, give the same bits as were recorded."""
    root = tmp_path_factory.mktemp("rows")
    with Recorder.open(root, run_id="r", strict=True) as recorder:
        for row in rows:
            recorder.record(**row)
    (path,) = (root / "r").rglob("*.parquet")
    frame = pl.read_parquet(path)
    table = pq.read_table(path)
    for name in METRICS:
        if name in ("wall_time", "elapsed_secs"):
            continue
        expected = [_bits(row.get(name)) for row in rows]
        assert [_bits(value) for value in frame[name].to_list()] == expected
        assert [_bits(value) for value in table.column(name).to_pylist()] == expected


def test_row_is_readable_when_record_returns(tmp_path: Path) -> None:
    """Without any flush or close, the file holds the row as soon as `record` has returned."""
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i in range(20):
            assert recorder.record(update=i, policy_loss=0.1, value_loss=float(i))
            (segment,) = read_segments(RunDirectory(tmp_path / "r").rank(0))
            assert isinstance(segment, ActiveSegment)
            assert segment.rows is not None
            assert segment.end.kind == "clean"
            assert segment.rows.column("value_loss").to_pylist() == [float(j) for j in range(i + 1)]


def test_metrics_beyond_the_limit_are_left_out_and_the_row_is_kept(
    tmp_path: Path, read_rows: Callable[..., list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    """A run that invents ever more metrics keeps every row and stays readable; names beyond the limit are logged."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for update in range(3):
            names = [f"m{update * MAX_EXTRAS // 2 + i}" for i in range(MAX_EXTRAS // 2 + 1)]
            recorder.record(update=update, policy_loss=0.1, value_loss=0.2, extras=dict.fromkeys(names, 1.0))
    rows = read_rows(tmp_path / "r")
    assert [row["update"] for row in rows] == [0, 1, 2]
    extras = [name for name in rows[2] if name.startswith("m") and name[1:].isdecimal()]
    assert len(extras) == MAX_EXTRAS
    assert f"m{3 * MAX_EXTRAS // 2}" not in extras
    assert "is not recorded: a run has at most" in caplog.text
    assert not verify_run(RunDirectory(tmp_path / "r")).is_damaged
