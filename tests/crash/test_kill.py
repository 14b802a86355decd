from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import HANG_SECS, PATIENT

from esper_recorder import Recorder
from esper_schemas import RankFollower, RunDirectory
from esper_schemas.run.directory import segment_numbers

ReadRows = Callable[..., list[dict[str, Any]]]

# Writes rows as fast as it can, and tells through a pipe which ones `record` has acknowledged. A line is far
# shorter than what a pipe takes in one piece, so the parent knows of every acknowledged row but perhaps the last.
CHILD = (
    PATIENT
    + """
import os, random, struct, sys
from esper_recorder import Recorder

out, root, first, count, segment_rows = int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
os.write(out, b"opening\\n")
recorder = Recorder.open(root, run_id="r", resume="allow", segment_rows=segment_rows)
os.write(out, b"open\\n")
rng = random.Random(first)
for update in range(first, first + count):
    value = struct.unpack("<d", rng.randbytes(8))[0]
    extras = {"mine": value} if update % 97 > 48 else None
    if not recorder.record(update=update, policy_loss=value, value_loss=0.5, extras=extras):
        os.write(out, b"refused\\n")
        continue
    os.write(out, b"%d %s\\n" % (update, struct.pack("<d", value).hex().encode()))
os.write(out, b"closing\\n")
recorder.close()
os.write(out, b"closed\\n")
"""
)


class _Child:
    """A recording process, killed after a while; what it had said by then."""

    def __init__(self, root: Path, first: int, count: int, segment_rows: int) -> None:
        self._read, write = os.pipe()
        arguments = [str(number) for number in (write, root, first, count, segment_rows)]
        self._process = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], pass_fds=[write])
        os.close(write)

    def kill_after(self, phase: bytes, secs: float, rows: int = 0) -> list[bytes]:
        """Wait until it has said `phase` and so many rows, then `secs` longer; kill it, and give all that it said."""
        said = b""
        while (phase not in said or said.count(b" ") < rows) and (part := os.read(self._read, 1 << 16)):
            said += part
        time.sleep(secs)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        while part := os.read(self._read, 1 << 16):
            said += part
        os.close(self._read)
        return said.splitlines()


def _bits(value: float) -> str:
    return struct.pack("<d", value).hex()


def test_sigkill_at_any_moment_loses_no_acknowledged_row(tmp_path: Path, read_rows: ReadRows) -> None:
    """However often and whenever the writer is killed, the run holds the acknowledged rows, once and bit for bit."""
    rng = random.Random(20)
    directory = RunDirectory(tmp_path / "r")
    acknowledged: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    for kill in range(8):
        phase, secs, count, least = rng.choice(
            [
                (b"opening\n", rng.uniform(0, 0.04), 30, 0),
                (b"open\n", rng.uniform(0, 0.05), 10**9, 1),
                (b"open\n", rng.uniform(0, 0.05), 10**9, 100),
                (b"closing\n", rng.uniform(0, 0.03), 50, 50),
            ]
        )
        first = rows[-1]["update"] + 1 if rows else 0
        said = _Child(tmp_path, first, count, rng.choice([5, 40, 8192])).kill_after(phase, secs, least)
        assert b"refused" not in said
        new = dict(line.decode().split() for line in said if b" " in line)
        acknowledged |= {int(update): value for update, value in new.items()}

        rows = read_rows(tmp_path / "r", columns=["seq", "update", "attempt", "policy_loss", "mine"])
        found = {row["update"]: _bits(row["policy_loss"]) for row in rows}
        assert [row["seq"] for row in rows] == list(range(len(rows))), kill
        assert len(found) == len(rows), kill
        assert acknowledged.items() <= found.items(), kill
        assert len(rows) - len(acknowledged) <= 1, kill  # the one whose acknowledgement was not sent any more
        acknowledged = found
        assert all(_bits(row["mine"]) == found[row["update"]] for row in rows if row["update"] % 97 > 48)
    assert len(rows) > 500

    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        assert recorder.record(update=rows[-1]["update"] + 1, policy_loss=0.1, value_loss=0.2)
    after = read_rows(tmp_path / "r")
    assert [row["seq"] for row in after] == list(range(len(rows) + 1))
    assert [_bits(row["policy_loss"]) for row in after[:-1]] == [_bits(row["policy_loss"]) for row in rows]
    rank = directory.rank(0)
    assert not list(rank.active_folder.glob("*.arrows"))
    assert not list(rank.path.rglob("*.tmp"))
    attempts = rank.attempts()
    assert attempts[-1].status == "finished"
    assert {attempt.attempt for attempt in attempts} >= {row["attempt"] for row in after}
    with rank.open() as folder:
        numbers = segment_numbers(folder)
    assert all(seal is not None and seal.rows_lost == 0 for seal in map(rank.seal, numbers))


def test_row_that_was_acknowledged_right_before_the_kill_is_there(tmp_path: Path, read_rows: ReadRows) -> None:
    """A process that kills itself in the line after `record` has lost nothing."""
    script = (
        PATIENT
        + """
import os, sys
from esper_recorder import Recorder
recorder = Recorder.open(sys.argv[1], run_id="r")
for i in range(5):
    assert recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
os.kill(os.getpid(), 9)
"""
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert [row["update"] for row in read_rows(tmp_path / "r")] == list(range(5))


WATCHER = """
import json, sys, time
from pathlib import Path
from esper_schemas import RankFollower, RunDirectory

with RankFollower(RunDirectory(Path(sys.argv[1])).rank(0)) as follower:
    print("ready", flush=True)
    for line in sys.stdin:
        rows = [row for batch in follower.poll() for row in batch.column("update").to_pylist()]
        print(json.dumps(rows), flush=True)
"""


def test_row_is_visible_to_another_process_when_record_returns(tmp_path: Path) -> None:
    """A second process that looks right after `record` has returned sees the row, also across rotations."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=6) as recorder:
        watcher = subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(recorder.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
        try:
            for i in range(60):
                assert recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
                watcher.stdin.write("look\n")
                watcher.stdin.flush()
                assert json.loads(watcher.stdout.readline()) == [i]
        finally:
            watcher.stdin.close()
            watcher.wait(HANG_SECS)
            watcher.stdout.close()


def test_follower_outlives_kills_and_resumes(tmp_path: Path) -> None:
    """A follower that was there from the beginning gets every row once, through kills, recoveries and new attempts."""
    rng = random.Random(3)
    updates: list[int] = []
    directory = RunDirectory(tmp_path / "r").rank(0)
    with RankFollower(directory) as follower:

        def follow() -> None:
            for batch in follower.poll():
                updates.extend(batch.column("update").to_pylist())

        for kill in range(5):
            child = _Child(tmp_path, updates[-1] + 1 if updates else 0, 10**9, 3 + 20 * kill)
            child.kill_after(b"open\n", rng.uniform(0, 0.05), rows=30)
            follow()
        Recorder.open(tmp_path, run_id="r", resume="allow").close()
        follow()
        assert all("torn" in fault for fault in follower.faults)
    assert updates == list(range(len(updates)))
    assert len(updates) > 100


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_other_deadly_signals_lose_no_acknowledged_row(tmp_path: Path, read_rows: ReadRows, signum: int) -> None:
    """A signal that ends the process without any handler is like SIGKILL: all rows, and an attempt without end."""
    script = (
        PATIENT
        + """
import os, signal, sys
from esper_recorder import Recorder
signal.signal(int(sys.argv[2]), signal.SIG_DFL)  # the tests may run under nohup
recorder = Recorder.open(sys.argv[1], run_id="r", segment_rows=3)
for i in range(7):
    assert recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
os.kill(os.getpid(), int(sys.argv[2]))
"""
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), str(int(signum))], check=False)
    assert [row["update"] for row in read_rows(tmp_path / "r")] == list(range(7))
    assert RunDirectory(tmp_path / "r").rank(0).attempts()[0].status is None
