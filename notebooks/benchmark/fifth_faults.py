"""Ways of breaking a run that the fifth plan of fresh runs has, and no other part. `faults` says what a kind is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmark import tampering
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Env, Fault
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout

# ---------------------------------------------------------------------- wrappers


class NeighboursAction(tampering.Tampered):
    """The action is that which was chosen last for the environment before it: what is sent is one place off."""

    def __init__(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> None:
        super().__init__(env, clock)
        self._index, self._shared = index, shared

    def step(self, action: Any) -> Any:
        self._shared[str(self._index)] = action
        return super().step(action)

    def change_action(self, action: Any) -> Any:
        return self._shared.get(str(self._index - 1), self._shared.get(str(len(self._shared) - 1), action))


class BooleanRewards(tampering.Tampered):
    """A reward is 1 where it is not 0, as after a cast to bool."""

    def change_reward(self, reward: float) -> float:
        return float(reward != 0)


class RewardsByMean(tampering.Tampered):
    """Rewards are divided by the running mean of all of them, in place of their deviation."""

    count, mean = 0, 0.0

    def note(self, observation: Any, reward: float) -> None:
        self.count += 1
        self.mean += (reward - self.mean) / self.count

    def change_reward(self, reward: float) -> float:
        return reward / self.mean if self.mean else reward


# ---------------------------------------------------------------------- the critic


class BootstrapDoubled(Fault):
    name, does, area = "bootstrap-doubled", "the value of what follows a step counts twice", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.following *= 2
            rollout.estimate(gamma, gae_lambda)


class ValueLossHeavy(Fault):
    name, does, area = (
        "value-loss-heavy",
        "the value loss has the weight 1,000,000, and the gradient clip leaves nothing of the policy's",
        "critic",
    )

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, vf_coef=1e6)


# ---------------------------------------------------------------------- the policy


class AdvantagesAlternate(Fault):
    name, does, area = "advantages-alternate", "in every second update, advantages have the wrong sign", "policy"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken and clock.since % 2 == 0:
            rollout.advantages *= -1


class MaskInverted(Fault):
    name, does, area = (
        "mask-inverted",
        "the mask of the losses is inverted: only the last step of each episode is trained on",
        "policy",
    )
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.advantages *= rollout.ends
            rollout.returns[:] = np.where(rollout.ends, rollout.returns, rollout.values)


class OutputLayersFrozen(Fault):
    name, does, area = "output-layers-frozen", "the optimiser does not know the last layers of both networks", "policy"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        layers = (learner.actor_output(), learner.critic_output())
        learner.scale_steps([each for layer in layers for each in layer.parameters()], lambda: 0.0)


class ScheduleRises(Fault):
    name, does, area = "schedule-rises", "the learning rate rises by 6 % with every update", "policy"
    begins = "either"

    def learning_rate(self, rate: float, clock: Clock) -> float:
        return rate * min(1e4, 1.06**clock.since) if clock.is_broken else rate


class SoftmaxTwice(Fault):
    name, does, area = (
        "softmax-twice",
        "the policy's outputs go through a softmax before they are taken for logits, or means",
        "policy",
    )
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def squash(*called: Any) -> Any:
            return torch.softmax(called[-1], -1) if clock.is_broken else called[-1]

        learner.actor_output().register_forward_hook(squash)


class WeightsEightBits(Fault):
    name, does, area = "weights-eight-bits", "weights are rounded to three bits of mantissa after each step", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        @torch.no_grad()
        def cut(*_: Any) -> None:
            if clock.is_broken:
                for parameter in (*learner.actor_parameters(), *learner.critic_parameters()):
                    parameter.copy_(parameter.clamp(-448, 448).to(torch.float8_e4m3fn).float())

        learner.optimizer.register_step_post_hook(cut)


# ---------------------------------------------------------------------- the data


class ActionsOfNeighbour(Fault):
    name, does, area = "actions-of-neighbour", "each environment carries out what its neighbour was to do", "data"
    begins = "either"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return NeighboursAction(env, clock, index, shared)


class BufferAliased(Fault):
    name, does, area = "buffer-aliased", "all steps of a rollout hold the observations of its last one", "data"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.observations[:] = rollout.observations[-1:].copy()


class RewardsBoolean(ObservationsZero):
    name, does, area = "rewards-boolean", "rewards are 1 where they are not 0", "data"
    begins = "either"
    wrapper = BooleanRewards


class RewardsByTheirMean(ObservationsZero):
    name, does, area = "rewards-by-their-mean", "rewards are divided by their running mean", "data"
    begins = "either"
    wrapper = RewardsByMean


class RewardsOfOpponent(Fault):
    name, does, area = (
        "rewards-of-opponent",
        "in every second environment, rewards have the sign that they have for an opponent",
        "data",
    )
    begins = "either"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.NegatedRewards(env, clock) if index % 2 else env


FIFTH_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        BootstrapDoubled,
        ValueLossHeavy,
        AdvantagesAlternate,
        MaskInverted,
        OutputLayersFrozen,
        ScheduleRises,
        SoftmaxTwice,
        WeightsEightBits,
        ActionsOfNeighbour,
        BufferAliased,
        RewardsBoolean,
        RewardsByTheirMean,
        RewardsOfOpponent,
    )
}
"""The kinds of the fifth plan, by name."""
