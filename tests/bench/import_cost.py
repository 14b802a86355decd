"""What importing a large event file costs, beside TensorBoard's reader of the same file.

Usage: python tests/bench/import_cost.py [megabytes]   (default 100; TensorBoard takes most of the time)

Each way runs in a process of its own, so that its memory is its own. The file has the scalars of CleanRL's `ppo.py`.
"""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event

from esper_schemas.tfevents.crc32c import crc32c, masked

TAGS = (
    "charts/learning_rate",
    "losses/value_loss",
    "losses/policy_loss",
    "losses/entropy",
    "losses/old_approx_kl",
    "losses/approx_kl",
    "losses/clipfrac",
    "losses/explained_variance",
    "charts/SPS",
)
EPISODIC = ("charts/episodic_return", "charts/episodic_length")

WAYS = {
    "TensorBoard's EventAccumulator, reading": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
board = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
board.Reload()
count = sum(len(board.Scalars(tag)) for tag in board.Tags()["scalars"])
""",
    "Esper, reading": """
from pathlib import Path
from esper_recorder.importing.account import Account
from esper_recorder.importing.tfevents.reader import EventFiles
count = sum(len(points.keys) for points in EventFiles([Path(sys.argv[1])]).points(lambda size: None, Account()))
""",
    "Esper, importing": """
from pathlib import Path
from esper_recorder.importing.command import import_log
from esper_recorder.importing.point_log import Given
from esper_recorder.train.signals import Signals
_, source = import_log(Path(sys.argv[1]), Path(sys.argv[2]), "imported", Given(), Signals())
count = source.account.records
""",
}
"""What is run on the file `sys.argv[1]`; each leaves the number of scalars in `count`."""

_AROUND = """
import sys, time
began, cpu = time.perf_counter(), time.process_time()
{}
print(count, time.perf_counter() - began, time.process_time() - cpu)
"""


def write_events(path: Path, size: int) -> int:
    """Write an event file of about this size; return its number of scalars."""
    rng = np.random.default_rng(0)
    count, updates, written = 0, 0, 0
    with path.open("wb") as file:
        while written < size:
            events = []
            for update in range(updates + 1, updates + 5001):
                step = update * 512
                of_update = [*EPISODIC * int(rng.integers(0, 3)), *TAGS]
                for tag, value in zip(of_update, rng.normal(size=len(of_update)), strict=True):
                    event = Event(wall_time=1.7e9 + update, step=step)
                    event.summary.value.add(tag=tag, simple_value=value)
                    events.append(event.SerializeToString())
            updates += 5000
            written += file.write(_framed(events))
            count += len(events)
    return count


def _framed(events: list[bytes]) -> bytes:
    """Frame events as records, with the checksums of equally long ones made at once."""
    by_length = defaultdict(list)
    for place, data in enumerate(events):
        by_length[len(data)].append(place)
    records: list[bytes] = [b""] * len(events)
    for length, places in by_length.items():
        header = struct.pack("<Q", length)
        header += struct.pack("<I", int(masked(crc32c(np.frombuffer(header, dtype=np.uint8)[None]))[0]))
        rows = np.frombuffer(b"".join(events[place] for place in places), dtype=np.uint8).reshape(-1, length)
        for place, check in zip(places, masked(crc32c(rows)).tolist(), strict=True):
            records[place] = header + events[place] + struct.pack("<I", check)
    return b"".join(records)


def measure(way: str, path: Path, root: Path) -> tuple[int, float, float, float]:
    """Scalars read, seconds, seconds of the processor, and the most memory in MB."""
    command = [sys.executable, "-c", _AROUND.format(WAYS[way]), str(path), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    count, secs, cpu = output.split()
    kibibytes = usage.ru_maxrss if isinstance(usage, resource.struct_rusage) else 0
    return int(count), float(secs), float(cpu), kibibytes / 1024


def main() -> None:
    """Write one file, read it each way, print one table."""
    size = int(sys.argv[1]) * 1_000_000 if len(sys.argv) > 1 else 100_000_000
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "events.out.tfevents.1700000000.bench.1.0"
        written = write_events(path, size)
        print(f"an event file of {path.stat().st_size / 1e6:,.0f} MB, {written:,} scalars")
        reference = None
        for way in WAYS:
            count, secs, cpu, memory = measure(way, path, Path(place) / "runs")
            assert count == written, (way, count, written)
            reference = reference or secs
            print(f"  {way:42}{secs:8.2f} s{cpu:8.2f} s CPU{reference / secs:7.1f} × as fast{memory:7.0f} MB")


if __name__ == "__main__":
    main()
