"""Parts of the trainer that are broken on purpose: learners, collectors of rollouts, environments.

Each replaces one part of a sound trainer and leaves the rest, and what is measured, as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import Step, VectorEnv
from esper_recorder.train.losses import generalized_advantages
from esper_recorder.train.networks import ActorCritic
from esper_recorder.train.ppo import PPO, Minibatch, OnStep, UpdateResult
from esper_recorder.train.rollout import Rollout, RolloutCollector


class SabotagedPPO(PPO):
    """A learner that is sound until `break_update`; a subclass says what happens from then on.

    Attributes:
        break_update: The first update that is broken; 0 where all are.
        made: Updates made so far, those that were rolled back included.
    """

    def __init__(self, model: ActorCritic, config: PPOConfig, generator: torch.Generator, break_update: int) -> None:
        super().__init__(model, config, generator)
        self.break_update = break_update
        self.made = 0

    def update(
        self,
        rollout: Rollout,
        *,
        learning_rate: float,
        on_minibatch: Callable[[Minibatch], None] | None = None,
        on_step: OnStep | None = None,
        heartbeat: Callable[[], None] | None = None,
    ) -> UpdateResult:
        """As `PPO.update`, on what `before_update` makes of `rollout`."""
        rollout = self.before_update(rollout, learning_rate)
        result = super().update(
            rollout, learning_rate=learning_rate, on_minibatch=on_minibatch, on_step=on_step, heartbeat=heartbeat
        )
        self.made += 1
        self.after_update()
        return result

    def before_update(self, rollout: Rollout, learning_rate: float) -> Rollout:
        """Break what is to be broken in update `made`; the rollout to train on."""
        return rollout

    def after_update(self) -> None:
        """Break what update `made` is to begin with."""


class ScaledRates(SabotagedPPO):
    """Policy and value network learn at rates of their own, multiples of the configured one."""

    policy_factor: ClassVar[float] = 1.0
    value_factor: ClassVar[float] = 1.0

    def __init__(self, model: ActorCritic, config: PPOConfig, generator: torch.Generator, break_update: int) -> None:
        super().__init__(model, config, generator, break_update)
        value = list(model.value.parameters())
        policy = [parameter for name, parameter in model.named_parameters() if not name.startswith("value.")]
        groups = [
            {"params": policy, "rate_factor": self.policy_factor},
            {"params": value, "rate_factor": self.value_factor},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=config.learning_rate, eps=config.adam_eps, fused=True)
        self.optimizer.register_step_pre_hook(self._set_rates)
        self._learning_rate = config.learning_rate

    def before_update(self, rollout: Rollout, learning_rate: float) -> Rollout:
        """Note the rate in force."""
        self._learning_rate = learning_rate
        return rollout

    def _set_rates(self, *_: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate * group["rate_factor"]


class ValueRateHigh(ScaledRates):
    """The value network learns 100 times too fast."""

    value_factor = 100.0


class ValueRateLow(ScaledRates):
    """The value network learns 100 times too slowly."""

    value_factor = 0.01


class PolicyRateHigh(ScaledRates):
    """The policy learns 30 times too fast."""

    policy_factor = 30.0


class FrozenCritic(SabotagedPPO):
    """From the break on the value network gets no gradient and stays as it is."""

    def before_update(self, rollout: Rollout, learning_rate: float) -> Rollout:
        """Take the value network out of the learning."""
        if self.made >= self.break_update:
            self.model.value.requires_grad_(False)
        return rollout


class ConstantCritic(FrozenCritic):
    """From the break on the value network gives one number for every state, and gets no gradient."""

    def before_update(self, rollout: Rollout, learning_rate: float) -> Rollout:
        """Cut the output off from everything but its bias."""
        if self.made >= self.break_update:
            last = self.model.value[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight.zero_()
        return super().before_update(rollout, learning_rate)


class NanFrom(SabotagedPPO):
    """From the break on one return of each rollout is NaN, and with it the value loss."""

    def is_broken(self) -> bool:
        """Whether the update that begins is to meet a NaN."""
        return self.made >= self.break_update

    def before_update(self, rollout: Rollout, learning_rate: float) -> Rollout:
        """Put a NaN into the return of the first sample."""
        if not self.is_broken():
            return rollout
        returns = rollout.returns.clone()
        returns[rollout.valid.int().argmax()] = torch.nan
        return replace(rollout, returns=returns)


class NanOnce(NanFrom):
    """In one single update one return is NaN; the trainer rolls it back and goes on."""

    def is_broken(self) -> bool:
        """Only the update of the break is."""
        return self.made == self.break_update


class NanParameters(SabotagedPPO):
    """Before the break a weight of the value network turns NaN, between two updates, where no rollback reaches."""

    def after_update(self) -> None:
        """Poison the weight that the update of the break begins with."""
        if self.made == self.break_update:
            first = self.model.value[0]
            assert isinstance(first, nn.Linear)
            with torch.no_grad():
                first.weight[0, 0] = torch.nan


class StaleRollouts(SabotagedPPO):
    """Each update trains on the rollout of `lag` updates ago, with the log-probabilities and values of then."""

    lag: ClassVar[int]

    def __init__(self, model: ActorCritic, config: PPOConfig, generator: torch.Generator, break_update: int) -> None:
        super().__init__(model, config, generator, break_update)
        self._rollouts: deque[Rollout] = deque(maxlen=self.lag + 1)

    def before_update(self, rollout: Rollout, learning_rate: float) -> Rollout:
        """The oldest rollout that is kept."""
        self._rollouts.append(rollout)
        return self._rollouts[0]


class Stale8(StaleRollouts):
    """Rollouts are 8 updates old."""

    lag = 8


class Stale25(StaleRollouts):
    """Rollouts are 25 updates old."""

    lag = 25


class WrongEnds(RolloutCollector):
    """Advantages and returns are computed with other ends of episodes than the environment gave."""

    def ends(self, terminated: Tensor, truncated: Tensor) -> tuple[Tensor, Tensor]:
        """What is taken for `terminated` and `truncated` [T, N] instead."""
        raise NotImplementedError

    def _finish(self, raw: Tensor, actions: Tensor, steps: list[Step]) -> Rollout:
        rollout = super()._finish(raw, actions, steps)
        scale = self.model.return_scale.scale.float()
        observations = self.model.normalize(raw).flatten(0, 1)
        values = (self.model.predict_values(observations) * scale).view(raw.shape[:2])
        terminated, truncated = self.ends(
            torch.stack([step.terminated for step in steps]), torch.stack([step.truncated for step in steps])
        )
        advantages, td_errors = generalized_advantages(
            torch.stack([step.rewards for step in steps]),
            values,
            terminated,
            truncated,
            torch.stack([step.valid for step in steps]),
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
        )
        return replace(
            rollout,
            advantages=advantages.flatten(),
            returns=(advantages + values[:-1]).flatten(),
            td_errors=td_errors.flatten(),
        )


class EndsIgnored(WrongEnds):
    """No episode ever ends: values are bootstrapped, and advantages reach, across the reset."""

    def ends(self, terminated: Tensor, truncated: Tensor) -> tuple[Tensor, Tensor]:
        """No ends."""
        return torch.zeros_like(terminated), torch.zeros_like(truncated)


class EndsBootstrapped(WrongEnds):
    """A termination is taken for a truncation: the value of the state in which the pole fell is bootstrapped."""

    def ends(self, terminated: Tensor, truncated: Tensor) -> tuple[Tensor, Tensor]:
        """Truncations only."""
        return torch.zeros_like(terminated), terminated | truncated


class ScaledRewards:
    """An environment whose rewards reach the trainer multiplied by `scale`."""

    def __init__(self, env: VectorEnv, scale: float) -> None:
        self._env = env
        self._scale = scale
        self.num_envs = env.num_envs
        self.observation_size = env.observation_size
        self.action_space = env.action_space
        self.name = f"{env.name}, rewards × {scale:g}"

    def reset(self) -> Tensor:
        """As the environment."""
        return self._env.reset()

    def step(self, actions: Tensor) -> Step:
        """As the environment, with scaled rewards."""
        step = self._env.step(actions)
        return replace(step, rewards=step.rewards * self._scale)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
