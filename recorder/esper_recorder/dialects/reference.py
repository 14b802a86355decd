"""Dialects of implementations that many others began as: Baselines, Stable-Baselines 2, Spinning Up, PFRL."""

from __future__ import annotations

from dataclasses import replace

from esper_recorder.dialects.gym import K1, SLIDING
from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.metric.catalogue import SLIDING_LENGTH, SLIDING_RETURN
from esper_schemas.run.records import ValueLossDefinition

_K2 = "estimator k2; kl_divergence is k3"
_BEFORE = "of the whole rollout, before the update"

BASELINES = Dialect(
    name="Baselines",
    seen="ppo2.py of OpenAI Baselines, read",
    keys=(
        Key("loss/value_loss", "value_loss"),
        Key("loss/policy_loss", "policy_loss"),
        Key("loss/policy_entropy", "entropy"),
        Key("loss/approxkl", "approx_kl_k2", _K2),
        Key("loss/clipfrac", "clip_fraction"),
        Key("misc/explained_variance", "explained_variance", "NaN where the returns do not vary"),
        Key("misc/nupdates", "nupdates", "the trainer's number", kind="number"),
        Key("misc/total_timesteps", "env_steps", kind="step"),
        Key("misc/time_elapsed", "elapsed_secs"),
        Key("fps", "steps_per_sec"),
        Key("eprewmean", SLIDING_RETURN, SLIDING),
        Key("eplenmean", SLIDING_LENGTH, SLIDING),
    ),
    signature=("loss/value_loss", "loss/policy_loss", "loss/policy_entropy", "misc/total_timesteps"),
    value_loss=ValueLossDefinition(
        source="0.5 * mean(max((V - G)^2, (V_old + clamp(V - V_old, -clip, clip) - G)^2))",
        factor=1.0,
        clipping="max",
        reduction="all minibatches",
    ),
    steps="env_steps",
    number="nupdates",
    step_key="misc/total_timesteps",
)

BASELINES_OLD = replace(
    BASELINES,
    name="Baselines, older",
    keys=tuple(key._replace(name=key.name.rpartition("/")[2]) for key in BASELINES.keys),
    signature=("value_loss", "policy_loss", "policy_entropy", "total_timesteps", "nupdates"),
    step_key="total_timesteps",
)

_OF_SB2 = {
    "nupdates": "n_updates",
    "eprewmean": "ep_reward_mean",
    "eplenmean": "ep_len_mean",
}

STABLE_BASELINES_2 = replace(
    BASELINES_OLD,
    name="Stable-Baselines 2",
    seen="ppo2.py of 2.10, read",
    keys=tuple(key._replace(name=_OF_SB2.get(key.name, key.name)) for key in BASELINES_OLD.keys),
    signature=("value_loss", "policy_loss", "policy_entropy", "total_timesteps", "n_updates"),
)

SPINNING_UP = Dialect(
    name="Spinning Up",
    seen="ppo.py of commit 038665d6",
    keys=(
        Key("LossV", "value_loss", _BEFORE, factor=0.5),
        Key("LossPi", "policy_loss", _BEFORE),
        Key("Entropy", "entropy", _BEFORE),
        Key("KL", "approx_kl_k1", K1),
        Key("ClipFrac", "clip_fraction", "of the last step of the policy"),
        Key("AverageEpRet", "episode_return_mean"),
        Key("EpLen", "episode_length_mean"),
        Key("AverageVVals", "value_mean"),
        Key("StdVVals", "value_std"),
        Key("MinVVals", "value_min"),
        Key("MaxVVals", "value_max"),
        Key("TotalEnvInteracts", "env_steps", kind="step"),
        Key("Time", "elapsed_secs"),
        Key("Epoch", "epoch", "the trainer's number", kind="number"),
    ),
    signature=("LossV", "LossPi", "KL", "TotalEnvInteracts"),
    value_loss=ValueLossDefinition(
        source="mean((V - G)^2) over the rollout, before the update", factor=0.5, clipping="none"
    ),
    steps="env_steps",
    number="epoch",
    step_key="TotalEnvInteracts",
)

_LAST_100 = "mean of the last 100 minibatches"
_LAST_1000 = "mean of the last 1,000 steps"

PFRL = Dialect(
    name="PFRL",
    seen="0.4.0",
    keys=(
        Key("average_value_loss", "value_loss", _LAST_100, factor=0.5),
        Key("average_policy_loss", "policy_loss", _LAST_100),
        Key("average_entropy", "entropy", _LAST_1000),
        Key("average_value", "value_mean", _LAST_1000),
        Key("explained_variance", "explained_variance"),
        Key("n_updates", "n_updates", "counts minibatches, not updates"),
        Key("mean", "episode_return_mean", "of the episodes of an evaluation"),
        Key("steps", "env_steps", kind="step"),
        Key("elapsed", "elapsed_secs"),
    ),
    signature=("average_value_loss", "average_policy_loss", "average_value", "n_updates"),
    value_loss=ValueLossDefinition(
        source="mean((V - G)^2), or mean(max((V - G)^2, (V_clipped - G)^2)) with clip_eps_vf", factor=0.5
    ),
    steps="env_steps",
    step_key="steps",
)
"""`scores.txt`, with a row for each evaluation, however many updates lie between two of them."""
