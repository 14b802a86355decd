"""The interface of the trainer's environments, and the built-in CartPole-v1, which runs on the training device.

All environments here reset on the *next* step: the row after an episode's last step has the final observation,
its action is ignored, and its `valid` is False. A truncated episode bootstraps from the value in that row. The row
is not a sample, and enters no loss and no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Discrete:
    """Actions 0 … n − 1."""

    n: int


@dataclass(frozen=True, slots=True)
class Box:
    """Continuous actions of `size` dimensions; the environment's bounds apply inside `step` only."""

    size: int


ActionSpace = Discrete | Box


@dataclass(frozen=True, slots=True)
class Step:
    """The response of N environments to one action each, on the training device.

    Attributes:
        observations: [N, D] float32, the next observation; the final one where an episode ended.
        rewards: [N] float32.
        terminated: [N] bool, the episode reached a terminal state.
        truncated: [N] bool, the episode was cut off.
        valid: [N] bool, False where the environment only reset itself and ignored the action.
    """

    observations: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor


class VectorEnv(Protocol):
    """N environments stepped together, with next-step resets."""

    num_envs: int
    observation_size: int
    action_space: ActionSpace
    name: str

    def reset(self) -> Tensor:
        """Start a new episode in every environment; return observations [N, D] float32."""

    def step(self, actions: Tensor) -> Step:
        """Take one action in each environment: int64 [N], or float32 [N, A]."""

    def close(self) -> None:
        """Release the environments' resources."""


@runtime_checkable
class RestorableEnv(Protocol):
    """An environment whose whole state can be saved in a checkpoint and restored."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of everything that determines the next steps."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`, which has the names, shapes and dtypes that `state_dict` returns."""


class CartPole:
    """CartPole-v1 in torch, with the dynamics, termination and 500-step truncation of Gymnasium.

    The state is float64, as in Gymnasium. Everything happens on `device`, and nothing waits for it. Equations:
    Florian, "Correct equations for the dynamics of the cart-pole system" (2007); Euler steps.
    """

    GRAVITY = 9.8
    POLE_MASS = 0.1
    TOTAL_MASS = 1.1
    HALF_POLE_LENGTH = 0.5
    POLE_MASS_LENGTH = POLE_MASS * HALF_POLE_LENGTH
    FORCE = 10.0
    STEP_SECS = 0.02
    MAX_ANGLE = 12 * 2 * math.pi / 360
    MAX_POSITION = 2.4
    MAX_STEPS = 500

    observation_size = 4
    action_space: ActionSpace = Discrete(2)
    name = "CartPole-v1 (built-in)"

    def __init__(self, num_envs: int, *, seed: int, device: torch.device) -> None:
        self.num_envs = num_envs
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.state = torch.zeros((4, num_envs), dtype=torch.float64, device=device)
        self.steps = torch.zeros(num_envs, dtype=torch.int32, device=device)
        self.done = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._rewards = torch.ones(num_envs, device=device)

    def reset(self) -> Tensor:
        """Start a new episode in every environment; return observations [N, 4] float32."""
        self.state = self._start_states()
        self.steps.zero_()
        self.done = torch.zeros_like(self.done)
        return self._observations()

    def step(self, actions: Tensor) -> Step:
        """Push each cart left (0) or right (1): actions [N] int64. The reward is 1 on every valid row."""
        valid = ~self.done
        self.state = torch.where(valid, self._advance(self.state, actions), self._start_states())
        self.steps = torch.where(valid, self.steps + 1, 0)
        outside = (self.state[0].abs() > self.MAX_POSITION) | (self.state[2].abs() > self.MAX_ANGLE)
        terminated = outside & valid
        truncated = (self.steps >= self.MAX_STEPS) & valid
        self.done = terminated | truncated
        return Step(self._observations(), self._rewards * valid, terminated, truncated, valid)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of state, running episodes and generator."""
        return {
            "state": self.state.clone(),
            "steps": self.steps.clone(),
            "done": self.done.clone(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`; RuntimeError if the generator rejects its part."""
        self.generator.set_state(state["generator"])
        self.state.copy_(state["state"])
        self.steps.copy_(state["steps"])
        self.done.copy_(state["done"])

    def _advance(self, state: Tensor, actions: Tensor) -> Tensor:
        """Advance the state [4, N] (position, velocity, angle, angular velocity) by one Euler step."""
        _, velocity, angle, angular_velocity = state
        force = self.FORCE * (2 * actions - 1)
        cos, sin = angle.cos(), angle.sin()
        temp = (force + self.POLE_MASS_LENGTH * angular_velocity.square() * sin) / self.TOTAL_MASS
        inertia = self.HALF_POLE_LENGTH * (4.0 / 3.0 - self.POLE_MASS * cos.square() / self.TOTAL_MASS)
        angular_acceleration = (self.GRAVITY * sin - cos * temp) / inertia
        acceleration = temp - self.POLE_MASS_LENGTH * angular_acceleration * cos / self.TOTAL_MASS
        derivative = torch.stack((velocity, acceleration, angular_velocity, angular_acceleration))
        return state + self.STEP_SECS * derivative

    def _start_states(self) -> Tensor:
        return torch.empty_like(self.state).uniform_(-0.05, 0.05, generator=self.generator)

    def _observations(self) -> Tensor:
        return self.state.T.float()
