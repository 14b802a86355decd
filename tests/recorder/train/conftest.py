"""`esper-rec` in processes of its own, forked from one that has imported torch, for tests that kill it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.forked import TRAINING, run_code, run_module

HIDDEN = ("RANK", "WORLD_SIZE", "NO_COLOR", "FORCE_COLOR")
"""Variables of the environment that commands do not get."""

DYING = """
import json, os, signal, sys
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

die(*json.loads(sys.argv.pop(1)))
main(prog_name="esper-rec")
"""
"""`esper-rec` that sends a signal to itself the n-th time that a place is reached: [place, n, signal] goes first."""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code (minus the signal that killed it), stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def rec_in() -> Callable[..., Done]:
    """`esper-rec` as a function of a folder to run in, its arguments, and where it is to die.

    `meanwhile` is called with the process's number once it is there.
    """

    def call(
        cwd: Path,
        *arguments: str,
        die: tuple[str, int, int] | None = None,
        meanwhile: Callable[[int], object] = lambda pid: None,
    ) -> Done:
        environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
        options: dict[str, Any] = {"imports": TRAINING, "environment": environment, "cwd": cwd, "meanwhile": meanwhile}
        if die is None:
            done = run_module("esper_recorder", *arguments, **options)
        else:
            done = run_code(DYING, json.dumps(die), *arguments, **options)
        return Done(done.returncode, done.stdout, done.stderr)

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
