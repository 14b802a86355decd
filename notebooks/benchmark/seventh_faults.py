"""Ways of breaking a run that the seventh plan of fresh runs has, and no other part. `faults` says what a kind is."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark import tampering
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Env, Fault
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout

# ---------------------------------------------------------------------- wrappers


class ClippedObservations(tampering.Tampered):
    """The numbers of an observation are clipped to ±0.05."""

    def change_observation(self, observation: Any) -> Any:
        return np.clip(observation, -0.05, 0.05)


class EnlargedObservations(tampering.Tampered):
    """The numbers of an observation are ten times as large, as in another unit."""

    def change_observation(self, observation: Any) -> Any:
        return 10 * observation


class LostRewards(tampering.Tampered):
    """Nine rewards of ten, by chance, are 0."""

    def change_reward(self, reward: float) -> float:
        return reward if self.rng.random() < 0.1 else 0.0


class PaidSteps(tampering.Tampered):
    """Each step is paid 1 more."""

    def change_reward(self, reward: float) -> float:
        return reward + 1.0


class OtherActions(tampering.Tampered):
    """An action means what the one at the other end of the list means, or its negative."""

    def change_action(self, action: Any) -> Any:
        return -action if isinstance(action, np.ndarray) and action.ndim else int(self.action_space.n) - 1 - action  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- the critic


class TargetsNegated(Fault):
    name, does, area = "targets-negated", "what the critic learns has the wrong sign", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.returns *= -1


class ValuesBounded(Fault):
    name, does, area = "values-bounded", "the value is a hundredth of a tanh: it can be no larger than 0.01", "critic"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def bound(_: Any, __: Any, output: Tensor) -> Tensor:
            return 0.01 * torch.tanh(output)

        learner.critic_output().register_forward_hook(bound)


class ValuesStale(Fault):
    name, does, area = (
        "values-stale",
        "values in advantages and returns are of the first broken update's critic",
        "critic",
    )
    begins, changes_rollouts = "either", True

    def prepare(self, learner: Learner, clock: Clock) -> None:
        self.learner = learner
        self.old: torch.nn.Sequential | None = None

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if not clock.is_broken:
            return
        self.old = self.old or copy.deepcopy(self.learner.critic)
        with torch.no_grad():
            values = self.old(torch.as_tensor(rollout.observations)).numpy().reshape(rollout.values.shape)
        rollout.values[:] = values
        rollout.following[:-1] = values[1:]
        rollout.estimate(gamma, gae_lambda)


# ---------------------------------------------------------------------- the policy


class AdvantagesReversed(Fault):
    name, does, area = (
        "advantages-reversed",
        "the advantages of a rollout are in reverse order, the last step first",
        "policy",
    )
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.advantages[:] = rollout.advantages[::-1].copy()


class GradientsUnderflow(Fault):
    name, does, area = "gradients-underflow", "gradients below 0.003 are 0, as in half precision", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def lose(*_: Any) -> None:
            for parameter in (*learner.actor_parameters(), *learner.critic_parameters()):
                if clock.is_broken and parameter.grad is not None:
                    parameter.grad[parameter.grad.abs() < 0.003] = 0

        learner.optimizer.register_step_pre_hook(lose)


class LogProbsLate(Fault):
    name, does, area = "log-probs-late", "the old log-probability of a step is that of the step before", "policy"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.log_probs[1:] = rollout.log_probs[:-1].copy()


class RateTiny(Fault):
    name, does, area = "rate-tiny", "the learning rate is a thousandth, as of a slip of the exponent", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, learning_rate=hyper.learning_rate / 1000)


class TemperatureHigh(Fault):
    name, does, area = "temperature-high", "logits or means are a fiftieth of what the network says", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def cool(_: Any, __: Any, output: Tensor) -> Tensor | None:
            return output / 50 if clock.is_broken else None

        learner.actor_output().register_forward_hook(cool)


# ---------------------------------------------------------------------- the data


class EnvsActDifferently(Fault):
    name, does, area = "envs-act-differently", "in every second environment, actions are in the opposite order", "data"
    begins = "either"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return OtherActions(env, clock) if index % 2 else env


class EnvsInTwoUnits(Fault):
    name, does, area = "envs-in-two-units", "every second environment shows its observations × 10", "data"
    begins = "either"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return EnlargedObservations(env, clock) if index % 2 else env


class ObservationsClipped(ObservationsZero):
    name, does, area = "observations-clipped", "observations are clipped to ±0.05", "data"
    begins = "either"
    wrapper = ClippedObservations


class RewardsLost(ObservationsZero):
    name, does, area = "rewards-lost", "nine rewards of ten, by chance, are 0", "data"
    begins = "either"
    wrapper = LostRewards


class StepsPaid(ObservationsZero):
    name, does, area = "steps-paid", "each step is paid 1 more", "data"
    begins = "either"
    wrapper = PaidSteps


SEVENTH_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        TargetsNegated,
        ValuesBounded,
        ValuesStale,
        AdvantagesReversed,
        GradientsUnderflow,
        LogProbsLate,
        RateTiny,
        TemperatureHigh,
        EnvsActDifferently,
        EnvsInTwoUnits,
        ObservationsClipped,
        RewardsLost,
        StepsPaid,
    )
}
"""The kinds of the seventh plan, by name."""
