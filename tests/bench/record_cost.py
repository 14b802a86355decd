"""What one update costs the trainer: `Recorder.record` beside `orjson` + `write`, rlprobe and TensorBoard, in one run.

Each peer gets the same updates, as a trainer would hand them over: 40 scalars that stand in local variables. The kinds
of row that `record` takes follow, each beside `orjson` + `write` of the same row, also where a row comes once a second.
Rounds are interleaved, so that a noisy machine disturbs all alike; medians and ratios are what counts.

Usage: python tests/bench/record_cost.py [folder]   (the folder in which the peers write; default a temporary one)
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import rlprobe
import torch
from bench_rows import SCALARS, Call, Costs, Row, compiled, updates
from kill_peers import ROWS_PER_SEC, kept_after_kill
from torch.utils.tensorboard import SummaryWriter

from esper_recorder import PPOUpdatePayload, Recorder
from esper_schemas import RunDirectory
from esper_schemas.segment.scan import read_active

ROUNDS = 5
UPDATES_PER_ROUND = 4000
TENSORBOARD_UPDATES_PER_ROUND = 60
SEGMENT_ROWS = 8192
KIND_ROUNDS = 50
UPDATES_PER_KIND = 400
COLD_ROWS = 5
RLPROBE_WAIT_SECS = 60.0


def cold_medians(calls: Mapping[str, Callable[[Row], object]], rows: Sequence[Row]) -> dict[str, float]:
    """Median microseconds of each call, where one row comes every second, by each of the calls in turn."""
    cold: dict[str, list[float]] = {name: [] for name in calls}
    for row in rows[:COLD_ROWS]:
        for name, call in calls.items():
            time.sleep(1.0)
            began = time.perf_counter_ns()
            call(row)
            cold[name].append((time.perf_counter_ns() - began) / 1e3)
    return {name: statistics.median(spent) for name, spent in cold.items()}


class Peers:
    """Esper and its peers, each with a file of its own in the folder `place`."""

    def __init__(self, place: Path) -> None:
        self._lines_path, self._board_path = place / "lines.jsonl", place / "board"
        self._rlprobe_path = place / "rlprobe"
        self.recorder = Recorder.open(place, run_id="bench", trainer="bench", segment_rows=SEGMENT_ROWS)
        self.rlprobe = rlprobe.Recorder(self._rlprobe_path, algorithm="ppo")
        self._lines = os.open(self._lines_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._board = SummaryWriter(self._board_path)
        names = ["update", *SCALARS]
        line = 'write(fd, dumps({{{}}}) + b"\\n")'
        self.calls: dict[str, Call] = {
            "esper": compiled("record({})", "{name}=v[{i}]", names, record=self.recorder.record),
            "orjson": compiled(line, '"{name}": v[{i}]', names, write=os.write, fd=self._lines, dumps=orjson.dumps),
            "rlprobe": compiled("log(v[0], {})", "{name}=v[{i}+1]", SCALARS, log=self.rlprobe.log_step),
            "tensorboard": compiled("({})", 'add("{name}", v[{i}], v[0])', names, add=self._board.add_scalar),
        }

    def settle(self) -> None:
        """Wait for rlprobe's thread, which would else work beside the next peer; its queue takes 8,192 rows."""
        if not self.rlprobe.flush(RLPROBE_WAIT_SECS):
            raise RuntimeError(f"rlprobe did not write its rows within {RLPROBE_WAIT_SECS:g} s")

    def close(self) -> dict[str, str]:
        """Bytes per update of each peer's files."""
        rows = ROUNDS * UPDATES_PER_ROUND + COLD_ROWS
        board_rows = ROUNDS * TENSORBOARD_UPDATES_PER_ROUND + COLD_ROWS
        active = max(self.recorder.path.glob("rank-0000/active/*.arrows"))
        with RunDirectory(self.recorder.path).rank(0).open() as folder:
            written = read_active(folder, int(active.stem))
        active_bytes = written.bytes / written.rows.num_rows if written.rows else 0
        self.recorder.close()
        self.rlprobe.close()
        self._board.close()
        os.close(self._lines)
        sealed, states = (
            _folder_bytes(self.recorder.path / f"rank-0000/{name}") / rows for name in ("segments", "states")
        )
        return {
            "esper": f"{sealed:,.0f}+{states:,.0f} sealed, {active_bytes:,.0f} active",
            "orjson": f"{self._lines_path.stat().st_size / rows:,.0f}",
            "rlprobe": f"{(self._rlprobe_path / 'steps.parquet').stat().st_size / rows:,.0f}",
            "tensorboard": f"{_folder_bytes(self._board_path) / board_rows:,.0f}",
        }


PEER_NAMES = {
    "esper": "Esper Recorder, safe at return",
    "orjson": "orjson.dumps + write",
    "rlprobe": "rlprobe, queued at return",
    "tensorboard": "TensorBoard SummaryWriter",
}


def print_peers(place: Path) -> None:
    """The caller's cost of one update with each peer, what it takes on the disk, and what a kill leaves of it."""
    peers = Peers(place)
    costs = {name: Costs() for name in peers.calls}
    for seed in range(ROUNDS):
        rows = updates(UPDATES_PER_ROUND, seed)
        for name, call in peers.calls.items():
            costs[name].add_round(call, rows[:TENSORBOARD_UPDATES_PER_ROUND] if name == "tensorboard" else rows)
            if name == "rlprobe":
                peers.settle()
    cold = cold_medians(peers.calls, updates(COLD_ROWS, ROUNDS))
    dropped = f"dropped: Esper {peers.recorder.dropped_rows}, rlprobe {peers.rlprobe.dropped}"
    sizes = peers.close()
    kept = kept_after_kill(place)
    print(f"one update of {len(SCALARS) + 1} scalars: the caller's cost in µs, median of {ROUNDS} rounds' medians")
    print(f"  {'':32}{'median':>9}{'ours ÷':>8}{'p99.9':>9}{'longest':>9}{'cold':>10}{'bytes on disk':>30}{'kept':>13}")
    for name, cost in costs.items():
        ratio = costs["esper"].median / cost.median
        print(
            f"  {PEER_NAMES[name]:32}{cost.median:9.2f}{ratio:8.3f}{cost.pauses}{cold[name]:10.1f}"
            f"{sizes[name]:>30}{kept[name]:>13}"
        )
    print("  ours ÷: Esper's median divided by theirs; cold: one row a second, by each of them in turn")
    print(f"  kept: rows that came back after SIGKILL, of those acknowledged, at {ROWS_PER_SEC:g} rows per second")
    print("  sealed: bytes of the segments + those of their column states")
    print(f"  rows {dropped}")


class Kind(NamedTuple):
    """One update as one kind of row, handed to the recorder and to `orjson`."""

    record: Callable[[Recorder], object]
    line: Callable[[], bytes]


KindsOfRow = dict[str, Kind]


def kinds_of_row(row: list[float]) -> KindsOfRow:
    """The same update as each kind of row that a trainer may hand over."""
    update = int(row[0])
    values: dict[str, Any] = dict(zip(SCALARS, row[1:], strict=True))
    first = dict(list(values.items())[:29])
    extras = {f"mine_{number}": float(number) for number in range(10)}
    payload = PPOUpdatePayload(update=update, **values)
    numpy: dict[str, Any] = {name: np.float32(value) for name, value in values.items()}
    arrays: dict[str, Any] = {name: np.array(value) for name, value in values.items()}
    tensors: dict[str, Any] = {name: torch.tensor(value) for name, value in values.items()}
    dumps, of_numpy = orjson.dumps, orjson.OPT_SERIALIZE_NUMPY
    return {
        "floats": Kind(
            lambda recorder: recorder.record(update=update, **values),
            lambda: dumps({"update": update, **values}),
        ),
        "numpy.float32": Kind(
            lambda recorder: recorder.record(update=update, **numpy),
            lambda: dumps({"update": update, **numpy}, None, of_numpy),
        ),
        "ten of them in extras": Kind(
            lambda recorder: recorder.record(update=update, **first, extras=extras),
            lambda: dumps({"update": update, **first, **extras}),
        ),
        "a PPOUpdatePayload": Kind(
            lambda recorder: recorder.record(payload),
            lambda: dumps(payload),
        ),
        "0-d arrays": Kind(
            lambda recorder: recorder.record(update=update, **arrays),
            lambda: dumps({"update": update, **arrays}, float),
        ),
        "CPU tensors": Kind(
            lambda recorder: recorder.record(update=update, **tensors),
            lambda: dumps({"update": update, **tensors}, float),
        ),
    }


def recording(name: str, recorder: Recorder) -> Callable[[KindsOfRow], object]:
    """A call that records an update as the kind `name`."""
    return lambda kinds: kinds[name].record(recorder)


def writing_line(name: str, lines: int) -> Callable[[KindsOfRow], object]:
    """A call that writes the same row as one line to the file descriptor `lines`."""
    return lambda kinds: os.write(lines, kinds[name].line() + b"\n")


def print_kinds(place: Path) -> None:
    """The caller's cost of each kind of row beside `orjson` + `write` of the same row, warm and once a second."""
    kinds = [kinds_of_row(row) for row in updates(UPDATES_PER_KIND, 0)]
    recorders = {name: Recorder.open(place, run_id=f"kind-{number}") for number, name in enumerate(kinds[0])}
    lines = os.open(place / "lines.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    calls = {name: recording(name, recorder) for name, recorder in recorders.items()}
    beside = {name: writing_line(name, lines) for name in recorders}
    costs, floors = {name: Costs() for name in calls}, {name: Costs() for name in calls}
    for _ in range(KIND_ROUNDS):
        for name, call in calls.items():
            costs[name].add_round(call, kinds)
            floors[name].add_round(beside[name], kinds)
    cold = cold_medians({**calls, "orjson": beside["floats"]}, kinds)
    dropped = sum(recorder.dropped_rows for recorder in recorders.values())
    for recorder in recorders.values():
        recorder.close()
    os.close(lines)
    print(f"kinds of row, {len(SCALARS) + 1} numbers each: the caller's cost in µs; {dropped} rows dropped")
    print(
        f"  {'':24}{'median':>9}{'× floats':>10}{'orjson':>9}{'× orjson':>10}{'p99.9':>9}{'longest':>9}"
        f"{'cold':>9}{'× cold orjson':>15}"
    )
    for name, cost in costs.items():
        floor = floors[name].median
        print(
            f"  {name:24}{cost.median:9.2f}{cost.median / costs['floats'].median:10.2f}{floor:9.2f}"
            f"{cost.median / floor:10.2f}{cost.pauses}{cold[name]:9.1f}{cold[name] / cold['orjson']:15.2f}"
        )
    floor = floors["floats"].median
    print(
        f"  {'orjson + write, floats':24}{floor:9.2f}{floor / costs['floats'].median:10.2f}{floor:9.2f}{1:10.2f}"
        f"{floors['floats'].pauses}{cold['orjson']:9.1f}{1:15.2f}"
    )
    print("  orjson: dumps + write of the same row; p99.9 and longest are those of record()")
    print("  cold: one row a second, each kind in turn")


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    """Print the tables."""
    for table in (print_peers, print_kinds):
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
            table(Path(place))


if __name__ == "__main__":
    main()
