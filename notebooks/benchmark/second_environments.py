"""The environments of the second plan of fresh runs: real ones that people know, and three of our own.

    python -m pip install -r notebooks/benchmark/environments.txt

installs MuJoCo and MiniGrid, which are imported when one of their environments is made. `environments` says what the
bounds are. They were measured on a few short runs, with seeds of no plan, of which nothing was judged.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from benchmark import second_tiny_envs
from benchmark.environments import Task
from benchmark.hyper import Hyper


class Single(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Observations in single precision."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        return np.asarray(observation, np.float32)


class View(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """What a MiniGrid agent sees, 7 × 7 cells of object, colour and state, and its direction as one-hot: 151 numbers.

    A cell's three numbers are divided by the largest that they can be.
    """

    LARGEST = (10, 5, 2)

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0.0, 1.0, (7 * 7 * 3 + 4,), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        seen = np.divide(observation["image"], self.LARGEST, dtype=np.float32).ravel()
        return np.concatenate((seen, np.eye(4, dtype=np.float32)[int(observation["direction"])]))


def _package(name: str, env_id: str) -> Any:
    """The module `name`, imported, since MiniGrid registers its environments then.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what installs it.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ModuleNotFoundError(
            f"{env_id} needs {name}, which is not installed; install what sampling needs with:"
            " python -m pip install -r notebooks/benchmark/environments.txt"
        ) from None


def _mujoco(env_id: str) -> Callable[[], gymnasium.Env[Any, Any]]:
    def make() -> gymnasium.Env[Any, Any]:
        # Else it writes MUJOCO_LOG.TXT into the working folder, for each NaN that a fault makes of an action.
        _package("mujoco", env_id).set_mju_user_warning(lambda message: None)
        return Single(gymnasium.make(env_id, disable_env_checker=True))

    return make


def _minigrid(env_id: str) -> Callable[[], gymnasium.Env[Any, Any]]:
    def make() -> gymnasium.Env[Any, Any]:
        _package("minigrid", env_id)
        return View(gymnasium.make(env_id, disable_env_checker=True))

    return make


SECOND_TASKS = (
    Task(
        name="InvertedPendulum-v5",
        group="continuous",
        why="a solved episode has 1,000 steps, sixty updates: returns are rare when they are good, and frequent before",
        make=_mujoco("InvertedPendulum-v5"),
        random=7.2,
        good=1000.0,
        learned=600.0,
        failed=355.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, scale_rewards=True, normalize_observations=True),
    ),
    Task(
        name="Reacher-v5",
        group="continuous",
        why="every episode has 50 steps, all end together, and all rewards are negative",
        make=_mujoco("Reacher-v5"),
        random=-61.4,
        good=-6.0,
        learned=-28.2,
        failed=-42.0,
        critic_floor=None,
        shortest=100,
        longest=1080,
        hyper=Hyper(
            num_envs=16,
            rollout_steps=8,
            learning_rate=2e-3,
            gamma=0.95,
            scale_rewards=True,
            normalize_observations=True,
        ),
    ),
    Task(
        name="MiniGrid-Empty-Random-6x6",
        group="discrete",
        why="a random policy earns a third of what can be had, and 0 or much by chance",
        make=_minigrid("MiniGrid-Empty-Random-6x6-v0"),
        random=0.27,
        good=0.96,
        learned=0.68,
        failed=0.51,
        critic_floor=None,
        shortest=80,
        longest=900,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=2e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="MiniGrid-LavaGapS5",
        group="discrete",
        why="the return stands for long at a third or two thirds: one gap in the lava of three is known, or two",
        make=_minigrid("MiniGrid-LavaGapS5-v0"),
        random=0.043,
        good=0.95,
        learned=0.59,
        failed=0.36,
        critic_floor=None,
        shortest=150,
        longest=900,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=1e-3, gamma=0.97, entropy_coef=0.02),
    ),
    Task(
        name="Lock",
        group="discrete",
        why="the return is 0 until a lucky episode in two thousand has been learned from",
        make=second_tiny_envs.Lock,
        random=0.0005,
        good=1.0,
        learned=0.6,
        failed=0.35,
        critic_floor=None,
        shortest=200,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=1.5e-3, gamma=0.97, entropy_coef=0.02),
    ),
    Task(
        name="Stilts",
        group="discrete",
        why="all rewards are negative, and the return falls back while episodes get longer: a late fall costs most",
        make=second_tiny_envs.Stilts,
        random=-63.5,
        good=-24.0,
        learned=-39.8,
        failed=-49.7,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=2e-3, gamma=0.98, scale_rewards=True),
    ),
    Task(
        name="Heating",
        group="continuous",
        why="a return is measured in one update of fifteen, of all environments together",
        make=second_tiny_envs.Heating,
        random=-158.0,
        good=-10.0,
        learned=-69.0,
        failed=-106.0,
        critic_floor=None,
        shortest=100,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=2e-3, gamma=0.9, scale_rewards=True),
    ),
)
"""Environments that are in the fresh runs of the second plan alone."""
