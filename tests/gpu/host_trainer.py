"""A trainer of somebody else's, small enough to read: it learns on the device and hands its metrics over as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

MINIBATCHES = 16


class HostTrainer:
    """Updates of 16 minibatches on made-up rollouts; its metrics stay on the device, and it never waits for it.

    Args:
        device: where to train.
        width: units in each of two hidden layers.
        samples: samples in each minibatch.
    """

    def __init__(self, device: torch.device, width: int = 64, samples: int = 256) -> None:
        generator = torch.Generator(device).manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.model.append(nn.Linear(width, 1)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.observations = torch.randn(MINIBATCHES, samples, 64, device=device, generator=generator)
        self.returns = torch.randn(MINIBATCHES, samples, device=device, generator=generator)
        self.next_update = 0
        self.scalars = len(self.update())

    def update(self) -> dict[str, Any]:
        """One update; its metrics as 0-d tensors on the device."""
        losses = []
        for observations, returns in zip(self.observations, self.returns, strict=True):
            error = self.model(observations).squeeze(-1) - returns
            loss = 0.5 * error.square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        value_loss = torch.stack(losses)
        return {
            "value_loss": value_loss.mean(),
            "policy_loss": -value_loss.mean() / 10,
            "entropy": value_loss.std(),
            "kl_divergence": value_loss.var(),
            "return_mean": self.returns.mean(),
            "return_std": self.returns.std(),
            "explained_variance": 1 - error.detach().var() / returns.var(),
            "value_min": value_loss.amin(),
            "value_max": value_loss.amax(),
            "samples": torch.full((), self.returns.numel(), dtype=torch.int64, device=self.returns.device),
            "first_loss": value_loss[0],
            "last_loss": value_loss[-1],
        }

    def updates(self, count: int, record: Callable[..., object] | None) -> None:
        """`count` updates, each handed to `record`."""
        for _ in range(count):
            metrics = self.update()
            if record is not None:
                record(update=self.next_update, **metrics)
                self.next_update += 1
