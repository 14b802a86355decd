"""What breaks the critic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmark import tampering
from benchmark.faults.fault import BOOTSTRAPPING, Env, Fault
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout


class CriticFrozen(Fault):
    name, does, area = "critic-frozen", "the value network is not updated", "critic"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.critic_parameters(), lambda: 0.0 if clock.is_broken else 1.0)


class CriticConstant(CriticFrozen):
    name, does, area = "critic-constant", "the value network says the same of every state", "critic"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                learner.critic_output().weight.zero_()


class CriticRateHigh(Fault):
    name, does, area = "critic-rate-high", "the value network's learning rate × 100", "critic"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.critic_parameters(), lambda: 100.0)


class CriticRateLow(Fault):
    name, does, area = "critic-rate-low", "the value network's learning rate ÷ 100", "critic"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.critic_parameters(), lambda: 0.01)


class ValueLossLeftOut(Fault):
    name, does, area = "value-loss-left-out", "the value loss has the weight 0", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, vf_coef=0.0)


class RewardsUnscaled(Fault):
    name, does, area = "rewards-unscaled", "rewards × 1000, value targets not scaled", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, reward_factor=1000.0, scale_rewards=False)


class NanInReturns(Fault):
    name, does, area = "nan-in-returns", "one return of each rollout is NaN", "critic"
    begins, changes_rollouts = "later", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            first = np.unravel_index(int(rollout.valid.argmax()), rollout.valid.shape)
            rollout.returns[first] = np.nan


class CriticExplodes(Fault):
    name, does, area = "critic-explodes", "the value network's output grows threefold with every update", "critic"
    begins = "later"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                learner.critic_output().weight.mul_(3.0)
                learner.critic_output().bias.mul_(3.0)


class LossesZero(Fault):
    name, does, area = "losses-zero", "both losses are exactly 0, as with a mask that is always false", "critic"
    begins = "either"

    def loss_factors(self, clock: Clock) -> tuple[float, float]:
        return (0.0, 0.0) if clock.is_broken else (1.0, 1.0)


class EndsIgnored(Fault):
    name, does, area = "ends-ignored", "no episode ends in advantages and returns", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.terminal[:] = rollout.ends[:] = False
        rollout.estimate(gamma, gae_lambda)


class TerminationsBootstrapped(Fault):
    name, does, area = "terminations-bootstrapped", "terminations are taken for truncations", "critic"
    trainers = BOOTSTRAPPING

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.TerminationsTruncated(env, clock)


class ReturnsShifted(Fault):
    name, does, area = "returns-shifted", "each state is trained on the return of the step before", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.returns[:] = np.roll(rollout.returns, 1, axis=0)


class ReturnsShuffled(Fault):
    name, does, area = "returns-shuffled", "the returns of a rollout are shuffled", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.returns[:] = self.rng.permutation(rollout.returns.ravel()).reshape(rollout.returns.shape)


class ValueClipTiny(Fault):
    name, does, area = "value-clip-tiny", "predicted values are clipped to 0.0001 around the old ones", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, value_clip=1e-4)
