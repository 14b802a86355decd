"""Recording processes that are there within milliseconds: forked from one that has imported everything.

A child tells what it does through a file that both sides map, so that nothing it said is lost when it is killed.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.crash.oracle import row_of
from tests.waiting import HANG_SECS

from esper_recorder import Recorder
from esper_recorder.writing.segment_writer import SegmentWriter

STARTED, OPENING, RECORDING, CLOSING, CLOSED = range(5)
PHASES = ("starting", "opening and recovering", "recording, rotating and sealing", "closing", "closed")

_ROOT = Path(__file__).parents[2]


class Board:
    """Numbers that a child writes and its parent reads: phase, rows acknowledged, rows refused; and one for the child.

    Each is one aligned store of eight bytes, which a kill cannot cut in two. `struct.pack_into` is not: it makes the
    place zero first, and a child that was killed in between had said that no row was acknowledged.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(32))
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 32)).cast("Q")

    def __getitem__(self, place: int) -> int:
        return self._numbers[place]

    def __setitem__(self, place: int, number: int) -> None:
        self._numbers[place] = number


PHASE, ACKNOWLEDGED, REFUSED, STOP = range(4)


def record_rows(*, root: str, run_id: str, board: str, first: int, count: int, segment_rows: int) -> None:
    """Record `count` rows from update `first` on, as fast as it goes, and say which ones are acknowledged."""
    said = Board(Path(board))
    said[PHASE] = OPENING
    recorder = Recorder.open(root, run_id=run_id, resume="allow", segment_rows=segment_rows)
    said[PHASE] = RECORDING
    for update in range(first, first + count):
        if recorder.record(**row_of(update)):
            said[ACKNOWLEDGED] = update + 1
        else:
            said[REFUSED] += 1
    said[PHASE] = CLOSING
    recorder.close()
    said[PHASE] = CLOSED


def record_gathered(**arguments: Any) -> None:
    """The control: as `record_rows`, with a writer that gathers eight rows before it writes them."""

    def append(self: SegmentWriter, message: bytes, seq: int, count: int = 1) -> None:
        gathered = self.__dict__.setdefault("gathered", [])
        gathered.append(message)
        self.size, self.rows, self.last_seq = self.size + len(message), self.rows + count, seq
        if len(gathered) == 8:
            os.write(self._descriptor, b"".join(gathered))
            gathered.clear()

    SegmentWriter.append = append  # type: ignore[method-assign]
    record_rows(**arguments)


def rotate_fast(*, root: str, run_id: str, segment_rows: int, segments: int, backlog: int) -> None:
    """Record as fast as sealing can follow: at most `backlog` segments wait for it."""
    with Recorder.open(root, run_id=run_id, segment_rows=segment_rows) as recorder:
        active = recorder.path / "rank-0000" / "active"
        for update in range(segments * segment_rows):
            recorder.record(**row_of(update))
            while update % segment_rows == 0 and len(os.listdir(active)) > backlog:  # noqa: PTH208 — quick
                time.sleep(0.0005)


def record_steadily(*, root: str, run_id: str, board: str, uid: int | None) -> None:
    """Record a row each millisecond until `STOP` is set, as user `uid` if one is given."""
    if uid is not None:
        with Recorder.open(Path(root, "before"), run_id="r") as recorder:  # imports what it may not read later
            recorder.record(**row_of(0))
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    said = Board(Path(board))
    with Recorder.open(root, run_id=run_id, segment_rows=10) as recorder:
        for update in range(round(HANG_SECS * 1000)):
            if said[STOP]:
                break
            said[ACKNOWLEDGED if recorder.record(**row_of(update)) else REFUSED] += 1
            time.sleep(0.001)


TASKS: dict[str, Callable[..., None]] = {
    task.__name__: task for task in (record_rows, record_gathered, rotate_fast, record_steadily)
}


class Nursery:
    """The process that has imported everything, seen from the test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            text=True,
        )

    def _ask(self, question: list[Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, task: Callable[..., None], **arguments: Any) -> int:
        """Fork a child that does `task`; its process id, which stays its own until `wait`."""
        return self._ask(["start", task.__name__, arguments])

    def wait(self, pid: int) -> int:
        """Wait for the end of a child; its exit code, negative for a signal."""
        return self._ask(["wait", pid])

    def kill(self, pid: int) -> None:
        """SIGKILL a child, and wait until the kernel is done with it."""
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def close(self) -> None:
        """End the process; its children must have ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(HANG_SECS)


def _serve() -> None:
    """Take one order a line: start a child, or wait for one."""
    for line in sys.stdin:
        order, *details = json.loads(line)
        if order == "wait":
            _, status = os.waitpid(details[0], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _live(*details)
        print(pid, flush=True)


def _live(task: str, arguments: dict[str, Any]) -> None:
    """Be a child: do the task and leave, without what the parent would do at its end."""
    code = 1
    try:
        TASKS[task](**arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
