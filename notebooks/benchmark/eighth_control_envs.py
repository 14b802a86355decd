"""The environments of the eighth plan in which something is steered; `tiny_envs` says what all of them share."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


def _numbers(action: Any) -> list[float]:
    """The numbers of a continuous action, each from −1 to 1; NaN is −1."""
    return [min(1.0, max(-1.0, number)) for number in np.asarray(action, np.float64).ravel().tolist()]


class Reactor(TinyEnv):
    """A stirred tank whose reaction heats itself is cooled so that a set share of what flows in has reacted.

    The share differs between episodes, and none is stable without control. A step costs what is missed, times 5,
    and a little for cooling and heating, for 60 steps. Where the tank gets too hot, it has run away: that costs 20, and
    ends the episode.
    """

    limit = 60
    STEP, HOTTEST, COST = 0.1, 6.0, 20.0
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def start(self) -> None:
        self.target = float(self.np_random.uniform(0.3, 0.6))
        self.share, self.heat = float(self.np_random.uniform(0.2, 0.6)), float(self.np_random.uniform(1.5, 3.0))

    def observe(self) -> Observation:
        return np.array([5 * (self.share - self.target), self.heat - 2.5, 5 * (self.target - 0.45)], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        (push,) = _numbers(action)
        for _ in range(2):
            reaction = 0.072 * (1 - self.share) * math.exp(self.heat / (1 + self.heat / 20))
            self.share += self.STEP * (reaction - self.share)
            self.heat += self.STEP * (8 * reaction - self.heat - 0.3 * self.heat + 3 * push)
        if self.heat > self.HOTTEST:
            return -self.COST, True
        return -5 * abs(self.share - self.target) - 0.02 * push**2, False


class Attitude(TinyEnv):
    """A satellite is turned about two axes by a wheel each, until it stands still and looks ahead, for 60 steps.

    A step costs the angles, and a little of the rates and the effort. A wheel holds only so much, and turns nothing
    once it is full. Who spins too fast pays 15, and the episode ends.
    """

    limit = 60
    STEP, FULL, FASTEST, COST = 0.2, 2.0, 2.0, 15.0
    observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def start(self) -> None:
        self.angles = self.np_random.uniform(-1.5, 1.5, 2).tolist()
        self.rates = self.np_random.uniform(-1, 1, 2).tolist()
        self.wheels = [0.0, 0.0]

    def observe(self) -> Observation:
        return np.array([*self.angles, *self.rates, *self.wheels], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        cost = 0.0
        for axis, push in enumerate(_numbers(action)):
            wheel = min(self.FULL, max(-self.FULL, self.wheels[axis] + self.STEP * push))
            self.rates[axis] += wheel - self.wheels[axis]
            self.wheels[axis] = wheel
            self.angles[axis] = math.remainder(self.angles[axis] + self.STEP * self.rates[axis], math.tau)
            cost += abs(self.angles[axis]) + 0.2 * abs(self.rates[axis]) + 0.05 * push**2
        if max(map(abs, self.rates)) > self.FASTEST:
            return -self.COST, True
        return -0.2 * cost, False


class PuddleWorld(TinyEnv):
    """The world of Sutton (1996), with a step of any length up to 0.05 along each axis: out of the puddles to a corner.

    A step costs 0.1, and up to 1 more in a puddle, by its depth; a little noise moves all that goes. After 100 steps
    an episode is cut off.
    """

    limit = 100
    STEP, NOISE, RADIUS = 0.05, 0.01, 0.1
    PUDDLES = ((0.1, 0.45, 0.75, 0.75), (0.45, 0.45, 0.4, 0.8))
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def start(self) -> None:
        self.x, self.y = self.np_random.uniform(0, 0.9, 2).tolist()

    def observe(self) -> Observation:
        return np.array((2 * self.x - 1, 2 * self.y - 1), np.float32)

    def depth(self) -> float:
        """How far the place lies inside the edge of the nearer puddle; 0 outside."""
        near = min(
            math.hypot(self.x - min(max(self.x, left), right), self.y - min(max(self.y, low), high))
            for left, right, low, high in self.PUDDLES
        )
        return max(0.0, self.RADIUS - near)

    def move(self, action: Any) -> tuple[float, bool]:
        right, up = _numbers(action)
        noise = self.np_random.standard_normal(2).tolist()
        self.x = min(1.0, max(0.0, self.x + self.STEP * right + self.NOISE * noise[0]))
        self.y = min(1.0, max(0.0, self.y + self.STEP * up + self.NOISE * noise[1]))
        return -0.1 - 10 * self.depth(), self.x + self.y >= 1.9


class Queues(TinyEnv):
    """Each of a hundred jobs is sent to one of three servers, which are not equally fast.

    A job costs the time until it is done: what waits before it, and its own. When jobs come and how long they are is
    exponential. All episodes begin and end together.
    """

    limit = 100
    SPEEDS, BETWEEN = (1.0, 0.6, 0.4), 0.8
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def start(self) -> None:
        self.waits = [0.0, 0.0, 0.0]

    def observe(self) -> Observation:
        return np.array([wait / 5 for wait in self.waits], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        server = int(action)
        self.waits[server] += float(self.np_random.standard_exponential()) / self.SPEEDS[server]
        reward = -0.1 * self.waits[server]
        passed = self.BETWEEN * float(self.np_random.standard_exponential())
        self.waits = [max(0.0, wait - passed) for wait in self.waits]
        return reward, False


class Sailing(TinyEnv):
    """A boat is steered to a mark that lies about where the wind comes from, so that it must tack; the wind turns.

    Closer to the wind than 40 degrees, a boat makes no way. What it comes nearer is paid, 2 more at the mark, and each
    step costs 0.02. Farther than 5 from the mark it is lost, which costs 1. After 80 steps an episode is cut off.
    """

    limit = 80
    SPEED, NO_WAY, MARK, LOST = 0.2, math.radians(40), 0.4, 5.0
    observation_space = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def start(self) -> None:
        bearing = float(self.np_random.uniform(-math.pi, math.pi))
        far = float(self.np_random.uniform(2, 4))
        self.x, self.y = far * math.cos(bearing), far * math.sin(bearing)
        self.wind = bearing + math.pi + float(self.np_random.uniform(-0.7, 0.7))
        self.heading = self.wind + float(self.np_random.uniform(-math.pi, math.pi))

    def observe(self) -> Observation:
        far = math.hypot(self.x, self.y)
        off = self.heading - self.wind
        mark = math.atan2(-self.y, -self.x) - self.wind
        side = far * math.sin(mark)
        return np.array(
            [math.cos(off), math.sin(off), math.cos(mark), math.sin(mark), far / 3, side, self.way()], np.float32
        )

    def way(self) -> float:
        """The part of its speed that the boat makes on its heading."""
        off = abs(math.remainder(self.heading - self.wind, math.tau))
        return 0.0 if off < self.NO_WAY else min(1.0, 0.6 + 0.4 * (off - self.NO_WAY))

    def move(self, action: Any) -> tuple[float, bool]:
        (rudder,) = _numbers(action)
        before = math.hypot(self.x, self.y)
        self.wind += 0.05 * float(self.np_random.standard_normal())
        self.heading += 0.6 * rudder
        self.x += self.SPEED * self.way() * math.cos(self.heading)
        self.y += self.SPEED * self.way() * math.sin(self.heading)
        far = math.hypot(self.x, self.y)
        is_there, is_lost = far < self.MARK, far > self.LOST
        return before - far - 0.02 + 2.0 * is_there - is_lost, is_there or is_lost


class Feeding(TinyEnv):
    """Cells are fed, and what is fed arrives five steps later: the level is kept within a band, for 60 steps.

    How much they eat wanders, and is seen. A step costs what the level lies outside the band, and nothing inside it.
    """

    limit = 60
    DELAY, LOW, HIGH, MOST = 5, 0.7, 1.3, 3.0
    observation_space = spaces.Box(-np.inf, np.inf, (2 + DELAY,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def start(self) -> None:
        self.level, self.eaten = float(self.np_random.uniform(0.3, 1.7)), float(self.np_random.uniform(0.1, 0.3))
        self.coming = deque([0.2] * self.DELAY)

    def observe(self) -> Observation:
        return np.array(
            [self.level - 1, 10 * (self.eaten - 0.2), *(10 * (dose - 0.2) for dose in self.coming)], np.float32
        )

    def move(self, action: Any) -> tuple[float, bool]:
        (dose,) = _numbers(action)
        self.coming.append(0.2 + 0.2 * dose)
        self.eaten = min(0.35, max(0.05, self.eaten + 0.02 * float(self.np_random.standard_normal())))
        self.level = min(self.MOST, max(0.0, self.level + self.coming.popleft() - self.eaten))
        return -max(0.0, self.LOW - self.level, self.level - self.HIGH), False
