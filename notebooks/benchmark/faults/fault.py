"""What a way of breaking a run can change: everything in it is as in a sound run, until a kind defines it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np

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
