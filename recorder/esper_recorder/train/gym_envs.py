"""Adapts Gymnasium environments to the trainer's interface, and chooses between them and the built-in one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from esper_recorder.train.envs import ActionSpace, Box, CartPole, Discrete, Step
from esper_recorder.train.envs import VectorEnv as TrainerEnv
from esper_schemas.errors import UsageError

MAX_GYMNASIUM_ENVS = 16_384
"""Each environment is at least one Python object."""


def make_env(env: str, num_envs: int, *, seed: int, device: torch.device) -> TrainerEnv:
    """Make the environments of the id `env`: CartPole-v1 is built in, Gymnasium makes all others.

    Raises:
        UsageError: Gymnasium does not know the id or lacks a dependency, or a space is not supported.
    """
    if env == "CartPole-v1":
        return CartPole(num_envs, seed=seed, device=device)
    if num_envs > MAX_GYMNASIUM_ENVS:
        raise UsageError(
            f"--num-envs must be at most {MAX_GYMNASIUM_ENVS:,} for Gymnasium environments, found {num_envs:,}"
        )
    return GymnasiumEnv(env.removeprefix("gym:"), num_envs, seed=seed, device=device)


def published_goal(env: str) -> float | None:
    """Return the goal of the episode return that Gymnasium publishes for the id of an environment, if it does."""
    spec = gymnasium.registry.get(env.removeprefix("gym:").rpartition(":")[2])
    return None if spec is None or spec.reward_threshold is None else float(spec.reward_threshold)


class GymnasiumEnv:
    """`num_envs` Gymnasium environments, stepped on the host, with tensors on `device`.

    Observations are flattened, and discrete ones become one-hot. Continuous actions are clipped to the environment's
    bounds here, so that the policy's log-probabilities remain those of the action it sampled.
    """

    def __init__(self, env_id: str, num_envs: int, *, seed: int, device: torch.device) -> None:
        self.name = f"{env_id} (gymnasium {gymnasium.__version__})"
        self.num_envs = num_envs
        self.device = device
        self.seed = seed
        self._env = _make_vec(env_id, num_envs)
        self._resetting = np.zeros(num_envs, dtype=np.bool_)
        try:
            self.observation_size = _observation_size(self._env.single_observation_space)
            self.action_space = _action_space(self._env.single_action_space)
        except UsageError as error:
            self._env.close()
            raise UsageError(f"cannot train on environment {env_id!r}: {error}") from None

    def reset(self) -> Tensor:
        """Start a new, seeded episode in every environment; return observations [N, D] float32."""
        observations, _ = self._env.reset(seed=self.seed)
        self._resetting[:] = False
        return self._to_observations(observations)

    def step(self, actions: Tensor) -> Step:
        """Take one action in each environment: int64 [N], or float32 [N, A] in the environment's units."""
        observations, rewards, terminated, truncated, _ = self._env.step(self._to_actions(actions))
        valid = ~self._resetting
        self._resetting = terminated | truncated
        return Step(
            self._to_observations(observations),
            self._tensor(rewards, np.float32),
            self._tensor(terminated, np.bool_),
            self._tensor(truncated, np.bool_),
            self._tensor(valid, np.bool_),
        )

    def close(self) -> None:
        """Close the environments."""
        self._env.close()

    def _to_actions(self, actions: Tensor) -> Any:
        space = self._env.single_action_space
        plain = actions.cpu().numpy()
        if isinstance(space, spaces.Discrete):
            return plain + space.start
        assert isinstance(space, spaces.Box)
        plain = plain.reshape(self.num_envs, *space.shape)
        return np.clip(plain, space.low, space.high).astype(space.dtype)

    def _to_observations(self, observations: Any) -> Tensor:
        space = self._env.single_observation_space
        if isinstance(space, spaces.Discrete):
            one_hot = np.eye(int(space.n), dtype=np.float32)
            return self._tensor(one_hot[np.asarray(observations) - space.start], np.float32)
        return self._tensor(np.asarray(observations).reshape(self.num_envs, -1), np.float32)

    def _tensor(self, values: Any, dtype: type[np.generic]) -> Tensor:
        return torch.as_tensor(np.array(values, dtype=dtype), device=self.device)


def _make_vec(env_id: str, num_envs: int) -> VectorEnv[Any, Any, Any]:
    try:
        env = gymnasium.make_vec(env_id, num_envs=num_envs)
        if env.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
            env.close()
            env = gymnasium.make_vec(env_id, num_envs=num_envs, vectorization_mode="sync")
    except (gymnasium.error.Error, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"Gymnasium cannot make environment {env_id!r}: {reason}") from None
    return env


def _observation_size(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Box):
        return int(np.prod(space.shape))
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    raise UsageError(f"expected observations of type Box or Discrete, found {type(space).__name__}")


def _action_space(space: spaces.Space[Any]) -> ActionSpace:
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box):
        return Box(int(np.prod(space.shape)))
    raise UsageError(f"expected actions of type Discrete or Box, found {type(space).__name__}")
