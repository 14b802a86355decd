"""The folders that runs of the suite write into: those of killed runs go, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import HANG_SECS

Begin = Callable[..., "tuple[subprocess.Popen[str], Path]"]

RUN = """
import sys
from tests.scratch import keep, make_scratch
folder = make_scratch()
if "kept" in sys.argv:
    keep(folder)
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """A function that begins a run whose folder is below `tmp_path`, and returns its process and its folder."""
    begun: list[subprocess.Popen[str]] = []

    def _begin(*words: str) -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
        )  # fmt: skip
        begun.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield _begin
    for process in begun:
        process.kill()
        process.communicate(timeout=HANG_SECS)


def test_the_folder_of_a_killed_run_goes_with_the_next_run(begin: Begin, tmp_path: Path) -> None:
    """Those of runs that go on stay, and so does what is not of the suite."""
    others = tmp_path / "esper-others"
    others.mkdir()
    killed, left = begin()
    _, used = begin()
    killed.kill()
    killed.wait(HANG_SECS)
    _, new = begin()
    assert sorted(tmp_path.iterdir()) == sorted([others, used, new])
    assert not left.exists()


def test_the_folder_of_a_failed_run_is_kept_for_a_day(begin: Begin) -> None:
    """So that somebody can look at what it left."""
    failed, kept = begin("kept")
    failed.kill()
    failed.wait(HANG_SECS)
    begin()
    assert kept.exists()
    os.utime(kept / "kept", (0, 0))
    begin()
    assert not kept.exists()
