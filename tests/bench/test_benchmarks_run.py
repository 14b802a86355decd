"""The benchmarks go through, on little: their figures are printed, and never tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import HANG_SECS

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("script", "arguments", "title"),
    [
        ("judge_cost.py", ["2000"], "judge, sparse"),
        ("read_cost.py", ["300"], "one series, open_run().updates()"),
        ("live_cost.py", [], "TensorBoard, 40 scalars"),
        ("minibatch_cost.py", [], "of each, the clock"),
        ("import_cost.py", ["1"], "Esper, importing"),
        ("fleet_cost.py", ["3"], "all outputs are the same to the byte"),
    ],
)
def test_a_benchmark_prints_its_figures(script: str, arguments: list[str], title: str) -> None:
    """It ends with 0, and has the line that it is made for."""
    done = subprocess.run(
        [sys.executable, HERE / script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECS,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert any(line.strip().startswith(title) for line in done.stdout.splitlines()), done.stdout[-2000:]
