"""The operators of RLMutation (arXiv 2301.05651), written anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from benchmark import tampering
from benchmark.faults.fault import BOOTSTRAPPING, Env, Fault
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout


class RewardNoise(Fault):
    name, does, area = "rlm-rn", "RN: one reward in ten is noise", "data"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.NoisyRewards(env, clock, seed=1000 * self.seed + index)


class Repeat(Fault):
    name, does, area = "rlm-r", "R: observation and reward are those of the step before", "data"
    untrue: ClassVar[type[tampering.Untrue]] = tampering.Repeated

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return self.untrue(env, clock, seed=1000 * self.seed + index, probability=self.strength)


class Randomise(Repeat):
    name, does, area = "rlm-ra", "Ra: observation and reward are drawn from the past", "data"
    untrue = tampering.Random


class Mangle(Repeat):
    name, does, area = "rlm-m", "M: observation and reward come from different steps of the past", "data"
    untrue = tampering.Mangled


class NoDiscount(Fault):
    name, does, area = "rlm-ndf", "NDF: no discount", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, gamma=1.0)


class MissingTerminalState(Fault):
    name, does, area = "rlm-mts", "MTS: no value is bootstrapped at a time limit", "critic"
    trainers = BOOTSTRAPPING

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.TruncationsTerminal(env, clock)


class NoReverse(Fault):
    name, does, area = "rlm-nr", "NR: advantages are accumulated forwards", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.estimate(gamma, gae_lambda, forwards=True)


class MissingStateUpdate(Fault):
    name, does, area = "rlm-msu", "MSU: the observation is never updated", "data"

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.FirstObservation(env, clock)


class IncorrectLoss(Fault):
    name, does, area = "rlm-ilf", "ILF: the clipped loss has the wrong sign", "policy"

    def loss_factors(self, clock: Clock) -> tuple[float, float]:
        return -1.0, 1.0


class OtherActivation(Fault):
    name, does, area = "rlm-pac", "PAC: the sigmoid in place of tanh", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, activation="sigmoid")


class OtherOptimizer(Fault):
    name, does, area = "rlm-poc", "POC: stochastic gradient descent in place of Adam", "policy"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.step_plainly()
