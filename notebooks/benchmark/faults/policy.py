"""What breaks the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmark.faults.fault import Fault
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout


class AdvantagesHalfFlipped(Fault):
    name, does, area = "advantages-half-flipped", "every second advantage has the wrong sign", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.advantages *= self.rng.choice(np.array((-1, 1), np.float32), rollout.advantages.shape)


class AdvantagesShifted(Fault):
    name, does, area = "advantages-shifted", "each action is trained on the advantage of the step before", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.advantages[:] = np.roll(rollout.advantages, 1, axis=0)


class WrongActionStored(Fault):
    name, does, area = "wrong-action-stored", "the action of the step before is stored", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.actions[:] = np.roll(rollout.actions, 1, axis=0)


class PolicyFrozen(Fault):
    name, does, area = "policy-frozen", "the policy network is not updated", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.actor_parameters(), lambda: 0.0 if clock.is_broken else 1.0)


class ClipZero(Fault):
    name, does, area = "clip-zero", "the policy clip is 1e-9, so that only the first minibatch moves it", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, clip_range=1e-9)


class PolicyRateHigh(Fault):
    name, does, area = "policy-rate-high", "the policy network's learning rate × 30", "policy"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.actor_parameters(), lambda: 30.0)


class EntropyBonusHigh(Fault):
    name, does, area = "entropy-bonus-high", "the entropy coefficient is 2", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, entropy_coef=2.0)


class EntropyCollapses(Fault):
    name, does, area = "entropy-collapses", "logits grow, or deviations shrink, by a tenth with every update", "policy"
    begins = "either"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                if learner.log_std is None:
                    learner.actor_output().weight.mul_(1.1)
                    learner.actor_output().bias.mul_(1.1)
                else:
                    learner.log_std.sub_(0.1).clamp_(min=-8.0)


class AdvantagesZero(Fault):
    name, does, area = "advantages-zero", "advantages are 0", "policy"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.advantages[:] = 0


class AdvantagesNoise(Fault):
    name, does, area = "advantages-noise", "advantages are noise of their own size", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        size = rollout.advantages.std()
        rollout.advantages[:] = size * self.rng.standard_normal(rollout.advantages.shape, np.float32)


class LogProbsStale(Fault):
    name, does, area = "log-probs-stale", "old log-probabilities are those of the rollout before", "policy"
    begins, changes_rollouts = "either", True

    def __init__(self, *, seed: int = 0, strength: float = 1.0) -> None:
        super().__init__(seed=seed, strength=strength)
        self._before: Any = None

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        fresh = rollout.log_probs.copy()
        if clock.is_broken:
            rollout.log_probs[:] = np.roll(fresh, 1, axis=1) if self._before is None else self._before
        self._before = fresh


class PolicyReset(Fault):
    name, does, area = "policy-reset", "the policy's output layer is drawn anew before every update", "policy"
    begins = "later"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            learner.actor_output().reset_parameters()


class RateJumps(Fault):
    name, does, area = "rate-jumps", "the learning rate of both networks jumps to 0.3", "policy"
    begins = "later"

    def learning_rate(self, rate: float, clock: Clock) -> float:
        return 0.3 if clock.is_broken else rate


class WeightsNoisy(Fault):
    name, does, area = "weights-noisy", "noise is added to the weights of both networks with every update", "policy"
    begins = "later"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                for parameter in (*learner.actor_parameters(), *learner.critic_parameters()):
                    noise = self.rng.standard_normal(tuple(parameter.shape), np.float32)
                    parameter.add_(torch.as_tensor(0.1 * noise))
