"""A real update: recorded losses recomputed from its tensors, host transfers, early stop, rollback."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from esper_recorder import Recorder
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.ppo import Minibatch
from esper_recorder.train.trainer import Trainer

CPU = torch.device("cpu")


def trainer(**overrides: Any) -> Trainer:
    """A trainer of a few small updates."""
    settings: dict[str, Any] = {"env": "CartPole-v1", "num_envs": 8, "rollout_steps": 40, "updates": 3}
    config = PPOConfig.for_env(**(settings | overrides))
    return Trainer(config, make_env(config.env, config.num_envs, seed=config.seed, device=CPU), CPU)


def recompute(kept: list[Minibatch], config: PPOConfig) -> dict[str, float]:
    """Every mean over minibatches, from their tensors, in float64 numpy: all samples weigh the same."""
    columns: dict[str, list[np.ndarray]] = {}
    for batch in kept:
        valid = batch.valid.numpy()
        names = ("values", "old_values", "targets", "log_probs", "old_log_probs", "advantages", "entropy")
        v, v_old, g, new, old, a, entropy = (getattr(batch, name).double().numpy()[valid] for name in names)
        unclipped = (v - g) ** 2
        value = unclipped
        if config.value_clip is not None:
            clipped = v_old + np.clip(v - v_old, -config.value_clip, config.value_clip)
            value = np.maximum(unclipped, (clipped - g) ** 2)
        ratio = np.exp(new - old)
        clip = config.clip_range
        samples = {
            "value_loss": 0.5 * value,
            "value_loss_unclipped": 0.5 * unclipped,
            "policy_loss": -np.minimum(ratio * a, np.clip(ratio, 1 - clip, 1 + clip) * a),
            "entropy": entropy,
            "kl_divergence": ratio - 1 - np.log(ratio),
            "clip_fraction": (np.abs(ratio - 1) > clip).astype(float),
            "clip_fraction_positive": (ratio > 1 + clip).astype(float),
            "clip_fraction_negative": (ratio < 1 - clip).astype(float),
            "ratio": ratio,
            "log_prob": new,
        }
        for name, sample in samples.items():
            columns.setdefault(name, []).append(sample)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    ratio, log_prob = joined.pop("ratio"), joined.pop("log_prob")
    return {name: float(values.mean()) for name, values in joined.items()} | {
        "ratio_mean": float(ratio.mean()),
        "ratio_std": float(ratio.std()),
        "ratio_min": float(ratio.min()),
        "ratio_max": float(ratio.max()),
        "log_prob_min": float(log_prob.min()),
        "log_prob_max": float(log_prob.max()),
    }


@pytest.mark.parametrize("value_clip", [None, 0.05, 10.0])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_recorded_losses_equal_those_recomputed_from_the_stored_tensors(
    tmp_path: Path, env: str, value_clip: float | None
) -> None:
    """What the run holds is the float64 mean over every valid sample of every minibatch, both clip forms."""
    # Three unequal minibatches, with different numbers of reset rows: a mean of means would be wrong.
    learner = trainer(env=env, value_clip=value_clip, minibatches=3, epochs=4, learning_rate=1e-2)
    expected = []
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for update in range(3):
            kept: list[Minibatch] = []
            recorder.record(**learner.run_update(update, on_minibatch=kept.append))
            assert len(kept) == 12
            expected.append(recompute(kept, learner.config))
    rows = pl.read_parquet(tmp_path / "r/rank-0000/segments/*.parquet").sort("update")
    for row, numbers in zip(rows.to_dicts(), expected, strict=True):
        assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=2e-5, abs=2e-6)
    if value_clip == 0.05:
        assert (rows["value_loss"] > rows["value_loss_unclipped"]).any()


class HostReads(TorchFunctionMode):
    """Counts the calls by which Python reads a tensor's value."""

    NAMES = frozenset({"tolist", "item", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__", "nonzero"})

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in self.NAMES:
            self.calls.append(func.__name__)
        return func(*args, **(kwargs or {}))


class WaitingOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators whose result's value or shape the host has to wait for."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        has_mask = name.startswith("index") and any(
            getattr(i, "dtype", None) is torch.bool for a in args if isinstance(a, list | tuple) for i in a
        )
        if name in self.NAMES or has_mask:
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("minibatches", [1, 8])
def test_an_update_reads_the_device_once_however_many_minibatches(minibatches: int) -> None:
    """Rollout, epochs and statistics of an update end in one copy to the host and make no other."""
    learner = trainer(minibatches=minibatches)
    learner.run_update(0)
    with HostReads() as reads, WaitingOperators() as operators:
        learner.run_update(1)
    assert reads.calls == ["tolist"]
    assert operators.calls == []


def test_the_counters_of_host_reads_see_them() -> None:
    """An item(), a bool() and a boolean index are noticed, so that the test above can fail."""
    with HostReads() as reads, WaitingOperators() as operators:
        values = torch.arange(4.0)
        values.sum().item()
        bool(values[0] > 1)
        values[values > 1]
    assert reads.calls == ["item", "__bool__"]
    assert operators.calls.count("_local_scalar_dense") == 2
    assert "index" in operators.calls


def test_kl_early_stop_ends_the_epochs() -> None:
    """With a target of almost nothing the first epoch that moved the policy is the last, and is recorded."""
    learner = trainer(target_kl=1e-7, epochs=6, learning_rate=1e-2)
    row = learner.run_update(0)
    assert row["early_stop_epoch"] == row["epochs_run"] == 1
    assert row["minibatches"] == learner.config.minibatches
    calm = trainer(target_kl=10.0, epochs=2).run_update(0)
    assert calm["early_stop_epoch"] is None
    assert calm["epochs_run"] == 2


def test_recorded_gradient_norms_are_those_of_the_gradient() -> None:
    """With one minibatch of one epoch the norms are those left on the parameters, clipped to the limit."""
    learner = trainer(minibatches=1, epochs=1, max_grad_norm=0.01)
    row = learner.run_update(0)
    left = math.sqrt(sum(float(p.grad.double().square().sum()) for p in learner.ppo.parameters if p.grad is not None))
    assert row["grad_norm"] == pytest.approx(left, rel=1e-4)
    assert row["grad_norm"] == pytest.approx(0.01, rel=1e-3)
    assert row["pre_clip_grad_norm"] > 0.05
    loose = trainer(minibatches=1, epochs=1, max_grad_norm=1e6).run_update(0)
    assert loose["grad_norm"] == pytest.approx(row["pre_clip_grad_norm"], rel=1e-6)
    assert row["nan_grad_count"] == row["inf_grad_count"] == 0


def test_learning_rate_falls_to_zero_over_the_run_unless_told_otherwise() -> None:
    """Annealing is linear from the given rate; without it every update has that rate."""
    learner = trainer(updates=4, learning_rate=0.1)
    assert [learner.run_update(u)["learning_rate"] for u in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert trainer(updates=4, learning_rate=0.1, anneal_lr=False).run_update(3)["learning_rate"] == 0.1


def test_value_target_scale_is_what_the_targets_were_divided_by() -> None:
    """Targets times the recorded scale are the raw returns; switched off the scale is 1."""
    learner = trainer(minibatches=1, epochs=1)
    kept: list[Minibatch] = []
    row = learner.run_update(0, on_minibatch=kept.append)
    raw = kept[0].targets.double()[kept[0].valid] * row["value_target_scale"]
    assert row["value_target_scale"] == pytest.approx(row["return_std"], rel=1e-6)
    assert row["return_mean"] == pytest.approx(float(raw.mean()), rel=1e-5)
    plain = trainer(scale_value_targets=False)
    assert [plain.run_update(u)["value_target_scale"] for u in range(2)] == [1.0, 1.0]


def test_a_new_scale_leaves_the_raw_values_where_they_were() -> None:
    """When the scale of the value targets changes, V on the raw return scale does not jump."""
    learner = trainer()
    learner.run_update(0)
    rollout = learner.collector.collect()
    old_scale = learner.model.return_scale.scale.clone()
    scale = learner.ppo._rescale_targets(rollout)
    assert scale.item() != pytest.approx(old_scale.item(), rel=1e-3)
    values = learner.model.predict_values(rollout.observations) * scale
    torch.testing.assert_close(values, rollout.values, rtol=1e-4, atol=1e-4)


def test_an_update_with_a_non_finite_loss_is_rolled_back_and_recorded(tmp_path: Path) -> None:
    """NaN rewards leave parameters, optimiser and scale as they were, one row that says so, and training goes on."""
    learner = trainer(updates=4)
    learner.run_update(0)
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    moments = [s["exp_avg"].clone() for s in learner.ppo.optimizer.state.values()]
    healthy_rewards = learner.collector.env._rewards.clone()  # type: ignore[attr-defined]
    learner.collector.env._rewards.fill_(math.nan)  # type: ignore[attr-defined]
    bad = learner.run_update(1)
    assert bad["skipped"] is True
    assert bad["skip_reason"] == 1
    assert math.isnan(bad["value_loss"])
    assert bad["nan_grad_count"] > 0
    for name, value in learner.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    after = [s["exp_avg"] for s in learner.ppo.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))

    learner.collector.env._rewards.copy_(healthy_rewards)  # type: ignore[attr-defined]
    for _ in range(3):  # episodes that were running carry their NaN return to their end
        good = learner.run_update(2)
    assert good["skipped"] is False
    assert math.isfinite(good["value_loss"])
    assert math.isfinite(good["episode_return_mean"])
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        recorder.record(**bad)
        recorder.record(**{**good, "update": 2})
    rows = pl.read_parquet(tmp_path / "r/rank-0000/segments/*.parquet")
    assert rows["skipped"].to_list() == [True, False]
    assert rows["skip_reason"].to_list() == [1, None]


def test_an_infinite_gradient_is_counted_and_rolled_back() -> None:
    """Where the loss is finite but a gradient is not, the update is rolled back for its gradient."""
    learner = trainer(epochs=1, minibatches=1)
    weight = learner.ppo.parameters[0]
    handle = weight.register_hook(lambda g: torch.full_like(g, torch.inf))  # type: ignore[no-untyped-call]
    row = learner.run_update(0)
    handle.remove()
    assert row["skip_reason"] == 2
    assert math.isfinite(row["value_loss"])
    assert row["inf_grad_count"] >= weight.numel()
    assert torch.isfinite(weight).all()
