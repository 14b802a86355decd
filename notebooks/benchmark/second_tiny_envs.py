"""The small environments of our own in the second plan of fresh runs; `tiny_envs` says what all of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


class Lock(TinyEnv):
    """Seven actions must be right one after another; a wrong one ends the episode, and only the last one pays: 1.

    A random policy opens the lock once in 2,187 episodes. The return is 0 until a lucky episode has been learned from.
    """

    limit = 7
    observation_space = spaces.Box(0.0, 1.0, (7,), np.float32)
    action_space = spaces.Discrete(3)
    RIGHT = (2, 0, 1, 1, 2, 0, 2)

    def observe(self) -> Observation:
        row: Observation = np.eye(self.limit, dtype=np.float32)[min(self.steps, self.limit - 1)]
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        is_right = int(action) == self.RIGHT[self.steps - 1]
        is_open = is_right and self.steps == self.limit
        return float(is_open), is_open or not is_right


class Stilts(TinyEnv):
    """An inverted pendulum with three torques: every step costs 0.2, a fall 60, and after 120 steps it is over.

    All rewards are negative, and a walk that ends in a late fall costs more than one that falls at once: the return
    sinks while episodes get longer, and rises when the first ones no longer fall.
    """

    limit = 120
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(3)
    STEP, FALL = 0.2, 60.0

    def start(self) -> None:
        self.angle, self.speed = self.np_random.uniform(-0.05, 0.05, 2)

    def observe(self) -> Observation:
        return np.array((4 * self.angle, self.speed), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        torque = float(int(action) - 1)
        self.speed += 0.05 * (6.0 * self.angle + 8.0 * torque + 0.2 * float(self.np_random.standard_normal()))
        self.angle += 0.05 * self.speed
        has_fallen = abs(self.angle) > 0.4
        return -self.STEP - self.FALL * has_fallen, has_fallen


class Heating(TinyEnv):
    """A room is kept at the temperature that is wanted, while it is colder outside by night: 240 steps, all together.

    The reward is minus the square of the difference, minus a little for heating. With rollouts of 16 steps a return is
    measured in one update of fifteen.
    """

    limit = 240
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def start(self) -> None:
        self.room, self.wanted = self.np_random.uniform(-1, 1, 2)

    def observe(self) -> Observation:
        return np.array((self.room, self.wanted, self._outside()), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        heat = min(1.0, max(-1.0, float(np.asarray(action).flat[0])))
        self.room += 0.1 * (self._outside() - self.room) + 0.3 * heat
        if self.steps % 40 == 0:
            self.wanted = float(self.np_random.uniform(-1, 1))
        return -min(4.0, (self.room - self.wanted) ** 2) - 0.02 * abs(heat), False

    def _outside(self) -> float:
        return 0.5 * float(np.sin(2 * np.pi * self.steps / 80))
