"""Forked processes start, end, die and speak as those of subprocess do."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.forked import run_code, run_on_terminal, start_code

IMPORTS = ("json",)
run, start = partial(run_code, imports=IMPORTS), partial(start_code, imports=IMPORTS)


@pytest.mark.parametrize(
    "code",
    [
        "print('out'); import sys; print('talk', file=sys.stderr)",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a reason')",
        "import atexit; atexit.register(print, 'bye'); raise SystemExit",
        "import threading; threading.Timer(0.01, print, ['from a thread']).start()",
        "import os; os.kill(os.getpid(), 9)",
        "import sys; print(sys.argv[1:], __name__)",
    ],
)
def test_it_ends_as_the_interpreter_ends(code: str) -> None:
    """The same exit code and output, of what runs at the end too."""
    plain = subprocess.run([sys.executable, "-c", code, "a b"], capture_output=True, text=True, check=False)
    forked = run(code, "a b")
    assert (forked.returncode, forked.stdout, forked.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_an_error_is_a_traceback_and_exit_code_1() -> None:
    """Its lines of the process that forks are the only difference."""
    done = run("1 / 0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("\nZeroDivisionError: division by zero\n")


def test_one_that_ends_at_once_is_not_waited_for_in_vain() -> None:
    """Its number and its exit code may come together."""
    assert [run("pass").returncode for _ in range(50)] == [0] * 50


def test_several_run_at_once_and_are_killed(tmp_path: Path) -> None:
    """Each has its own folder and output; one that runs has no exit code."""
    waiting = [start("import time; time.sleep(1000)") for _ in range(3)]
    done = start("import os; print(os.getcwd())", cwd=tmp_path)
    assert done.communicate() == (f"{tmp_path}\n", "")
    assert [process.poll() for process in waiting] == [None] * 3
    with pytest.raises(subprocess.TimeoutExpired):
        waiting[0].wait(0.01)
    for process in waiting:
        process.kill()
    assert [process.wait() for process in waiting] == [-signal.SIGKILL] * 3


def test_a_terminal_is_its_own() -> None:
    """It is one to the process, and of the size that was asked for."""
    code, shown = run_on_terminal("tests.test_forked", imports=IMPORTS, rows=7, columns=50)
    assert (code, shown) == (0, "True True True os.terminal_size(columns=50, lines=7)\r\n")


if __name__ == "__main__":
    import os

    print(*(os.isatty(number) for number in range(3)), os.get_terminal_size())
