"""Ways of breaking a run that the eighth plan of fresh runs has, and no other part. `faults` says what a kind is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark import tampering
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Fault
from benchmark.running import Clock, Learner, Rollout

# ---------------------------------------------------------------------- wrappers


class SortedObservations(tampering.Tampered):
    """The numbers of an observation come in ascending order."""

    def change_observation(self, observation: Any) -> Any:
        return np.sort(observation)


class CutObservations(tampering.Tampered):
    """The second half of the numbers of an observation is 0."""

    def change_observation(self, observation: Any) -> Any:
        cut = observation.copy()
        cut[(len(cut) + 1) // 2 :] = 0
        return cut


class PaidByTheLastEpisode(tampering.Tampered):
    """A reward is what the last episode that ended earned in all."""

    last, sum = 0.0, 0.0

    def begin_episode(self, observation: Any) -> None:
        self.last, self.sum = self.sum, 0.0

    def note(self, observation: Any, reward: float) -> None:
        self.sum += reward

    def change_reward(self, reward: float) -> float:
        return self.last


# ---------------------------------------------------------------------- the critic


class BootstrapSummed(Fault):
    name, does, area = (
        "bootstrap-summed",
        "the value of what follows the rollout is the sum of those of all environments",
        "critic",
    )
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.following[-1] = rollout.following[-1].sum()
            rollout.estimate(gamma, gae_lambda)


class RewardsLeftOut(Fault):
    name, does, area = "rewards-left-out", "advantages and returns are of values alone, without rewards", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.rewards[:] = 0
            rollout.estimate(gamma, gae_lambda)


class ValueErrorsAveraged(Fault):
    name, does, area = (
        "value-errors-averaged",
        "all values of a minibatch are trained on its mean error, as where [B, 1] meets [B]",
        "critic",
    )

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def average(gradient: Tensor) -> Tensor:
            return gradient.mean(0, keepdim=True).expand_as(gradient)

        def hook(_: Any, __: Any, output: Tensor) -> None:
            if clock.is_broken and output.requires_grad:
                output.register_hook(average)  # type: ignore[no-untyped-call]

        learner.critic_output().register_forward_hook(hook)


class ValuesAddedTwice(Fault):
    name, does, area = "values-added-twice", "values are added to advantages twice for what the critic learns", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.returns += rollout.values


class ValuesExchanged(Fault):
    name, does, area = (
        "values-exchanged",
        "in TD errors, the value of a step and that of what follows it are exchanged",
        "critic",
    )
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.values, rollout.following = rollout.following, rollout.values
            rollout.estimate(gamma, gae_lambda)
            rollout.values, rollout.following = rollout.following, rollout.values


# ---------------------------------------------------------------------- the policy


class ActionFavoured(Fault):
    name, does, area = (
        "action-favoured",
        "the policy begins sure of its first action: its logit is 30 larger, or all means are 3 larger",
        "policy",
    )

    @torch.no_grad()
    def prepare(self, learner: Learner, clock: Clock) -> None:
        bias = learner.actor_output().bias
        if learner.log_std is None:
            bias[0] += 30
        else:
            bias.add_(3)


class AdvantagesSorted(Fault):
    name, does, area = (
        "advantages-sorted",
        "the advantages of an environment are in ascending order, as after a sort in place",
        "policy",
    )
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.advantages.sort(axis=0)


class NextActionStored(Fault):
    name, does, area = (
        "next-action-stored",
        "the action after the chosen one is stored, as counted from 1, or its negative",
        "policy",
    )
    begins, changes_rollouts = "either", True

    def prepare(self, learner: Learner, clock: Clock) -> None:
        self.count = learner.actor_output().out_features if learner.log_std is None else 0

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.actions[:] = (rollout.actions + 1) % self.count if self.count else -rollout.actions


class SoftmaxOverBatch(Fault):
    name, does, area = (
        "softmax-over-batch",
        "the softmax of logits, or means, is over the batch and not over the actions",
        "policy",
    )
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def normalise(_: Any, __: Any, output: Tensor) -> Tensor | None:
            return torch.log_softmax(output, 0) + np.log(len(output)) if clock.is_broken else None

        learner.actor_output().register_forward_hook(normalise)


class WeightsClipped(Fault):
    name, does, area = "weights-clipped", "all weights are clipped to ±0.01 after each step", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        @torch.no_grad()
        def clip(*_: Any) -> None:
            if clock.is_broken:
                for parameter in (*learner.actor.parameters(), *learner.critic.parameters()):
                    parameter.clamp_(-0.01, 0.01)

        learner.optimizer.register_step_post_hook(clip)


# ---------------------------------------------------------------------- the data


class FirstSamplesOnly(Fault):
    name, does, area = "first-samples-only", "the batch is the first eight samples of the rollout, repeated", "data"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            samples = rollout.values.size
            for array in vars(rollout).values():
                rows = array.reshape(samples, -1)
                array[:] = rows[np.arange(samples) % 8].reshape(array.shape)


class ObservationsCut(ObservationsZero):
    name, does, area = "observations-cut", "the second half of the numbers of an observation is 0", "data"
    begins = "either"
    wrapper = CutObservations


class ObservationsSorted(ObservationsZero):
    name, does, area = "observations-sorted", "the numbers of an observation come in ascending order", "data"
    begins = "either"
    wrapper = SortedObservations


class RewardsOfLastEpisode(ObservationsZero):
    name, does, area = "rewards-of-last-episode", "each step is paid what the last episode earned in all", "data"
    begins = "either"
    wrapper = PaidByTheLastEpisode


EIGHTH_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        BootstrapSummed,
        RewardsLeftOut,
        ValueErrorsAveraged,
        ValuesAddedTwice,
        ValuesExchanged,
        ActionFavoured,
        AdvantagesSorted,
        NextActionStored,
        SoftmaxOverBatch,
        WeightsClipped,
        FirstSamplesOnly,
        ObservationsCut,
        ObservationsSorted,
        RewardsOfLastEpisode,
    )
}
"""The kinds of the eighth plan, by name."""
