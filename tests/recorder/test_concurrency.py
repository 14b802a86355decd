from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import HANG_SECS

from esper_recorder import Recorder
from esper_recorder.writing.journal import Journal
from esper_recorder.writing.segment_writer import SegmentWriter
from esper_schemas import RunDirectory

ReadRows = Callable[..., list[dict[str, Any]]]
COLUMNS = ["seq", "dropped_before", "update", "value_loss", *(f"x{i}" for i in range(13))]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def _check_numbers(rows: list[dict[str, Any]]) -> None:
    """Each row follows the one before, with every gap explained."""
    following = 0
    for row in rows:
        assert row["seq"] == following + (row["dropped_before"] or 0)
        following = row["seq"] + 1


@pytest.fixture
def changing_threads() -> Iterator[None]:
    """Threads change as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("changing_threads")
def test_many_threads_record_without_loss(tmp_path: Path, read_rows: ReadRows) -> None:
    """Rows of eight threads are all there, once each, each thread's in its own order, across many segments."""
    seen: list[tuple[int, int]] = []
    lock = threading.Lock()

    def hook(row: Any) -> None:
        with lock:
            seen.append((row["seq"], row["update"]))

    def work(recorder: Recorder, thread: int) -> None:
        for i in range(150):
            extras = {"mine": float(i)} if thread == 3 and i > 50 else None
            assert recorder.record(update=thread * 1000 + i, policy_loss=0.1, value_loss=0.2, extras=extras)

    with Recorder.open(tmp_path, run_id="r", segment_rows=37, on_update=hook) as recorder:
        threads = [threading.Thread(target=work, args=(recorder, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert recorder.dropped_rows == 0
    rows = read_rows(tmp_path / "r")
    assert [row["seq"] for row in rows] == list(range(1200))
    for number in range(8):
        mine = [row["update"] for row in rows if row["update"] // 1000 == number]
        assert mine == [number * 1000 + i for i in range(150)]
    assert sorted(seen) == [(row["seq"], row["update"]) for row in rows]


def test_close_while_others_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows) -> None:
    """Every row that was acknowledged is sealed, and every other one refused, however close and record meet."""
    append, retire = SegmentWriter.append, Journal.retire

    def append_slowly(writer: SegmentWriter, message: bytes, seq: int, count: int = 1) -> None:
        time.sleep(0.01)  # long enough for a segment to be sealed meanwhile, if nothing prevented that
        append(writer, message, seq, count)

    def retire_slowly(journal: Journal) -> None:
        time.sleep(0.002)
        retire(journal)

    monkeypatch.setattr(SegmentWriter, "append", append_slowly)
    monkeypatch.setattr(Journal, "retire", retire_slowly)
    for attempt in range(6):
        recorder = Recorder.open(tmp_path, run_id=f"r{attempt}")
        taken: list[int] = []

        is_closed = threading.Event()

        def work(
            recorder: Recorder = recorder, taken: list[int] = taken, is_closed: threading.Event = is_closed
        ) -> None:
            update = 0
            while not is_closed.is_set():
                if recorder.record(update=update, policy_loss=0.1, value_loss=0.2):
                    taken.append(update)
                update += 1

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.01 * attempt)
        recorder.close()
        is_closed.set()
        thread.join()
        rows = read_rows(recorder.path)
        updates = [row["update"] for row in rows]
        assert set(taken) <= set(updates)
        assert updates == list(range(len(rows)))
        assert len(list(recorder.path.rglob("*.parquet"))) == (1 if rows else 0)
        assert RunDirectory(recorder.path).rank(0).attempts()[0].rows == len(rows)


# A timer interrupts the main thread every few microseconds with a handler that raises, as Ctrl-C does.
HAMMER = (
    f"HANG_SECS = {HANG_SECS}"
    + """
import json, random, signal, sys, time
from esper_recorder import Recorder

rng = random.Random(int(sys.argv[2]))
error = {"KeyboardInterrupt": KeyboardInterrupt, "TimeoutError": TimeoutError}[sys.argv[3]]
recorder = Recorder.open(sys.argv[1], run_id="r", segment_rows=40)

def hit(*_):
    raise error

signal.signal(signal.SIGALRM, hit)
taken, interrupts, update = [], 0, 0
end = time.monotonic() + HANG_SECS / 2
while (interrupts < 100 or len(taken) < 500) and time.monotonic() < end:
    try:
        try:
            # From within the first lines of a row to some segments later, each order of magnitude as often.
            signal.setitimer(signal.ITIMER_REAL, 10 ** rng.uniform(-5, -2))
            for _ in range(60):
                extras = {f"x{min(update // 100, 12)}": 1.0} if update % 5 == 0 else None
                update += 1
                if recorder.record(update=update, policy_loss=0.5, value_loss=float(update), extras=extras):
                    taken.append(update)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except error:
        interrupts += 1
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
recorder.close()
print(json.dumps([taken, interrupts, update, recorder.dropped_rows]))
"""
)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "TimeoutError"])
def test_signals_at_any_moment_neither_lose_nor_double_a_row(
    tmp_path: Path, run_python: RunPython, read_rows: ReadRows, error: str
) -> None:
    """A handler that raises in the middle of `record` costs at most that row; the files stay whole."""
    done = run_python(HAMMER, tmp_path, 1, error)
    assert done.returncode == 0, done.stderr
    taken, interrupts, last, dropped = json.loads(done.stdout)
    assert interrupts >= 100
    assert len(taken) >= 500
    rows = read_rows(tmp_path / "r", columns=COLUMNS)
    _check_numbers(rows)
    updates = [row["update"] for row in rows]
    assert len(updates) == len(set(updates))
    assert updates == sorted(updates)
    assert set(taken) <= set(updates)
    assert len(updates) <= last
    assert all(row["value_loss"] == row["update"] for row in rows)
    assert all((row["update"] - 1) % 5 or row[f"x{min((row['update'] - 1) // 100, 12)}"] == 1.0 for row in rows)
    assert not list((tmp_path / "r").rglob("*.broken"))
    assert dropped == 0
    assert RunDirectory(tmp_path / "r").rank(0).attempts()[0].status == "finished"


NESTED = (
    f"HANG_SECS = {HANG_SECS}"
    + """
import itertools, json, random, signal, sys, time
from esper_recorder import Recorder

rng = random.Random(1)
recorder = Recorder.open(sys.argv[1], run_id="r", segment_rows=50)
nested, numbers = [], itertools.count(1_000_000)

def hit(*_):
    update = next(numbers)
    nested.append([update, recorder.record(update=update, policy_loss=0.5, value_loss=0.5)])

signal.signal(signal.SIGALRM, hit)
taken, update = [], 0
end = time.monotonic() + HANG_SECS / 2
while (len(taken) < 300 or len({was_taken for _, was_taken in nested}) < 2) and time.monotonic() < end:
    signal.setitimer(signal.ITIMER_REAL, 10 ** rng.uniform(-5, -3.5))
    update += 1
    if recorder.record(update=update, policy_loss=0.5, value_loss=0.5):
        taken.append(update)
signal.setitimer(signal.ITIMER_REAL, 0)

def stop(*_):
    recorder.close("interrupted", "by the handler")

signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.001)
while recorder.record(update=(update := update + 1), policy_loss=0.5, value_loss=0.5):
    taken.append(update)
recorder.close()
print(json.dumps([taken, nested]))
"""
)


def test_handler_that_records_or_closes_in_the_middle_of_a_row(
    tmp_path: Path, run_python: RunPython, read_rows: ReadRows
) -> None:
    """A handler's own row is taken between rows and refused within one; its `close` never locks the program up."""
    done = run_python(NESTED, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "does not answer" not in done.stderr  # as `close` says where it waits in vain
    taken, nested = json.loads(done.stdout)
    rows = read_rows(tmp_path / "r", columns=COLUMNS)
    _check_numbers(rows)
    updates = [row["update"] for row in rows]
    assert len(updates) == len(set(updates))
    assert set(taken) <= set(updates)
    assert {update for update, was_taken in nested if was_taken} <= set(updates)
    assert len(taken) >= 300
    assert any(was_taken for _, was_taken in nested)
    assert not all(was_taken for _, was_taken in nested)
    (attempt,) = RunDirectory(tmp_path / "r").rank(0).attempts()
    assert (attempt.status, attempt.reason) == ("interrupted", "by the handler")
    assert attempt.rows == len(rows)
