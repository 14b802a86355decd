"""Ways of breaking a run that the sixth plan of fresh runs has, and no other part. `faults` says what a kind is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmark import tampering
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Env, Fault
from benchmark.running import Clock, Learner, Rollout

# ---------------------------------------------------------------------- wrappers


class MirroredObservations(tampering.Tampered):
    """The numbers of an observation have the wrong sign in every second episode."""

    sign = np.float32(1)

    def begin_episode(self, observation: Any) -> None:
        self.sign = -self.sign

    def change_observation(self, observation: Any) -> Any:
        return self.sign * observation


class CentredRewards(tampering.Tampered):
    """The running mean of all rewards is subtracted from each."""

    count, mean = 0, 0.0

    def note(self, observation: Any, reward: float) -> None:
        self.count += 1
        self.mean += (reward - self.mean) / self.count

    def change_reward(self, reward: float) -> float:
        return reward - self.mean


class SpikedRewards(tampering.Tampered):
    """One reward in a hundred is 50 larger or smaller, as from a sensor that fails."""

    def change_reward(self, reward: float) -> float:
        return reward + 50.0 * float(self.rng.choice((-1, 1))) if self.rng.random() < 0.01 else reward


class HangingEnv(tampering.Tampered):
    """The environment hangs: it shows its last observation for ever, pays nothing, and ends no episode."""

    last: Any = None

    def step(self, action: Any) -> Any:
        if self.clock.is_broken and self.last is not None:
            return self.last, 0.0, False, False, {}
        step = super().step(action)
        self.last = step[0]
        return (step[0], 0.0, False, False, {}) if self.clock.is_broken else step


# ---------------------------------------------------------------------- the critic


class LambdaNegative(Fault):
    name, does, area = "lambda-negative", "λ is −0.95: every second step counts with the wrong sign", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.estimate(gamma, -0.95)


class TargetsStandardised(Fault):
    name, does, area = "targets-standardised", "what the critic learns is standardised anew in each rollout", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            returns = rollout.returns
            returns[:] = (returns - returns.mean()) / (returns.std() + 1e-8)


class ValuesShifted(Fault):
    name, does, area = "values-shifted", "the value of a step is that of another environment", "critic"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.values[:] = np.roll(rollout.values, 1, axis=1)
            rollout.estimate(gamma, gae_lambda)


# ---------------------------------------------------------------------- the policy


class ActionsGreedyStored(Fault):
    name, does, area = "actions-greedy-stored", "the action that the policy holds for the best is stored", "policy"
    begins, changes_rollouts = "either", True

    def prepare(self, learner: Learner, clock: Clock) -> None:
        self.learner = learner

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if not clock.is_broken:
            return
        with torch.no_grad():
            output = self.learner.actor(torch.as_tensor(rollout.observations)).numpy()
        is_discrete = np.issubdtype(rollout.actions.dtype, np.integer)
        best = output.argmax(axis=-1) if is_discrete else output
        rollout.actions[:] = best.reshape(rollout.actions.shape)


class AdvantagesBroadcast(Fault):
    name, does, area = "advantages-broadcast", "all steps of an environment have the advantage of its first", "policy"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.advantages[:] = rollout.advantages[:1].copy()


class LogProbsZero(Fault):
    name, does, area = "log-probs-zero", "the old log-probabilities are 0", "policy"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.log_probs[:] = 0


class RateRestarts(Fault):
    name, does, area = "rate-restarts", "the learning rate begins anew at 0.3 in every tenth update", "policy"
    begins = "either"

    def learning_rate(self, rate: float, clock: Clock) -> float:
        return max(rate, 0.3 * 0.3 ** (clock.since % 10)) if clock.is_broken else rate


class StepsOfRandomSign(Fault):
    name, does, area = "steps-of-random-sign", "every gradient has a random sign", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def turn(*_: Any) -> None:
            for parameter in (*learner.actor_parameters(), *learner.critic_parameters()):
                if clock.is_broken and parameter.grad is not None:
                    parameter.grad.mul_(float(self.rng.choice((-1, 1))))

        learner.optimizer.register_step_pre_hook(turn)


class WeightsSymmetric(Fault):
    name, does, area = "weights-symmetric", "all hidden units begin alike, and stay so", "policy"

    @torch.no_grad()
    def prepare(self, learner: Learner, clock: Clock) -> None:
        for network in (learner.actor, learner.critic):
            for layer in network:
                if isinstance(layer, torch.nn.Linear):
                    alike = layer is not network[-1]
                    layer.weight.copy_(layer.weight.mean(dim=0 if alike else 1, keepdim=True).expand_as(layer.weight))
                    if alike:
                        layer.bias.fill_(float(layer.bias.mean()))


# ---------------------------------------------------------------------- the data


class ObservationsEarly(Fault):
    name, does, area = "observations-early", "each step is trained on the observation of the step after it", "data"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.observations[:-1] = rollout.observations[1:].copy()


class ObservationsMirrored(ObservationsZero):
    name, does, area = "observations-mirrored", "observations have the wrong sign in every second episode", "data"
    begins = "either"
    wrapper = MirroredObservations


class RewardsCentred(ObservationsZero):
    name, does, area = "rewards-centred", "the running mean of rewards is subtracted from each", "data"
    begins = "either"
    wrapper = CentredRewards


class RewardsSpiked(ObservationsZero):
    name, does, area = "rewards-spiked", "one reward in a hundred is 50 larger or smaller", "data"
    begins = "either"
    wrapper = SpikedRewards


class WorkersHang(Fault):
    name, does, area = "workers-hang", "three of four environments hang, with their last observation", "data"
    begins = "either"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return HangingEnv(env, clock) if index % 4 else env


SIXTH_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        LambdaNegative,
        TargetsStandardised,
        ValuesShifted,
        ActionsGreedyStored,
        AdvantagesBroadcast,
        LogProbsZero,
        RateRestarts,
        StepsOfRandomSign,
        WeightsSymmetric,
        ObservationsEarly,
        ObservationsMirrored,
        RewardsCentred,
        RewardsSpiked,
        WorkersHang,
    )
}
"""The kinds of the sixth plan, by name."""
