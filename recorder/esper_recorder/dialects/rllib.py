"""Dialects of RLlib: of its results, flattened with `/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.metric.catalogue import SLIDING_LENGTH, SLIDING_RETURN
from esper_schemas.run.records import ValueLossDefinition

_LEARNER = "learners/{module}"
_OLD_LEARNER = "info/learner/{module}/learner_stats"
_SLIDING = "mean of the last 100 episodes at most, not of those that ended in this rollout"
_AFTER = "of the values as the update leaves them, last minibatch; explained_variance is that from before"
_WHILE = "while the critic learns, mean of all minibatches; explained_variance is that from before"
_KL = "exact KL(old ‖ new){}; 0.0 means that it was not computed"

_OF_TUNE = (
    Key("training_iteration", "training_iteration", "the trainer's number", kind="number"),
    Key("timestamp", "wall_time", "in whole seconds", factor=1e6),
    Key("time_total_s", "elapsed_secs"),
    Key("time_this_iter_s", "secs_per_iteration"),
)

RLLIB = Dialect(
    name="RLlib",
    seen="ray 2.60",
    keys=(
        Key(f"{_LEARNER}/vf_loss_unclipped", "value_loss", "of the last minibatch", factor=0.5),
        Key(f"{_LEARNER}/vf_loss", "vf_loss", "each squared error is at most vf_clip_param; cannot be undone"),
        Key(f"{_LEARNER}/policy_loss", "policy_loss", "of the last minibatch"),
        Key(f"{_LEARNER}/entropy", "entropy", "of the last minibatch"),
        Key(f"{_LEARNER}/mean_kl_loss", "kl_divergence", _KL.format(", last minibatch"), zero_is_null=True),
        Key(f"{_LEARNER}/vf_explained_var", "explained_variance_after_update", _AFTER),
        Key(f"{_LEARNER}/default_optimizer_learning_rate", "learning_rate"),
        Key(f"{_LEARNER}/curr_entropy_coeff", "entropy_coef"),
        Key(f"{_LEARNER}/curr_kl_coeff", "kl_coef"),
        Key("num_env_steps_sampled_lifetime", "env_steps"),
        Key("env_runners/num_episodes", "episodes"),
        Key("env_runners/episode_return_mean", SLIDING_RETURN, _SLIDING),
        Key("env_runners/episode_len_mean", SLIDING_LENGTH, _SLIDING),
        *_OF_TUNE,
    ),
    signature=(f"{_LEARNER}/vf_loss_unclipped", f"{_LEARNER}/policy_loss"),
    value_loss=ValueLossDefinition(
        source="mean((V - G)^2), before the clip of the errors",
        factor=0.5,
        clipping="none",
        reduction="last minibatch",
    ),
    steps="number",
    number="training_iteration",
    step_key="training_iteration",
)

_INFO_LEARNER = "info/learner/{module}"

RLLIB_INFO = replace(
    RLLIB,
    name="RLlib, 2.5 to 2.3x",
    seen="ppo_torch_learner.py of ray 2.5 to 2.9, read",
    keys=(
        *(
            key._replace(
                name=key.name.replace(_LEARNER, _INFO_LEARNER), remark=key.remark.replace(", last minibatch", "")
            )
            for key in RLLIB.keys
            if key.name.startswith(f"{_LEARNER}/") and "optimizer" not in key.name
        ),
        Key(f"{_INFO_LEARNER}/curr_lr", "learning_rate"),
        Key("num_env_steps_sampled", "env_steps"),
        Key("episodes_this_iter", "episodes"),
        Key("episode_reward_mean", SLIDING_RETURN, _SLIDING),
        Key("episode_len_mean", SLIDING_LENGTH, _SLIDING),
        *_OF_TUNE,
    ),
    signature=(f"{_INFO_LEARNER}/vf_loss_unclipped", f"{_INFO_LEARNER}/policy_loss"),
    value_loss=replace(RLLIB.value_loss, reduction="unknown"),
)
"""Results of the learners before they moved to `learners/`; some versions name the counts as RLlib does now."""


def _clip_of_rllib(
    definition: ValueLossDefinition, config: Mapping[str, Any], _first: Mapping[str, float]
) -> ValueLossDefinition:
    """Read the largest squared error from the hyper-parameters, which each result repeats."""
    width = config.get("vf_clip_param")
    return replace(definition, clip_range=float(width)) if isinstance(width, int | float) else definition


RLLIB_OLD = Dialect(
    name="RLlib, old API stack",
    seen="ray 2.3",
    keys=(
        Key(f"{_OLD_LEARNER}/vf_loss", "value_loss", "each squared error is at most vf_clip_param", factor=0.5),
        Key(f"{_OLD_LEARNER}/policy_loss", "policy_loss"),
        Key(f"{_OLD_LEARNER}/entropy", "entropy"),
        Key(f"{_OLD_LEARNER}/kl", "kl_divergence", _KL.format(""), zero_is_null=True),
        Key(f"{_OLD_LEARNER}/vf_explained_var", "explained_variance_after_update", _WHILE),
        Key(f"{_OLD_LEARNER}/cur_lr", "learning_rate"),
        Key(f"{_OLD_LEARNER}/entropy_coeff", "entropy_coef"),
        Key(f"{_OLD_LEARNER}/cur_kl_coeff", "kl_coef"),
        Key("num_env_steps_sampled", "env_steps"),
        Key("episodes_this_iter", "episodes"),
        Key("episode_reward_mean", SLIDING_RETURN, _SLIDING),
        Key("episode_len_mean", SLIDING_LENGTH, _SLIDING),
        *_OF_TUNE,
    ),
    signature=(f"{_OLD_LEARNER}/vf_loss", f"{_OLD_LEARNER}/policy_loss"),
    value_loss=ValueLossDefinition(
        source="mean(min((V - G)^2, vf_clip_param))", factor=0.5, clipping="error_clipped", reduction="all minibatches"
    ),
    steps="number",
    number="training_iteration",
    step_key="training_iteration",
    define=_clip_of_rllib,
)
