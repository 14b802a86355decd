from __future__ import annotations

import contextlib
import math
import os
import re
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest
from tests.waiting import HANG_SECS

TRAINER = """
    import math, sys
    from esper_recorder import Recorder
    with Recorder.open(sys.argv[1], run_id="run", segment_rows=32, resume=sys.argv[2]) as recorder:
        print("open", flush=True)
        for line in sys.stdin:
            first, last, loss = line.split()
            for update in range(int(first), int(last)):
                recorder.record(update=update, policy_loss=-0.01, value_loss=float(loss), return_std=1.0)
            print("done", flush=True)
"""
SHOW = "import sys; from esper_analyzer import open_run; from esper_analyzer.terminal.app import run_app;"
SHOW += "print('damage', run_app(open_run(sys.argv[1]), 0, interval=0.05))"

ANALYZE = str(Path(sys.executable).with_name("esper-analyze"))


class Tmux:
    """A tmux of its own with one window of a given size."""

    def __init__(self, socket: Path, columns: int, rows: int) -> None:
        self._command = ["tmux", "-u", "-S", str(socket), "-f", "/dev/null"]
        self(
            "new-session", "-d", "-x", str(columns), "-y", str(rows), "env PS1='$ ' COLUMNS=100 TERM=screen-256color sh"
        )

    def __call__(self, *arguments: str) -> str:
        """Run a command of tmux; returns what it prints."""
        done = subprocess.run([*self._command, *arguments], capture_output=True, encoding="utf-8", check=True)
        return done.stdout

    def see(self, pattern: str) -> str:
        """Wait until the pattern is on the screen; returns the screen's text."""
        end = time.monotonic() + HANG_SECS
        while not re.search(pattern, text := self("capture-pane", "-p")):
            assert time.monotonic() < end, f"{pattern!r} is not on the screen:\n{text}"
            time.sleep(0.05)
        return text


def trainer(root: Path, resume: str) -> subprocess.Popen[str]:
    """A process that records the updates that it is told to."""
    command = [sys.executable, "-c", textwrap.dedent(TRAINER), str(root), resume]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def tell(process: subprocess.Popen[str], steps: Sequence[tuple[int, int, float]]) -> None:
    """Have updates `first` up to `last` recorded with a value loss."""
    assert process.stdin is not None
    assert process.stdout is not None
    for first, last, loss in steps:
        process.stdin.write(f"{first} {last} {loss}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"


def end(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a process, and close its pipes."""
    process.wait(HANG_SECS)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def test_in_a_real_terminal_through_a_whole_life(tmp_path: Path) -> None:
    """Start, spike, NaN, SIGKILL, resume, end, and a window that changes its size: all seen in a real tmux."""
    process = trainer(tmp_path, "never")
    terminal = Tmux(tmp_path / "tmux", 100, 30)
    try:
        terminal("send-keys", f'{sys.executable} -c "{SHOW}" {tmp_path / "run"}', "Enter")
        terminal.see(r"run +● live(.|\n)*no updates yet")
        tell(process, [(0, 40, 1.0)])
        terminal.see(r"update 39 (.|\n)*V\.Loss +1\.000")
        tell(process, [(40, 41, 90.0), (41, 44, 1.0)])
        text = terminal.see(r"update 43 (.|\n)*▲")
        assert re.search(r"20┤.*┈", text)
        tell(process, [(44, 45, math.nan)])
        terminal.see(r"Verdict +critical(.|\n)*!(.|\n)*44 ▲ Impossible value loss NaN(.|\n)*V\.Loss +NaN")
        terminal("resize-window", "-x", "60", "-y", "20")
        terminal.see(r"Verdict +critical(.|\n)*!(.|\n)*V\.Loss +NaN")
        terminal("resize-window", "-x", "100", "-y", "30")
        process.send_signal(signal.SIGKILL)
        end(process)
        terminal.see(r"● crashed")
        process = trainer(tmp_path, "must")
        tell(process, [(30, 60, 0.5)])
        text = terminal.see(r"● live(.|\n)*update 59 (.|\n)*attempt 1(.|\n)*◆ Attempt 1 goes on from update 30")
        assert "NaN" not in text
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(HANG_SECS) == 0
        terminal.see(r"● finished(.|\n)*Verdict")
        terminal("send-keys", "q")
        terminal.see(r"damage 0\n\$")
    finally:
        process.kill()
        end(process)
        terminal("kill-server")


def test_in_a_terminal_that_is_resized_and_a_shell_that_stops_it(tmp_path: Path) -> None:
    """Begun before the run, resized while it grows, stopped and brought back: the screen is whole again each time."""
    terminal = Tmux(tmp_path / "tmux", 100, 30)
    terminal("send-keys", f"{ANALYZE} tail --wait --root {tmp_path / 'runs'} --interval 0.05", "Enter")
    terminal.see("waiting for a run under")
    process = trainer(tmp_path / "runs", "never")
    try:
        terminal.see(r"run +● live(.|\n)*no updates yet")
        for step in range(30):
            terminal("resize-window", "-x", str(40 + 37 * step % 160), "-y", str(10 + 13 * step % 50))
            tell(process, [(step, step + 1, 1.0)])
        terminal("resize-window", "-x", "100", "-y", "30")
        lines = terminal.see(r"^ run .*● live\n update 29 (.|\n)*Verdict(.|\n)*\? help.*\n$").split("\n")
        assert len(lines) == 31
        assert sum("V.Loss" in line for line in lines) == 1
        terminal("send-keys", "C-z")
        terminal.see("Stopped")
        tell(process, [(30, 31, 7.0)])
        terminal("resize-window", "-x", "60", "-y", "20")
        terminal("send-keys", "fg", "Enter")
        lines = terminal.see(r"^ run .*● live\n update 30 (.|\n)*V\.Loss +7\.000(.|\n)*\? help").split("\n")
        assert len(lines) == 21
        terminal("send-keys", "?")
        terminal.see("What to look at")
        terminal("send-keys", "Escape")
        terminal.see("Verdict")
        terminal("send-keys", "q")
        terminal.see(r"\$\n*$")
    finally:
        process.kill()
        end(process)
        terminal("kill-server")


class Pty:
    """A command on a terminal of its own, which is there as long as this is open."""

    def __init__(self, *command: str | Path, **env: str) -> None:
        self.output = b""
        self._master, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (30, 100))
        self._modes = termios.tcgetattr(terminal)
        known = {name: text for name, text in os.environ.items() if name not in ("TERM", "NO_COLOR")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=terminal, stdout=terminal, stderr=terminal, env=known | env
        )
        os.close(terminal)

    def see(self, shown: bytes, after: int = 0) -> None:
        """Read until something has been written to the terminal, after so many bytes."""
        end = time.monotonic() + HANG_SECS
        while shown not in self.output[after:]:
            assert time.monotonic() < end, self.output[-2000:]
            self._read(0.1)

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def drop(self) -> None:
        """Take the terminal away, as a lost connection does."""
        os.close(self._master)
        self._master = -1

    def end(self) -> int:
        """Read until the process has ended; returns its exit code. The terminal is then as it was before."""
        deadline = time.monotonic() + HANG_SECS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output[-2000:]
            if self._master < 0:
                time.sleep(0.01)
            else:
                self._read(0.1)
        while self._master >= 0 and self._read(0.0):  # what it wrote last
            pass
        return self.process.returncode

    def _read(self, secs: float) -> bool:
        """Read what comes within so many seconds; False if nothing does."""
        before = len(self.output)
        if select.select([self._master], [], [], secs)[0]:
            with contextlib.suppress(OSError):  # Linux says EIO when the last process has left
                self.output += os.read(self._master, 65_536)
        return len(self.output) > before

    def is_restored(self) -> bool:
        """Whether the modes of the terminal are as they were, and its own screen is back."""
        is_left = self.output.count(b"\x1b[?1049h") == self.output.count(b"\x1b[?1049l")
        return is_left and termios.tcgetattr(self._master) == self._modes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self._master >= 0:
            self.drop()


@pytest.fixture(scope="module")
def tail(demo: Path) -> tuple[str, ...]:
    """The command that shows the run."""
    return (ANALYZE, "tail", "--root", str(demo.parent), "--run", demo.name)


@pytest.mark.parametrize("shell", [(), ("sh", "-c", "trap '' HUP; \"$@\"", "sh")])
def test_when_the_connection_drops_nothing_is_left(tail: tuple[str, ...], shell: tuple[str, ...]) -> None:
    """Without its terminal, the process and its children end, where SIGHUP is ignored as well."""
    with Pty(*shell, *tail, TERM="xterm") as terminal:
        terminal.see(b"V.Loss")
        terminal.drop()
        try:
            terminal.end()
            with pytest.raises(ProcessLookupError):
                os.killpg(terminal.process.pid, 0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(terminal.process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("how", "code"), [("Ctrl-C", 130), ("SIGTERM", 143)])
def test_when_it_is_interrupted_the_terminal_is_as_before(tail: tuple[str, ...], how: str, code: int) -> None:
    """Ctrl-C and SIGTERM end the screen with their exit codes, without a traceback, and give the terminal back."""
    with Pty(*tail, TERM="xterm") as terminal:
        terminal.see(b"V.Loss")
        terminal.press(b"\x03") if how == "Ctrl-C" else terminal.process.terminate()
        assert terminal.end() == code
        assert terminal.is_restored()
        assert b"Traceback" not in terminal.output


def test_without_term_and_in_an_ascii_locale(tail: tuple[str, ...]) -> None:
    """A terminal that says nothing of itself gets the screen, and one whose locale is ASCII gets it in ASCII."""
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with Pty(*tail) as unnamed, Pty(*tail, TERM="xterm", **plain) as in_ascii:
        for terminal in (unnamed, in_ascii):
            terminal.see(b"Verdict")
            terminal.press(b"?")
            terminal.see(b"What to look at")
            shown = len(terminal.output)
            terminal.press(b"\x1b")
            terminal.see(b"Verdict", after=shown)
            terminal.press(b"q")
            assert terminal.end() == 0
            assert terminal.is_restored()
            assert terminal.output.isascii() == (terminal is in_ascii)


def test_a_dumb_terminal_gets_plain_lines(tail: tuple[str, ...]) -> None:
    """Where TERM says that the terminal knows no escape codes, it is sent none: a line per update, as in a pipe."""
    with Pty(*tail, TERM="dumb") as terminal:
        terminal.see(b"299")
        assert b"\x1b" not in terminal.output
