"""The adapters on a GPU: rows have what the framework reports, and the training waits no more often than without."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.rsl_rl_runs import Kept, Points, make_runner
from tests.adapters.sb3_runs import ROLLOUT, make_ppo
from tests.gpu.sync_trace import count_waits

from esper_recorder.adapters.sb3 import RecorderCallback

ReadRows = Callable[..., list[dict[str, Any]]]

KEPT = {"class_name": Kept}


def test_rsl_rl_on_the_device(device: torch.device, tmp_path: Path, read_rows: ReadRows) -> None:
    """Rollout and minibatches are measured there: each row has rsl_rl's numbers, and those of its storage."""
    runner = make_runner(tmp_path, {"also": KEPT}, Points(device=device.type))
    runner.learn(4)
    rows = read_rows(tmp_path / "runs" / "mine")
    assert [row["update"] for row in rows] == [0, 1, 2, 3]
    reported: list[dict[str, float]] = [{} for _ in rows]
    for tag, number, step in Kept.scalars:
        if not tag.endswith("/time"):
            reported[step][tag] = number
    for row, theirs in zip(rows, reported, strict=True):
        assert (row["value_loss"], row["policy_loss"]) == (0.5 * theirs["Loss/value"], theirs["Loss/surrogate"])
        assert row["ratio_min"] <= row["ratio_mean"] <= row["ratio_max"]
        assert row["pre_clip_grad_norm"] > 0
    returns, values = (of.double().flatten().cpu() for of in (runner.alg.storage.returns, runner.alg.storage.values))
    assert rows[-1]["return_std"] == pytest.approx(returns.std(correction=0).item())
    explained = 1 - (returns - values).var() / returns.var()
    assert rows[-1]["explained_variance"] == pytest.approx(explained.item())


@pytest.mark.slow
def test_rsl_rl_waits_no_more_often_than_without(device: torch.device, tmp_path: Path) -> None:
    """Counted in the profiler's trace of the same updates, without recording and with it."""
    plain = make_runner(tmp_path / "plain", env=Points(device=device.type))
    plain.cfg["logger"] = KEPT
    recorded = make_runner(tmp_path / "recorded", {"also": KEPT}, Points(device=device.type))
    waits = []
    for runner in (plain, recorded):
        runner.learn(1)
        waits.append(count_waits(partial(runner.learn, 3), device).caller)
    assert waits[0] > 0
    assert waits[1] == waits[0]


def test_sb3_on_the_device(device: torch.device, tmp_path: Path, read_rows: ReadRows) -> None:
    """The last row has the numbers of SB3's own log, the minibatches' included."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are trying to run PPO on the GPU")
        model = make_ppo(device=device.type)
    model.learn(3 * ROLLOUT, callback=RecorderCallback(tmp_path, run_id="mine", strict=True))
    rows = read_rows(tmp_path / "mine")
    assert [row["update"] for row in rows] == [0, 1, 2]
    logged = model.logger.name_to_value
    assert rows[-1]["value_loss"] == 0.5 * float(logged["train/value_loss"])
    assert rows[-1]["policy_loss"] == float(logged["train/policy_gradient_loss"])
