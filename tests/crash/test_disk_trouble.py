from __future__ import annotations

import errno
import math
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.crash.intercept import Call, OpenFiles, intercepted
from tests.crash.ledger import Ledger
from tests.crash.oracle import Outcome, finish_case, read_run, row_of

from esper_recorder import Recorder

ROWS = 20
LASTING = 25  # operations for which a disk that is in trouble for a while stays so

NEEDS_SPACE = frozenset({"open", "write", "pwrite", "rename", "link", "mkdir", "fsync"})
EVERYTHING = NEEDS_SPACE | {"ftruncate", "unlink"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong: which operations, with which error, after how much of a write, for how many operations."""

    operations: frozenset[str]
    error: int | None
    share_written: float = 0.0
    lasts: int = 1


FAULTS = {
    "disk full at one operation": Fault(NEEDS_SPACE, errno.ENOSPC),
    "disk full for a while": Fault(NEEDS_SPACE, errno.ENOSPC, lasts=LASTING),
    "disk full half-way through writes": Fault(NEEDS_SPACE, errno.ENOSPC, share_written=0.5, lasts=3),
    "I/O error at one operation": Fault(EVERYTHING, errno.EIO),
    "I/O errors for a while": Fault(EVERYTHING, errno.EIO, share_written=0.3, lasts=LASTING),
    "interrupted calls (EINTR)": Fault(EVERYTHING, errno.EINTR, lasts=2),
    "short writes": Fault(frozenset({"write"}), None, share_written=0.4, lasts=3),
}


class Trouble:
    """Lets the operations under a folder fail from the one numbered `at` on; a handler for `intercepted`."""

    def __init__(self, root: Path, fault: Fault, at: int) -> None:
        self.done = 0
        self._files = OpenFiles(root)
        self._fault = fault
        self._at = at

    def __call__(self, call: Call) -> Any:
        """Do the call, or let it fail."""
        if not self._files.inside(call):
            return call.do()
        if call.name in self._fault.operations and (call.name != "open" or call.args[1] & os.O_CREAT):
            self.done += 1
            if self._at < self.done <= self._at + self._fault.lasts:
                return self._fail(call)
        answer = call.do()
        self._files.note(call, answer)
        return answer

    def _fail(self, call: Call) -> Any:
        written = 0
        if call.name == "write":
            descriptor, data = call.args
            written = call.real(descriptor, bytes(data)[: int(len(data) * self._fault.share_written) or 1])
        if self._fault.error is not None:
            raise OSError(self._fault.error, os.strerror(self._fault.error))
        return written


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again sooner than a real recorder, which has all the time of a training."""
    monkeypatch.setattr("esper_recorder.writing.background.RETRY_SECS", 0.002)
    monkeypatch.setattr("esper_recorder.writing.background.SYNC_INTERVAL_SECS", 0.01)


def _open(root: Path) -> Recorder:
    """Open the run, as a person would again and again while the disk refuses."""
    for _ in range(4 * LASTING):
        try:
            return Recorder.open(root, run_id="r", resume="allow", segment_rows=6)
        except OSError:
            continue
    raise AssertionError("the run cannot be opened although the disk is well again")


def _record_through(root: Path, trouble: Trouble) -> Outcome:
    """Record while the disk is in trouble: every row is kept, or counted as dropped, and none that was promised is."""
    with intercepted(trouble):
        recorder = _open(root)
        acknowledged = set()
        for update in range(ROWS):
            recorder.minibatch(value_loss=math.inf if update == 3 else float(update))
            if recorder.record(**row_of(update)):
                acknowledged.add(update)
            if update % 5 == 4:
                time.sleep(0.004)
        recorder.close()
    run = root / "r"
    found = read_run(run)
    required = set(range(ROWS)) if not recorder.dropped_rows else acknowledged
    outcome = finish_case(run, required, may_drop=recorder.dropped_rows, follow=False)
    if len(found.updates) + recorder.dropped_rows != ROWS or found.missing:
        outcome.complaints.append(f"{len(found.updates)} rows kept, {recorder.dropped_rows} counted as dropped")
    return outcome


@pytest.mark.parametrize("name", FAULTS)
def test_fault_at_every_operation(memory: Path, ledger: Ledger, is_long: bool, name: str) -> None:
    """Whichever operation fails, training goes on, acknowledged rows are kept, the others too, or they are counted."""
    fault = FAULTS[name]
    counting = Trouble(memory / "count", fault, 10**9)
    (memory / "count").mkdir()
    assert _record_through(memory / "count", counting).is_good
    points = list(range(counting.done))
    assert counting.done > 20
    with ledger.line(f"{name}: each operation in turn") as line:
        for at in points if is_long else random.Random(7).sample(points, 2):
            root = memory / "r"
            root.mkdir()
            line.count(_record_through(root, Trouble(root, fault, at)), f"operation {at}")
            shutil.rmtree(root)
    line.check()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root; tests/recorder/writing/test_trouble.py limits file sizes, anywhere")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _leave_free(ballast: Path, pages: int) -> None:
    """Fill the disk but for so many pages."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - 4096 * pages))


def test_disk_that_fills_at_every_page(small_disk: Path, ledger: Ledger, is_long: bool) -> None:
    """A real disk, full after any number of pages, in the middle of rows, sealing or records, costs no row."""
    with ledger.line("real disk of 2 MiB, full after each number of pages") as line:
        for pages in range(0, 60, 1 if is_long else 10):
            recorder = Recorder.open(small_disk, run_id="r", segment_rows=6)
            _leave_free(small_disk / "ballast", pages)
            acknowledged = [update for update in range(ROWS) if recorder.record(**row_of(update))]
            time.sleep(0.05)
            kept = read_run(small_disk / "r")
            (small_disk / "ballast").unlink()
            recorder.close()
            outcome = finish_case(small_disk / "r", range(ROWS), follow=False)
            if kept.lost(acknowledged) or recorder.dropped_rows:
                outcome.complaints.append(f"{kept.lost(acknowledged)} acknowledged rows not there while it was full")
            line.count(outcome, f"{pages} pages")
            shutil.rmtree(small_disk / "r")
    line.check()
