"""The table of all dialects, and how to find the one that a log is written in."""

from __future__ import annotations

from collections.abc import Collection

from esper_recorder.dialects import cleanrl, frameworks, gym, jax, language, multi_agent, reference, rllib
from esper_recorder.dialects.key import Dialect, Lossless
from esper_recorder.dialects.plain import plain_dialect

DIALECTS: tuple[Dialect, ...] = (
    cleanrl.CLEANRL,
    cleanrl.PUFFERLIB,
    cleanrl.PUFFERLIB_2,
    gym.SB3,
    gym.SBX,
    gym.SBX_OLD,
    gym.RSL_RL,
    gym.RSL_RL_NOISE,
    gym.RSL_RL_OLD,
    gym.RSL_RL_PRINTED,
    gym.RSL_RL_PRINTED_OLD,
    gym.RSL_RL_PRINTED_1,
    gym.SKRL,
    gym.TIANSHOU,
    gym.TIANSHOU_1,
    gym.TIANSHOU_0,
    gym.RL_GAMES,
    frameworks.SAMPLE_FACTORY,
    frameworks.SHEEPRL,
    frameworks.TORCHRL,
    frameworks.DI_ENGINE,
    frameworks.BRAX,
    frameworks.OMNISAFE,
    frameworks.XUANCE,
    frameworks.TF_AGENTS,
    frameworks.AGILERL,
    jax.STOIX,
    jax.STOIX_PRINTED,
    jax.ACME,
    jax.ACME_PRINTED,
    jax.DOPAMINE,
    multi_agent.ON_POLICY,
    multi_agent.ON_POLICY_SEPARATED,
    multi_agent.HARL,
    multi_agent.ML_AGENTS,
    reference.BASELINES,
    reference.BASELINES_OLD,
    reference.STABLE_BASELINES_2,
    reference.SPINNING_UP,
    reference.PFRL,
    rllib.RLLIB,
    rllib.RLLIB_INFO,
    rllib.RLLIB_OLD,
    language.VERL,
    language.OPENRLHF,
    language.TRL,
    language.TRL_REPORTED,
    language.TRL_OLD,
    language.SAFE_RLHF,
)
"""Every dialect that is known."""

LOSSLESS: tuple[Lossless, ...] = (
    Lossless(
        "Tianshou",
        ("training/returns_stat/mean",),
        "its default logger writes losses (update/…) only every 1,000 updates; make it with update_interval=1",
    ),
    Lossless("ML-Agents", ("Losses/Q1 Loss", "Losses/Policy Loss"), "its trainer is SAC, not PPO"),
    Lossless(
        "garage",
        ("Evaluation/AverageDiscountedReturn", "GaussianMLPValueFunction/LossAfter"),
        "GaussianMLPValueFunction/LossAfter is a negative log-likelihood, and no squared error",
    ),
    Lossless("LeanRL", ("gn", "logprobs", "advantages"), "its PPO scripts log no losses"),
    Lossless("verl", ("actor/pg_loss",), "there is no critic/vf_loss: no critic is trained, as with GRPO, or not yet"),
    Lossless(
        "Stable-Baselines3",
        ("train/value_loss", "train/policy_loss", "train/entropy_loss"),
        "train/policy_loss is from A2C, which logs other quantities than PPO",
    ),
    Lossless(
        "Stable-Baselines3",
        ("rollout/ep_rew_mean",),
        "no losses of PPO: it is another algorithm, or no update was logged yet",
    ),
)
"""Logs that are known and have no losses of PPO; the first that fits says why."""


def find_dialect(names: Collection[str], asked: Collection[str] = ()) -> Dialect | None:
    """Return the dialect that a log with these keys is written in; None if no dialect fits.

    Of several that fit, the one that knows most of the keys is taken; of several policies in it, that of the keys which
    are `asked` for. If none fits, a log that names its losses as the metrics table does is read by the names of its
    keys, unless another algorithm is known to name them so.
    """
    fitting = [found for dialect in DIALECTS if (found := dialect.within(names, asked)) is not None]
    if fitting:
        return max(fitting, key=lambda found: sum(key.name in names for key in found.keys))
    plain = plain_dialect(names)
    if plain is None:
        return None
    read = {key.name for key in plain.keys}
    of_others = any(read.intersection(known.signature) for known in LOSSLESS if set(known.signature) <= set(names))
    return None if of_others else plain


def why_lossless(names: Collection[str]) -> str:
    """Say why a log with these keys has no losses, if that is known; otherwise an empty text."""
    for known in LOSSLESS:
        if all(name in names for name in known.signature):
            return f"it looks like a log of {known.trainer}: {known.why}"
    return ""
