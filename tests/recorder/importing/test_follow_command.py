"""The command that follows a log, as a process: how it ends, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.recorder.importing.followed import rows_of
from tests.recorder.importing.logs import import_log
from tests.recorder.importing.test_follow import add, attempts, lines_of
from tests.waiting import HANG_SECS, wait_until


@contextmanager
def command(*arguments: object, root: Path, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """Run `esper-rec import --follow`, and kill it in the end if it is still there."""
    with subprocess.Popen(
        [sys.executable, "-m", "esper_recorder", "import", *map(str, arguments), "--out", str(root), "--follow"],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            yield run
        finally:
            run.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_seals_what_is_there(number: int, code: int, tmp_path: Path) -> None:
    """With the last row, the fingerprint, the balance, and a torn last line in it."""
    log, root = tmp_path / "mine.jsonl", tmp_path / "runs"
    log.write_bytes(lines_of([1, 2, 3]))
    with command(log, root=root) as run:
        wait_until(lambda: len(rows_of(root / "mine")) == 3)
        add(log, lines_of([4])[:-5])
        run.send_signal(number)
        out, err = run.communicate(timeout=HANG_SECS)
    assert run.returncode == code
    assert err == f"esper-rec: following {log} as run {root / 'mine'}; Ctrl-C seals it\n"
    assert "interrupted; the run is sealed with the updates so far: 3 updates" in out
    assert "line 4 (torn" in out
    (attempt,) = attempts(root / "mine")
    assert (attempt["status"], attempt["reason"]) == ("interrupted", signal.Signals(number).name)
    add(log, lines_of([4])[-5:])
    assert "1 updates are new, after 3" in import_log(log, root=root).stdout


def test_a_log_that_stays_as_it_is_ends_the_command_with_until_idle(tmp_path: Path) -> None:
    """The run is finished, and the exit code is 0; 2 if it never had an update, and then there is no run."""
    log, root = tmp_path / "mine.jsonl", tmp_path / "runs"
    log.write_bytes(lines_of([1, 2, 3]))
    with command(log, "--until-idle", 0.5, root=root) as run:
        out, _ = run.communicate(timeout=HANG_SECS)
    assert (run.returncode, attempts(root / "mine")[0]["status"]) == (0, "finished")
    assert "3 updates of 12 numbers" in out
    (tmp_path / "empty").mkdir()
    with command(tmp_path / "empty", "--until-idle", 0.5, root=root) as run:
        _, err = run.communicate(timeout=HANG_SECS)
    assert run.returncode == 2
    assert err.splitlines()[-1].startswith(f"esper-rec: {tmp_path / 'empty'}: expected a log of a PPO")
    assert not (root / "empty").exists()


def test_nothing_is_left_of_a_log_that_never_had_an_update(tmp_path: Path) -> None:
    """Ctrl-C before the first update leaves no run, as without --follow."""
    log = tmp_path / "mine.csv"
    log.touch()
    with command(log, root=tmp_path / "runs") as run:
        assert run.stderr is not None
        assert run.stderr.readline().startswith(f"esper-rec: waiting: {log} is an empty file")
        assert run.stderr.readline().startswith("esper-rec: following")
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=HANG_SECS)
    assert (run.returncode, (tmp_path / "runs").exists()) == (130, False)
    assert "no run was created" in out


def test_the_end_of_standard_input_ends_it_like_sigterm(tmp_path: Path) -> None:
    """So it ends with the program that holds the other end, whatever ends that."""
    log, root = tmp_path / "mine.jsonl", tmp_path / "runs"
    log.write_bytes(lines_of([1, 2, 3]))
    ours, theirs = os.pipe()
    with command(log, "--until-eof", root=root, stdin=ours) as run:
        os.close(ours)
        wait_until(lambda: len(rows_of(root / "mine")) == 3)
        assert run.poll() is None
        os.close(theirs)
        run.communicate(timeout=HANG_SECS)
    assert run.returncode == 143
    assert attempts(root / "mine")[0]["status"] == "interrupted"


def test_what_cannot_be_followed_ends_with_one_line(tmp_path: Path) -> None:
    """Several logs, --until-idle without --follow, a file that is no log, and another run of that name."""
    log, root = tmp_path / "mine.jsonl", tmp_path / "runs"
    log.write_bytes(lines_of([1, 2]))
    garbage = tmp_path / "garbage"
    garbage.write_bytes(os.urandom(1000) + b"\0")
    for arguments, what in (
        ((log, garbage, "--follow"), "--follow follows one PATH, found 2"),
        ((log, "--until-idle", "3"), "give --follow too"),
        ((garbage, "--follow"), "expected a log of a PPO"),
    ):
        done = import_log(*arguments, root=root)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert what in done.stderr
    assert import_log(log, root=root).exit_code == 0
    log.write_bytes(lines_of([7, 8, 9]))
    done = import_log(log, "--follow", root=root)
    assert done.exit_code == 2
    assert "exists already" in done.stderr
    assert json.loads((root / "mine" / "run.json").read_text())["run_id"] == "mine"


def test_what_to_do_about_an_import_that_was_killed_is_said(tmp_path: Path) -> None:
    """SIGKILL leaves no fingerprint: the rows stay readable, and one line says how to import the log again."""
    log, root = tmp_path / "mine.jsonl", tmp_path / "runs"
    log.write_bytes(lines_of([1, 2, 3]))
    with command(log, root=root) as run:
        wait_until(lambda: len(rows_of(root / "mine")) == 3)
        assert "is still at work" in import_log(log, root=root).stderr
        run.kill()
    done = import_log(log, root=root)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "was killed" in done.stderr
    assert "remove that folder and import again, or choose another name with --run-id" in done.stderr
    assert len(rows_of(root / "mine")) == 3
