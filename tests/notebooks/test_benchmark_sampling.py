"""Sampling of the benchmark: batches are whole or absent, and a batch that was killed is sampled again."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from tests.waiting import HANG_SECS

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import outcomes, plan, sample, storage
from benchmark.hyper import Hyper

from esper_schemas.errors import UsageError

pytestmark = pytest.mark.notebooks  # a minute of the suite that only the benchmark needs

TINY = Hyper(num_envs=4, rollout_steps=16, epochs=1, minibatches=1, hidden=8)


def entry(run: int, kind: str = "sound", trainer: str = "cleanrl", **more: Any) -> plan.Entry:
    """A run of six updates."""
    given: dict[str, Any] = {"updates": 6, "begins": 0, "hyper": TINY, "part": "main", "env": "SparseCorridor"}
    return plan.Entry(
        run=run, trainer=trainer, kind=kind, seed=run + 1, strength=1.0, is_held_back=False, **(given | more)
    )


def tiny_batches() -> tuple[plan.Batch, ...]:
    """Two batches; the second one has a run that does not end within a test."""
    endless = entry(2, updates=100_000)
    return plan.Batch("batches", 0, (entry(0), entry(1, "rewards-negated", begins=3))), plan.Batch(
        "batches", 1, (entry(3), endless)
    )


KILLED = """
import sys
sys.path[:0] = [{notebooks!r}, {tests!r}]
from pathlib import Path
from benchmark import sample
import test_benchmark_sampling
out = Path(sys.argv[1])
with sample.working_folder(out):
    for batch in test_benchmark_sampling.tiny_batches():
        sample.sample_batch(batch, out)
"""


def wait_for(condition: Any) -> None:
    """Wait until `condition()` holds."""
    until = time.monotonic() + HANG_SECS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_batch_is_sampled_again(tmp_path: Path) -> None:
    """After a SIGKILL amid the second batch the first is whole, and only the second is sampled; twice is the same."""
    root = str(Path(__file__).parents[2])
    script = KILLED.format(notebooks=str(Path(sample.__file__).parents[1]), tests=str(Path(__file__).parent))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment)
    try:
        wait_for(lambda: list(tmp_path.glob("working/batches-0001-*/*")) or process.poll() is not None)
        assert process.poll() is None
        with pytest.raises(UsageError, match="another process samples"), sample.working_folder(tmp_path):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    first, second = tiny_batches()
    assert [path.name for path in sorted((tmp_path / "batches").iterdir())] == ["0000.parquet", "0000.runs.jsonl"]
    kept = storage.batch_path(tmp_path / "batches", 0).read_bytes()
    second = replace(second, entries=second.entries[:1])
    with sample.working_folder(tmp_path):
        assert not list((tmp_path / "working").iterdir())
        missing = sample.missing_batches((first, second), tmp_path)
        assert missing == [second]
        sample.sample_batch(second, tmp_path)
        assert sample.missing_batches((first, second), tmp_path) == []
    assert storage.batch_path(tmp_path / "batches", 0).read_bytes() == kept
    runs = storage.read_runs(tmp_path / "batches")
    rows = storage.read_rows(tmp_path / "batches").collect()
    assert [run["run"] for run in runs] == [0, 1, 3]
    assert rows.group_by("run", maintain_order=True).len().rows() == [(0, 6), (1, 6), (3, 6)]
    assert set(outcomes.label_runs(runs, rows)["label"]) <= set(outcomes.LABELS)
    negated = rows.filter((pl.col("run") == 1) & (pl.col("update") >= 4) & (pl.col("own_episodes") > 0))
    assert (negated["own_return"] == -negated["episode_return_mean"]).all()
    other = [replace(first, entries=(replace(first.entries[0], seed=9), first.entries[1]))]
    with pytest.raises(UsageError, match="not in the plan"):
        sample.missing_batches(other, tmp_path)


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends sampling with exit code 130 and a line that has the command; so does the end of the time."""

    def interrupted(*_: Any) -> Iterator[Any]:
        yield "batches/0000", 12, 0.1
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "make_batches", lambda _: tiny_batches())
    monkeypatch.setattr(sample, "sample_batches", interrupted)
    result = CliRunner().invoke(sample.main, ["--out", str(tmp_path), "--only", "batches"])
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "sample: interrupted with 0 of 2 batches;"
        f" go on with: python notebooks/benchmark/sample.py --out {tmp_path} --jobs 1 --only batches"
    )
    monkeypatch.setattr(sample, "sample_batches", lambda *_: iter(()))
    result = CliRunner().invoke(sample.main, ["--out", str(tmp_path), "--only", "batches", "--minutes", "0"])
    assert (result.exit_code, "0 of 2 batches; go on with" in result.stderr) == (0, True)


def test_numbers_are_stored_as_precisely_as_they_are_said_to_be() -> None:
    """Rounded numbers are within their bound of the original; NaN, infinities and the largest numbers stay."""
    values = np.random.default_rng(1).standard_normal(1000).astype(np.float32) * np.float32(1e3)
    for bits in (5, 7, 11):
        stored = storage.rounded(values, bits)
        assert (np.abs(stored - values) <= np.abs(values) / 2 ** (bits + 1)).all()
        assert len(set(stored.tolist())) < 900 or bits == 11
    special = np.array([0.0, 1.0, -0.5, math.inf, -math.inf, 3.4e38, math.nan], np.float32)
    np.testing.assert_array_equal(storage.rounded(special, 5)[:5], special[:5])
    assert np.isfinite(storage.rounded(special, 5)[5])
    assert np.isnan(storage.rounded(special, 5)[6])


def test_missing_is_null_and_what_float32_cannot_hold_is_infinite() -> None:
    """A column that a trainer does not record is null, and 1e300 is infinite; the truth is stored where it differs."""
    rows = pl.DataFrame(
        {
            "update": [0, 1],
            "value_loss": [1e300, None],
            "policy_loss": [math.nan, 0.5],
            "episode_return_mean": [4.0, None],
            "episodes": [2, 0],
        }
    )
    told = storage.stored_rows(rows, 7, [(0, 3.0, 1), (0, 5.0, 1)])
    assert told["value_loss"].to_list() == [math.inf, None]
    assert math.isnan(told["policy_loss"][0])
    assert told["explained_variance"].to_list() == [None, None]
    assert told["own_return"].to_list() == [None, None]
    differing = storage.stored_rows(rows, 7, [(0, 3.0, 1), (0, 6.0, 1)])
    assert differing.select("own_return", "own_episodes").rows() == [(4.5, 2), (None, 0)]
    assert told.dtypes == differing.dtypes


def test_a_run_that_crashes_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    """An exception of the trainer is written down, with the rows before it."""
    line, rows = sample.sample_run(entry(5, "observations-nan", "sb3", begins=3), tmp_path)
    assert line["ended"] == "failed"
    assert line["error"]
    assert line["rows"] == len(rows) <= 4
    assert line["final_return"] is None or math.isfinite(line["final_return"])
