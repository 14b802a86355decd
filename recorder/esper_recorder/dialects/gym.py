"""Dialects of trainers for environments with steps and episodes, each from the source of the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.metric.catalogue import SLIDING_LENGTH, SLIDING_RETURN
from esper_schemas.run.records import ValueLossDefinition

K1 = "estimator k1, negative at times; kl_divergence is k3"
LAST_MINIBATCH = "of the last minibatch"
SLIDING = "mean of the last 100 episodes, not of those that ended in this rollout"

_RETURN, _LENGTH = SLIDING_RETURN, SLIDING_LENGTH

MAX = "mean(max((V - G)^2, (V_old + clamp(V - V_old, -clip, clip) - G)^2))"
MAX_OR_NOT = f"{MAX}, or mean((V - G)^2) without value clipping; the log does not say which"


def _clip_of_sb3(
    definition: ValueLossDefinition, _config: Mapping[str, Any], first: Mapping[str, float]
) -> ValueLossDefinition:
    """SB3 logs `train/clip_range_vf` only where it clips the value function."""
    width = first.get("train/clip_range_vf")
    if width is None:
        return definition
    source = "mean((V_old + clamp(V - V_old, -clip, clip) - G)^2)"
    return replace(definition, source=source, clipping="clipped", clip_range=width)


SB3 = Dialect(
    name="Stable-Baselines3",
    seen="2.9.2; also MaskablePPO and RecurrentPPO of sb3-contrib",
    keys=(
        Key("train/value_loss", "value_loss", factor=0.5),
        Key("train/policy_gradient_loss", "policy_loss"),
        Key("train/entropy_loss", "entropy", "estimated where the distribution has no formula", factor=-1.0),
        Key("train/approx_kl", "kl_divergence", "of the last epoch only"),
        Key("train/clip_fraction", "clip_fraction"),
        Key("train/explained_variance", "explained_variance", "NaN where the returns do not vary"),
        Key("train/learning_rate", "learning_rate"),
        Key("train/clip_range", "clip_range"),
        Key("train/clip_range_vf", "clip_range_vf", "half-width of the clip of the predictions"),
        Key("train/n_updates", "n_updates", "counts epochs, not updates"),
        Key("train/loss", "loss", "of the last minibatch, all terms with their coefficients"),
        Key("train/std", "policy_std"),
        Key("rollout/ep_rew_mean", _RETURN, SLIDING, kind="rollout"),
        Key("rollout/ep_len_mean", _LENGTH, SLIDING, kind="rollout"),
        Key("time/total_timesteps", "env_steps", "those of the rollout that the update learned from", kind="step"),
        Key("time/iterations", "iterations", "rollouts since learn() was called", kind="rollout"),
        Key("time/time_elapsed", "time_elapsed", "seconds since learn() was called", kind="rollout"),
        Key("time/fps", "steps_per_sec", "since learn() was called", kind="rollout"),
    ),
    signature=("train/value_loss", "train/policy_gradient_loss", "train/approx_kl"),
    value_loss=ValueLossDefinition(source="mean((V - G)^2)", factor=0.5, clipping="none", reduction="all minibatches"),
    steps="env_steps",
    number="logged_at_step",
    step_key="time/total_timesteps",
    lags=True,
    rollouts_key="time/iterations",
    epochs_key="train/n_updates",
    of_rollout=("rollout/", "time/"),
    define=_clip_of_sb3,
)

_OTHER_IN_SBX = ("value_loss", "policy_gradient_loss", "loss", "clip_range_vf", "approx_kl", "entropy_loss")

SBX = Dialect(
    name="SBX",
    seen="0.28.0",
    keys=(
        Key("train/value_loss", "value_loss", f"{LAST_MINIBATCH}; vf_coef is included"),
        Key("train/policy_gradient_loss", "policy_loss", LAST_MINIBATCH),
        Key("train/pg_loss", "policy_loss_with_entropy", f"{LAST_MINIBATCH}; −ent_coef·H is included"),
        Key("train/entropy_loss", "entropy", LAST_MINIBATCH, factor=-1.0),
        Key("train/approx_kl", "kl_divergence"),
        *(key for key in SB3.keys if key.name.rpartition("/")[2] not in _OTHER_IN_SBX),
    ),
    signature=("train/value_loss", "train/pg_loss", "train/policy_gradient_loss"),
    value_loss=ValueLossDefinition(
        source="vf_coef * mean((V - G)^2)",
        factor=1.0,
        clipping="none",
        reduction="last minibatch",
        coefficient_included=True,
    ),
    steps="env_steps",
    number="logged_at_step",
    step_key="time/total_timesteps",
    lags=True,
    rollouts_key="time/iterations",
    epochs_key="train/n_updates",
    of_rollout=SB3.of_rollout,
    unclear="vf_coef, which is included in the value loss; the factor is 0.5 / vf_coef, so 1 with the default of 0.5",
)

SBX_OLD = replace(
    SBX,
    name="SBX, older",
    seen="read",
    keys=(
        Key("train/value_loss", "value_loss", f"{LAST_MINIBATCH}; vf_coef may be included", factor=0.5),
        Key("train/pg_loss", "policy_loss", f"{LAST_MINIBATCH}; −ent_coef·H is included (ent_coef is 0 by default)"),
        *SBX.keys[3:],
    ),
    signature=("train/value_loss", "train/pg_loss", "train/approx_kl"),
    value_loss=ValueLossDefinition(
        source="mean((V - G)^2), in some versions times vf_coef",
        factor=0.5,
        clipping="none",
        reduction="last minibatch",
    ),
    unclear="whether vf_coef is included in the value loss; if it is, the factor is 0.5 / vf_coef",
)


def _clip_of_rsl_rl(
    definition: ValueLossDefinition, config: Mapping[str, Any], _first: Mapping[str, float]
) -> ValueLossDefinition:
    """Read `use_clipped_value_loss` and `clip_param`, which the algorithm knows and the log does not tell."""
    is_clipped, width = config.get("use_clipped_value_loss"), config.get("clip_param")
    if is_clipped is True and isinstance(width, float):
        return replace(definition, source=MAX, clipping="max", clip_range=width)
    if is_clipped is False:
        return replace(definition, source="mean((V - G)^2)", clipping="none")
    return definition


RSL_RL = Dialect(
    name="rsl_rl",
    seen="5.5.1",
    keys=(
        Key("Loss/value", "value_loss", factor=0.5),
        Key("Loss/surrogate", "policy_loss"),
        Key("Loss/entropy", "entropy"),
        Key("Loss/learning_rate", "learning_rate"),
        Key("Policy/mean_std", "policy_std"),
        Key("Perf/collection_time", "rollout_secs"),
        Key("Perf/learning_time", "update_secs"),
        Key("Perf/total_fps", "steps_per_sec"),
        Key("Train/mean_reward", _RETURN, SLIDING),
        Key("Train/mean_episode_length", _LENGTH, SLIDING),
        Key("Train/mean_reward/time", "", "Train/mean_reward again; the step is seconds", kind="again"),
        Key("Train/mean_episode_length/time", "", "Train/mean_episode_length again", kind="again"),
    ),
    signature=("Loss/value", "Loss/surrogate"),
    value_loss=ValueLossDefinition(
        source=MAX_OR_NOT,
        factor=0.5,
        clipping="unknown",
        reduction="all minibatches",
        targets_normalised=False,
    ),
    steps="number",
    number="iteration",
    define=_clip_of_rsl_rl,
)

RSL_RL_NOISE = replace(
    RSL_RL,
    name="rsl_rl, 3.2 to 4.0",
    seen="3.2.0 and 4.0.0",
    keys=(
        *(key for key in RSL_RL.keys if key.name != "Policy/mean_std"),
        Key("Policy/mean_noise_std", "policy_std"),
    ),
    signature=("Loss/value", "Loss/surrogate", "Policy/mean_noise_std"),
)

RSL_RL_OLD = replace(
    RSL_RL,
    name="rsl_rl, older",
    seen="1.0.2 and 3.1.0",
    keys=(
        Key("Loss/value_function", "value_loss", factor=0.5),
        *(key for key in RSL_RL_NOISE.keys if key.name not in ("Loss/value", "Perf/collection_time")),
        Key("Perf/collection time", "rollout_secs"),
    ),
    signature=("Loss/value_function", "Loss/surrogate"),
)

RSL_RL_PRINTED = replace(
    RSL_RL,
    name="rsl_rl, as printed",
    keys=(
        Key("Mean value loss", "value_loss", "printed with 4 digits behind the point", factor=0.5),
        Key("Mean surrogate loss", "policy_loss", "printed with 4 digits behind the point"),
        Key("Mean entropy loss", "entropy", "+H, whatever its name says"),
        Key("Mean action std", "policy_std"),
        Key("Mean reward", _RETURN, SLIDING),
        Key("Mean episode length", _LENGTH, SLIDING),
        Key("Total steps", "env_steps"),
        Key("Steps per second", "steps_per_sec"),
        Key("Collection time", "rollout_secs"),
        Key("Learning time", "update_secs"),
        Key("Iteration time", "secs_per_iteration"),
    ),
    signature=("Mean value loss", "Mean surrogate loss"),
)
"""The console output, in which the numbers have other names than in the event files."""

_PRINTED_BEFORE = {
    "Mean value loss": "Mean value_function loss",
    "Mean action std": "Mean action noise std",
    "Total steps": "Total timesteps",
}

RSL_RL_PRINTED_OLD = replace(
    RSL_RL_PRINTED,
    name="rsl_rl, as printed to 4.0",
    seen="2.2 to 4.0, read",
    keys=tuple(key._replace(name=_PRINTED_BEFORE.get(key.name, key.name)) for key in RSL_RL_PRINTED.keys),
    signature=("Mean value_function loss", "Mean surrogate loss"),
)

_PRINTED_AT_FIRST = {"Mean value_function loss": "Value function loss", "Mean surrogate loss": "Surrogate loss"}

RSL_RL_PRINTED_1 = replace(
    RSL_RL_PRINTED_OLD,
    name="rsl_rl, as printed to 2.1",
    seen="1.0.2, read",
    keys=tuple(key._replace(name=_PRINTED_AT_FIRST.get(key.name, key.name)) for key in RSL_RL_PRINTED_OLD.keys),
    signature=("Value function loss", "Surrogate loss"),
)

SKRL = Dialect(
    name="skrl",
    seen="2.1.1",
    keys=(
        Key("Loss / Value loss", "value_loss", "value_loss_scale is included", factor=0.5),
        Key("Loss / Policy loss", "policy_loss"),
        Key("Loss / Entropy loss", "entropy_loss", "−entropy_loss_scale·H; the log does not have the scale"),
        Key("Learning / Learning rate", "learning_rate"),
        Key("Policy / Standard deviation", "policy_std"),
        Key("Stats / Algorithm update time (ms)", "update_secs", factor=0.001),
        Key("Reward / Total reward (mean)", _RETURN, "mean of running means since the last write", kind="rollout"),
        Key("Episode / Total timesteps (mean)", _LENGTH, "mean of running means since the last write", kind="rollout"),
    ),
    signature=("Loss / Value loss", "Loss / Policy loss"),
    value_loss=ValueLossDefinition(
        source="value_loss_scale * mean((V_old + clamp(V - V_old, -value_clip, value_clip) - G)^2)",
        factor=0.5,
        clipping="unknown",
        reduction="all minibatches",
        coefficient_included=True,
    ),
    steps="other",
    number="timestep",
    unclear="value_loss_scale (2.5 by default since 2.0, 1.0 before), and whether a value_preprocessor standardises the"
    " targets; the factor is 0.5 / value_loss_scale",
)

_AFTER_UPDATE = "of the rollout before the last one; logged every 1,000 environment steps by default"

TIANSHOU = Dialect(
    name="Tianshou",
    seen="2.0.1",
    keys=(
        Key("update/vf_loss/mean", "value_loss", factor=0.5),
        Key("update/actor_loss/mean", "policy_loss"),
        Key("update/ent_loss/mean", "entropy", "+H, whatever its name says"),
        Key("update/gradient_steps", "minibatches"),
        Key("update/train_time", "update_secs"),
        Key("update/update_step", "update_step", "the trainer's number", kind="number"),
        Key("training/returns_stat/mean", "episode_return_mean", _AFTER_UPDATE),
        Key("training/lens_stat/mean", "episode_length_mean", _AFTER_UPDATE),
    ),
    signature=("update/vf_loss/mean", "update/actor_loss/mean"),
    value_loss=ValueLossDefinition(
        source=f"{MAX_OR_NOT}; G is divided by its spread with return_scaling",
        factor=0.5,
        clipping="unknown",
        reduction="all minibatches",
    ),
    steps="number",
    number="update_step",
)

TIANSHOU_1 = replace(
    TIANSHOU,
    name="Tianshou, 1.x",
    seen="1.0, read",
    keys=(
        *(key for key in TIANSHOU.keys if key.column != "policy_loss"),
        Key("update/clip_loss/mean", "policy_loss"),
    ),
    signature=("update/vf_loss/mean", "update/clip_loss/mean"),
)

TIANSHOU_0 = replace(
    TIANSHOU,
    name="Tianshou, before 1.0",
    seen="0.4 and 0.5, read",
    keys=(
        Key("update/loss/vf", "value_loss", factor=0.5),
        Key("update/loss/clip", "policy_loss"),
        Key("update/loss/ent", "entropy", "+H, whatever its name says"),
    ),
    signature=("update/loss/vf", "update/loss/clip"),
    number="gradient_step",
)

RL_GAMES = Dialect(
    name="rl_games",
    seen="1.6.5",
    keys=(
        Key("losses/c_loss", "value_loss", "0.0 where a central value network learns", factor=0.5, zero_is_null=True),
        Key("losses/a_loss", "policy_loss"),
        Key("losses/entropy", "entropy"),
        Key("info/kl", "kl_of_trainer", "KL(new ‖ old) of Gaussians, or estimator k2; kl_divergence is KL(old ‖ new)"),
        Key("info/last_lr", "learning_rate"),
        Key("info/e_clip", "clip_range"),
        Key("info/epochs", "epoch", "the trainer's number", kind="number"),
        Key("performance/rl_update_time", "update_secs"),
        Key("performance/step_inference_time", "rollout_secs"),
        Key("performance/step_inference_rl_update_fps", "steps_per_sec"),
        Key("rewards/step", _RETURN, "mean of the last games_to_track episodes (100)"),
        Key("episode_lengths/step", _LENGTH, "mean of the last games_to_track episodes (100)"),
        Key("shaped_rewards/step", "shaped_return_sliding_mean", "after the reward shaper"),
        *(
            Key(f"{name}/{unit}", "", f"{name}/step again", kind="again")
            for name in ("rewards", "shaped_rewards", "episode_lengths")
            for unit in ("iter", "time")
        ),
        *(Key(f"scores/{unit}", "", "scores/mean again", kind="again") for unit in ("iter", "time")),
    ),
    signature=("losses/c_loss", "losses/a_loss"),
    value_loss=ValueLossDefinition(
        source=f"{MAX_OR_NOT}; V and G are normalised with normalize_value",
        factor=0.5,
        clipping="unknown",
        reduction="all minibatches",
    ),
    steps="env_steps",
    number="epoch",
)
