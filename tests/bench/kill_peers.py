"""Which rows are still there after SIGKILL: Esper, `orjson` + `write`, rlprobe and TensorBoard.

A process of each records 40 scalars 20 times a second, and says so of each row when the call has returned. After 150
rows, it is killed with SIGKILL. Rows that it had acknowledged, and that come back from the disk with the same numbers,
are kept. rlprobe writes its rows every 5 s, or after 200 of them, so that this kill falls into the middle of its
interval; each peer is used as its documentation shows.

Usage: python tests/bench/kill_peers.py   (prints the table)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench_rows import SCALARS, updates

ROWS = 150
ROWS_PER_SEC = 20.0

Values = dict[str, Any]
RowsByUpdate = dict[int, Values]
Acknowledge = Callable[[int, Values], bool]

# Each process imports its own peer only: the others would lengthen its start.


def record_with_esper(folder: Path) -> Acknowledge:
    """Esper says whether a row is safe."""
    from esper_recorder import Recorder

    recorder = Recorder.open(folder, run_id="killed")
    return lambda update, values: recorder.record(update=update, **values)


def read_with_esper(folder: Path) -> RowsByUpdate:
    """Rows as the analyzer reads them."""
    from esper_analyzer import open_run

    rows = open_run(folder / "killed").updates().select("update", *SCALARS).collect()
    return {row.pop("update"): row for row in rows.to_dicts()}


def record_with_orjson(folder: Path) -> Acknowledge:
    """One line, one `write`."""
    import orjson

    lines = os.open(folder / "lines.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledge(update: int, values: Values) -> bool:
        line = orjson.dumps({"update": update, **values}) + b"\n"
        return os.write(lines, line) == len(line)

    return acknowledge


def read_with_orjson(folder: Path) -> RowsByUpdate:
    """Rows of the lines."""
    import orjson

    rows = [orjson.loads(line) for line in (folder / "lines.jsonl").read_bytes().splitlines()]
    return {row.pop("update"): row for row in rows}


def record_with_rlprobe(folder: Path) -> Acknowledge:
    """rlprobe says nothing of a row; it has taken it when the call returns."""
    from rlprobe import Recorder

    recorder = Recorder(folder, algorithm="ppo")

    def acknowledge(update: int, values: Values) -> bool:
        recorder.log_step(update, **values)
        return not recorder.dropped

    return acknowledge


def read_with_rlprobe(folder: Path) -> RowsByUpdate:
    """Rows as rlprobe's own reader gives them; its names that Esper also has are fields, the others extras."""
    from rlprobe.storage import RunReader

    rows = {step.step: step.model_dump() | step.extra for step in RunReader(folder).steps()}
    return {update: {name: row[name] for name in SCALARS} for update, row in rows.items()}


def record_with_tensorboard(folder: Path) -> Acknowledge:
    """TensorBoard says nothing of a row either."""
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(folder)

    def acknowledge(update: int, values: Values) -> bool:
        for name, value in values.items():
            board.add_scalar(name, value, update)
        return True

    return acknowledge


def read_with_tensorboard(folder: Path) -> RowsByUpdate:
    """Rows of the scalars that TensorBoard's own reader finds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    rows: RowsByUpdate = {}
    for name in set(SCALARS) & set(events.Tags()["scalars"]):
        for event in events.Scalars(name):
            rows.setdefault(event.step, {})[name] = event.value
    return rows


PEERS: dict[str, tuple[Callable[[Path], Acknowledge], Callable[[Path], RowsByUpdate]]] = {
    "esper": (record_with_esper, read_with_esper),
    "orjson": (record_with_orjson, read_with_orjson),
    "rlprobe": (record_with_rlprobe, read_with_rlprobe),
    "tensorboard": (record_with_tensorboard, read_with_tensorboard),
}


def rows_to_record() -> RowsByUpdate:
    """The same rows for every peer, and more of them than a process can record before it is killed."""
    return {int(update): dict(zip(SCALARS, values, strict=True)) for update, *values in updates(10 * ROWS, 0)}


def record_until_killed(peer: str, folder: Path) -> None:
    """Record at a steady rate; write the index of each acknowledged row to standard output at once."""
    rows = rows_to_record()
    acknowledge = PEERS[peer][0](folder)
    began = time.monotonic()
    for update, values in rows.items():
        time.sleep(max(0.0, began + update / ROWS_PER_SEC - time.monotonic()))
        if acknowledge(update, values):
            os.write(1, b"%d\n" % update)


def acknowledged_before_kill(peer: str, folder: Path) -> list[int]:
    """Indices of the rows that a killed process had acknowledged.

    Raises:
        RuntimeError: the process ended by itself.
    """
    acknowledged = []
    command = [sys.executable, __file__, peer, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:  # to the end: it may acknowledge one more before the signal arrives
            acknowledged.append(int(line))
            if len(acknowledged) == ROWS:
                process.kill()
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the process that records with {peer} ended with exit code {process.returncode}")
    return acknowledged


def kept_after_kill(place: Path) -> dict[str, str]:
    """How many acknowledged rows each peer still has, as "k of n"; their processes run at the same time."""
    rows = rows_to_record()
    kept = {}
    with ThreadPoolExecutor(len(PEERS)) as threads:
        folders = {peer: place / f"killed-{peer}" for peer in PEERS}
        for folder in folders.values():
            folder.mkdir()
        results = threads.map(acknowledged_before_kill, PEERS, folders.values())
        for peer, acknowledged in zip(PEERS, results, strict=True):
            found = PEERS[peer][1](folders[peer])
            same = sum(found.get(update) == rows[update] for update in acknowledged)
            kept[peer] = f"{same} of {len(acknowledged)}"
    return kept


def main() -> None:
    """Kill a process of each peer and print what is kept."""
    print(f"rows kept after SIGKILL, at {ROWS_PER_SEC:g} rows per second")
    with tempfile.TemporaryDirectory() as place:
        for peer, kept in kept_after_kill(Path(place)).items():
            print(f"  {peer:16}{kept:>12}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        record_until_killed(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
