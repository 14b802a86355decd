"""What an upload costs the training beside which it runs, and what it costs by itself.

A step is some milliseconds of NumPy on one core and `Recorder.record` of 40 scalars. A segment is sealed, and uploaded,
every 100 steps. Rounds with and without an upload are interleaved. Then a run of many segments is uploaded, beside a
loop that only puts the same files with obstore.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_rows import SCALARS, updates
from tests.object_store.servers import SERVERS, Server, check_installed

from esper_recorder import Recorder

NAMES = ("update", *SCALARS)
ROUNDS = 5
STEPS = 2000
SEGMENT_ROWS = 100
SORTED = 30_000
SEGMENTS = 200
_FLOOR = "puts alone"
_PUT_ALL = """
import sys
from pathlib import Path
import obstore
from esper_schemas.run.store import StoreUrl, open_store
run = Path(sys.argv[1])
for path in sorted(run.rglob("*")):
    if path.is_file() and path.name != "LOCK":
        obstore.put(open_store(StoreUrl.parse(sys.argv[2])), f"loop/{path.relative_to(run)}", path.read_bytes())
"""


def named(row: list[float]) -> dict[str, Any]:
    """The numbers of an update by the names of their columns."""
    return dict(zip(NAMES, row, strict=True))


class Steps:
    """The times of the steps of one way to train, in milliseconds: of whole steps, and of `record` alone."""

    def __init__(self) -> None:
        self.medians: list[float] = []
        self.steps: list[float] = []
        self.records: list[float] = []

    def train(self, root: Path, run_id: str, upload: str | None) -> None:
        """Make the steps of one round."""
        rows = updates(STEPS, 0)
        numbers = np.random.default_rng(0).random(SORTED)
        steps = []
        with Recorder.open(root, run_id=run_id, segment_rows=SEGMENT_ROWS, upload=upload) as recorder:
            for row in rows:
                began = time.perf_counter()
                np.sort(numbers)
                computed = time.perf_counter()
                recorder.record(**named(row))
                ended = time.perf_counter()
                steps.append(1e3 * (ended - began))
                self.records.append(1e3 * (ended - computed))
        self.medians.append(statistics.median(steps))
        self.steps += steps

    def line(self, name: str) -> str:
        """One line of the table."""
        steps, records = sorted(self.steps), sorted(self.records)
        at = [steps[int(share * len(steps))] for share in (0.99, 0.999)]
        return (
            f"  {name:12}{statistics.median(self.medians):9.3f}{at[0]:9.3f}{at[1]:9.3f}{steps[-1]:9.1f}"
            f"{1e3 * statistics.median(records):14.1f}"
        )


def cpu_of(command: list[str]) -> tuple[float, float]:
    """The processor time and the time of a command, in seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def beside_training(server: Server, root: Path) -> None:
    """Print what steps take with and without an upload beside them."""
    alone, beside = Steps(), Steps()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for number in range(ROUNDS):
        alone.train(root, f"alone{number}", None)
        beside.train(root, f"beside{number}", server.url("runs"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / ROUNDS
    print(f"one step, with {os.cpu_count()} cores, of which the server of the store takes a part too; ms")
    print(f"  {'':12}{'median':>9}{'p99':>9}{'p99.9':>9}{'longest':>9}{'record(), µs':>14}")
    print(alone.line("no upload"))
    print(beside.line("upload"))
    ratio = statistics.median(beside.medians) / statistics.median(alone.medians)
    records = statistics.median(beside.records) / statistics.median(alone.records)
    print(f"  medians: steps × {ratio:.3f}, record() × {records:.3f}")
    print(f"  each upload of {STEPS // SEGMENT_ROWS} segments took {cpu:.2f} s of a processor")


def by_itself(server: Server, root: Path) -> None:
    """Print what the upload of a finished run takes."""
    rows = updates(10 * SEGMENTS, 0)
    with Recorder.open(root, run_id="many", segment_rows=10) as recorder:
        for row in rows:
            recorder.record(**named(row))
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(ROUNDS):
        url = server.url(f"round{number}")
        esper = [sys.executable, "-m", "esper_recorder", "upload", str(root / "many"), url]
        loop = [sys.executable, "-c", _PUT_ALL, str(root / "many"), url]
        for name, command in (("esper-rec upload", esper), ("the same again", esper), (_FLOOR, loop)):
            found.setdefault(name, []).append(cpu_of(command))
    print(f"the upload of {SEGMENTS} segments, each with seal and column states; medians of {ROUNDS}, s")
    medians = {name: [statistics.median(of) for of in zip(*each, strict=True)] for name, each in found.items()}
    for name, (cpu, secs) in medians.items():
        print(f"  {name:18}{secs:7.2f} (× {secs / medians[_FLOOR][1]:.2f})   processor {cpu:5.2f}")


def main() -> None:
    """Print both tables, with s3rver as the store."""
    check_installed()
    with tempfile.TemporaryDirectory() as place:
        server = SERVERS["s3rver"](Path(place)).start()
        os.environ.update(server.variables())
        try:
            beside_training(server, Path(place) / "runs")
            by_itself(server, Path(place) / "runs")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
