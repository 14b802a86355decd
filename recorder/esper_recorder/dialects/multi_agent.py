"""Dialects of trainers with several agents: on-policy (MAPPO), its successor HARL, Unity ML-Agents."""

from __future__ import annotations

from dataclasses import replace

from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.run.records import ValueLossDefinition

_HUBER = "mean(max(h(V - G), h(V_old + clamp(V - V_old, -clip, clip) - G))), h(e) = 0.5 * e^2 up to huber_delta"
_UNCLEAR = (
    "whether use_valuenorm standardises the targets, use_clipped_value_loss clips the predictions, and use_huber_loss"
    " makes errors beyond huber_delta (10) linear (all three by default)"
)
_ENTROPY = "of several discrete actions their mean"
_ACTOR_NORM = "of the actor alone, before clipping"
_CRITIC_NORM = "of the critic alone, before clipping"

_VALUE_LOSS = ValueLossDefinition(source=_HUBER, factor=1.0, clipping="unknown", reduction="all minibatches")

ON_POLICY = Dialect(
    name="on-policy (MAPPO)",
    seen="commit 79f65918",
    keys=(
        Key("value_loss", "value_loss"),
        Key("policy_loss", "policy_loss"),
        Key("dist_entropy", "entropy", _ENTROPY),
        Key("ratio", "ratio_mean"),
        Key("actor_grad_norm", "actor_grad_norm", _ACTOR_NORM),
        Key("critic_grad_norm", "critic_grad_norm", _CRITIC_NORM),
        Key(
            "average_episode_rewards",
            "episode_return_mean",
            "mean reward of a step and an agent × episode_length: the return where no episode ends earlier",
        ),
    ),
    signature=("value_loss", "policy_loss", "dist_entropy", "ratio"),
    value_loss=_VALUE_LOSS,
    steps="env_steps",
    unclear=_UNCLEAR,
)
"""One policy of all agents. It logs every `log_interval` updates (5 by default)."""

ON_POLICY_SEPARATED = replace(
    ON_POLICY,
    name="on-policy (MAPPO), separated",
    keys=tuple(key._replace(name=f"{{module}}/{key.name}") for key in ON_POLICY.keys),
    signature=tuple(f"{{module}}/{name}" for name in ON_POLICY.signature),
)
"""A policy and a critic for each agent: `agent0/value_loss`."""

HARL = Dialect(
    name="HARL",
    seen="commit d539bad2",
    keys=(
        Key("critic/value_loss", "value_loss"),
        Key("critic/critic_grad_norm", "critic_grad_norm", _CRITIC_NORM),
        Key("critic/average_step_rewards", "reward_mean"),
        Key("{module}/policy_loss", "policy_loss", "of one agent; HAPPO weighs it by the agents that learned before"),
        Key("{module}/dist_entropy", "entropy", "of one agent"),
        Key("{module}/ratio", "ratio_mean", "of one agent"),
        Key("{module}/actor_grad_norm", "actor_grad_norm", f"of one agent, {_ACTOR_NORM}"),
        Key(
            "train_episode_rewards/aver_rewards",
            "episode_return_mean",
            "of the episodes that ended since the last record; mean of the agents",
        ),
    ),
    signature=("critic/value_loss", "{module}/policy_loss", "{module}/dist_entropy", "{module}/ratio"),
    value_loss=_VALUE_LOSS,
    steps="env_steps",
    unclear=_UNCLEAR,
)
"""One critic, and an actor for each agent. It logs every `log_interval` updates (5 by default)."""

_SINCE = "mean of all minibatches since the last record"
_ENDED = "of the episodes that ended since the last record"

ML_AGENTS = Dialect(
    name="ML-Agents",
    seen="1.1.0; also MA-POCA",
    keys=(
        Key("Losses/Value Loss", "value_loss", f"{_SINCE}, and of all reward signals", factor=0.5),
        Key("Losses/Policy Loss", "policy_loss", f"of the absolute values, so without a sign: {_SINCE}"),
        Key("Losses/Baseline Loss", "baseline_loss", f"second critic of MA-POCA, {_SINCE}", factor=0.5),
        Key(
            "Policy/Entropy",
            "entropy_of_dimension",
            "mean of the dimensions of a continuous action, whose sum is entropy, plus the sum of discrete ones",
        ),
        Key("Policy/Learning Rate", "learning_rate"),
        Key("Policy/Epsilon", "clip_range", "of the ratio and of the predictions; it decays by default"),
        Key("Policy/Beta", "entropy_coef"),
        Key("Environment/Cumulative Reward", "episode_return_mean", f"of one agent: {_ENDED}"),
        Key("Environment/Episode Length", "episode_length_mean", _ENDED),
    ),
    signature=("Losses/Value Loss", "Losses/Policy Loss", "Policy/Epsilon", "Policy/Beta"),
    value_loss=ValueLossDefinition(
        source="mean(max((V - G)^2, (V_old + clamp(V - V_old, -epsilon, epsilon) - G)^2)), mean of all reward signals",
        factor=0.5,
        clipping="max",
        reduction="all minibatches",
    ),
    steps="env_steps",
)
"""It logs every `summary_freq` steps of all agents, and not every update."""
