"""What reading a long run costs: one series, and a whole report, beside polars and duckdb by hand, and TensorBoard.

The first time that a process reads a sealed file it looks at the headers of all its pages, before a decoder believes
them; so one series has two figures.

Usage: python tests/bench/read_cost.py [updates]   (default 1,000,000; 40 metrics in each)
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from judge_cost import print_judge_secs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.keeping.sealing import seal
from esper_schemas import METRICS, RunDirectory
from esper_schemas.segment.active import ARROW_TYPES, ScanEnd, SegmentIdentity, column_types
from esper_schemas.segment.scan import ActiveSegment, with_identity

SEGMENT_ROWS = 8192
BOARD_UPDATES = 2000
SCALARS = [name for name, metric in METRICS.items() if metric.dtype == "float64"][:38]


def write_run(root: Path, updates: int) -> RunDirectory:
    """A run of `updates` updates, sealed as the recorder seals it but without the rows' way through Python."""
    Recorder.open(root, run_id="long").close()
    run = RunDirectory(root / "long")
    rng = np.random.default_rng(0)
    types = column_types()
    for number, first in enumerate(range(0, updates, SEGMENT_ROWS)):
        rows = min(SEGMENT_ROWS, updates - first)
        index = np.arange(first, first + rows)
        measured: dict[str, np.ndarray[Any, Any]] = {
            name: rng.lognormal(size=rows).astype(np.float32).astype(np.float64) for name in SCALARS
        }
        measured |= {"seq": index, "update": index, "wall_time": index * 1_000_000}
        columns = [
            pa.array(measured[name]).cast(ARROW_TYPES[dtype])
            if name in measured
            else pa.nulls(rows, ARROW_TYPES[dtype])
            for name, dtype in types.items()
        ]
        identity = SegmentIdentity("long", 0, 0, number, first)
        batch = with_identity(pa.RecordBatch.from_arrays(columns, names=list(types)), identity)
        run.rank(0).active_path(number).touch()
        with run.rank(0).open() as rank:
            seal(rank, ActiveSegment(number, identity, batch, ScanEnd("clean", 0), b""))
    return run


def secs_of(function: Callable[[], object]) -> float:
    """Duration of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def median_secs(function: Callable[[], object], rounds: int = 5) -> float:
    """Median duration; the first call is not counted."""
    function()
    return statistics.median(secs_of(function) for _ in range(rounds))


def tensorboard_secs(place: Path, updates: int) -> float:
    """Seconds that TensorBoard's reader needs for so many updates of the same width."""
    board = SummaryWriter(place)
    for update in range(updates):
        for name in SCALARS:
            board.add_scalar(name, float(update), update)
    board.close()
    return median_secs(lambda: EventAccumulator(str(place), size_guidance={"scalars": 0}).Reload(), rounds=1)


def main() -> None:
    """Write one run, read it each way, print one table."""
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as place:
        run_directory = write_run(Path(place), updates)
        run = open_run(run_directory.path)
        pattern = run_directory.rank(0).segments_folder / "*.parquet"
        ways: dict[str, Callable[[], object]] = {
            "one series, hand-written polars": lambda: (
                pl.scan_parquet(pattern).select("update", "value_loss").collect()
            ),
            "one series, hand-written duckdb": lambda: (
                duckdb.connect().execute(f"select update, value_loss from '{pattern}' order by update").fetchnumpy()
            ),
            "one series, open_run().updates()": lambda: run.updates().select("update", "value_loss").collect(),
            "whole report, open_run().report()": run.report,
        }
        secs = {}
        for name, way in ways.items():
            if name == "one series, open_run().updates()":
                secs["the same, for the first time"] = secs_of(way)
            secs[name] = median_secs(way)
        of_board = min(BOARD_UPDATES, updates)
        board = tensorboard_secs(Path(place) / "board", of_board)
    reference = secs["one series, hand-written polars"]
    print(f"reading {updates:,} updates of {len(SCALARS) + 3} columns in segments of {SEGMENT_ROWS:,} rows, medians")
    for name, duration in secs.items():
        print(f"  {name:36}{duration:9.3f} s  {duration / reference:6.2f} × hand-written")
    print(f"  TensorBoard's reader, {of_board:,} updates  {board:9.3f} s")
    print_judge_secs(updates, reference)


if __name__ == "__main__":
    main()
