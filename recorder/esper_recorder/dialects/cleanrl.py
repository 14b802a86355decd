"""Dialects of CleanRL, and of PufferLib, which began as its PPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esper_recorder.dialects.gym import K1, LAST_MINIBATCH, MAX, MAX_OR_NOT
from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.run.records import ValueLossDefinition


def _clip_of_cleanrl(
    definition: ValueLossDefinition, config: Mapping[str, Any], _first: Mapping[str, float]
) -> ValueLossDefinition:
    """Read `clip_vloss` and `clip_coef`, which CleanRL writes as a table of text."""
    is_clipped, width = config.get("clip_vloss"), config.get("clip_coef")
    if is_clipped is True and isinstance(width, float):
        return replace(definition, source=f"0.5 * {MAX}", clipping="max", clip_range=width)
    if is_clipped is False:
        return replace(definition, source="0.5 * mean((V - G)^2)", clipping="none")
    return definition


CLEANRL = Dialect(
    name="CleanRL",
    seen="ppo.py of commit fe8d8a03",
    keys=(
        Key("losses/value_loss", "value_loss", LAST_MINIBATCH),
        Key("losses/policy_loss", "policy_loss", LAST_MINIBATCH),
        Key("losses/entropy", "entropy", LAST_MINIBATCH),
        Key("losses/approx_kl", "kl_divergence", LAST_MINIBATCH),
        Key("losses/old_approx_kl", "approx_kl_k1", f"{K1}; {LAST_MINIBATCH}"),
        Key("losses/clipfrac", "clip_fraction"),
        Key("losses/explained_variance", "explained_variance", "NaN where the returns do not vary"),
        Key("charts/learning_rate", "learning_rate"),
        Key("charts/episodic_return", "episode_return_mean", "mean of the points", kind="episode"),
        Key("charts/episodic_length", "episode_length_mean", "mean of the points", kind="episode"),
        Key("charts/SPS", "steps_per_sec", "since the beginning of the training"),
    ),
    signature=("losses/value_loss", "losses/policy_loss", "losses/approx_kl", "losses/clipfrac"),
    value_loss=ValueLossDefinition(
        source=f"0.5 * {MAX_OR_NOT}", factor=1.0, clipping="unknown", reduction="last minibatch"
    ),
    steps="env_steps",
    define=_clip_of_cleanrl,
)

PUFFERLIB = Dialect(
    name="PufferLib",
    seen="3.0",
    keys=(
        Key("losses/value_loss", "value_loss"),
        Key("losses/policy_loss", "policy_loss", "advantages are weighted by their priority"),
        Key("losses/entropy", "entropy"),
        Key("losses/approx_kl", "kl_divergence"),
        Key("losses/old_approx_kl", "approx_kl_k1", K1),
        Key("losses/clipfrac", "clip_fraction"),
        Key("losses/importance", "ratio_mean"),
        Key("losses/explained_variance", "explained_variance_after_update", "of the values as the update left them"),
        Key("learning_rate", "learning_rate"),
        Key("agent_steps", "env_steps", kind="step"),
        Key("epoch", "epoch", "the trainer's number; losses are those of the record before", kind="number"),
        Key("SPS", "steps_per_sec"),
    ),
    signature=("losses/value_loss", "losses/policy_loss", "losses/importance", "SPS"),
    value_loss=ValueLossDefinition(source=f"0.5 * {MAX}", factor=1.0, clipping="max", reduction="all minibatches"),
    steps="env_steps",
    number="epoch",
    step_key="agent_steps",
)

_OVERVIEW = "0verview/"
_OF_PUFFERLIB_2 = ("learning_rate", "SPS")

PUFFERLIB_2 = replace(
    PUFFERLIB,
    name="PufferLib, to 2.0",
    seen="clean_pufferl.py of 1.0 and 2.0, read",
    keys=(
        *(
            key._replace(name=f"{_OVERVIEW}{key.name}") if key.name in _OF_PUFFERLIB_2 else key
            for key in PUFFERLIB.keys
            if key.column not in ("policy_loss", "env_steps", "epoch", "explained_variance_after_update")
        ),
        Key(f"{_OVERVIEW}epoch", "epoch", "the trainer's number; it logs once a second at most", kind="number"),
        Key(f"{_OVERVIEW}agent_steps", "env_steps"),
        Key("losses/policy_loss", "policy_loss"),
        Key("losses/explained_variance", "explained_variance", "NaN where the returns do not vary"),
    ),
    signature=("losses/value_loss", "losses/policy_loss", f"{_OVERVIEW}agent_steps"),
    value_loss=ValueLossDefinition(
        source=f"0.5 * {MAX_OR_NOT}", factor=1.0, clipping="unknown", reduction="all minibatches"
    ),
    step_key="",
)
