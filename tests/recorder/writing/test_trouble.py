from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.waiting import HANG_SECS, PATIENT, set_slow_write_secs, wait_until

from esper_recorder import PPOUpdatePayload, Recorder
from esper_schemas import PayloadError, RunDirectory

ReadRows = Callable[..., list[dict[str, Any]]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def _put(recorder: Recorder, update: int, **more: Any) -> bool:
    return recorder.record(update=update, policy_loss=0.1, value_loss=0.2, **more)


def _numbers(rows: list[dict[str, Any]]) -> list[tuple[int, int, int | None]]:
    return [(row["seq"], row["update"], row["dropped_before"]) for row in rows]


# The limit on the size of a file makes the kernel refuse a write in the middle of a row, in any process; raising
# the limit is the disk that has room again. It needs a process of its own, since it holds for every file.
LIMITED = (
    PATIENT
    + f"HANG_SECS = {HANG_SECS}"
    + """
import json, resource, sys, threading, time
from pathlib import Path
from esper_recorder import Recorder
from esper_recorder.writing import background

options = json.loads(sys.argv[2])
if not options["heal"]:
    background.CLOSE_TIMEOUT_SECS = 0.4
recorder = Recorder.open(sys.argv[1], run_id="r", resume="allow", **options["open"])

def put(update):
    return recorder.record(update=update, policy_loss=0.1, value_loss=0.2)

def wait_until(condition):
    deadline = time.monotonic() + HANG_SECS / 2
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

answers = [put(i) for i in range(3)]
(active,) = Path(sys.argv[1], "r", "rank-0000", "active").glob("*.arrows")
size = active.stat().st_size
limit(size + options["room"])
answers += [put(i) for i in range(3, 3 + options["rows"])]
time.sleep(0.3)  # the background tries again meanwhile, and leaves nothing of what it tries
wait_until(lambda: active.stat().st_size == size)
attempt = Path(sys.argv[1], "r", "rank-0000", "attempts", "0000.json")
if options["heal"]:
    limit(resource.RLIM_INFINITY)
    wait_until(lambda: put(100))
    wait_until(lambda: json.loads(attempt.read_text())["dropped_rows"] == recorder.dropped_rows)
began = time.monotonic()
before_close = json.loads(attempt.read_text())
recorder.close()
wait_until(lambda: all(thread.name != "esper-recorder" for thread in threading.enumerate()))
print(json.dumps([answers, recorder.dropped_rows, before_close, time.monotonic() - began]))
"""
)


@pytest.mark.parametrize("room", [0, 1, 2000, 4192])
def test_full_disk_loses_no_row_when_there_is_room_again(
    tmp_path: Path, run_python: RunPython, read_rows: ReadRows, room: int
) -> None:
    """Rows that the kernel refused, wholly or half-way, wait in memory and are written in order later."""
    done = run_python(LIMITED, tmp_path, json.dumps({"open": {}, "room": room, "rows": 20, "heal": True}))
    assert done.returncode == 0, done.stderr
    answers, dropped, _, _ = json.loads(done.stdout)
    assert answers == [True] * 3 + [False] * 20
    assert dropped == 0
    rows = read_rows(tmp_path / "r")
    assert [row["seq"] for row in rows] == list(range(len(rows)))
    assert [row["update"] for row in rows][:23] == list(range(23))
    assert {row["update"] for row in rows[23:]} == {100}
    assert "writing failed" in done.stderr


def test_full_buffer_drops_rows_and_says_so_in_the_run(
    tmp_path: Path, run_python: RunPython, read_rows: ReadRows
) -> None:
    """What does not fit the buffer is dropped; the next row on disk and the attempt's file say how many."""
    options = {"open": {"buffer_rows": 5}, "room": 0, "rows": 12, "heal": True}
    done = run_python(LIMITED, tmp_path, json.dumps(options))
    assert done.returncode == 0, done.stderr
    answers, dropped, before_close, _ = json.loads(done.stdout)
    assert answers == [True] * 3 + [False] * 12
    rows = read_rows(tmp_path / "r")
    assert [row["update"] for row in rows][:8] == list(range(8))
    assert (rows[8]["update"], rows[8]["dropped_before"]) == (100, dropped)
    assert dropped >= 7
    assert (before_close["dropped_rows"], before_close["status"]) == (dropped, None)
    assert before_close["last_drop_reason"] == "the buffer of 5 rows is full"
    assert "an update was dropped: the buffer of 5 rows is full" in done.stderr


def test_close_on_a_full_disk_is_bounded_and_counts_what_is_lost(
    tmp_path: Path, run_python: RunPython, read_rows: ReadRows
) -> None:
    """Closing gives up after its time; the rows that were not written are counted, and explained on resuming."""
    done = run_python(LIMITED, tmp_path, json.dumps({"open": {}, "room": 100, "rows": 4, "heal": False}))
    assert done.returncode == 0, done.stderr
    _, dropped, _, secs = json.loads(done.stdout)
    assert dropped == 4
    assert secs >= 0.4  # as long as it is to try
    (attempt,) = RunDirectory(tmp_path / "r").rank(0).attempts()
    assert (attempt.status, attempt.rows, attempt.dropped_rows, attempt.last_seq) == ("finished", 3, 4, 2)
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        _put(recorder, 7)
    assert _numbers(read_rows(tmp_path / "r")) == [(0, 0, None), (1, 1, None), (2, 2, None), (7, 7, 4)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root; the tests above fill a file instead of a disk, anywhere")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(file: io.FileIO) -> None:
    while True:
        file.write(bytes(512))


def test_disk_that_is_really_full(small_disk: Path, read_rows: ReadRows) -> None:
    """With no block left, recording goes on in memory, sealing takes nothing from the rows, and all is kept."""
    with Recorder.open(small_disk, run_id="r", segment_rows=8) as recorder:
        _put(recorder, 0)
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            _fill(file)
        answers = [_put(recorder, i) for i in range(1, 41)]
        assert not answers[-1]
        time.sleep(0.3)
        assert [row["update"] for row in read_rows(small_disk / "r")] == list(range(sum(answers) + 1))
        ballast.unlink()
        wait_until(lambda: _put(recorder, 99))
    rows = read_rows(small_disk / "r")
    assert [row["seq"] for row in rows] == list(range(len(rows)))
    assert [row["update"] for row in rows][:41] == list(range(41))
    assert not list((small_disk / "r").rglob("*.tmp"))
    assert RunDirectory(small_disk / "r").rank(0).attempts()[0].status == "finished"


def test_folder_that_takes_no_file_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows
) -> None:
    """If no new segment can be created, rows wait until it can, and then get the columns that they need."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        active = tmp_path / "r" / "rank-0000" / "active"
        _put(recorder, 0)
        _put(recorder, 1)
        wait_until(lambda: not list(active.iterdir()))
        with monkeypatch.context() as broken:
            real = os.open

            def read_only(name: Any, flags: int, *arguments: Any, **options: Any) -> int:
                if flags & os.O_CREAT:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
                return real(name, flags, *arguments, **options)

            broken.setattr(os, "open", read_only)
            assert not any(_put(recorder, i, extras={f"extra_{i}": float(i)}) for i in range(2, 6))
            time.sleep(0.15)
        wait_until(lambda: _put(recorder, 99))
    rows = read_rows(tmp_path / "r")
    assert [row["seq"] for row in rows] == list(range(len(rows)))
    assert [row[f"extra_{i}"] for i, row in enumerate(rows[2:6], start=2)] == [2.0, 3.0, 4.0, 5.0]


def test_folder_that_is_moved_away_takes_every_row(tmp_path: Path, read_rows: ReadRows) -> None:
    """The folders are held: whatever is done to their names, rows go where they went before."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        active = tmp_path / "r" / "rank-0000" / "active"
        assert _put(recorder, 0)
        active.rename(tmp_path / "away")
        active.symlink_to(tmp_path / "trap")
        (tmp_path / "trap").mkdir()
        for i in range(1, 6):
            _put(recorder, i)
        active.unlink()
        (tmp_path / "away").rename(active)
    assert [row["update"] for row in read_rows(tmp_path / "r")] == list(range(6))
    assert not list((tmp_path / "trap").iterdir())


def test_write_that_fails_and_cannot_be_cut_back_ends_the_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows
) -> None:
    """After a half-written row that stays, nothing more goes into that file; the row is in the next one."""
    recorder = Recorder.open(tmp_path, run_id="r")
    assert _put(recorder, 0)
    with monkeypatch.context() as broken:
        real = os.write

        def half(descriptor: int, data: bytes) -> int:
            real(descriptor, data[: len(data) // 2])
            raise OSError(errno.EIO, "the disk is broken")

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "the disk is broken")

        broken.setattr(os, "write", half)
        broken.setattr(os, "ftruncate", fail)
        assert not _put(recorder, 1)
    wait_until(lambda: _put(recorder, 2))
    recorder.close()
    rows = read_rows(tmp_path / "r")
    assert [row["seq"] for row in rows] == list(range(len(rows)))
    assert [row["update"] for row in rows][:3] == [0, 1, 2]
    broken_files = [path.name for path in (tmp_path / "r").rglob("*.broken")]
    assert broken_files[0] == "00000000.arrows.broken"
    assert recorder.dropped_rows == 0


@pytest.mark.parametrize("background", [False, True])
def test_error_behind_a_whole_write_does_not_double_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows, background: bool
) -> None:
    """A write that reports an error although all of the row is in the file counts as written, and is not repeated."""
    recorder = Recorder.open(tmp_path, run_id="r")
    real = os.write
    failed: list[int] = []

    def write_and_fail(descriptor: int, data: bytes) -> int:
        written = real(descriptor, data)
        if len(failed) < 1:
            failed.append(written)
            raise OSError(errno.EIO, "an error that comes too late")
        return written

    with monkeypatch.context() as broken:
        if background:
            set_slow_write_secs(broken, -1.0, of_thread=False)
        assert _put(recorder, 0)
        broken.setattr(os, "write", write_and_fail)
        assert _put(recorder, 1) is not background
        wait_until(lambda: bool(failed))
        wait_until(lambda: _put(recorder, 2))
    recorder.close()
    rows = read_rows(tmp_path / "r")
    assert [row["seq"] for row in rows] == list(range(len(rows)))
    assert [row["update"] for row in rows][:3] == [0, 1, 2]
    assert [row["update"] for row in rows].count(1) == 1


def test_failed_fsync_begins_a_new_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows, caplog: pytest.LogCaptureFixture
) -> None:
    """A segment whose fsync failed takes no more rows, since the kernel tells of lost pages only once."""
    monkeypatch.setattr("esper_recorder.writing.background.SYNC_INTERVAL_SECS", 0.02)
    recorder = Recorder.open(tmp_path, run_id="r")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "lost pages")))
        assert _put(recorder, 0)
        wait_until(lambda: "fsync failed" in caplog.text)
    wait_until(lambda: _put(recorder, 1))
    recorder.close()
    segments = {row["update"]: row for row in read_rows(tmp_path / "r")}
    assert segments.keys() == {0, 1}
    assert len(list((tmp_path / "r").rglob("*.parquet"))) >= 2


def test_slow_disk_moves_writing_to_the_background_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows
) -> None:
    """After a slow write the caller no longer writes itself; when writes are quick again, it does."""
    recorder = Recorder.open(tmp_path, run_id="r")
    with monkeypatch.context() as slow:
        set_slow_write_secs(slow, -1.0)
        slow.setattr("esper_recorder.writing.disk_health._SLOW_WRITES", 0)  # else two slow writes are forgiven
        answers = [_put(recorder, i) for i in range(30)]
        assert answers == [True] + [False] * 29
    wait_until(lambda: _put(recorder, 30))
    recorder.close()
    assert [row["update"] for row in read_rows(tmp_path / "r")][:31] == [*range(30), 30]
    assert recorder.dropped_rows == 0


class _Strange:
    def __float__(self) -> float:
        raise RuntimeError("strange")

    def __repr__(self) -> str:
        return "strange"  # the name of a test must not change from run to run


@pytest.mark.parametrize(
    "bad",
    [
        {"value_loss": "high"},
        {"value_loss": _Strange()},
        {"update": None},
        {"update": 1.5},
        {"extras": 5},
        {"extras": ["x"]},
    ],
    ids=repr,
)
def test_bad_row_is_dropped_counted_and_harmless(
    tmp_path: Path, read_rows: ReadRows, caplog: pytest.LogCaptureFixture, bad: dict[str, Any]
) -> None:
    """A row that cannot be stored never raises; it is logged, counted, and explained by the row behind it."""
    row = {"update": 1, "policy_loss": 0.1, "value_loss": 0.2}
    with Recorder.open(tmp_path, run_id="r") as recorder:
        assert _put(recorder, 0)
        assert recorder.record(**{**row, **bad}) is False
        assert recorder.dropped_rows == 1
        assert _put(recorder, 2)
    assert _numbers(read_rows(tmp_path / "r")) == [(0, 0, None), (2, 2, 1)]
    assert "an update was dropped" in caplog.text
    with Recorder.open(tmp_path, run_id="s", strict=True) as strict, pytest.raises(PayloadError):
        strict.record(**{**row, **bad})


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"seq": 3}, "seq"),
        ({"run_id": "other"}, "run_id"),
        ({"extras": {"": 1.0}}, ""),
        ({"extras": {"x": "y"}}, "x"),
        ({"extras": {"value_loss": 9.0}}, "value_loss"),
        ({"skip_reason": 77}, "skip_reason"),
        ({"entropy": np.ma.masked}, "entropy"),
        ({"entropy": np.ma.masked_array(0.5, mask=True)}, "entropy"),
        ({"entropy": np.timedelta64(5, "ns")}, "entropy"),
        ({"entropy": np.array("0.5")}, "entropy"),
        ({"entropy": 2**53 + 1}, "entropy"),
        ({"entropy": np.int64(2**53 + 1)}, "entropy"),
        ({"entropy": Fraction(1, 3)}, "entropy"),
        ({"entropy": np.array([1.0, 2.0])}, "entropy"),
        ({"env_steps": 2**63}, "env_steps"),
        ({"env_steps": 1.5}, "env_steps"),
        ({"amp_overflow": 2}, "amp_overflow"),
    ],
    ids=repr,
)
def test_value_that_cannot_be_stored_is_left_out_and_counted(
    tmp_path: Path, read_rows: ReadRows, caplog: pytest.LogCaptureFixture, bad: dict[str, Any], name: str
) -> None:
    """It costs the row nothing else, is counted by its name with the reason, in the run too, and is logged once."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for update in range(3):
            row = {"update": update, "policy_loss": 0.1, "value_loss": 0.2, **bad}
            assert recorder.record(**row) is True
        assert recorder.dropped_rows == 0
    rows = read_rows(tmp_path / "r", columns=["update", "value_loss", "entropy", "env_steps", "amp_overflow"])
    assert [row["update"] for row in rows] == [0, 1, 2]
    assert {row["value_loss"] for row in rows} == {0.2}
    assert name == "value_loss" or not any(row.get(name) for row in rows if name not in ("seq", "run_id"))
    (attempt,) = RunDirectory(tmp_path / "r").rank(0).attempts()
    assert attempt.refused_values[name]["count"] == 3
    assert attempt.refused_values[name]["reason"]
    assert caplog.text.count("a value is left out") == 1
    with Recorder.open(tmp_path, run_id="s", strict=True) as strict, pytest.raises(PayloadError):
        strict.record(update=0, policy_loss=0.1, **{"value_loss": 0.2, **bad})


def test_argument_that_is_no_payload_is_dropped(tmp_path: Path) -> None:
    """A dict in place of a payload is a dropped row with a hint, not a crash of the training."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        assert recorder.record({"update": 1}) is False  # type: ignore[arg-type]
        assert recorder.record(PPOUpdatePayload(update=1, policy_loss=0.1, value_loss=0.2), entropy=0.5)


def test_errors_are_logged_once_for_each_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand bad rows make one line in the log, and a thousand in the count."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for i in range(1000):
            recorder.record(update=i, policy_loss="x", value_loss=0.2)
        assert recorder.dropped_rows == 1000
    assert len(caplog.records) == 1


def test_each_reason_for_a_dropped_row_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reasons that begin alike are two lines in the log, and one that only names another number is no new reason."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for update in (0.5, 1.5, -2.5e-7, True):
            recorder.record(update=update, policy_loss=0.1, value_loss=0.2)
    assert [record.getMessage().partition("(")[2] for record in caplog.records] == [
        "not a whole number)",
        "True and False are no numbers)",
    ]


def test_full_disk_at_opening_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a disk that takes no more bytes says which file it was."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", refuse)
        with pytest.raises(OSError, match="No space left on device") as caught:
            Recorder.open(tmp_path, run_id="r")
    assert f"'{tmp_path}/r/run.json" in str(caught.value)


def test_record_after_close_is_refused(tmp_path: Path, read_rows: ReadRows) -> None:
    """A closed recorder takes nothing, raises nothing, and may be closed again."""
    recorder = Recorder.open(tmp_path, run_id="r")
    assert _put(recorder, 0)
    recorder.close()
    assert not _put(recorder, 1)
    assert recorder.dropped_rows == 1
    recorder.close("failed", "too late")
    assert "closed" in repr(recorder)
    assert RunDirectory(tmp_path / "r").rank(0).attempts()[0].status == "finished"
    assert len(read_rows(tmp_path / "r")) == 1


def test_leftover_of_an_interrupted_creation_does_not_stop_recording(tmp_path: Path, read_rows: ReadRows) -> None:
    """A segment file that was created and never got its row is replaced, not stumbled over for ever."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        (tmp_path / "r" / "rank-0000" / "active" / "00000000.arrows").write_bytes(b"\xff\xff\xff\xff")
        assert _put(recorder, 0)
    assert len(read_rows(tmp_path / "r")) == 1


def test_import_is_light(run_python: RunPython) -> None:
    """Importing the recorder loads neither torch nor what draws and analyses."""
    script = (
        "import sys, esper_recorder; print([n for n in ('torch', 'polars', 'plotext', 'rich') if n in sys.modules])"
    )
    assert run_python(script).stdout == "[]\n"
