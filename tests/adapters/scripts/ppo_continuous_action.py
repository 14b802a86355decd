"""The same with a Gaussian, in the shape of CleanRL's `ppo_continuous_action.py`; what they share lies beside it."""

from __future__ import annotations

from typing import Any

import torch
from ppo import Agent, parse_args, train  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor, nn
from torch.distributions import Normal


class GaussianAgent(Agent):  # type: ignore[misc, unused-ignore]
    """Actor with a standard deviation of its own, and critic."""

    def __init__(self, size: int, actions: int) -> None:
        super().__init__(size, actions)
        self.log_std = nn.Parameter(torch.zeros(actions))

    def policy(self, seen: Tensor) -> Any:
        """The distribution over actions."""
        mean = self.actor(seen)
        return Normal(mean, self.log_std.expand_as(mean).exp())

    def to_env(self, action: Tensor) -> Any:
        """An action as the environment takes it."""
        return action.numpy()


if __name__ == "__main__":
    train(parse_args("Pendulum-v1"), GaussianAgent)
