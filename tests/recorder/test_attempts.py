from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import HANG_SECS, PATIENT

from esper_recorder import EsperError, Recorder, ValueLossDefinition
from esper_schemas import Attempt, RunDirectory, RunExistsError, RunLockedError, UsageError

ReadRows = Callable[..., list[dict[str, Any]]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def _record(recorder: Recorder, count: int, first: int = 0) -> None:
    for i in range(first, first + count):
        recorder.record(update=i, policy_loss=0.1, value_loss=0.2)


def _attempts(run: Path) -> list[Attempt]:
    return RunDirectory(run).rank(0).attempts()


def test_existing_run_is_not_touched_without_being_asked(tmp_path: Path) -> None:
    """A run id that is taken is refused, and the error says how to go on; not a byte of the run changes."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        _record(recorder, 3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunExistsError, match="resume='allow'"):
        Recorder.open(tmp_path, run_id="r")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_resume_must_wants_a_run(tmp_path: Path) -> None:
    """Insisting on a run that is not there is an error and creates nothing."""
    with pytest.raises(UsageError, match="no run"):
        Recorder.open(tmp_path, run_id="r", resume="must")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"resume": "maybe"},
        {"run_id": None, "resume": "must"},
        {"run_id": "../r"},
        {"rank": 1},
        {"rank": -1},
        {"run_id": None, "world_size": 2},
        {"segment_rows": 0},
        {"segment_secs": float("nan")},
        {"buffer_rows": -1},
        {"config": 5},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_created(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Every wrong argument is a UsageError of one line, and leaves nothing behind."""
    with pytest.raises(UsageError) as caught:
        Recorder.open(tmp_path / "runs", **{"run_id": "r", **arguments})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("root", ["s3://me:passw0rd@bucket/runs", Path("gs://bucket/runs"), "file:///tmp/runs"])
def test_a_url_is_no_folder_to_record_in(root: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody finds their runs in a folder called `s3:`; the error says what uploads them, and repeats no password."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"a folder of this machine, found .*--upload URL") as caught:
        Recorder.open(root, run_id="r")
    assert "passw0rd" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_attempts_are_numbered_and_rows_continue(tmp_path: Path, read_rows: ReadRows) -> None:
    """Each opening is an attempt of its own; nothing is overwritten, and sequence numbers go on."""
    for attempt, resume in enumerate(["allow", "allow", "must"]):
        with Recorder.open(tmp_path, run_id="r", resume=resume) as recorder:  # type: ignore[arg-type]
            assert recorder.attempt == attempt
            _record(recorder, 4, first=2 * attempt)
    rows = read_rows(tmp_path / "r")
    assert [row["seq"] for row in rows] == list(range(12))
    assert [row["attempt"] for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row["update"] for row in rows] == [0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7]
    attempts = _attempts(tmp_path / "r")
    assert [(a.attempt, a.first_seq, a.last_seq, a.rows, a.dropped_rows, a.status) for a in attempts] == [
        (0, 0, 3, 4, 0, "finished"),
        (1, 4, 7, 4, 0, "finished"),
        (2, 8, 11, 4, 0, "finished"),
    ]
    assert all(a.ended is not None and a.started <= a.ended for a in attempts)


def test_attempt_without_rows_is_an_attempt(tmp_path: Path, read_rows: ReadRows) -> None:
    """Opening and closing without recording leaves a run that can be read and resumed."""
    Recorder.open(tmp_path, run_id="r").close()
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        _record(recorder, 1)
    assert [row["attempt"] for row in read_rows(tmp_path / "r")] == [1]
    assert [a.rows for a in _attempts(tmp_path / "r")] == [0, 1]


class _BadTextError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (None, "finished", None),
        (ValueError("bad\nthing"), "failed", "ValueError: bad thing"),
        (ValueError("\udcff" + "x" * 5000), "failed", ("ValueError: \udcff" + "x" * 5000)[:500]),
        (_BadTextError(), "failed", "_BadTextError"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(0), "finished", None),
        (SystemExit(), "finished", None),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_with_block_notes_how_it_ended(
    tmp_path: Path, error: BaseException | None, status: str, reason: str | None
) -> None:
    """Leaving the block by an exception notes it as failed or interrupted with its reason, and passes it on."""
    expected = nullcontext() if error is None else pytest.raises(type(error))
    with expected as caught, Recorder.open(tmp_path, run_id="r") as recorder:
        _record(recorder, 2)
        if error is not None:
            raise error
    assert caught is None or caught.value is error
    (attempt,) = _attempts(tmp_path / "r")
    assert (attempt.status, attempt.reason, attempt.rows) == (status, reason, 2)
    assert not RunDirectory(tmp_path / "r").rank(0).has_writer()


SCRIPT = (
    PATIENT
    + """
import sys
from esper_recorder import Recorder
recorder = Recorder.open(sys.argv[1], run_id="r")
for i in range(3):
    recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
"""
)


@pytest.mark.parametrize(
    ("end", "code", "status"),
    [
        ("", 0, "finished"),
        ("raise ValueError('bad batch')", 1, "failed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 1, "interrupted"),
        ("import os; os.kill(os.getpid(), 9)", -9, None),
        ("import os; os._exit(0)", 0, None),
    ],
)
def test_script_that_never_closes(
    tmp_path: Path, run_python: RunPython, read_rows: ReadRows, end: str, code: int, status: str | None
) -> None:
    """A program that ends without `close` leaves all rows and says how it ended, unless it was killed."""
    done = run_python(SCRIPT + end, tmp_path)
    assert done.returncode in (code, -signal.SIGINT), done.stderr
    assert [row["seq"] for row in read_rows(tmp_path / "r")] == [0, 1, 2]
    (attempt,) = _attempts(tmp_path / "r")
    assert attempt.status == status
    assert attempt.rows == (3 if status else 0)
    sealed = list((tmp_path / "r" / "rank-0000" / "segments").iterdir())
    assert len(sealed) == (1 if status else 0)
    if status == "failed":
        assert attempt.reason == "ValueError: bad batch"


def test_second_signal_during_close_does_not_lose_the_end(tmp_path: Path, run_python: RunPython) -> None:
    """Ctrl-C while `close` is at work stops the waiting only: the end of the run is still written at exit."""
    script = (
        SCRIPT
        + """
import os, signal, threading, time
import esper_recorder.writing.journal as journal
seal = journal.seal
def slowly(*arguments):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    return seal(*arguments)
journal.seal = slowly
try:
    recorder.close("interrupted", "first signal")
except KeyboardInterrupt:
    print("second signal")
"""
    )
    done = run_python(script, tmp_path)
    assert (done.returncode, done.stdout) == (0, "second signal\n"), done.stderr
    (attempt,) = _attempts(tmp_path / "r")
    assert (attempt.status, attempt.reason) == ("interrupted", "first signal")


def test_rows_dropped_at_the_end_are_explained_by_the_next_attempt(tmp_path: Path, read_rows: ReadRows) -> None:
    """Rows that were dropped after the last written one use up their numbers; the next attempt's first row says so."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        _record(recorder, 2)
        for _ in range(3):
            assert not recorder.record(update=9, policy_loss="x", value_loss=0.2)
    (first,) = _attempts(tmp_path / "r")
    assert (first.rows, first.dropped_rows, first.last_seq) == (2, 3, 1)
    assert first.last_drop_reason is not None
    assert "policy_loss must be one float64 number" in first.last_drop_reason
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        _record(recorder, 2)
    rows = read_rows(tmp_path / "r")
    assert [(row["seq"], row["dropped_before"]) for row in rows] == [(0, None), (1, None), (5, 3), (6, None)]
    assert _attempts(tmp_path / "r")[1].first_seq == 5


def test_lost_segment_is_not_explained_away_by_resuming(tmp_path: Path, read_rows: ReadRows) -> None:
    """If the last sealed file of a finished attempt is gone, a resumed run leaves a gap that nothing explains."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        _record(recorder, 4)
    rank = RunDirectory(tmp_path / "r").rank(0)
    rank.sealed_path(1).unlink()
    rank.seal_path(1).unlink()
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        _record(recorder, 1, first=4)
    assert [(row["seq"], row["dropped_before"]) for row in read_rows(tmp_path / "r")] == [
        (0, None),
        (1, None),
        (4, None),
    ]


def test_header_tells_who_and_how(tmp_path: Path) -> None:
    """The header holds what was declared, and stays as it is when the run is resumed."""
    definition = ValueLossDefinition(source="mse", factor=0.5, clipping="none")
    config = {"lr": 3e-4, "clip": float("inf"), "path": Path("x"), "odd": "\udcff"}
    with Recorder.open(
        tmp_path, run_id="r", config=config, trainer="mine", env="Env-v1", value_loss_definition=definition
    ) as recorder:
        _record(recorder, 1)
    header = RunDirectory(tmp_path / "r").header()
    assert (header.run_id, header.trainer, header.env, header.world_size) == ("r", "mine", "Env-v1", 1)
    assert header.config == {"lr": 3e-4, "clip": "Infinity", "path": "x", "odd": "\udcff"}
    assert (header.value_loss_definition["factor"], header.value_loss_definition["assumed"]) == (0.5, False)
    before = (tmp_path / "r" / "run.json").read_bytes()
    assert json.loads(before, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    Recorder.open(tmp_path, run_id="r", resume="allow", trainer="other").close()
    assert (tmp_path / "r" / "run.json").read_bytes() == before


def test_undeclared_value_loss_is_marked_as_assumed(tmp_path: Path) -> None:
    """Nothing declared means half the mean squared error, taken on trust; the run gets a name of its own."""
    with Recorder.open(tmp_path) as recorder:
        pass
    assert recorder.path.parent == tmp_path
    assert RunDirectory(recorder.path).header().value_loss_definition["assumed"] is True


def test_ranks_write_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows) -> None:
    """Each rank has its own folder, numbers and attempts under one header; the launcher's variables are understood."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    recorders = []
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        recorders.append(Recorder.open(tmp_path, run_id="r"))
    for recorder in recorders:
        _record(recorder, 2)
        recorder.close()
    for rank in (0, 1):
        assert [(row["rank"], row["seq"]) for row in read_rows(tmp_path / "r", rank)] == [(rank, 0), (rank, 1)]
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UsageError, match="RANK must be a whole number"):
        Recorder.open(tmp_path, run_id="s")


def test_second_writer_is_refused(tmp_path: Path, run_python: RunPython) -> None:
    """While one process records, another one is told who holds the run; afterwards it may go on."""
    script = """
import sys
from esper_recorder import EsperError, Recorder
try:
    Recorder.open(sys.argv[1], run_id="r", resume="allow").close()
except EsperError as error:
    print(type(error).__name__, error)
"""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        _record(recorder, 1)
        said = run_python(script, tmp_path).stdout
        assert said.startswith("RunLockedError")
        assert f'"pid": {os.getpid()}' in said
        with pytest.raises(RunLockedError):
            Recorder.open(tmp_path, run_id="r", resume="allow")
        _record(recorder, 1, first=1)
    assert run_python(script, tmp_path).stdout == ""
    assert len(_attempts(tmp_path / "r")) == 2


def test_reader_that_asks_for_the_writer_does_not_disturb_one(tmp_path: Path) -> None:
    """Readers that look at the lock all the time do not keep a writer from opening the run."""
    rank = RunDirectory(tmp_path / "r").rank(0)
    Recorder.open(tmp_path, run_id="r").close()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            rank.has_writer()
            time.sleep(0.0005)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            Recorder.open(tmp_path, run_id="r", resume="must").close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_failed_opening_gives_the_lock_up(tmp_path: Path) -> None:
    """An error after the lock was taken releases it, so that the next try is not refused for it."""
    Recorder.open(tmp_path, run_id="r").close()
    attempt = RunDirectory(tmp_path / "r").rank(0).attempt_path(0)
    good = attempt.read_bytes()
    attempt.write_text("{")
    with pytest.raises(EsperError, match="JSON object"):
        Recorder.open(tmp_path, run_id="r", resume="must")
    assert not RunDirectory(tmp_path / "r").rank(0).has_writer()
    attempt.write_bytes(good)
    Recorder.open(tmp_path, run_id="r", resume="must").close()


FORK = (
    PATIENT
    + """
import os, sys, time
from esper_recorder import Recorder
recorder = Recorder.open(sys.argv[1], run_id="r")
recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
child = os.fork()
if child == 0:
    taken = recorder.record(update=1, policy_loss=0.1, value_loss=0.2)
    recorder.close("failed", "the child says so")
    os.write(1, f"{taken} {recorder}\\n".encode())  # one piece, so that it does not mix with the parent's
    os.close(1)
    time.sleep(600)
    os._exit(0)
recorder.record(update=2, policy_loss=0.1, value_loss=0.2)
os.write(1, f"{child}\\n".encode())
os._exit(0) if sys.argv[2] == "die" else recorder.close()
"""
)


def test_forked_child_keeps_the_files_of_others(tmp_path: Path, run_python: RunPython) -> None:
    """A child that is forked after a recorder was closed keeps every file of the program, whatever its descriptor."""
    script = """
import os, sys
from esper_recorder import Recorder
with Recorder.open(sys.argv[1], run_id="mine") as recorder:
    recorder.record(update=0, policy_loss=0.5, value_loss=0.25)
opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(64)]
child = os.fork()
if child == 0:
    for descriptor in opened:
        os.fstat(descriptor)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("end", ["die", "close"])
def test_forked_child_neither_records_nor_holds_the_lock(tmp_path: Path, read_rows: ReadRows, end: str) -> None:
    """A child of the recording process leaves the run alone, and its living on keeps nobody from resuming."""
    parent = subprocess.Popen([sys.executable, "-c", FORK, str(tmp_path), end], stdout=subprocess.PIPE, text=True)
    said, _ = parent.communicate(timeout=HANG_SECS)
    (child,) = (int(line) for line in said.splitlines() if line.isdecimal())
    try:
        assert "False <Recorder" in said
        assert not RunDirectory(tmp_path / "r").rank(0).has_writer()
        with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
            _record(recorder, 1, first=3)
    finally:
        os.kill(child, signal.SIGKILL)
    assert [row["update"] for row in read_rows(tmp_path / "r")] == [0, 2, 3]
    assert _attempts(tmp_path / "r")[0].status == ("finished" if end == "close" else None)


def test_leftovers_of_a_killed_attempt_are_cleared(tmp_path: Path) -> None:
    """Unfinished files are removed when the run is resumed, and an active file beside its Parquet file is, too."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        _record(recorder, 2)
        active = recorder.path / "rank-0000" / "active" / "00000000.arrows"
        shutil.copy(active, tmp_path / "copy")
    shutil.copy(tmp_path / "copy", active)
    rank = RunDirectory(tmp_path / "r").rank(0)
    leftovers = [active.with_suffix(".parquet.tmp"), rank.seal_path(0).with_suffix(".json.tmp")]
    for path in leftovers:
        path.write_bytes(b"half")
    Recorder.open(tmp_path, run_id="r", resume="must").close()
    assert not any(path.exists() for path in [active, *leftovers])


def test_lock_file_of_a_dead_writer_does_not_lock(tmp_path: Path) -> None:
    """What stands in the file LOCK only tells who; the lock itself ends with the process."""
    Recorder.open(tmp_path, run_id="r").close()
    lock = RunDirectory(tmp_path / "r").rank(0).lock_path
    assert json.loads(lock.read_text())["pid"] == os.getpid()
    Recorder.open(tmp_path, run_id="r", resume="must").close()
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError, match="held by another writer"):
            Recorder.open(tmp_path, run_id="r", resume="must")


# ---------------------------------------------------------------------- where a resumed trainer continues


def test_a_trainer_continues_where_its_steps_end(tmp_path: Path) -> None:
    """`next_update` is the first recorded update with more steps than the trainer took, else that behind the last."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        assert recorder.next_update(0) == recorder.next_update() == 0
        for update in range(3, 8):  # 100 steps an update
            recorder.record(update=update, policy_loss=0.1, value_loss=0.2, env_steps=100 * (update - 2))
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        found = [recorder.next_update(steps) for steps in (0, 99, 100, 250, 499, 500, 10_000, None)]
        assert found == [3, 3, 4, 5, 7, 8, 8, 8]


def test_rows_without_steps_are_all_kept(tmp_path: Path) -> None:
    """Where no steps were recorded, a trainer continues behind the last update; superseded updates do not count."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        _record(recorder, 9)
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        _record(recorder, 2, first=4)
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        assert recorder.next_update(5) == recorder.next_update() == 6
