"""The small environments of our own in the third plan of fresh runs; `tiny_envs` says what all of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


class Docking(TinyEnv):
    """A boat in a plane is to come to rest at a buoy: each of nine actions is a thrust along x and one along y.

    The reward is how much nearer the buoy came, times 10, so the return is the difference of two distances. A good
    one is what the first distance was, which chance draws.
    """

    limit = 40
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Discrete(9)

    def start(self) -> None:
        self.place = self.np_random.uniform(-1, 1, 2)
        self.speed = np.zeros(2)

    def observe(self) -> Observation:
        return np.concatenate((self.place, self.speed), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        before = self._distance()
        thrust = np.array(divmod(int(action), 3)) - 1
        self.speed = 0.8 * self.speed + 0.05 * thrust + 0.01 * self.np_random.standard_normal(2)
        self.place = np.clip(self.place + self.speed, -2, 2)
        return 10 * (before - self._distance()), False

    def _distance(self) -> float:
        return float(np.hypot(*self.place))


class Veins(TinyEnv):
    """Twenty times the miner digs in one of four seams, of which one has ore: it is seen which.

    In half of the episodes the ore is gold, which pays 10, and in the others coal, which pays 1. So returns have two
    modes, 200 and 20, for good, and the mean of a few of them leaps.
    """

    limit = 20
    observation_space = spaces.Box(0.0, 1.0, (6,), np.float32)
    action_space = spaces.Discrete(4)

    def start(self) -> None:
        self.is_gold = bool(self.np_random.integers(2))
        self.seam = int(self.np_random.integers(4))

    def observe(self) -> Observation:
        return np.concatenate((np.eye(4)[self.seam], np.eye(2)[int(self.is_gold)]), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        is_hit = int(action) == self.seam
        self.seam = int(self.np_random.integers(4))
        return is_hit * (10.0 if self.is_gold else 1.0), False
