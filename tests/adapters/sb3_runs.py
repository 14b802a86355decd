"""Small trainings of Stable-Baselines3, and what was recorded of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

if TYPE_CHECKING:
    from esper_analyzer import Run

STEPS, ENVS = 32, 2
ROLLOUT = STEPS * ENVS


def make_ppo(env: Any = None, **options: Any) -> PPO:
    """A PPO with 64 samples in a rollout."""
    env = make_vec_env("CartPole-v1", ENVS, seed=0) if env is None else env
    small: dict[str, Any] = {"n_steps": STEPS, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
    return PPO("MlpPolicy", env, **{**small, "seed": 0, "device": "cpu", **options})


def make_maskable(**options: Any) -> MaskablePPO:
    """A MaskablePPO with 64 samples in a rollout, in which at most two of three actions are allowed."""
    env = make_vec_env(Masked, ENVS, seed=0)
    small: dict[str, Any] = {"n_steps": STEPS, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
    return MaskablePPO("MlpPolicy", env, **{**small, "seed": 0, "device": "cpu", **options})


def make_recurrent(env: Any = "CartPole-v1", **options: Any) -> RecurrentPPO:
    """A RecurrentPPO with 64 samples in a rollout, in sequences of many lengths."""
    env = make_vec_env(env, ENVS, seed=0)
    network = {"net_arch": [8], "lstm_hidden_size": 8}
    small: dict[str, Any] = {"n_steps": STEPS, "batch_size": 32, "n_epochs": 2, "policy_kwargs": network}
    return RecurrentPPO("MlpLstmPolicy", env, **{**small, "seed": 0, "device": "cpu", **options})


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


class Masked(gym.Env[Any, Any]):
    """Three actions, of which one is forbidden in each step; episodes of 9 steps with rewards that vary."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(3)

    def __init__(self) -> None:
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A reward for the action that follows the forbidden one."""
        assert self.action_masks()[action]
        reward = float(action == (self.steps + 1) % 3)
        self.steps += 1
        return self._seen(), reward, self.steps == 9, False, {}

    def action_masks(self) -> Any:
        """What is allowed now, as sb3-contrib asks for it."""
        return np.arange(3) != self.steps % 3

    def _seen(self) -> Any:
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
