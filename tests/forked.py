"""Commands in processes of their own, forked from one that has imported what takes long.

To import Arrow and Polars takes half a second of a processor, and PyTorch with what its optimisers import takes four.
All workers of pytest share the process that has done so. A forked command is a process like any other: it has its own
environment, folder and output, and it can be killed. It ends as the interpreter ends, but nothing that was imported is
taken apart. What a command imports must be tested by a process that is started, not forked.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tests.waiting import HANG_SECS

READING = (
    *("esper_analyzer.cli", "esper_analyzer.reporting.text", "esper_recorder.cli", "esper_schemas.examining.run"),
    *("obstore.store", "plotext", "polars", "pyarrow.dataset", "pyarrow.parquet", "rich.progress"),
)
"""What `esper-analyze` and `esper-rec` import, but for training."""

TRAINING = ("esper_analyzer.measuring.levels", "esper_recorder.train.command", "pyarrow.parquet", "torch._dynamo")
"""What `esper-rec train` imports, and a script that trains with PyTorch."""

_SERVER = """
import atexit, gc, importlib, json, os, runpy, select, signal, socket, sys, threading
from contextlib import suppress

for name in sys.argv[2:]:
    importlib.import_module(name)
gc.freeze()  # nothing of it is garbage in a child
listener = socket.socket(fileno=int(sys.argv[1]))
woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGCHLD, lambda *_: None)
users, children = set(), {}  # connections: of who may yet ask, and of each child by its process id


def received(connection):
    line, files, *_ = socket.recv_fds(connection, 1 << 16, 2)
    while line and not line.endswith(b"\\n"):
        line += connection.recv(1 << 16)
    return json.loads(line or "null"), files


def run(job, files):
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for connection in (listener, *users, *children.values()):
        connection.close()
    os.closerange(woken, wake + 1)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), *files)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv[1:] = job["arguments"]
    try:
        if job["module"] is None:
            exec(job["code"], {"__name__": "__main__"})
        else:
            runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


while True:
    for ready in select.select([listener, woken, *users], [], [])[0]:
        if ready is listener:
            connection, _ = listener.accept()
            job, files = received(connection)
            if job is None:
                users.add(connection)
                continue
            child = os.fork()
            if child == 0:
                connection.close()
                break
            for file in files:
                os.close(file)
            children[child] = connection
            connection.sendall(child.to_bytes(8, "big"))
        elif ready == woken:
            os.read(woken, 1 << 16)
        else:
            users.remove(ready)
            ready.close()
    else:
        while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with children.pop(ended[0]) as connection:
                with suppress(OSError):  # who started it is gone
                    connection.sendall(os.waitstatus_to_exitcode(ended[1]).to_bytes(8, "big", signed=True))
        if not users:
            os._exit(0)  # to take apart what was imported takes long
        continue
    break
run(job, files)
"""


@cache
def _address(imports: tuple[str, ...]) -> str:
    """The address of the process that has imported these modules; it ends when nobody is left that may ask.

    It is the first of all processes that share the folder for temporary files that starts it.
    """
    name = hashlib.sha256(repr(imports).encode()).hexdigest()[:8]
    address = f"{tempfile.gettempdir()}/forks-{name}"
    user = socket.socket(socket.AF_UNIX)
    with Path(f"{address}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            user.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            with suppress(FileNotFoundError):
                os.unlink(address)  # noqa: PTH108 - of a server that is gone
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(address)
                listener.listen(64)
                command = [sys.executable, "-c", _SERVER, str(listener.fileno()), *imports]
                server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])
            atexit.register(server.wait)
            user.connect(address)
        user.sendall(b"null\n")
    atexit.register(user.close)  # before it waits for the server
    return address


class Forked:
    """A forked process, in the words of `subprocess.Popen`; its output is there when it has ended.

    Attributes:
        args: the module and its arguments.
        pid: its number.
        returncode: the exit code, minus the signal that killed it; None before `poll`, `wait` or `communicate` saw it.
    """

    def __init__(self, job: Mapping[str, object], args: list[str], imports: tuple[str, ...]) -> None:
        self.args = args
        self.returncode: int | None = None
        self._said = ("", "")
        self._outputs = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115 - see `wait`
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_address(imports))
        line = json.dumps(job).encode() + b"\n"
        sent = socket.send_fds(self._connection, [line], [output.fileno() for output in self._outputs])
        if rest := line[sent:]:  # otherwise the connection may be closed by now
            self._connection.sendall(rest)
        self.pid = self._number(HANG_SECS)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float = HANG_SECS) -> int:
        """Wait for its end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended within so many seconds.
        """
        if self.returncode is None:
            self.returncode = self._number(timeout)
            self._connection.close()
            out, err = self._outputs
            with out, err:
                out.seek(0)
                err.seek(0)
                self._said = out.read(), err.read()
        return self.returncode

    def communicate(self, timeout: float = HANG_SECS) -> tuple[str, str]:
        """Wait for its end, see `wait`, and return what it wrote on standard output and on standard error."""
        self.wait(timeout)
        return self._said

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it by SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _number(self, timeout: float) -> int:
        if not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        answer = self._connection.recv(8, socket.MSG_WAITALL)
        assert len(answer) == 8, "the process that forks is gone"
        return int.from_bytes(answer, "big", signed=True)


def start_module(
    module: str,
    *arguments: object,
    imports: tuple[str, ...] = READING,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Forked:
    """Start what `python -m module arguments` starts, as a forked process.

    Args:
        module: the module to run.
        arguments: its arguments.
        imports: modules that the process has imported before.
        environment: the environment of the process; None for that of this one.
        cwd: its folder; None for that of this process.
    """
    return _start({"module": module}, arguments, imports, environment, cwd)


def start_code(
    code: str,
    *arguments: object,
    imports: tuple[str, ...] = READING,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Forked:
    """Start what `python -c code arguments` starts, see `start_module`."""
    return _start({"module": None, "code": code}, arguments, imports, environment, cwd)


def run_module(
    module: str, *arguments: object, meanwhile: Callable[[int], object] = lambda pid: None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Do what `python -m module arguments` does, see `start_module`, and wait for its end.

    Args:
        module: the module to run.
        arguments: its arguments.
        meanwhile: called with the process id once the process is there.
        options: those of `start_module`.

    Raises:
        subprocess.TimeoutExpired: it hangs, and was killed.
    """
    return _ended(start_module(module, *arguments, **options), meanwhile)


def run_code(
    code: str, *arguments: object, meanwhile: Callable[[int], object] = lambda pid: None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Do what `python -c code arguments` does, and wait for its end, see `run_module`."""
    return _ended(start_code(code, *arguments, **options), meanwhile)


_ON_A_TERMINAL = """
import os, runpy, sys
os.setsid()  # the first terminal that is opened is then its own
terminal = os.open(sys.argv.pop(1), os.O_RDWR)
for number in range(3):
    os.dup2(terminal, number)
os.close(terminal)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def run_on_terminal(
    module: str, *arguments: object, rows: int = 24, columns: int = 80, **options: Any
) -> tuple[int, str]:
    """Do what `python -m module arguments` does on a terminal of this size; return the exit code, and what it shows.

    Args:
        module: the module to run.
        arguments: its arguments.
        rows: of the terminal.
        columns: of the terminal.
        options: those of `start_module`.
    """
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # all of theirs are closed
            while data := os.read(ours, 65536):
                shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = run_code(_ON_A_TERMINAL, os.ttyname(theirs), module, *arguments, **options)
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    return done.returncode, shown.decode()


def _start(
    what: Mapping[str, object],
    arguments: Sequence[object],
    imports: tuple[str, ...],
    environment: Mapping[str, str] | None,
    cwd: Path | None,
) -> Forked:
    given = [*map(str, arguments)]
    place = {"cwd": str(cwd or Path.cwd()), "environment": dict(os.environ if environment is None else environment)}
    return Forked({**what, **place, "arguments": given}, [str(what["module"] or "-c"), *given], imports)


def _ended(process: Forked, meanwhile: Callable[[int], object]) -> subprocess.CompletedProcess[str]:
    try:
        meanwhile(process.pid)
        out, err = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)
