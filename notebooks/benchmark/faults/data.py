"""What breaks the data: observations, rewards, actions, rollouts."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from benchmark import tampering
from benchmark.faults.fault import Begins, Env, Fault
from benchmark.running import Clock, Rollout


class ObservationsZero(Fault):
    name, does, area = "observations-zero", "every observation is zero", "data"
    begins: ClassVar[Begins] = "later"
    wrapper: ClassVar[type[tampering.Tampered]] = tampering.ZeroObservations

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return self.wrapper(env, clock, seed=1000 * self.seed + index)


class ObservationsNan(ObservationsZero):
    name, does, area = "observations-nan", "every observation has a NaN", "data"
    wrapper = tampering.NanObservations


class ObservationsScaled(ObservationsZero):
    name, does, area = "observations-scaled", "observations × 1000", "data"
    wrapper = tampering.ScaledObservations


class ObservationsNoisy(ObservationsZero):
    name, does, area = "observations-noisy", "noise of deviation 3 is added to observations", "data"
    begins = "either"
    wrapper = tampering.NoisyObservations


class ObservationsDelayed(ObservationsZero):
    name, does, area = "observations-delayed", "observations are 8 steps old", "data"
    begins = "start"
    wrapper = tampering.DelayedObservations


class RewardsStop(ObservationsZero):
    name, does, area = "rewards-stop", "every reward is 0", "data"
    begins = "either"
    wrapper = tampering.NoRewards


class RewardsNegated(ObservationsZero):
    name, does, area = "rewards-negated", "rewards have the wrong sign", "data"
    begins = "either"
    wrapper = tampering.NegatedRewards


class RewardsDelayed(Fault):
    name, does, area = "rewards-delayed", "rewards come 20 steps late, also into the next episode", "data"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.DelayedRewards(env, clock)


class ActionsPermuted(ObservationsZero):
    name, does, area = "actions-permuted", "every action means another one", "data"
    wrapper = tampering.PermutedActions


class EnvsDesynchronised(Fault):
    name, does, area = "envs-desynchronised", "each environment shows the observation of its neighbour", "data"
    begins = "either"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.NeighboursObservation(env, clock, index, shared)


class RolloutsStale(Fault):
    name, does, area = "rollouts-stale", "every update trains on the rollout of 25 updates ago", "data"
    changes_rollouts = True

    def __init__(self, *, seed: int = 0, strength: float = 1.0) -> None:
        super().__init__(seed=seed, strength=strength)
        self._kept: deque[Rollout] = deque(maxlen=26)

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        self._kept.append(rollout.copy())
        for name, array in vars(self._kept[0]).items():
            getattr(rollout, name)[:] = array
