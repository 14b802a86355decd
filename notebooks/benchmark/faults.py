"""The ways of breaking a run: each kind says what it does, to which trainers, and when it begins.

A kind is a class. What it does not define is as in a sound run, and `Fault` itself breaks nothing. `KINDS` has them
all by name; those whose names begin with `rlm-` are the operators of RLMutation (arXiv 2301.05651), written anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import torch

from benchmark import tampering
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Rollout

Env = gymnasium.Env[Any, Any]
Area = Literal["critic", "policy", "data"]
Begins = Literal["start", "later", "either"]

TRAINERS = ("ours", "sb3", "cleanrl")
BOOTSTRAPPING = ("ours", "sb3")
"""Trainers that tell a truncation from a termination; the CleanRL style takes both for a termination."""


class Fault:
    """One way of breaking a run, and the state of one run that is broken so.

    Attributes:
        name, does, area: What it is, what it does in one line, and which part it is of.
        trainers: Those that can be broken so.
        begins: Whether it is there from the start, begins at an update drawn beforehand, or either.
        changes_rollouts: Whether `change_rollout` does anything.
        seed, strength: Of this run; `strength` is used by the kinds that `STRENGTHS` names.
    """

    name: ClassVar[str] = "sound"
    does: ClassVar[str] = "nothing"
    area: ClassVar[Area]
    trainers: ClassVar[tuple[str, ...]] = TRAINERS
    begins: ClassVar[Begins] = "start"
    changes_rollouts: ClassVar[bool] = False

    def __init__(self, *, seed: int = 0, strength: float = 1.0) -> None:
        self.seed = seed
        self.strength = strength
        self.rng = np.random.default_rng(seed)

    def change_hyper(self, hyper: Hyper) -> Hyper:
        """The hyper-parameters of the broken run."""
        return hyper

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        """The environment number `index` of the broken run; `shared` is that of all environments of the run."""
        return env

    def learning_rate(self, rate: float, clock: Clock) -> float:
        """The learning rate of the update in progress."""
        return rate

    def loss_factors(self, clock: Clock) -> tuple[float, float]:
        """What the clipped policy loss and the value loss are multiplied by, in training and in what is recorded."""
        return 1.0, 1.0

    def prepare(self, learner: Learner, clock: Clock) -> None:
        """Called once, before the first update."""

    def before_update(self, learner: Learner, clock: Clock) -> None:
        """Called before each rollout."""

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        """Change what the update is to train on."""


# ---------------------------------------------------------------------- the critic


class CriticFrozen(Fault):
    name, does, area = "critic-frozen", "the value network is not updated", "critic"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.critic_parameters(), lambda: 0.0 if clock.is_broken else 1.0)


class CriticConstant(CriticFrozen):
    name, does, area = "critic-constant", "the value network says the same of every state", "critic"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                learner.critic_output().weight.zero_()


class CriticRateHigh(Fault):
    name, does, area = "critic-rate-high", "the value network's learning rate × 100", "critic"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.critic_parameters(), lambda: 100.0)


class CriticRateLow(Fault):
    name, does, area = "critic-rate-low", "the value network's learning rate ÷ 100", "critic"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.critic_parameters(), lambda: 0.01)


class ValueLossLeftOut(Fault):
    name, does, area = "value-loss-left-out", "the value loss has the weight 0", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, vf_coef=0.0)


class RewardsUnscaled(Fault):
    name, does, area = "rewards-unscaled", "rewards × 1000, value targets not scaled", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, reward_factor=1000.0, scale_rewards=False)


class NanInReturns(Fault):
    name, does, area = "nan-in-returns", "one return of each rollout is NaN", "critic"
    begins, changes_rollouts = "later", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            first = np.unravel_index(int(rollout.valid.argmax()), rollout.valid.shape)
            rollout.returns[first] = np.nan


class CriticExplodes(Fault):
    name, does, area = "critic-explodes", "the value network's output grows threefold with every update", "critic"
    begins = "later"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                learner.critic_output().weight.mul_(3.0)
                learner.critic_output().bias.mul_(3.0)


class LossesZero(Fault):
    name, does, area = "losses-zero", "both losses are exactly 0, as with a mask that is always false", "critic"
    begins = "either"

    def loss_factors(self, clock: Clock) -> tuple[float, float]:
        return (0.0, 0.0) if clock.is_broken else (1.0, 1.0)


class EndsIgnored(Fault):
    name, does, area = "ends-ignored", "no episode ends in advantages and returns", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.terminal[:] = rollout.ends[:] = False
        rollout.estimate(gamma, gae_lambda)


class TerminationsBootstrapped(Fault):
    name, does, area = "terminations-bootstrapped", "terminations are taken for truncations", "critic"
    trainers = BOOTSTRAPPING

    def wrap(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> Env:
        return tampering.TerminationsTruncated(env, clock)


class ReturnsShifted(Fault):
    name, does, area = "returns-shifted", "each state is trained on the return of the step before", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.returns[:] = np.roll(rollout.returns, 1, axis=0)


class ReturnsShuffled(Fault):
    name, does, area = "returns-shuffled", "the returns of a rollout are shuffled", "critic"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.returns[:] = self.rng.permutation(rollout.returns.ravel()).reshape(rollout.returns.shape)


class ValueClipTiny(Fault):
    name, does, area = "value-clip-tiny", "predicted values are clipped to 0.0001 around the old ones", "critic"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, value_clip=1e-4)


# ---------------------------------------------------------------------- the policy


class AdvantagesHalfFlipped(Fault):
    name, does, area = "advantages-half-flipped", "every second advantage has the wrong sign", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.advantages *= self.rng.choice(np.array((-1, 1), np.float32), rollout.advantages.shape)


class AdvantagesShifted(Fault):
    name, does, area = "advantages-shifted", "each action is trained on the advantage of the step before", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.advantages[:] = np.roll(rollout.advantages, 1, axis=0)


class WrongActionStored(Fault):
    name, does, area = "wrong-action-stored", "the action of the step before is stored", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        rollout.actions[:] = np.roll(rollout.actions, 1, axis=0)


class PolicyFrozen(Fault):
    name, does, area = "policy-frozen", "the policy network is not updated", "policy"
    begins = "either"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.actor_parameters(), lambda: 0.0 if clock.is_broken else 1.0)


class ClipZero(Fault):
    name, does, area = "clip-zero", "the policy clip is 1e-9, so that only the first minibatch moves it", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, clip_range=1e-9)


class PolicyRateHigh(Fault):
    name, does, area = "policy-rate-high", "the policy network's learning rate × 30", "policy"

    def prepare(self, learner: Learner, clock: Clock) -> None:
        learner.scale_steps(learner.actor_parameters(), lambda: 30.0)


class EntropyBonusHigh(Fault):
    name, does, area = "entropy-bonus-high", "the entropy coefficient is 2", "policy"

    def change_hyper(self, hyper: Hyper) -> Hyper:
        return replace(hyper, entropy_coef=2.0)


class EntropyCollapses(Fault):
    name, does, area = "entropy-collapses", "logits grow, or deviations shrink, by a tenth with every update", "policy"
    begins = "either"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                if learner.log_std is None:
                    learner.actor_output().weight.mul_(1.1)
                    learner.actor_output().bias.mul_(1.1)
                else:
                    learner.log_std.sub_(0.1).clamp_(min=-8.0)


class AdvantagesZero(Fault):
    name, does, area = "advantages-zero", "advantages are 0", "policy"
    begins, changes_rollouts = "either", True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        if clock.is_broken:
            rollout.advantages[:] = 0


class AdvantagesNoise(Fault):
    name, does, area = "advantages-noise", "advantages are noise of their own size", "policy"
    changes_rollouts = True

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        size = rollout.advantages.std()
        rollout.advantages[:] = size * self.rng.standard_normal(rollout.advantages.shape, np.float32)


class LogProbsStale(Fault):
    name, does, area = "log-probs-stale", "old log-probabilities are those of the rollout before", "policy"
    begins, changes_rollouts = "either", True

    def __init__(self, *, seed: int = 0, strength: float = 1.0) -> None:
        super().__init__(seed=seed, strength=strength)
        self._before: Any = None

    def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
        fresh = rollout.log_probs.copy()
        if clock.is_broken:
            rollout.log_probs[:] = np.roll(fresh, 1, axis=1) if self._before is None else self._before
        self._before = fresh


class PolicyReset(Fault):
    name, does, area = "policy-reset", "the policy's output layer is drawn anew before every update", "policy"
    begins = "later"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            learner.actor_output().reset_parameters()


class RateJumps(Fault):
    name, does, area = "rate-jumps", "the learning rate of both networks jumps to 0.3", "policy"
    begins = "later"

    def learning_rate(self, rate: float, clock: Clock) -> float:
        return 0.3 if clock.is_broken else rate


class WeightsNoisy(Fault):
    name, does, area = "weights-noisy", "noise is added to the weights of both networks with every update", "policy"
    begins = "later"

    def before_update(self, learner: Learner, clock: Clock) -> None:
        if clock.is_broken:
            with torch.no_grad():
                for parameter in (*learner.actor_parameters(), *learner.critic_parameters()):
                    noise = self.rng.standard_normal(tuple(parameter.shape), np.float32)
                    parameter.add_(torch.as_tensor(0.1 * noise))


# ---------------------------------------------------------------------- the data


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


# ---------------------------------------------------------------------- RLMutation


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


STRENGTHS = {"rlm-r": (0.5, 1.0), "rlm-ra": (0.2, 0.5, 1.0), "rlm-m": (0.2, 0.5, 1.0)}
"""Probabilities of the operators that have one."""


def _all(of: type[Fault]) -> list[type[Fault]]:
    return [kind for child in of.__subclasses__() for kind in (child, *_all(child))]


KINDS = {kind.name: kind for kind in sorted(_all(Fault), key=lambda kind: (kind.area, kind.name))}
"""Every kind by name, ordered by area."""
