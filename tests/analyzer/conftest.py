"""Runs to read: recorded by the real recorder, in this process or in a child that can be killed."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.analyzer.app_driver import demo_row
from tests.waiting import PATIENT

from esper_recorder import Recorder

Record = Callable[..., Path]
Writer = Callable[..., "subprocess.Popen[str]"]

WRITER = """
    import sys
    from esper_recorder import Recorder
    recorder = Recorder.open(sys.argv[1], run_id=sys.argv[2], segment_rows=int(sys.argv[3]))
    print("open", flush=True)
    for line in sys.stdin:
        update = int(line)
        recorder.record(update=update, policy_loss=-0.01 * update, value_loss=1.0 / (update + 1.0))
        print(update, flush=True)
    recorder.close()
"""


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Record rows (dictionaries for `Recorder.record`) into the run `name`, and return the run's folder."""

    def _record(rows: Iterable[dict[str, Any]], name: str = "run", **options: Any) -> Path:
        close = options.pop("close", {})
        recorder = Recorder.open(tmp_path / "runs", run_id=name, strict=True, **options)
        for row in rows:
            recorder.record(**{"policy_loss": -0.01, "value_loss": 0.5, **row})
        recorder.close(**close)
        return recorder.path

    return _record


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Start a process that records one update for each number that it is sent; it answers once the row is kept."""
    started: list[subprocess.Popen[str]] = []

    def _writer(name: str = "run", segment_rows: int = 50) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PATIENT + textwrap.dedent(WRITER), str(tmp_path / "runs"), name, str(segment_rows)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    yield _writer
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two attempts: the second goes on from update 130 of 150, and leaves out 260 to 262."""
    root, rng = tmp_path_factory.mktemp("runs"), random.Random(0)
    with Recorder.open(root, run_id="demo", env="CartPole-v1", trainer="esper-rec 0.1", segment_rows=64) as recorder:
        for update in range(150):
            recorder.record(**demo_row(update, rng))
    with Recorder.open(root, run_id="demo", resume="must") as recorder:
        for update in [*range(130, 260), *range(263, 300)]:
            recorder.record(**demo_row(update, rng))
    return Path(recorder.path)
