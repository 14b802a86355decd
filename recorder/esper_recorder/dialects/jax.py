"""Dialects of trainers in JAX that few keys tell apart: Stoix and Mava, Acme, Dopamine."""

from __future__ import annotations

from dataclasses import replace

from esper_recorder.dialects.gym import MAX
from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.run.records import ValueLossDefinition

_EVALUATION = "of an evaluation; a row has that of the policy before its update"

STOIX = Dialect(
    name="Stoix, Mava",
    seen="commits 8fff19c9 and 57c8e640, read",
    keys=(
        Key("trainer/value_loss", "value_loss"),
        Key("trainer/actor_loss", "policy_loss"),
        Key("trainer/entropy", "entropy", "mean over the agents, where there are several"),
        Key("trainer/steps_per_second", "optimiser_steps_per_sec"),
        Key("actor/episode_return/mean", "episode_return_mean"),
        Key("actor/episode_length/mean", "episode_length_mean"),
        Key("actor/steps_per_second", "steps_per_sec"),
        Key("misc/timestep", "env_steps"),
        Key("evaluator/episode_return/mean", "evaluation_return_mean", _EVALUATION),
        Key("evaluator/episode_length/mean", "evaluation_length_mean", _EVALUATION),
    ),
    signature=("trainer/value_loss", "trainer/actor_loss", "trainer/entropy"),
    value_loss=ValueLossDefinition(source=f"0.5 * {MAX}", factor=1.0, clipping="max", reduction="all minibatches"),
    steps="env_steps",
)
"""It logs at each evaluation, and a row has the means of all updates since the one before."""

_PRINTED = "printed with 3 digits behind the point"

STOIX_PRINTED = replace(
    STOIX,
    name="Stoix, Mava, as printed",
    keys=(
        Key("trainer/Value loss", "value_loss", _PRINTED),
        Key("trainer/Actor loss", "policy_loss", _PRINTED),
        Key("trainer/Entropy", "entropy", _PRINTED),
        Key("trainer/Steps per second", "optimiser_steps_per_sec"),
        Key("actor/Episode return mean", "episode_return_mean"),
        Key("actor/Episode length mean", "episode_length_mean"),
        Key("actor/Steps per second", "steps_per_sec"),
        Key("misc/Timestep", "env_steps"),
        Key("evaluator/Episode return mean", "evaluation_return_mean", _EVALUATION),
        Key("evaluator/Episode length mean", "evaluation_length_mean", _EVALUATION),
    ),
    signature=("trainer/Value loss", "trainer/Actor loss", "trainer/Entropy"),
)

ACME = Dialect(
    name="Acme",
    seen="0.4.0, read",
    keys=(
        Key("loss_value", "value_loss", factor=0.5),
        Key("loss_policy", "policy_loss"),
        Key("loss_entropy", "entropy", factor=-1.0),
        Key("norm_grad", "grad_norm", "mean of all minibatches, before clipping"),
        Key("rewards_mean", "reward_mean_magnitude", "absolute value of the mean reward of a step"),
        Key("actor_steps", "env_steps"),
        Key("learner_steps", "learner_step", "the trainer's number", kind="number"),
        Key("learner_walltime", "learner_secs"),
    ),
    signature=("loss_value", "loss_policy", "loss_entropy", "norm_grad"),
    value_loss=ValueLossDefinition(
        source=f"mean((V - G)^2), or {MAX} with clip_value", factor=0.5, clipping="unknown", reduction="all minibatches"
    ),
    steps="number",
    number="learner_step",
    unclear="clip_value (off by default), and whether normalize_value standardises the targets",
)

ACME_PRINTED = replace(
    ACME,
    name="Acme, as printed",
    keys=tuple(
        key._replace(name=f"learner/{key.name.replace('_', ' ').title()}", remark=key.remark or _PRINTED)
        for key in ACME.keys
    ),
    signature=tuple(f"learner/{name.replace('_', ' ').title()}" for name in ACME.signature),
)

DOPAMINE = Dialect(
    name="Dopamine",
    seen="4.1.2, read",
    keys=(
        Key("Losses/Critic", "value_loss"),
        Key("Losses/Actor", "policy_loss"),
        Key("Losses/Entropy", "entropy", "+H, whatever its name says"),
        Key("Losses/Combined", "loss"),
    ),
    signature=("Losses/Critic", "Losses/Actor", "Losses/Combined"),
    value_loss=ValueLossDefinition(
        source=f"0.5 * mean((V - G)^2), or 0.5 * {MAX} with clip_critic_loss",
        factor=1.0,
        clipping="unknown",
        reduction="all minibatches",
    ),
    steps="env_steps",
)
"""It logs at the updates whose step is a multiple of `summary_writing_frequency`."""
