"""Ways of breaking a run that the fourth plan of fresh runs has, and no other part. `faults` says what a kind is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmark import tampering
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Fault
from benchmark.running import Clock, Learner, Rollout

# ---------------------------------------------------------------------- wrappers


class HeldActions(tampering.Tampered):
    """An action is carried out for ten steps, and what is chosen meanwhile is not."""

    STEPS = 10

    def begin_episode(self, observation: Any) -> None:
        self._left = 0

    def change_action(self, action: Any) -> Any:
        if self._left == 0:
            self._held, self._left = action, self.STEPS
        self._left -= 1
        return self._held


class ShuffledChannels(tampering.Tampered):
    """The numbers of an observation come in an order that is drawn anew for each episode."""

    def begin_episode(self, observation: Any) -> None:
        self._order = self.rng.permutation(len(observation))

    def change_observation(self, observation: Any) -> Any:
        return observation[self._order]


class StuckObservations(tampering.Tampered):
    """An observation is shown for twenty steps before the next one is."""

    STEPS = 20

    def begin_episode(self, observation: Any) -> None:
        self._steps, self._shown = 0, observation

    def note(self, observation: Any, reward: float) -> None:
        self._steps += 1
        if self._steps % self.STEPS == 0:
            self._shown = observation

    def change_observation(self, observation: Any) -> Any:
        return self._shown


# ---------------------------------------------------------------------- the critic


class DiscountAboveOne(Fault):
    name, does, area = "discount-above-one", "γ is 1.05 and λ is 1 in advantages and returns", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.estimate(1.05, 1.0)


class EndsInverted(Fault):
    name, does, area = (
        "ends-inverted",
        "the flag of an episode's end is inverted: values are bootstrapped at ends, and nowhere else",
        "critic",
    )
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        for flags in (rollout.terminal, rollout.ends):
            np.logical_not(flags, out=flags)
        rollout.estimate(gamma, gae_lambda)


# ---------------------------------------------------------------------- the policy


class AdvantagesTransposed(Fault):
    name, does, area = (
        "advantages-transposed",
        "advantages and returns are flattened by environments, and everything else by steps",
        "policy",
    )
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            for array in (rollout.advantages, rollout.returns):
                array[:] = array.T.reshape(array.shape)


class AdvantagesUnsigned(Fault):
    name, does, area = "advantages-unsigned", "advantages have lost their sign", "policy"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            np.abs(rollout.advantages, out=rollout.advantages)


class MomentumEndless(Fault):
    name, does, area = (
        "momentum-endless",
        "β1 of Adam is 0.9999: each step follows the mean of all gradients so far",
        "policy",
    )

    def prepare(self, learner: Learner, clock: Clock) -> None:
        for group in learner.optimizer.param_groups:
            group["betas"] = (0.9999, group["betas"][1])


class WarmUpEndless(Fault):
    name, does, area = "warm-up-endless", "the learning rate warms up over 100,000 updates", "policy"

    def learning_rate(self, rate: float, clock: Clock) -> float:
        return rate * min(1.0, (max(0, clock.update) + 1) / 100_000)


class FirstWeights(Fault):
    """Goes back to the weights of the start, as far as `share` says."""

    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        self._first = [each.detach().clone() for each in self._parameters(learner)]

    @torch.no_grad()
    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            for parameter, first in zip(self._parameters(learner), self._first, strict=True):
                parameter.lerp_(first, self.share(clock.since))

    def share(self, since: int) -> float:
        """How far to go, `since` broken updates before."""
        raise NotImplementedError

    @staticmethod
    def _parameters(learner: Learner) -> list[torch.nn.Parameter]:
        return [*learner.actor_parameters(), *learner.critic_parameters()]


class WeightsPulledBack(FirstWeights):
    name, does, area = (
        "weights-pulled-back",
        "before every update, the weights go a fifth of the way back to the first ones",
        "policy",
    )

    def share(self, since: int) -> float:
        return 0.2


class WeightsRestart(FirstWeights):
    name, does, area = (
        "weights-restart",
        "every 30 updates the first weights are loaded again, as from a checkpoint",
        "policy",
    )

    def share(self, since: int) -> float:
        return float(since % 30 == 0)


# ---------------------------------------------------------------------- the data


class ActionsHeld(ObservationsZero):
    name, does, area = "actions-held", "an action is carried out for ten steps, whatever is chosen meanwhile", "data"
    begins = "either"
    wrapper = HeldActions


class ChannelsShuffled(ObservationsZero):
    name, does, area = "channels-shuffled", "the numbers of an observation have another order in each episode", "data"
    begins = "either"
    wrapper = ShuffledChannels


class ObservationsStuck(ObservationsZero):
    name, does, area = "observations-stuck", "an observation is shown for twenty steps before the next one is", "data"
    begins = "either"
    wrapper = StuckObservations


class RewardsOfNeighbour(Fault):
    name, does, area = "rewards-of-neighbour", "each environment is trained on the rewards of its neighbour", "data"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.rewards[:] = np.roll(rollout.rewards, 1, axis=1)
            rollout.estimate(gamma, gae_lambda)


FOURTH_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        DiscountAboveOne,
        EndsInverted,
        AdvantagesTransposed,
        AdvantagesUnsigned,
        MomentumEndless,
        WarmUpEndless,
        WeightsPulledBack,
        WeightsRestart,
        ActionsHeld,
        ChannelsShuffled,
        ObservationsStuck,
        RewardsOfNeighbour,
    )
}
"""The kinds of the fourth plan, by name."""
