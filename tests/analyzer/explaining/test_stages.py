"""The place of each metric in an update."""

from __future__ import annotations

from esper_analyzer.explaining.stages import COST, SETTINGS, is_explained, is_of_minibatches, stage
from esper_schemas import METRICS


def test_every_metric_has_its_place() -> None:
    """Each metric of the table is in a stage; what a minibatch computes is after the rollout."""
    assert all(SETTINGS <= stage(name) <= COST for name in METRICS)
    order = ["learning_rate", "episode_return_mean", "value_mean", "td_error_std", "advantage_std", "return_mean"]
    order += ["explained_variance", "kl_divergence", "value_loss", "pre_clip_grad_norm", "skipped", "update_secs"]
    assert sorted(order, key=stage) == order
    assert len(set(map(stage, order))) == len(order)
    assert stage("my_reward") == stage("episode_return_mean")
    assert [name for name in order if is_of_minibatches(name)] == order[7:11]


def test_labels_and_counters_are_not_explained() -> None:
    """The index of an update, times and the count of steps tell nothing."""
    assert [name for name in METRICS if not is_explained(name)] == [
        "update",
        "wall_time",
        "elapsed_secs",
        "env_steps",
        "skip_reason",
    ]
