from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.crash.nursery import ACKNOWLEDGED, Board, Nursery, record_rows
from tests.waiting import HANG_SECS, PATIENT, wait_until

from esper_recorder import Recorder
from esper_schemas import RankFollower, RunDirectory

ReadRows = Callable[..., list[dict[str, Any]]]


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


def test_follower_outlives_kills_and_resumes(tmp_path: Path, nursery: Nursery) -> None:
    """A follower that was there from the beginning gets every row once, through kills, recoveries and new attempts."""
    rng = random.Random(3)
    updates: list[int] = []
    board = Board(tmp_path / "board")
    with RankFollower(RunDirectory(tmp_path / "r").rank(0)) as follower:

        def follow() -> None:
            for batch in follower.poll():
                updates.extend(batch.column("update").to_pylist())

        for kill in range(5):
            first = updates[-1] + 1 if updates else 0
            pid = nursery.start(
                record_rows, root=str(tmp_path), run_id="r", board=str(tmp_path / "board"),
                first=first, count=10**9, segment_rows=3 + 20 * kill,
            )  # fmt: skip
            wait_until(lambda first=first: board[ACKNOWLEDGED] >= first + 30)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.05))
            nursery.kill(pid)
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
