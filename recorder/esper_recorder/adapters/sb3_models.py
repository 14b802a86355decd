"""Which Stable-Baselines3 models are recorded, and what the header of a run says of one."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import stable_baselines3
from stable_baselines3 import PPO
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecMonitor

from esper_recorder.registered_env import env_kwargs_of, return_goal_of
from esper_recorder.writing import log
from esper_schemas.errors import UsageError
from esper_schemas.run.records import ValueLossDefinition

VALUE_LOSS_FACTOR = 0.5
"""SB3 logs the mean squared error; the column `value_loss` is half of that."""

_CONTRIB = "sb3_contrib"
_CONTRIB_MODELS = ("MaskablePPO", "RecurrentPPO")
"""Algorithms of sb3-contrib with the formulas of SB3's PPO, logged under the same names."""

_HYPER_PARAMETERS = (
    "n_steps",
    "batch_size",
    "n_epochs",
    "gamma",
    "gae_lambda",
    "ent_coef",
    "vf_coef",
    "max_grad_norm",
    "normalize_advantage",
    "target_kl",
    "use_sde",
    "sde_sample_freq",
    "n_envs",
    "seed",
    "policy_kwargs",
)
_SCHEDULES = {"learning_rate": "lr_schedule", "clip_range": "clip_range", "clip_range_vf": "clip_range_vf"}


def check_model(model: object) -> None:
    """Refuse an algorithm whose numbers have another meaning.

    Raises:
        UsageError: it is no PPO that this adapter knows.
    """
    if not isinstance(model, PPO) and not _is_of_contrib(model):
        raise UsageError(
            f"RecorderCallback records PPO of Stable-Baselines3, and MaskablePPO and RecurrentPPO of sb3-contrib; found"
            f" {type(model).__name__}, which logs other quantities under the same names: call Recorder.record yourself"
        )


def trainer_of(model: PPO) -> str:
    """Return the library that trains the model, with its version."""
    if _is_of_contrib(model):
        return f"sb3-contrib {sys.modules[_CONTRIB].__version__}"
    return f"stable-baselines3 {stable_baselines3.__version__}"


def _is_of_contrib(model: object, names: tuple[str, ...] = _CONTRIB_MODELS) -> bool:
    """Whether a model is one of these of sb3-contrib, which is loaded if there is a model of it."""
    contrib = sys.modules.get(_CONTRIB)
    kinds = (getattr(contrib, name, None) for name in names)
    return any(isinstance(kind, type) and isinstance(model, kind) for kind in kinds)


def config_of(model: PPO) -> dict[str, Any]:
    """Return the PPO's hyper-parameters for the header; schedules by first value, with names in `scheduled`."""
    schedules = {name: getattr(model, attribute) for name, attribute in _SCHEDULES.items()}
    normalizer = model.get_vec_normalize_env()
    made = env_kwargs(model)
    return {
        "algorithm": type(model).__name__,
        "policy": model.policy_class.__name__,
        **{name: _plain(getattr(model, name)) for name in _HYPER_PARAMETERS},
        **{name: None if schedule is None else schedule(1.0) for name, schedule in schedules.items()},
        "scheduled": [name for name, schedule in schedules.items() if _varies(schedule)],
        "normalize_observations": normalizer is not None and normalizer.norm_obs,
        "normalize_rewards": normalizer is not None and normalizer.norm_reward,
        **({"env_kwargs": made} if made else {}),
    }


def value_loss_definition(model: PPO) -> ValueLossDefinition:
    """Describe SB3's value loss for the run's header."""
    prediction = "V" if model.clip_range_vf is None else "V_old + clamp(V - V_old, -clip, clip)"
    # RecurrentPPO pads the sequences of a minibatch, and leaves the padding out of every mean.
    padding = "[not padding]" if _is_of_contrib(model, ("RecurrentPPO",)) else ""
    normalizer = model.get_vec_normalize_env()
    return ValueLossDefinition(
        source=f"mean((({prediction} - G)^2){padding})" if padding else f"mean(({prediction} - G)^2)",
        factor=VALUE_LOSS_FACTOR,
        clipping="none" if model.clip_range_vf is None else "clipped",
        clip_range=None if model.clip_range_vf is None else _at_start(model.clip_range_vf),
        reduction="all minibatches",
        coefficient_included=False,
        targets_normalised=normalizer is not None and normalizer.norm_reward,
    )


def _at_start(schedule: Any) -> float:
    return float(schedule(1.0))


def _varies(schedule: Any) -> bool:
    """Whether a hyper-parameter is a function of the progress rather than a number."""
    if isinstance(schedule, FloatSchedule):
        schedule = schedule.value_schedule
    return schedule is not None and not isinstance(schedule, ConstantSchedule)


def env_name(model: PPO) -> str | None:
    """Return the id of the first environment, or its class if it is not registered.

    The name is taken from the text "<Monitor<TimeLimit<CartPoleEnv<CartPole-v1>>>>". An environment in another process
    can always send a text, but its spec may contain objects that cannot be pickled.
    """
    env = model.get_env()
    if env is None:
        return None
    try:
        text = str(env.env_method("__str__", indices=[0])[0])
    except Exception as error:  # the user's own environment may not support calls of methods
        log.warning("could not read the environment's name: %s: %s", type(error).__name__, error)
        return None
    found = re.search(r"<([^<>]+)>+$", text)
    return found[1].removesuffix(" instance") if found else None


def published_goal(model: PPO) -> float | None:
    """Return the goal of the episode return that Gymnasium publishes for the environments; None if not of all.

    An environment in another process is not asked: its spec may contain objects that cannot be pickled.
    """
    env: Any = model.get_env()
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecMonitor):
            return None  # it counts what the wrappers below it made of the rewards
        env = env.venv
    try:
        return return_goal_of(env) if isinstance(env, DummyVecEnv) else None
    except Exception as error:  # the user's own environment may do anything when it is asked for its spec
        log.warning("could not read the environment's goal: %s: %s", type(error).__name__, error)
        return None


def env_kwargs(model: PPO) -> dict[str, Any]:
    """Return how the environments were made otherwise than registered, if they are in this process; else nothing."""
    env: Any = model.get_env()
    try:
        inner = None if env is None else env.unwrapped
        made: dict[str, Any] = _plain(env_kwargs_of(inner)) if isinstance(inner, DummyVecEnv) else {}
        return made
    except Exception as error:  # as above
        log.warning("could not read how the environment was made: %s: %s", type(error).__name__, error)
        return {}


def _plain(value: Any) -> Any:
    """Convert `value` to JSON that is the same for each seed: objects by their class, never by their address."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "__qualname__", type(value).__qualname__)
