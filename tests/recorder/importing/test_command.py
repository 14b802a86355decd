"""`esper-rec import` as a person meets it: errors in one line, names, signals, progress."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests.recorder.importing.esper_lite_events import GAP, SHORT, an_update, run_import, write
from tests.waiting import HANG_SECS, wait_until

from esper_recorder.importing.command import run_id_of

COMMAND = [sys.executable, "-c", "from esper_recorder.cli import main; main()"]

ReadRows = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "found an empty file"),
        ("update,value_loss\n1,2.0\n", "found 2 keys and not both (value_loss, update); name the losses with"),
        ('{"loss": 1}\n' * 2000 + '{"data": {"value_loss": 1}}', "expected the losses of a PPO"),
        ("\0\1\2", "found binary data"),
        ("[" * 100_000, "found text that begins '[[[["),
        ('{"event_type": "SEED_CULLED", "data": {}}\n', "found none among 1 events (SEED_CULLED 1)"),
        (json.dumps(an_update(1, value_loss=...)), "it has no usable update (1 refused); line 1: value_loss"),
    ],
    ids=["empty", "csv", "other-json", "binary", "deep", "no-updates", "no-rows"],
)
def test_a_file_without_updates_is_an_error_and_leaves_no_run(content: str, expected: str, tmp_path: Path) -> None:
    """One line that says what was expected and found, exit code 2, and nothing on disk."""
    file = write(tmp_path / "some.jsonl", content)
    done = run_import(file, root=tmp_path / "runs")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert not done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_a_log_is_an_error(tmp_path: Path) -> None:
    """A folder is refused with a hint at the folders in it that have logs; a single one is the log that is meant."""
    logs = tmp_path / "logs"
    for seed in ("seed-1", "seed-2"):
        (logs / seed).mkdir(parents=True)
        write(logs / seed / "events.jsonl", an_update(1))
    done = run_import(logs, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "pass one of the folders in it: seed-1, seed-2" in done.stderr
    (logs / "seed-2" / "events.jsonl").unlink()
    done = run_import(logs, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output


def test_a_run_that_exists_is_left_alone(tmp_path: Path, read_rows: ReadRows) -> None:
    """Importing into a name that is taken is one line of error that says what to do."""
    run_import(SHORT, "--run-id", "a", root=tmp_path)
    done = run_import(GAP, "--run-id", "a", root=tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "are not those that this log begins with: choose another name with --run-id" in done.stderr
    assert len(read_rows(tmp_path / "a")) == 3


def test_several_files_are_several_runs(tmp_path: Path) -> None:
    """Each file is a run of its own; one that cannot be imported shows in the exit code and keeps no other out."""
    bad = write(tmp_path / "bad.csv", "a,b\n")
    done = run_import(SHORT, bad, GAP, root=tmp_path / "runs")
    assert done.exit_code == 2
    assert "bad.csv: " in done.stderr
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["esper_lite_2025-12-06_114137", "esper_lite_2025-12-07_081426"]


def test_names_are_settled_before_anything_is_read(tmp_path: Path) -> None:
    """One --run-id for two files, and two files of one name, are errors that leave nothing behind."""
    for arguments in ([SHORT, GAP, "--run-id", "a"], [SHORT, SHORT], [SHORT, "--run-id", "../a"]):
        done = run_import(*arguments, root=tmp_path / "runs")
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("file", "run_id"),
    [
        ("a/mine.events.jsonl", "mine"),
        ("a/mine.jsonl", "mine"),
        ("telemetry_2025-12-07/events.jsonl", "telemetry_2025-12-07"),
        ("a/.hidden run (2).jsonl", "hidden-run-2"),
        ("a/prävention.jsonl", "pr-vention"),
        (f"a/{'x' * 200}.jsonl", "x" * 128),
    ],
)
def test_a_run_is_named_after_its_file(file: str, run_id: str) -> None:
    """The name without its ending and what cannot stand in a run id; the folder's for a bare events.jsonl."""
    assert run_id_of(Path(file)) == run_id


def test_escapes_in_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Names that come from the file are printed without control characters."""
    event = {"event_type": "\x1b[31mRED", "timestamp": "2025-12-06T00:00:30", "data": {}}
    done = run_import(write(tmp_path / "e.jsonl", event, an_update(1)), root=tmp_path)
    assert "\x1b" not in done.stdout
    assert "RED 1" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_import_is_sealed(
    number: signal.Signals, code: int, tmp_path: Path, read_rows: ReadRows
) -> None:
    """Ctrl-C and SIGTERM seal what was read, with the status and the exit code that say so."""
    feed, run = _start_on_a_pipe(tmp_path)
    with os.fdopen(feed, "w") as file:
        _send(file, an_update(1), an_update(2))
        attempt = tmp_path / "runs" / "piped" / "rank-0000" / "attempts" / "0000.json"
        wait_until(lambda: attempt.exists() and len(read_rows(tmp_path / "runs" / "piped")) == 2)
        _signal(run, number)
        _send(file, an_update(3))  # a read that waits is gone on with, and the signal acted on after it
        stdout, stderr = run.communicate(timeout=HANG_SECS)
    assert run.returncode == code, stderr
    assert "interrupted; the run is sealed with the updates so far: 2 updates" in stdout
    ended = json.loads(attempt.read_text())
    assert (ended["status"], ended["reason"], ended["rows"]) == ("interrupted", number.name, 2)


def test_an_import_interrupted_before_its_first_update_leaves_no_run(tmp_path: Path) -> None:
    """Nothing was recorded, so there is nothing to seal."""
    feed, run = _start_on_a_pipe(tmp_path)
    os.write(feed, (json.dumps({"event_type": "SEED_CULLED", "data": {}}) + "\n").encode())
    wait_until(lambda: _unread(feed) == 0)
    _signal(run, signal.SIGINT)
    with suppress(BrokenPipeError):  # on a busy machine it has not come to the next read yet, and has ended
        os.write(feed, (json.dumps(an_update(1)) + "\n").encode())
    stdout, stderr = run.communicate(timeout=HANG_SECS)
    os.close(feed)
    assert run.returncode == 130, stderr
    assert "no run was created" in stdout
    assert not (tmp_path / "runs").exists()


def _start_on_a_pipe(folder: Path) -> tuple[int, subprocess.Popen[str]]:
    """An import that reads a named pipe, and the other end of the pipe."""
    pipe = folder / "pipe.jsonl"
    os.mkfifo(pipe)
    command = [*COMMAND, "import", str(pipe), "--out", str(folder / "runs"), "--run-id", "piped"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return os.open(pipe, os.O_WRONLY), run


def _signal(run: subprocess.Popen[str], number: int) -> None:
    """Send a signal, and wait until the process, which may have to wait for a core, has taken it."""
    run.send_signal(number)
    status = Path("/proc", str(run.pid), "status")
    wait_until(lambda: not _pending(status.read_text()) >> (number - 1) & 1)
    time.sleep(0.2)


def _pending(status: str) -> int:
    """The signals of a process that wait to be taken, as the bits of a mask."""
    masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return int(masks[0], 16) | int(masks[1], 16)


def _unread(pipe: int) -> int:
    """Bytes that nobody has read from the pipe yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _send(file: io.TextIOBase | Any, *events: dict[str, Any]) -> None:
    file.writelines(json.dumps(event) + "\n" for event in events)
    file.flush()


def test_a_large_file_shows_its_progress_on_a_terminal(tmp_path: Path) -> None:
    """Bytes read out of all bytes are shown while a large file is read, and not left behind."""
    file = tmp_path / "large.jsonl"
    padding = json.dumps({"event_type": "SEED_CULLED", "data": {"text": "x" * 1000}}) + "\n"
    with file.open("w") as out:
        out.writelines(padding for _ in range(20_000))
        out.write(json.dumps(an_update(1)) + "\n")
    command = [*COMMAND, "import", str(file), "--out", str(tmp_path / "runs")]
    child = pexpect.spawn(command[0], command[1:], dimensions=(24, 120), timeout=HANG_SECS, encoding="utf-8")
    child.expect(r"importing large.jsonl.*/21\.\d MB")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "not imported: SEED_CULLED 20,000" in child.before


def test_the_importer_loads_neither_torch_nor_polars(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """A whole import works without them, and the command line alone does not load the importer."""
    script = """
import sys
from esper_recorder.cli import main
assert not [name for name in sys.modules if name.startswith("esper_recorder.importing")]
try:
    main(["import", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code
print(sorted({"torch", "polars", "plotext", "gymnasium"} & sys.modules.keys()))
"""
    done = run_python(script, SHORT, "--out", tmp_path)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
