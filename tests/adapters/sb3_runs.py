"""Small trainings of Stable-Baselines3, and what was recorded of them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from esper_analyzer import Run

STEPS, ENVS = 32, 2
ROLLOUT = STEPS * ENVS


def make_ppo(env: Any = None, **options: Any) -> PPO:
    """A PPO with 64 samples in a rollout."""
    env = make_vec_env("CartPole-v1", ENVS, seed=0) if env is None else env
    small: dict[str, Any] = {"n_steps": STEPS, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
    return PPO("MlpPolicy", env, **{**small, "seed": 0, "device": "cpu", **options})


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The updates of the default view."""
    return run.updates().collect().to_dicts()


class RaiseAt(BaseCallback):
    """Raises at a step of each environment, counted from 1."""

    def __init__(self, step: int, error: type[BaseException]) -> None:
        super().__init__()
        self.step, self.error = step, error

    def _on_step(self) -> bool:
        if self.n_calls == self.step:
            raise self.error
        return True


class Fixed(gym.Env[Any, Any]):
    """Gives no reward, so that with a critic of zeros every return is 0."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int | None = None) -> None:
        self.length, self.steps = length, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The same observation and a reward of 0, until the episode is `length` steps long."""
        self.steps += 1
        return np.zeros(2, np.float32), 0.0, self.steps == self.length, False, {}
