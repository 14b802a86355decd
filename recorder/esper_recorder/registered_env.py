"""What an environment of Gymnasium's says of itself: the goal that the registry publishes, and how it was made."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

COUNTS_RETURNS = ("RecordEpisodeStatistics", "Monitor")
"""Wrappers of Gymnasium and of Stable-Baselines3 that add up the rewards below them; what is above does not matter."""

_NEVER_MATTERS = ("render_mode",)
_CHANGES_REWARDS = ("RewardWrapper", "NormalizeReward")
_LEAVES_REWARDS = ("ObservationWrapper", "ActionWrapper")


def return_goal_of(env: Any) -> float | None:
    """Return the mean episode return from which Gymnasium counts an environment as solved, its `reward_threshold`.

    That number holds for the environment as it is registered. It is not returned for one that was made otherwise, with
    arguments or a time limit of its own, nor for one whose rewards may be changed below the wrapper that counts its
    returns: by a `RewardWrapper`, by `NormalizeReward`, or by a wrapper from outside Gymnasium that has a `step`.

    Args:
        env: a Gymnasium environment with its wrappers, or a vector of them in this process, such as `SyncVectorEnv`;
            of several, all must have the same goal.

    Returns:
        The goal, for `Recorder.open(return_goal=...)`; None where the registry names none or it may not hold.
    """
    gymnasium = sys.modules.get("gymnasium")  # whoever has such an environment has loaded it
    if gymnasium is None:
        return None
    goals = {_goal_of_one(gymnasium, one) for one in _envs_of(gymnasium, env)}
    return goals.pop() if len(goals) == 1 else None


def env_kwargs_of(env: Any) -> dict[str, Any]:
    """Return how an environment was made otherwise than Gymnasium has registered it.

    That are arguments, `max_episode_steps`, and, as `reward_wrappers`, the names of the wrappers that may change its
    rewards below what counts its returns; see `return_goal_of`. It is for the configuration of a run, where the
    analyzer looks for it: runs on environments of one name that were made otherwise are of different tasks, and are
    not judged beside each other, nor by a goal that is published.

    Args:
        env: as of `return_goal_of`; of several, the first one counts.

    Returns:
        The arguments by name, for `Recorder.open(config={"env_kwargs": ...})`; empty where nothing differs, and for
        what is no environment of Gymnasium's registry.
    """
    gymnasium = sys.modules.get("gymnasium")
    first: Any = None if gymnasium is None else next(iter(_envs_of(gymnasium, env)))
    spec: Any = getattr(first, "spec", None)
    registered = None if gymnasium is None or spec is None else gymnasium.registry.get(spec.id)
    if registered is None:
        return {}
    made, usual = _arguments(spec, first), _arguments(registered, first)
    differing = {name: value for name, value in made.items() if name not in usual or usual[name] != value}
    if spec.max_episode_steps != registered.max_episode_steps:
        differing["max_episode_steps"] = spec.max_episode_steps
    wrappers = _reward_wrappers(gymnasium, first)
    return differing | ({"reward_wrappers": wrappers} if wrappers else {})


def _envs_of(gymnasium: Any, env: Any) -> Sequence[Any]:
    """The environments of a vector, or the one."""
    while not isinstance(env, gymnasium.Env) and not hasattr(env, "envs") and hasattr(env, "env"):
        env = env.env  # a wrapper of a whole vector
    return getattr(env, "envs", None) or (env,)


def _goal_of_one(gymnasium: Any, env: Any) -> float | None:
    if not isinstance(env, gymnasium.Env) or _reward_wrappers(gymnasium, env):
        return None
    spec: Any = getattr(env, "spec", None)
    registered = None if spec is None else gymnasium.registry.get(spec.id)
    if registered is None or spec.max_episode_steps != registered.max_episode_steps:
        return None
    if _arguments(spec, env) != _arguments(registered, env):
        return None
    goal = registered.reward_threshold
    return float(goal) if isinstance(goal, (int, float)) and math.isfinite(goal) else None


def _reward_wrappers(gymnasium: Any, env: Any) -> list[str]:
    """The names of the wrappers that may change the rewards on their way to what counts the returns."""
    chain: list[Any] = []
    while isinstance(env, gymnasium.Wrapper):
        chain.append(env)
        env = env.env
    counting = max((at for at, one in enumerate(chain) if type(one).__name__ in COUNTS_RETURNS), default=-1)
    below = (type(one) for one in chain[counting + 1 :])
    return [one.__name__ for one in below if not _leaves_rewards(gymnasium, one)]


def _leaves_rewards(gymnasium: Any, wrapper: type) -> bool:
    names = [one.__name__ for one in wrapper.__mro__]
    if any(name in names for name in _CHANGES_REWARDS):
        return False
    is_known = wrapper.__module__.partition(".")[0] == gymnasium.__name__
    return is_known or any(name in names for name in _LEAVES_REWARDS) or wrapper.step is gymnasium.Wrapper.step  # type: ignore[attr-defined]


def _arguments(spec: Any, env: Any) -> dict[str, Any]:
    """The arguments of the environment, without those that repeat what it does by itself."""
    try:
        own: Mapping[str, inspect.Parameter] = inspect.signature(type(env.unwrapped)).parameters
    except (TypeError, ValueError):
        own = {}
    return {
        name: value
        for name, value in spec.kwargs.items()
        if name not in _NEVER_MATTERS and not (name in own and own[name].default is value)
    }
