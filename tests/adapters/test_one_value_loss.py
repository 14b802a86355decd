"""The value losses of three trainers over the same tensors come out as one column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.adapters.sb3_runs import ROLLOUT, make_ppo, rows_of
from torch import Tensor

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.adapters.sb3 import RecorderCallback
from esper_recorder.train import losses
from esper_schemas.run.records import ValueLossDefinition

CLIP = 0.05  # narrow, so that the clipping shows
Batch = tuple[Tensor, Tensor, Tensor]


def trained(root: Path, clip_range_vf: float | None) -> tuple[dict[str, Any], list[Batch]]:
    """Train one update with SB3: its recorded row, and V, V_old and G of each minibatch as SB3 saw them."""
    model: Any = make_ppo(learning_rate=1e-2, n_epochs=3, clip_range_vf=clip_range_vf)
    evaluate, get = model.policy.evaluate_actions, model.rollout_buffer.get
    batches: list[Batch] = []
    current: list[Any] = []

    def watched(*arguments: Any) -> Any:
        for data in get(*arguments):
            current[:] = [data]
            yield data

    def measured(*arguments: Any) -> Any:
        found = evaluate(*arguments)
        batches.append((found[0].detach().flatten(), current[0].old_values, current[0].returns))
        return found

    model.policy.evaluate_actions, model.rollout_buffer.get = measured, watched
    model.learn(ROLLOUT, callback=RecorderCallback(root, run_id="sb3"))
    (row,) = rows_of(open_run(root / "sb3"))
    assert len(batches) == 6
    return row, batches


def of_our_ppo(batches: list[Batch], clip: float | None) -> float:
    """The mean over all minibatches, by the formula that `esper-rec train` uses."""
    valid = torch.ones(len(batches[0][0]), dtype=torch.bool)
    found = [losses.masked_mean(losses.value_loss_per_sample(*batch, clip), valid) for batch in batches]
    return float(torch.stack(found).double().mean())


def of_cleanrl(batches: list[Batch]) -> tuple[float, float]:
    """What CleanRL's ppo.py (clip_vloss) computes: its v_loss, and 0.5 × its v_loss_unclipped."""
    clipped_ones, unclipped_ones = [], []
    for newvalue, b_values, b_returns in batches:
        v_loss_unclipped = (newvalue - b_returns) ** 2
        v_clipped = b_values + torch.clamp(newvalue - b_values, -CLIP, CLIP)
        v_loss_clipped = (v_clipped - b_returns) ** 2
        v_loss_max = torch.max(v_loss_unclipped, v_loss_clipped)
        clipped_ones.append(float(0.5 * v_loss_max.mean()))
        unclipped_ones.append(float(0.5 * v_loss_unclipped.mean()))
    return float(np.mean(clipped_ones)), float(np.mean(unclipped_ones))


def test_the_same_tensors_are_one_value_loss_unclipped(tmp_path: Path) -> None:
    """SB3 logs MSE, CleanRL and our PPO half of it: in the column all three are the same number."""
    row, batches = trained(tmp_path, None)
    clipped, unclipped = of_cleanrl(batches)
    ours = of_our_ppo(batches, None)
    for run_id, definition, value_loss, value_loss_unclipped in (
        ("cleanrl", ValueLossDefinition(factor=1.0, clipping="max", clip_range=CLIP), clipped, unclipped),
        ("ours", ValueLossDefinition(factor=1.0, clipping="none"), ours, ours),
    ):
        with Recorder.open(tmp_path, run_id=run_id, value_loss_definition=definition) as recorder:
            recorder.record(update=0, policy_loss=0.0, value_loss=value_loss, value_loss_unclipped=value_loss_unclipped)
    recorded = {
        run_id: rows_of(open_run(tmp_path / run_id))[0]["value_loss_unclipped"] for run_id in ("sb3", "cleanrl", "ours")
    }
    assert recorded == pytest.approx(dict.fromkeys(recorded, row["value_loss"]), rel=1e-6)
    assert recorded["sb3"] > 0.0
    # The max over both errors is CleanRL's and ours, and another number.
    assert of_our_ppo(batches, CLIP) == pytest.approx(clipped, rel=1e-6)
    assert clipped > 1.01 * unclipped


def test_a_clipped_prediction_is_another_quantity_and_stays_one(tmp_path: Path) -> None:
    """With `clip_range_vf` SB3's loss is that of the clipped prediction alone, and the unclipped column stays null."""
    row, batches = trained(tmp_path, CLIP)
    _, unclipped = of_cleanrl(batches)
    half = [0.5 * ((old + (new - old).clamp(-CLIP, CLIP) - target) ** 2).mean() for new, old, target in batches]
    assert row["value_loss"] == pytest.approx(float(torch.stack(half).mean()), rel=1e-6)
    assert row["value_loss_unclipped"] is None
    assert row["value_loss"] > 1.005 * unclipped
