"""The policy and value networks, the action distributions, and the normalisation of observations and returns."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import ActionSpace, Discrete

MIN_SCALE = 1e-3
"""Smallest scale of value targets, so that nearly constant returns are not amplified into noise."""


class ObservationNormalizer(nn.Module):
    """Running mean and variance of observations [*, D], by Chan's parallel update; the identity until updated."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise observations to mean 0 and deviation 1, clipped to ±10: [*, D] float32."""
        centred = observations - self.mean.float()
        return (centred * (self.variance + 1e-8).rsqrt().float()).clamp(-10.0, 10.0)

    @torch.no_grad()
    def update(self, observations: Tensor, valid: Tensor) -> None:
        """Update the statistics with the rows of `observations` [B, D] where `valid` [B]."""
        weight = valid.double().unsqueeze(1)
        count = weight.sum()
        batch = observations.double()
        mean = (batch * weight).sum(0) / count.clamp(min=1)
        variance = ((batch - mean) ** 2 * weight).sum(0) / count.clamp(min=1)
        total = (self.count + count).clamp(min=1)
        shift = mean - self.mean
        between = shift**2 * self.count * count / total**2
        self.variance.copy_((self.variance * self.count + variance * count) / total + between)
        self.mean.add_(shift * count / total)
        self.count.add_(count)


class ReturnScale(nn.Module):
    """Running standard deviation of the returns: bias-corrected moving averages of G and G².

    Value targets are divided by `scale`, which is 1 until the first update.
    """

    mean: Tensor
    mean_square: Tensor
    weight: Tensor
    scale: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        for name in ("mean", "mean_square", "weight"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, returns: Tensor, valid: Tensor) -> None:
        """Update the averages with one rollout: `returns` [B] where `valid` [B]."""
        batch = torch.where(valid, returns, 0.0).double()
        count = valid.sum().clamp(min=1)
        self.mean.lerp_(batch.sum() / count, 1.0 - self.decay)
        self.mean_square.lerp_((batch**2).sum() / count, 1.0 - self.decay)
        self.weight.lerp_(torch.ones_like(self.weight), 1.0 - self.decay)
        mean = self.mean / self.weight
        variance = self.mean_square / self.weight - mean**2
        self.scale.copy_(variance.clamp(min=0.0).sqrt().clamp(min=MIN_SCALE))


class ActorCritic(nn.Module):
    """Two separate tanh networks: a policy over discrete or continuous actions, and a value function.

    The value network predicts on the scale of the value targets; `return_scale.scale` times its output
    is V on the raw return scale. Continuous actions are a diagonal Gaussian whose log standard
    deviation does not depend on the state.
    """

    def __init__(
        self, observation_size: int, action_space: ActionSpace, config: PPOConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.discrete = isinstance(action_space, Discrete)
        outputs = action_space.n if isinstance(action_space, Discrete) else action_space.size
        sizes = [observation_size] + [config.hidden_size] * config.hidden_layers
        self.policy = _mlp([*sizes, outputs], last_gain=0.01, generator=generator)
        self.value = _mlp([*sizes, 1], last_gain=1.0, generator=generator)
        self.log_std = None if self.discrete else nn.Parameter(torch.full((outputs,), config.log_std_init))
        self.normalizer = ObservationNormalizer(observation_size) if config.normalize_observations else None
        self.return_scale = ReturnScale(config.value_scale_decay)

    def normalize(self, observations: Tensor) -> Tensor:
        """Convert observations to what the networks take; unchanged without observation normalisation."""
        return observations if self.normalizer is None else self.normalizer(observations)

    def sample(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """Sample actions from the policy: int64 [B] (discrete) or float32 [B, A], not yet clipped to bounds."""
        output: Tensor = self.policy(observations)
        if self.log_std is None:
            # Gumbel trick: argmax of logits plus Gumbel noise is a sample, and never waits for the device.
            exponential = torch.empty_like(output).exponential_(generator=generator)
            return (output - exponential.log()).argmax(-1)
        noise = torch.empty_like(output).normal_(generator=generator)
        return output + self.log_std.exp() * noise

    def evaluate(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probability of `actions` and the entropy of the policy, nats: [B], [B].

        A continuous action's log-density is summed over its dimensions.
        """
        output: Tensor = self.policy(observations)
        if self.log_std is None:
            log_probs = output.log_softmax(-1)
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            return log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1), entropy
        standardized = (actions - output) * (-self.log_std).exp()
        log_prob = -0.5 * standardized**2 - self.log_std - 0.5 * math.log(2 * math.pi)
        entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return log_prob.sum(-1), entropy.expand(log_prob.shape[0])

    def predict_values(self, observations: Tensor) -> Tensor:
        """Predict V on the scale of the value targets: [B]."""
        values: Tensor = self.value(observations)
        return values.squeeze(-1)

    @torch.no_grad()
    def rescale_values(self, factor: Tensor) -> None:
        """Multiply the value network's output by `factor`, so that a new scale leaves raw V unchanged.

        The scale half of Pop-Art (van Hasselt et al. 2016).
        """
        last = self.value[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(factor)
        last.bias.mul_(factor)


def _mlp(sizes: list[int], *, last_gain: float, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        is_last = index == len(sizes) - 2
        linear = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(linear.weight, last_gain if is_last else math.sqrt(2), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if is_last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)
