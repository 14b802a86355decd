"""`esper-rec` in processes of its own, forked from one that has imported torch, for tests that kill it.

Importing torch, and what its optimisers import at their first step, takes five seconds of a processor.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

# Imports what takes seconds once, then forks a process for each command; there `die` sends a signal to itself
# the n-th time that a place is reached.
SERVER = """
import json, os, signal, sys
import torch._dynamo, esper_analyzer.measuring.levels, esper_recorder.train.command
from esper_recorder import Recorder
from esper_recorder.keeping import durable
from esper_recorder.cli import main
from esper_recorder.train.ppo import PPO

def die(place, count, number):
    def reached():
        nonlocal count
        count -= 1
        return count == 0
    def here(): os.kill(os.getpid(), number)
    write_new, rename, record, step = durable.write_new, durable.rename, Recorder.record, PPO._step
    def broken_write(folder, name, data):
        if place == "checkpoint half written" and name == "checkpoint.pt.tmp" and reached():
            write_new(folder, name, data[: len(data) // 2])
            here()
        write_new(folder, name, data)
    def broken_rename(folder, name, target):
        is_checkpoint = target == "checkpoint.pt" and place.startswith("checkpoint") and "half" not in place
        is_here = is_checkpoint and reached()
        if is_here and place == "checkpoint not renamed":
            here()
        rename(folder, name, target)
        if is_here:
            here()
    def broken_record(self, **values):
        is_safe = record(self, **values)
        if place == "row recorded" and reached():
            here()
        return is_safe
    def broken_step(self, *arguments):
        numbers = step(self, *arguments)
        if place == "minibatch trained" and reached():
            here()
        return numbers
    durable.write_new, durable.rename = broken_write, broken_rename
    Recorder.record, PPO._step = broken_record, broken_step

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(job["cwd"])
        os.environ.update(job["environment"])
        if job["terminal"]:
            os.setsid()  # the first terminal that is opened is then its own
        for number, name in ((1, "stdout"), (2, "stderr")):
            path = job["terminal"] or job["cwd"] + "/../" + name
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | (0 if job["terminal"] else os.O_TRUNC)), number)
        if job["die"]:
            die(*job["die"])
        try:
            main(job["arguments"])
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)  # taking apart all that was imported would take most of the time
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code (minus the signal that killed it), stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """The process that commands are forked from."""
    hidden = ("RANK", "WORLD_SIZE", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def rec_in(server: subprocess.Popen[str]) -> Callable[..., Done]:
    """`esper-rec` as a function of a folder to run in, its arguments, and where it is to die.

    `meanwhile` is called with the process's number once it is there; a terminal takes what it says, in place of files.
    """

    def call(
        cwd: Path,
        *arguments: str,
        die: tuple[str, int, int] | None = None,
        meanwhile: Callable[[int], object] = lambda pid: None,
        terminal: str | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Done:
        assert server.stdin is not None
        assert server.stdout is not None
        job = {"cwd": str(cwd), "arguments": arguments, "die": die, "terminal": terminal}
        server.stdin.write(json.dumps(job | {"environment": dict(environment)}) + "\n")
        server.stdin.flush()
        meanwhile(int(server.stdout.readline()))
        code = int(server.stdout.readline())
        if terminal is not None:
            return Done(code, "", "")
        return Done(code, (cwd.parent / "stdout").read_text(), (cwd.parent / "stderr").read_text())

    return call


@pytest.fixture
def rec(rec_in: Callable[..., Done], tmp_path: Path) -> Callable[..., Done]:
    """`esper-rec` as a function, run in a folder of the test's own."""
    cwd = tmp_path / "work"
    cwd.mkdir()

    def run(*arguments: str, **options: Any) -> Done:
        return rec_in(cwd, *arguments, **options)

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where `rec` records."""
    return tmp_path / "work" / "runs"


@pytest.fixture(scope="session")
def interrupted(rec_in: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one that Ctrl-C ended after 3 of 6 updates; for copying."""
    cwd = tmp_path_factory.mktemp("interrupted") / "work"
    cwd.mkdir()
    size = ["--num-envs", "4", "--rollout-steps", "16"]
    done = rec_in(cwd, "train", *size, "--updates", "6", "--run-id", "r", die=("row recorded", 3, signal.SIGINT))
    assert done.code == 130, done.err
    return cwd / "runs"
