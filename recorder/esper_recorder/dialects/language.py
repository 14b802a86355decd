"""Dialects of trainers of language models: a step is a token, an episode a response."""

from __future__ import annotations

from dataclasses import replace

from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.run.records import ValueLossDefinition

_K2 = "estimator k2; kl_divergence is k3"
_K1 = "estimator k1, negative at times; kl_divergence is k3"
_ACTIVE = "share of tokens whose clipped term counts; clip_fraction counts every ratio beyond the clip range"
_SOURCE = "0.5 * masked mean(max((V - G)^2, (V_clipped - G)^2)), by tokens or by responses"

VERL = Dialect(
    name="verl",
    seen="0.9.1",
    keys=(
        Key("critic/vf_loss", "value_loss", "mean of tokens or of responses, as loss_agg_mode says"),
        Key("actor/pg_loss", "policy_loss", "mean of tokens or of responses, as loss_agg_mode says"),
        Key("actor/entropy", "entropy_per_token", "before the update; 0.06 is ordinary, entropy has other thresholds"),
        Key("actor/ppo_kl", "approx_kl_k1", _K1),
        Key("actor/pg_clipfrac", "clip_active_fraction", _ACTIVE),
        Key("actor/grad_norm", "actor_grad_norm", "of the actor alone, before clipping"),
        Key("critic/grad_norm", "critic_grad_norm", "of the critic alone, before clipping"),
        Key("actor/lr", "learning_rate", "of the actor"),
        Key("critic/lr", "critic_learning_rate"),
        Key("critic/vf_explained_var", "explained_variance"),
        Key("critic/vf_clipfrac", "value_clip_fraction"),
        Key("critic/values/mean", "value_mean"),
        Key("critic/values/max", "value_max"),
        Key("critic/values/min", "value_min"),
        Key("critic/returns/mean", "return_mean"),
        Key("critic/advantages/mean", "advantage_whitened_mean", "after normalisation"),
        Key("critic/advantages/max", "advantage_whitened_max", "after normalisation"),
        Key("critic/advantages/min", "advantage_whitened_min", "after normalisation"),
        Key("critic/score/mean", "episode_return_mean", "score of a response, without the KL penalty"),
        Key("critic/rewards/mean", "reward_mean", "score with the KL penalty, if that is in the reward"),
        Key("response_length/mean", "episode_length_mean", "tokens"),
        Key("training/global_step", "step", "the trainer's number", kind="number"),
    ),
    signature=("critic/vf_loss", "actor/pg_loss"),
    value_loss=ValueLossDefinition(source=_SOURCE, factor=1.0, clipping="max", reduction="all minibatches"),
    steps="number",
    number="step",
)

OPENRLHF = Dialect(
    name="OpenRLHF",
    seen="0.11.2",
    keys=(
        Key("train/critic_loss", "value_loss"),
        Key("train/policy_loss", "policy_loss"),
        Key("train/ppo_kl", "approx_kl_k1", _K1),
        Key("train/ppo_clip_ratio", "clip_active_fraction", _ACTIVE),
        Key("train/entropy_loss", "entropy_per_token", "+H, whatever its name says; entropy has other thresholds"),
        Key("train/actor_lr", "learning_rate", "of the actor"),
        Key("train/critic_lr", "critic_learning_rate"),
        Key("train/values", "value_mean_after", "while the critic learns; value_mean is that from before"),
        Key("train/kl", "kl_to_reference"),
        Key("train/reward", "episode_return_mean", "reward of a response"),
        Key("train/response_length", "episode_length_mean", "tokens"),
        Key("train/global_step", "step", "the trainer's number", kind="number"),
    ),
    signature=("train/critic_loss", "train/policy_loss"),
    value_loss=ValueLossDefinition(
        source=f"{_SOURCE}; without value_clip 0.5 * mean((V - G)^2)",
        factor=1.0,
        clipping="unknown",
        reduction="all minibatches",
    ),
    steps="number",
    number="step",
)

TRL = Dialect(
    name="TRL",
    seen="PPOTrainer of 0.12 and later, read",
    keys=(
        Key("loss/value_avg", "value_loss"),
        Key("loss/policy_avg", "policy_loss"),
        Key("policy/entropy_avg", "entropy_per_token", "0.06 is ordinary, entropy has other thresholds"),
        Key("policy/approxkl_avg", "approx_kl_k2", _K2),
        Key("policy/clipfrac_avg", "clip_active_fraction", _ACTIVE),
        Key("val/clipfrac_avg", "value_clip_fraction"),
        Key("val/ratio", "ratio_mean"),
        Key("lr", "learning_rate"),
        Key("objective/kl", "kl_to_reference"),
        Key("objective/scores", "episode_return_mean", "score of a response, without the KL penalty"),
    ),
    signature=("loss/value_avg", "loss/policy_avg", "policy/approxkl_avg"),
    value_loss=ValueLossDefinition(
        source="0.5 * masked mean(max((V - G)^2, (V_clipped - G)^2))",
        factor=1.0,
        clipping="max",
        reduction="all minibatches",
    ),
    steps="number",
    number="step",
)

_TRAIN = "train/"

TRL_REPORTED = replace(
    TRL,
    name="TRL, as TensorBoard and W&B show it",
    keys=tuple(key._replace(name=f"{_TRAIN}{key.name}") for key in TRL.keys),
    signature=tuple(f"{_TRAIN}{name}" for name in TRL.signature),
)

TRL_OLD = replace(
    TRL,
    name="TRL, to 0.11",
    seen="PPOTrainer.step of 0.4 to 0.11, read",
    keys=(
        Key("ppo/loss/value", "value_loss"),
        Key("ppo/loss/policy", "policy_loss"),
        Key("ppo/policy/entropy", "entropy_per_token", "0.06 is ordinary, entropy has other thresholds"),
        Key("ppo/policy/approxkl", "approx_kl_k2", _K2),
        Key("ppo/policy/policykl", "approx_kl_k1", _K1),
        Key("ppo/policy/clipfrac", "clip_active_fraction", _ACTIVE),
        Key("ppo/val/clipfrac", "value_clip_fraction"),
        Key("ppo/val/mean", "value_mean"),
        Key("ppo/returns/mean", "return_mean"),
        Key("ppo/val/var_explained", "explained_variance_while_learning", "explained_variance is that from before"),
        Key("ppo/learning_rate", "learning_rate"),
        Key("objective/kl", "kl_to_reference"),
        Key("ppo/mean_scores", "episode_return_mean", "score of a response, without the KL penalty"),
    ),
    signature=("ppo/loss/value", "ppo/loss/policy", "ppo/policy/approxkl"),
)

SAFE_RLHF = Dialect(
    name="safe-rlhf, Align-Anything",
    seen="PPO trainers of PKU-Alignment, read",
    keys=(
        Key("train/reward_critic_loss", "value_loss", "of one minibatch"),
        Key("train/actor_loss", "policy_loss", "of one minibatch"),
        Key("train/kl_divergence", "kl_to_reference", "k1, sum of the tokens of a response"),
        Key("train/reward", "episode_return_mean", "reward of a response, without the KL penalty"),
        Key("train/reward_with_kl_penalty", "reward_mean", "reward of a response with the KL penalty"),
        Key("train/reward_advantage", "advantage_mean"),
        Key("train/reward_return", "return_mean"),
        Key("train/reward_value", "value_mean_after", "while the critic learns; value_mean is that from before"),
        Key("train/actor_lr", "learning_rate", "of the actor"),
        Key("train/reward_critic_lr", "critic_learning_rate"),
        Key("train/mean_generated_length", "episode_length_mean", "tokens"),
    ),
    signature=("train/reward_critic_loss", "train/actor_loss", "train/reward_return"),
    value_loss=ValueLossDefinition(
        source="0.5 * masked mean(max((V - G)^2, (V_clipped - G)^2))",
        factor=1.0,
        clipping="max",
        reduction="last minibatch",
    ),
    steps="number",
    number="step",
)
"""It logs each minibatch."""
