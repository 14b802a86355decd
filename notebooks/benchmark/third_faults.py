"""Ways of breaking a run that the third plan of fresh runs has, and no other part. `faults` says what a kind is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmark import tampering
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Fault
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout

# ---------------------------------------------------------------------- wrappers


class NoisyActions(tampering.Tampered):
    """Every second action is drawn at random, or noise as large as half of the range is added to it."""

    def change_action(self, action: Any) -> Any:
        space = self.env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return int(action) if self.rng.random() < 0.5 else int(self.rng.integers(int(space.n)))
        assert isinstance(space, gymnasium.spaces.Box)
        noise = self.rng.standard_normal(space.shape) * (space.high - space.low) / 2
        return np.clip(action + noise, space.low, space.high).astype(np.float32)


class CumulativeRewards(tampering.Tampered):
    """A reward is the sum of those of the episode so far."""

    def begin_episode(self, observation: Any) -> None:
        self._sum = 0.0

    def note(self, observation: Any, reward: float) -> None:
        self._sum += reward

    def change_reward(self, reward: float) -> float:
        return self._sum


class Magnified(tampering.Tampered):
    """Observations double every ten updates, and are clipped to 10 on either side."""

    def change_observation(self, observation: Any) -> Any:
        return (observation * 2.0 ** min(200.0, self.clock.since / 10)).clip(-10, 10).astype(np.float32)


# ---------------------------------------------------------------------- the critic


class BootstrapNegated(Fault):
    name, does, area = "bootstrap-negated", "the value of what follows a step is subtracted", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.following *= -1
        rollout.estimate(gamma, gae_lambda)


class EndsLate(Fault):
    name, does, area = "ends-late", "the end of an episode is noted one step late", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        for flags in (rollout.terminal, rollout.ends):
            flags[1:] = flags[:-1].copy()
            flags[0] = False
        rollout.estimate(gamma, gae_lambda)


class HeadsTied(Fault):
    name, does, area = "heads-tied", "the value is the first number of the policy's output layer", "critic"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        policy = learner.actor_output()

        def tie(_: Any, features: Any, value: Any) -> Any:
            return policy(*features)[..., :1] + 0 * value  # its own layer has gradients still: they are 0

        learner.critic_output().register_forward_hook(tie)


# ---------------------------------------------------------------------- the policy


class AdamEpsilonOne(Fault):
    name, does, area = "adam-epsilon-one", "ε of Adam is 1, and steps shrink to a hundredth or less", "policy"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        for group in learner.optimizer.param_groups:
            group["eps"] = 1.0


class DropoutInTrainingOnly(Fault):
    name, does, area = (
        "dropout-in-training-only",
        "half of the policy's last hidden units are dropped in training, and none in acting",
        "policy",
    )
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def drop(*called: Any) -> Any:
            is_training = torch.is_grad_enabled() and clock.is_broken
            return torch.nn.functional.dropout(called[-1], 0.5) if is_training else called[-1]

        learner.actor[-2].register_forward_hook(drop)


class ExplorationGrows(Fault):
    name, does, area = "exploration-grows", "logits shrink, or deviations grow, by a tenth with every update", "policy"
    begins = "either"

    @torch.no_grad()
    def before_update(self, learner: Learner, clock: Clock) -> None:
        if not clock.is_broken:
            return
        if learner.log_std is None:
            learner.actor_output().weight.mul_(0.9)
            learner.actor_output().bias.mul_(0.9)
        else:
            learner.log_std.add_(0.1).clamp_(max=4.0)


class OptimiserAnew(Fault):
    name, does, area = (
        "optimiser-anew",
        "the optimiser is made anew before every update, and the learning rate × 10",
        "policy",
    )

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, learning_rate=10 * hyper.learning_rate)

    def before_update(self, learner: Learner, clock: Clock) -> None:
        learner.optimizer.state.clear()


class WeightDecayOne(Fault):
    name, does, area = "weight-decay-one", "the weight decay of Adam is 1", "policy"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        for group in learner.optimizer.param_groups:
            group["weight_decay"] = 1.0


class WeightsZero(Fault):
    name, does, area = "weights-zero", "all weights begin at 0, so that only the last biases learn", "policy"

    @torch.no_grad()
    def prepare(self, learner: Learner, clock: Clock) -> None:
        for parameter in (*learner.actor.parameters(), *learner.critic.parameters()):
            parameter.zero_()


# ---------------------------------------------------------------------- the data


class ActionsNoisy(ObservationsZero):
    name, does, area = "actions-noisy", "noise is added to what is done, and not to what is stored", "data"
    begins = "either"
    wrapper = NoisyActions


class NormaliserVanishes(ObservationsZero):
    name, does, area = (
        "normaliser-vanishes",
        "the deviation that observations are divided by halves every ten updates",
        "data",
    )
    begins = "either"
    wrapper = Magnified


class RewardsCumulative(ObservationsZero):
    name, does, area = "rewards-cumulative", "a reward is the sum of those of the episode so far", "data"
    begins = "either"
    wrapper = CumulativeRewards


class ShuffledApart(Fault):
    name, does, area = "shuffled-apart", "observations are shuffled apart from everything else", "data"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rows = rollout.observations.reshape(-1, rollout.observations.shape[-1])
            rollout.observations[:] = self.rng.permutation(rows).reshape(rollout.observations.shape)


THIRD_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        BootstrapNegated,
        EndsLate,
        HeadsTied,
        AdamEpsilonOne,
        DropoutInTrainingOnly,
        ExplorationGrows,
        OptimiserAnew,
        WeightDecayOne,
        WeightsZero,
        ActionsNoisy,
        NormaliserVanishes,
        RewardsCumulative,
        ShuffledApart,
    )
}
"""The kinds of the third plan, by name."""
