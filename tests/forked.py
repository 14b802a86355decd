"""Commands in processes of their own, forked from one that has imported what takes long.

To import Arrow and Polars takes half a second of a processor, and PyTorch with what its optimisers import takes four.
A forked command is a process like any other: it has its own environment, folder and output, it can be killed, and it
ends as the interpreter ends. What a command imports must be tested by a process that is started, not forked.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.waiting import HANG_SECS

READING = (
    *("esper_analyzer.cli", "esper_analyzer.reporting.text", "esper_recorder.cli", "esper_schemas.examining.run"),
    *("obstore.store", "plotext", "polars", "pyarrow.dataset", "pyarrow.parquet", "rich.progress"),
)
"""What `esper-analyze` and `esper-rec` import, but for training."""

TRAINING = ("esper_recorder.cli", "pyarrow.parquet", "torch._dynamo")
"""What a script imports that trains with PyTorch."""

_SERVER = """
import gc, importlib, json, os, runpy, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
gc.freeze()  # nothing of it is garbage in a child
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    os._exit(0)  # to take apart what was imported takes long
job = json.loads(line)
for number, path in enumerate(job["files"]):
    os.dup2(os.open(path, os.O_RDWR), number)
os.chdir(job["cwd"])
os.environ.clear()
os.environ.update(job["environment"])
sys.argv[1:] = job["arguments"]
if job["module"] is None:
    exec(job["code"])
else:
    runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
"""


class _Server:
    """The process that commands are forked from."""

    def __init__(self, imports: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def number(self) -> int:
        """The next number that it says."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], HANG_SECS)[0]:
            raise TimeoutError
        return int(self._process.stdout.readline())

    def ask(self, job: Mapping[str, object]) -> None:
        """Have it fork a child for a job."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()


@cache
def _server(imports: tuple[str, ...]) -> _Server:
    return _Server(imports)


def run_module(
    module: str,
    *arguments: object,
    imports: tuple[str, ...] = READING,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    meanwhile: Callable[[int], object] = lambda pid: None,
) -> subprocess.CompletedProcess[str]:
    """Do what `python -m module arguments` does, in a forked process.

    Args:
        module: the module to run.
        arguments: its arguments.
        imports: modules that the process has imported before.
        environment: the environment of the process; None for that of this one.
        cwd: its folder; None for that of this process.
        meanwhile: called with the process id once the process is there.

    Raises:
        subprocess.TimeoutExpired: it hangs, and was killed.
    """
    given = [*map(str, arguments)]
    job = {"module": module, "arguments": given, "cwd": str(cwd or Path.cwd())}
    return _run({**job, "environment": dict(os.environ if environment is None else environment)}, imports, meanwhile)


def run_code(code: str, *arguments: object, imports: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Do what `python -c code arguments` does, see `run_module`, in the folder and environment of this process."""
    job = {"module": None, "code": code, "arguments": [*map(str, arguments)], "cwd": str(Path.cwd())}
    return _run({**job, "environment": dict(os.environ)}, imports)


def _run(
    job: dict[str, Any], imports: tuple[str, ...], meanwhile: Callable[[int], object] = lambda pid: None
) -> subprocess.CompletedProcess[str]:
    server = _server(imports)
    command = [job["module"] or "-c", *job["arguments"]]
    with tempfile.TemporaryDirectory(prefix="forked-") as place:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        for path in outputs:
            path.touch()
        server.ask({**job, "files": [os.devnull, *map(str, outputs)]})
        pid = server.number()
        try:
            meanwhile(pid)
            code = server.number()
        except BaseException as error:
            os.kill(pid, signal.SIGKILL)
            server.number()
            if isinstance(error, TimeoutError):
                raise subprocess.TimeoutExpired(command, HANG_SECS) from None
            raise
        said = [path.read_text(encoding="utf-8") for path in outputs]
    return subprocess.CompletedProcess(command, code, *said)
