"""What the calibration study trains: sound configurations of PPO, and some of them broken on purpose.

A scenario is a configuration of the built-in trainer and, where it breaks something that no option can break, the
part of `sabotage` that stands in for the sound one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sabotage import (
    ConstantCritic,
    EndsBootstrapped,
    EndsIgnored,
    FrozenCritic,
    NanFrom,
    NanOnce,
    NanParameters,
    PolicyRateHigh,
    SabotagedPPO,
    ScaledRewards,
    Stale8,
    Stale25,
    ValueRateHigh,
    ValueRateLow,
)

from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import VectorEnv
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.rollout import RolloutCollector
from esper_recorder.train.trainer import Trainer

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One way to train, repeated with the seeds 0 … `seeds` − 1.

    Attributes:
        name: Also the first part of its runs' names.
        does: What it is, or what it breaks, in one line.
        sound: Whether it is meant to be. Whether a run was broken is decided by `outcomes` alone.
        config: What differs from the preset of its environment; `env` is in it.
        reward_scale: What rewards are multiplied by before the trainer sees them.
        ppo: The learner, where it is a broken one.
        collector: The collector of rollouts, where it is a broken one.
        breaks_within: First and last share of the run's updates between which the break is drawn; None
            where there is none, or it is there from the beginning.
        seeds: Number of runs.
    """

    name: str
    does: str
    sound: bool
    config: Mapping[str, Any]
    reward_scale: float = 1.0
    ppo: type[SabotagedPPO] | None = None
    collector: type[RolloutCollector] | None = None
    breaks_within: tuple[float, float] | None = None
    seeds: int = 12

    def ppo_config(self, seed: int) -> PPOConfig:
        """The trainer's configuration of one run."""
        return PPOConfig.for_env(**self.config, seed=seed, checkpoint_updates=0)

    def break_update(self, seed: int) -> int:
        """The first broken update of a run that breaks on its way, at least 1; else 0."""
        if self.breaks_within is None:
            return 0
        first, last = (share * self.ppo_config(seed).num_updates for share in self.breaks_within)
        return max(1, round(random.Random(f"{self.name} {seed}").uniform(first, last)))

    def run_name(self, seed: int) -> str:
        """Name of one run."""
        return f"{self.name}-{seed:03d}"

    def run_config(self, seed: int) -> dict[str, Any]:
        """What the header of one run holds: the trainer's configuration and what the study knows of the run."""
        return self.ppo_config(seed).to_dict() | {
            "scenario": self.name,
            "sound": self.sound,
            "break_update": self.break_update(seed),
            "reward_scale": self.reward_scale,
        }

    def make_trainer(self, seed: int) -> Trainer:
        """The trainer of one run, broken parts in their places; `collector.env` is the caller's to close."""
        config = self.ppo_config(seed)
        env: VectorEnv = make_env(config.env, config.num_envs, seed=seed, device=CPU)
        if self.reward_scale != 1.0:
            env = ScaledRewards(env, self.reward_scale)
        trainer = Trainer(config, env, CPU)
        generator = trainer.ppo.generator
        if self.ppo is not None:
            trainer.ppo = self.ppo(trainer.model, config, generator, self.break_update(seed))
        if self.collector is not None:
            trainer.collector = self.collector(env, trainer.model, config, generator)
        return trainer


def _sound(name: str, does: str, config: Mapping[str, Any], **more: Any) -> Scenario:
    return Scenario(name=name, does=does, sound=True, config=config, seeds=24, **more)


def _broken(name: str, does: str, config: Mapping[str, Any], **more: Any) -> Scenario:
    return Scenario(name=name, does=does, sound=False, config=config, **more)


CARTPOLE = {
    "env": "CartPole-v1",
    "num_envs": 64,
    "rollout_steps": 32,
    "minibatches": 2,
    "updates": 90,
    "learning_rate": 1.5e-3,
}
"""Learns in about 60 of its 90 updates; 3 s. The learning rate falls to zero, as by default."""

STEADY = {
    "env": "CartPole-v1",
    "num_envs": 32,
    "rollout_steps": 64,
    "updates": 70,
    "gamma": 0.99,
    "learning_rate": 1e-3,
    "anneal_lr": False,
}
"""Differs from `CARTPOLE` in what people choose most often: horizon, discount, minibatches, a constant rate."""

ACROBOT = {
    "env": "Acrobot-v1",
    "num_envs": 16,
    "rollout_steps": 128,
    "updates": 45,
    "learning_rate": 2e-3,
}
PENDULUM = {"env": "Pendulum-v1", "updates": 40, "learning_rate": 2e-3}
"""Each rollout holds whole episodes, as the preset of the environment has it: all episodes begin together, and a
rollout of their second halves, in which the pendulum stands, would leave the critic nothing to explain."""

UNSCALED = {"scale_value_targets": False}

SCENARIOS = (
    _sound("cartpole", "64 environments, 2 minibatches, annealed rate", CARTPOLE),
    _sound(
        "default",
        "the trainer's defaults, all but the length and the rate",
        {"env": "CartPole-v1", "updates": 70, "learning_rate": 1e-3},
    ),
    _sound("steady", "γ 0.99, 32 environments, 4 minibatches, constant rate", STEADY),
    _sound("small-network", "32 hidden units", {**CARTPOLE, "hidden_size": 32, "learning_rate": 2e-3, "updates": 110}),
    _sound("no-value-clip", "value loss without clipping", {**CARTPOLE, "value_clip": None}),
    _sound("unscaled", "no value-target scaling, rewards × 0.05", {**CARTPOLE, **UNSCALED}, reward_scale=0.05),
    _sound("rewards-x10", "rewards × 10, value targets scaled", CARTPOLE, reward_scale=10.0),
    _sound("low-entropy", "entropy coefficient 0.005, γ 0.99", {**CARTPOLE, "entropy_coef": 0.005, "gamma": 0.99}),
    _sound(
        "normalized",
        "observations normalised, 16 environments × 128 steps",
        {**STEADY, "normalize_observations": True, "num_envs": 16, "rollout_steps": 128},
    ),
    _sound(
        "careful",
        "clip 0.1, 6 epochs that stop at a KL of 0.02",
        {**CARTPOLE, "clip_range": 0.1, "epochs": 6, "target_kl": 0.02},
    ),
    _sound("acrobot", "Acrobot-v1", ACROBOT),
    _sound("pendulum", "Pendulum-v1, a continuous action", PENDULUM),
    _broken("value-rate-high", "the value network's learning rate × 100", CARTPOLE, ppo=ValueRateHigh),
    _broken("value-rate-high-steady", "the same on another configuration", STEADY, ppo=ValueRateHigh),
    _broken("value-rate-low", "the value network's learning rate ÷ 100", CARTPOLE, ppo=ValueRateLow),
    _broken("value-rate-low-steady", "the same on another configuration", STEADY, ppo=ValueRateLow),
    _broken("raw-advantages", "advantages are not normalised", {**CARTPOLE, "normalize_advantage": False}),
    _broken("rewards-up", "rewards × 1000, value targets scaled", CARTPOLE, reward_scale=1e3),
    _broken("rewards-down", "rewards ÷ 1000, value targets scaled", CARTPOLE, reward_scale=1e-3),
    _broken(
        "rewards-up-unscaled", "rewards × 1000, value targets not scaled", {**CARTPOLE, **UNSCALED}, reward_scale=1e3
    ),
    _broken(
        "rewards-up-unscaled-steady", "the same on another configuration", {**STEADY, **UNSCALED}, reward_scale=1e3
    ),
    _broken(
        "rewards-down-unscaled", "rewards ÷ 1000, value targets not scaled", {**CARTPOLE, **UNSCALED}, reward_scale=1e-3
    ),
    _broken("ends-ignored", "no episode ends in advantages and returns", CARTPOLE, collector=EndsIgnored),
    _broken("ends-ignored-steady", "the same on another configuration", STEADY, collector=EndsIgnored),
    _broken("ends-bootstrapped", "terminations are taken for truncations", CARTPOLE, collector=EndsBootstrapped),
    _broken("value-clip-tiny", "value clip 0.01", {**CARTPOLE, "value_clip": 0.01}),
    _broken("no-entropy", "entropy coefficient 0", {**CARTPOLE, "entropy_coef": 0.0}),
    _broken(
        "nan-from",
        "one return of each rollout is NaN from some update on",
        CARTPOLE,
        ppo=NanFrom,
        breaks_within=(0.2, 0.8),
    ),
    _broken(
        "nan-parameters", "a weight of the value network turns NaN", STEADY, ppo=NanParameters, breaks_within=(0.2, 0.8)
    ),
    _broken("nan-once", "one return is NaN, in one update", CARTPOLE, ppo=NanOnce, breaks_within=(0.2, 0.8)),
    _broken("dead-critic", "the value network gets no gradient", CARTPOLE, ppo=FrozenCritic),
    _broken("dead-critic-steady", "the same on another configuration", STEADY, ppo=FrozenCritic),
    _broken("constant-critic", "the value network gives one number for every state", CARTPOLE, ppo=ConstantCritic),
    _broken(
        "critic-freezes",
        "the value network gets no gradient from some update on",
        CARTPOLE,
        ppo=FrozenCritic,
        breaks_within=(0.1, 0.5),
    ),
    _broken(
        "critic-dies",
        "the value network gives one number from some update on",
        CARTPOLE,
        ppo=ConstantCritic,
        breaks_within=(0.1, 0.5),
    ),
    _broken("stale-8", "trains on the rollout of 8 updates ago", CARTPOLE, ppo=Stale8),
    _broken("stale-25", "trains on the rollout of 25 updates ago", CARTPOLE, ppo=Stale25),
    _broken("policy-rate-high", "the policy's learning rate × 30", CARTPOLE, ppo=PolicyRateHigh),
    _broken("policy-rate-high-steady", "the same on another configuration", STEADY, ppo=PolicyRateHigh),
    _broken(
        "acrobot-value-rate-high",
        "the value network's learning rate × 100, Acrobot",
        ACROBOT,
        ppo=ValueRateHigh,
        seeds=6,
    ),
    _broken("acrobot-dead-critic", "the value network gets no gradient, Acrobot", ACROBOT, ppo=FrozenCritic, seeds=6),
    _broken(
        "pendulum-value-rate-low",
        "the value network's learning rate ÷ 100, Pendulum",
        PENDULUM,
        ppo=ValueRateLow,
        seeds=6,
    ),
    _broken(
        "pendulum-rewards-up",
        "rewards × 1000, value targets not scaled, Pendulum",
        {**PENDULUM, **UNSCALED},
        reward_scale=1e3,
        seeds=6,
    ),
)
