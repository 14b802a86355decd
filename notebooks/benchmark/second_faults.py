"""Ways of breaking a run that the second plan of fresh runs has, and no other part. `faults` says what a kind is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import tampering
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Fault
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout

# ---------------------------------------------------------------------- wrappers


class RandomSigns(tampering.Tampered):
    """Every second reward, drawn at random, has the wrong sign."""

    def change_reward(self, reward: float) -> float:
        return reward if self.rng.random() < 0.5 else -reward


class NoPenalties(tampering.Tampered):
    """Rewards below 0 are 0."""

    def change_reward(self, reward: float) -> float:
        return max(0.0, reward)


class LastActions(tampering.Tampered):
    """An action is carried out ten steps after it was chosen; until then the first one of the episode is."""

    def begin_episode(self, observation: Any) -> None:
        self._waiting: list[Any] = []

    def change_action(self, action: Any) -> Any:
        self._waiting.append(action)
        return self._waiting.pop(0) if len(self._waiting) > 10 else self._waiting[0]


# ---------------------------------------------------------------------- the critic


class CriticAscends(Fault):
    name, does, area = "critic-ascends", "the value network climbs its loss: its learning rate is negative", "critic"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.critic_parameters(), lambda: -1.0 if clock.is_broken else 1.0)


class GammaZero(Fault):
    name, does, area = "gamma-zero", "γ is 0: only the reward of the step counts", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, gamma=0.0)


class NextEpisodeBootstrapped(Fault):
    name, does, area = (
        "next-episode-bootstrapped",
        "the end of an episode has the value of the observation that the next step begins with",
        "critic",
    )
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.terminal[:] = False
        rollout.estimate(gamma, gae_lambda)


# ---------------------------------------------------------------------- the policy


class ActingStale(Fault):
    """A rollout is collected between `before_update` and `change_rollout`: old weights are there in between."""

    name, does, area = "acting-stale", "rollouts are collected with the policy of 40 updates ago", "policy"
    begins, changes_rollouts = "either", True
    AGE = 40

    def __init__(self, *, seed: int = 0, strength: float = 1.0) -> None:
        super().__init__(seed=seed, strength=strength)
        self._past: list[list[Tensor]] = []

    @torch.no_grad()
    def before_update(self, learner: Learner, clock: Clock) -> None:
        self._parameters = learner.actor_parameters()
        self._past = [*self._past[-self.AGE :], [each.clone() for each in self._parameters]]
        if clock.is_broken:
            self._put(self._past[0])

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        self._put(self._past[-1])

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self._parameters, weights, strict=True):
            parameter.copy_(weight)


class ClipMissingRateHigh(Fault):
    name, does, area = "clip-missing-rate-high", "the ratio is not clipped, and the learning rate × 10", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, clip_range=1e3, learning_rate=10 * hyper.learning_rate)


class EntropyBonusNegative(Fault):
    name, does, area = "entropy-bonus-negative", "the entropy coefficient is −0.2: it has the wrong sign", "policy"
    trainers = ("sb3", "cleanrl")  # the built-in trainer takes no such coefficient

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, entropy_coef=-0.2)


class EpochsMany(Fault):
    name, does, area = "epochs-many", "40 epochs on each rollout, and no KL limit", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, epochs=40, minibatches=1, target_kl=None)


class GradientsAccumulate(Fault):
    name, does, area = "gradients-accumulate", "gradients are added up and never set to zero", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        parameters = [*learner.actor_parameters(), *learner.critic_parameters()]
        sums = [torch.zeros_like(parameter) for parameter in parameters]

        def add(*_: Any) -> None:
            for parameter, total in zip(parameters, sums, strict=True):
                if clock.is_broken and parameter.grad is not None:
                    total.add_(parameter.grad)
                    parameter.grad.copy_(total)

        learner.optimizer.register_step_pre_hook(add)


class LogProbsWrongAxis(Fault):
    name, does, area = (
        "log-probs-wrong-axis",
        "old log-probabilities are summed over the environments, not over the numbers of an action",
        "policy",
    )
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.log_probs[:] = rollout.log_probs.sum(axis=1, keepdims=True)


class UnitsDead(Fault):
    name, does, area = "units-dead", "ReLU in place of tanh, and biases that begin at −10: no unit fires", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, activation="relu")

    @torch.no_grad()
    def prepare(self, learner: Learner, clock: Clock) -> None:
        for network in (learner.actor, learner.critic):
            for layer in list(network)[:-1]:
                if isinstance(layer, nn.Linear):
                    layer.bias.fill_(-10.0)


class WeightsHuge(Fault):
    name, does, area = "weights-huge", "all weights begin 50 times as large: every unit is saturated", "policy"

    @torch.no_grad()
    def prepare(self, learner: Learner, clock: Clock) -> None:
        for parameter in (*learner.actor.parameters(), *learner.critic.parameters()):
            if parameter.ndim > 1:
                parameter.mul_(50.0)


# ---------------------------------------------------------------------- the data


class ActionsLate(ObservationsZero):
    name, does, area = "actions-late", "actions are carried out ten steps late", "data"
    begins = "either"
    wrapper = LastActions


class BatchPadded(Fault):
    name, does, area = "batch-padded", "three quarters of each batch are padding, and enter the losses", "data"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        padding = slice(max(1, rollout.actions.shape[1] // 4), None)
        for name in ("observations", "actions", "log_probs", "values", "rewards", "advantages", "returns"):
            getattr(rollout, name)[:, padding] = 0


class NormaliserInTrainingOnly(Fault):
    name, does, area = (
        "normaliser-in-training-only",
        "observations are standardised by the batch in training, and not in acting",
        "data",
    )
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            seen = rollout.observations
            mean, deviation = seen.mean(axis=(0, 1)), seen.std(axis=(0, 1))
            rollout.observations[:] = ((seen - mean) / (deviation + 1e-4)).clip(-10, 10)


class PenaltiesLost(ObservationsZero):
    name, does, area = "penalties-lost", "rewards below 0 are 0", "data"
    begins = "either"
    wrapper = NoPenalties


class RewardsFlip(ObservationsZero):
    name, does, area = "rewards-flip", "every second reward, at random, has the wrong sign", "data"
    begins = "either"
    wrapper = RandomSigns


SECOND_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        CriticAscends,
        GammaZero,
        NextEpisodeBootstrapped,
        ActingStale,
        ClipMissingRateHigh,
        EntropyBonusNegative,
        EpochsMany,
        GradientsAccumulate,
        LogProbsWrongAxis,
        UnitsDead,
        WeightsHuge,
        ActionsLate,
        BatchPadded,
        NormaliserInTrainingOnly,
        PenaltiesLost,
        RewardsFlip,
    )
}
"""The kinds of the second plan, by name."""
