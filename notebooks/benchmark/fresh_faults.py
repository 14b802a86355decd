"""Ways of breaking that the first plan of fresh runs has, and every one by name. `faults` says what a kind is.

No rule was made with them: they break fresh runs alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmark import tampering
from benchmark.eighth_faults import EIGHTH_KINDS
from benchmark.faults import KINDS, Fault
from benchmark.faults.data import ObservationsZero
from benchmark.faults.fault import Env
from benchmark.fifth_faults import FIFTH_KINDS
from benchmark.fourth_faults import FOURTH_KINDS
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout
from benchmark.second_faults import SECOND_KINDS
from benchmark.seventh_faults import SEVENTH_KINDS
from benchmark.sixth_faults import SIXTH_KINDS
from benchmark.third_faults import THIRD_KINDS

# ---------------------------------------------------------------------- wrappers


class Renormalised(tampering.Tampered):
    """Observations are standardised by the mean and deviation of what this update has seen, from nothing each time."""

    def __init__(self, env: Env, clock: Clock, *, seed: int = 0) -> None:
        super().__init__(env, clock, seed=seed)
        self._update = -2

    def change_observation(self, observation: Any) -> Any:
        if self._update != self.clock.update:
            self._update, self._seen = self.clock.update, []
        self._seen.append(observation)
        seen = np.array(self._seen)
        return ((observation - seen.mean(0)) / (seen.std(0) + 1e-4)).clip(-10, 10).astype(np.float32)


class RoundedObservations(tampering.Tampered):
    """Observations are cut to whole numbers, as by a cast to integers."""

    def change_observation(self, observation: Any) -> Any:
        return np.trunc(observation).astype(np.float32)


class TinyRewards(tampering.Tampered):
    """Rewards are clipped to 0.001 on either side."""

    def change_reward(self, reward: float) -> float:
        return min(1e-3, max(-1e-3, reward))


class InflatedRewards(tampering.Tampered):
    """Rewards double every 15 updates, as with a running deviation that decays."""

    def change_reward(self, reward: float) -> float:
        return float(reward * 2.0 ** min(200.0, self.clock.since / 15))


class MaskedActions(tampering.Tampered):
    """The last third of the actions is never taken: the first one is in their place, or the bound of that third."""

    def change_action(self, action: Any) -> Any:
        space = self.env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return 0 if int(action) >= int(space.n) - max(1, int(space.n) // 3) else int(action)
        assert isinstance(space, gymnasium.spaces.Box)
        return np.minimum(action, space.low + (space.high - space.low) / 3)


# ---------------------------------------------------------------------- kinds


class GammaLambdaSwapped(Fault):
    name, does, area = "gamma-lambda-swapped", "γ is 0.5 and λ what γ was: the two are swapped", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, gamma=0.5, gae_lambda=hyper.gamma)


class RolloutEndTerminal(Fault):
    name, does, area = "rollout-end-terminal", "no value is bootstrapped at the end of a rollout", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.terminal[-1] = rollout.ends[-1] = True
        rollout.estimate(gamma, gae_lambda)


class LastRewardLate(Fault):
    name, does, area = "last-reward-late", "the reward of an episode's last step counts for the next episode", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        last = np.where(rollout.ends, rollout.rewards, 0)
        rollout.rewards[:] = rollout.rewards - last + np.roll(last, 1, axis=0)
        rollout.estimate(gamma, gae_lambda)


class AdvantagesAcrossEnvs(Fault):
    name, does, area = (
        "advantages-across-envs",
        "advantages keep only their sign beside the other environments'",
        "policy",
    )
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        mean = rollout.advantages.mean(axis=1, keepdims=True)
        rollout.advantages[:] = np.abs(mean) * np.sign(rollout.advantages - mean)


class OptimiserReset(Fault):
    name, does, area = "optimiser-reset", "the optimiser forgets its moments before every update", "policy"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        learner.optimizer.state.clear()


class ScheduleEndsEarly(Fault):
    name, does, area = "schedule-ends-early", "the learning rate falls to 0 within a twentieth of the run", "policy"

    def learning_rate(self, rate: float, clock: Clock) -> float:
        return rate * max(0.0, 1.0 - 20.0 * max(0, clock.update) / clock.updates)


class GradientClipTiny(Fault):
    name, does, area = "gradient-clip-tiny", "gradients are clipped to a norm of 1e-7", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, max_grad_norm=1e-7)


class TrunkFrozen(Fault):
    name, does, area = "trunk-frozen", "both networks learn by their biases alone, all weights are detached", "policy"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        parameters = [*learner.actor_parameters(), *learner.critic_parameters()]
        learner.scale_steps([each for each in parameters if each.ndim > 1], lambda: 0.0)


class DropoutLeftOn(Fault):
    name, does, area = "dropout-left-on", "half of the policy's last hidden units are dropped, also in acting", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        def drop(*called: Any) -> Any:
            return torch.nn.functional.dropout(called[-1], 0.5) if clock.is_broken else called[-1]

        learner.actor[-2].register_forward_hook(drop)


class FirstEnvOnly(Fault):
    name, does, area = "first-env-only", "every environment's part of the batch is that of the first one", "data"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        for array in vars(rollout).values():
            array[:] = array[:, :1].copy()


class NormaliserReset(ObservationsZero):
    name, does, area = "normaliser-reset", "the normaliser of observations starts anew with every rollout", "data"
    begins = "either"
    wrapper = Renormalised


class ObservationsRounded(ObservationsZero):
    name, does, area = "observations-rounded", "observations are cut to whole numbers", "data"
    begins = "either"
    wrapper = RoundedObservations


class RewardsTiny(ObservationsZero):
    name, does, area = "rewards-tiny", "rewards are clipped to ±0.001", "data"
    begins = "start"
    wrapper = TinyRewards


class RewardsInflate(ObservationsZero):
    name, does, area = "rewards-inflate", "rewards double every 15 updates", "data"
    begins = "either"
    wrapper = InflatedRewards


class ActionsMasked(ObservationsZero):
    name, does, area = "actions-masked", "a third of the actions cannot be taken any more", "data"
    begins = "either"
    wrapper = MaskedActions


FIRST_KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        GammaLambdaSwapped,
        LastRewardLate,
        RolloutEndTerminal,
        AdvantagesAcrossEnvs,
        DropoutLeftOn,
        GradientClipTiny,
        OptimiserReset,
        ScheduleEndsEarly,
        TrunkFrozen,
        ActionsMasked,
        FirstEnvOnly,
        NormaliserReset,
        ObservationsRounded,
        RewardsInflate,
        RewardsTiny,
    )
}
"""The kinds of the first plan, by name."""

FRESH_KINDS: dict[str, type[Fault]] = (
    FIRST_KINDS | SECOND_KINDS | THIRD_KINDS | FOURTH_KINDS | FIFTH_KINDS | SIXTH_KINDS | SEVENTH_KINDS | EIGHTH_KINDS
)
"""The kinds that are in fresh runs alone, by name: each in one plan."""

EVERY_KIND: dict[str, type[Fault]] = KINDS | FRESH_KINDS
"""Every kind by name."""
