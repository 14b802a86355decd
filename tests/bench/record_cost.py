"""What one update costs the trainer: `Recorder.record` beside `orjson` + `write` and TensorBoard, in one run.

Each peer gets the same updates, as a trainer would hand them over: 40 scalars that stand in local variables. The kinds
of row that `record` takes follow beside plain floats, then its longest pauses, and the cost of one row a second.
Rounds are interleaved, so that a noisy machine disturbs all alike; medians and ratios are what counts.
"""

from __future__ import annotations

import os
import random
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import torch
from torch.utils.tensorboard import SummaryWriter

from esper_recorder import PPOUpdatePayload, Recorder
from esper_schemas import METRICS, RunDirectory
from esper_schemas.segment.scan import read_active

ROUNDS = 5
UPDATES_PER_ROUND = 4000
TENSORBOARD_UPDATES_PER_ROUND = 60
SEGMENT_ROWS = 8192
COLD_ROWS = 8
SCALARS = [name for name, metric in METRICS.items() if metric.dtype == "float64" and name != "elapsed_secs"][:39]

Call = Callable[[list[float]], object]


def updates(count: int, seed: int) -> list[list[float]]:
    """`count` updates of 40 numbers: the index, and 39 float32-valued floats."""
    rng = random.Random(seed)
    return [
        [index, *(struct.unpack("f", struct.pack("f", rng.lognormvariate(0, 1)))[0] for _ in SCALARS)]
        for index in range(count)
    ]


def compiled(template: str, argument: str, **names: object) -> Call:
    """A function that hands 40 local values over by name, as a line in a training loop does."""
    handed = ", ".join(argument.format(name=name, i=i) for i, name in enumerate(["update", *SCALARS]))
    scope = dict(names)
    exec(f"def call(v): return {template.format(handed)}", scope)
    call: Call = scope["call"]  # type: ignore[assignment]
    return call


def median_cost(call: Call, rows: list[list[float]]) -> float:
    """Median microseconds of one call."""
    costs = []
    for row in rows:
        began = time.perf_counter_ns()
        call(row)
        costs.append(time.perf_counter_ns() - began)
    return statistics.median(costs) / 1e3


def kinds_of_row(row: list[float]) -> dict[str, Callable[[Recorder], object]]:
    """The same update as each kind of row that a trainer may hand over."""
    update, values = int(row[0]), dict(zip(SCALARS, row[1:], strict=True))
    first = dict(list(values.items())[:29])
    extras = {f"mine_{number}": float(number) for number in range(10)}
    payload = PPOUpdatePayload(update=update, **values)  # type: ignore[arg-type]
    numpy = {name: np.float32(value) for name, value in values.items()}
    arrays = {name: np.array(value) for name, value in values.items()}
    tensors = {name: torch.tensor(value) for name, value in values.items()}
    return {
        "floats": lambda recorder: recorder.record(update=update, **values),
        "numpy.float32": lambda recorder: recorder.record(update=update, **numpy),
        "ten of them in extras": lambda recorder: recorder.record(update=update, **first, extras=extras),
        "a PPOUpdatePayload": lambda recorder: recorder.record(payload),
        "0-d arrays": lambda recorder: recorder.record(update=update, **arrays),
        "CPU tensors": lambda recorder: recorder.record(update=update, **tensors),
    }


def print_kinds(place: Path) -> None:
    """The caller's cost of each kind of row, and the pauses of the plain one."""
    rows = updates(400, 0)
    kinds = [kinds_of_row(row) for row in rows]
    costs: dict[str, list[float]] = {name: [] for name in kinds[0]}
    every: list[int] = []
    recorders = {name: Recorder.open(place, run_id=f"kind-{number}") for number, name in enumerate(costs)}
    for _ in range(10 * ROUNDS):
        for name, recorder in recorders.items():
            spent = []
            for kind in kinds:
                began = time.perf_counter_ns()
                kind[name](recorder)
                spent.append(time.perf_counter_ns() - began)
            costs[name].append(statistics.median(spent) / 1e3)
            every += spent if name == "floats" else []
    dropped = sum(recorder.dropped_rows for recorder in recorders.values())
    print(f"kinds of row, {len(SCALARS) + 1} numbers each; {dropped} rows dropped")
    floats = statistics.median(costs["floats"])
    for name, medians in costs.items():
        cost = statistics.median(medians)
        print(f"  {name:34}{cost:10.2f} µs {cost / floats:8.2f} × floats")
    every.sort()
    print(
        f"  floats, 99.9th percentile {every[int(0.999 * len(every))] / 1e3:,.0f} µs, longest {every[-1] / 1e3:,.0f} µs"
    )
    cold = []
    for kind in kinds[:COLD_ROWS]:
        time.sleep(1.0)
        began = time.perf_counter_ns()
        kind["floats"](recorders["floats"])
        cold.append((time.perf_counter_ns() - began) / 1e3)
    print(f"  floats, one row a second           {statistics.median(cold):8.2f} µs")
    for recorder in recorders.values():
        recorder.close()


def main() -> None:
    """Run all peers and print the tables."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        recorder = Recorder.open(place, run_id="bench", trainer="bench", segment_rows=SEGMENT_ROWS)
        lines = os.open(Path(place) / "lines.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        board = SummaryWriter(Path(place) / "board")
        calls: dict[str, Call] = {
            "Esper Recorder, durable at return": compiled("record({})", "{name}=v[{i}]", record=recorder.record),
            "orjson.dumps + write": compiled(
                'write(fd, dumps({{{}}}) + b"\\n")', '"{name}": v[{i}]', write=os.write, fd=lines, dumps=orjson.dumps
            ),
            "TensorBoard SummaryWriter": compiled("({})", 'add("{name}", v[{i}], v[0])', add=board.add_scalar),
        }
        ours, orjson_line, tensorboard = calls
        costs: dict[str, list[float]] = {name: [] for name in calls}
        for seed in range(ROUNDS):
            for name, call in calls.items():
                count = TENSORBOARD_UPDATES_PER_ROUND if name == tensorboard else UPDATES_PER_ROUND
                costs[name].append(median_cost(call, updates(count, seed)))
        recorder_rows = ROUNDS * UPDATES_PER_ROUND
        active = max(Path(recorder.path).glob("rank-0000/active/*.arrows"))
        with RunDirectory(recorder.path).rank(0).open() as folder:
            written = read_active(folder, int(active.stem))
        active_bytes = written.bytes / written.rows.num_rows if written.rows else 0
        recorder.close()
        board.close()
        sealed_bytes = sum(path.stat().st_size for path in recorder.path.glob("rank-0000/segments/*")) / recorder_rows
        sizes = {
            ours: f"{sealed_bytes:,.0f} sealed, {active_bytes:,.0f} active",
            orjson_line: f"{(Path(place) / 'lines.jsonl').stat().st_size / recorder_rows:,.0f}",
            tensorboard: f"{_folder_bytes(Path(place) / 'board') / ROUNDS / TENSORBOARD_UPDATES_PER_ROUND:,.0f}",
        }
    print(f"caller's cost of one update of {len(SCALARS) + 1} scalars: median of {ROUNDS} rounds' medians")
    reference = statistics.median(costs[ours])
    for name, medians in costs.items():
        cost = statistics.median(medians)
        print(f"  {name:34}{cost:10.2f} µs {reference / cost:8.3f} × {sizes[name]:>27} B/update")
    print("  (the middle column is ours divided by theirs)")
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        print_kinds(Path(place))


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
