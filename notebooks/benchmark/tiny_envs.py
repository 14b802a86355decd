"""Small Gymnasium environments of our own, each with one property that verdicts get wrong.

Every one steps in a few microseconds. Observations are float32 vectors, and all randomness comes from `np_random`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Observation = NDArray[np.float32]
Transition = tuple[Observation, float, bool, bool, dict[str, Any]]


def _box(size: int, bound: float = np.inf) -> spaces.Box:
    return spaces.Box(-bound, bound, (size,), np.float32)


def _one_hot(number: int, size: int) -> Observation:
    row = np.zeros(size, np.float32)
    row[number] = 1
    return row


class TinyEnv(gymnasium.Env[Any, Any]):
    """The part that all of them share: `start` and `move` say what is their own.

    Attributes:
        limit: Number of steps after which an episode is truncated.
    """

    limit = 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.start()
        return self.observe(), {}

    def step(self, action: Any) -> Transition:
        self.steps += 1
        reward, terminated = self.move(action)
        return self.observe(), reward, terminated, not terminated and self.steps >= self.limit, {}

    def start(self) -> None:
        """Begin an episode."""

    def observe(self) -> Observation:
        """The observation of the state."""
        raise NotImplementedError

    def move(self, action: Any) -> tuple[float, bool]:
        """Take one action; the reward, and whether the episode terminated."""
        raise NotImplementedError


class Bandit(TinyEnv):
    """Ten arms with means 0, 1/9 … 1 and noise of deviation 0.5; one state, episodes of one step.

    No critic can explain anything: the state never changes.
    """

    observation_space = _box(1)
    action_space = spaces.Discrete(10)
    ARMS = (3, 7, 0, 9, 4, 1, 8, 5, 2, 6)

    def observe(self) -> Observation:
        return np.ones(1, np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        return self.ARMS[int(action)] / 9 + 0.5 * float(self.np_random.standard_normal()), True


class ContextualBandit(TinyEnv):
    """Six contexts, four arms, one of which pays with probability 0.9 and the others with 0.1; episodes of one step.

    Once it is solved, all contexts are worth the same, and what varies is chance.
    """

    observation_space = _box(6)
    action_space = spaces.Discrete(4)
    BEST = (2, 0, 3, 1, 0, 2)

    def start(self) -> None:
        self.context = int(self.np_random.integers(6))

    def observe(self) -> Observation:
        return _one_hot(self.context, 6)

    def move(self, action: Any) -> tuple[float, bool]:
        chance = 0.9 if int(action) == self.BEST[self.context] else 0.1
        return float(self.np_random.random() < chance), True


class ConstantReward(TinyEnv):
    """The reward is 1 whatever is done, and an episode is truncated after 20 steps: every return is the same."""

    limit = 20
    observation_space = _box(4)
    action_space = spaces.Discrete(3)

    def observe(self) -> Observation:
        return self.np_random.standard_normal(4, np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        return 1.0, False


class SparseCorridor(TinyEnv):
    """Ten cells; only the last one pays 1, once. A random policy gets there in about a quarter of its episodes."""

    limit = 50
    LENGTH = 10
    observation_space = _box(10)
    action_space = spaces.Discrete(2)

    def start(self) -> None:
        self.cell = 0

    def observe(self) -> Observation:
        return _one_hot(self.cell, self.LENGTH)

    def move(self, action: Any) -> tuple[float, bool]:
        self.cell = max(0, self.cell + 2 * int(action) - 1)
        is_there = self.cell == self.LENGTH - 1
        return float(is_there), is_there


class HugeCatch(TinyEnv):
    """A ball falls through 8 rows of 7 cells; the paddle below it catches (10,000) or misses it (−10,000)."""

    limit = 20
    WIDTH, HEIGHT = 7, 8
    observation_space = _box(3)
    action_space = spaces.Discrete(3)
    REWARD = 1e4

    def start(self) -> None:
        self.ball, self.paddle = (int(self.np_random.integers(self.WIDTH)) for _ in range(2))
        self.row = 0

    def observe(self) -> Observation:
        middle = (self.WIDTH - 1) / 2
        return np.array(
            (self.ball / middle - 1, self.paddle / middle - 1, 2 * self.row / self.HEIGHT - 1), dtype=np.float32
        )

    def move(self, action: Any) -> tuple[float, bool]:
        self.paddle = min(self.WIDTH - 1, max(0, self.paddle + int(action) - 1))
        self.row += 1
        if self.row < self.HEIGHT:
            return 0.0, False
        return (self.REWARD if self.paddle == self.ball else -self.REWARD), True


class Reach(TinyEnv):
    """A point in the plane is driven to a target; the reward is minus the distance, for 25 steps."""

    limit = 25
    observation_space = _box(4)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def start(self) -> None:
        self.place, self.target = self.np_random.uniform(-1, 1, (2, 2))

    def observe(self) -> Observation:
        return np.concatenate((self.place, self.target)).astype(np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        self.place = np.clip(self.place + 0.15 * np.clip(action, -1, 1), -1.5, 1.5)
        return -float(np.hypot(*(self.target - self.place))), False


class TinyRegulator(TinyEnv):
    """A mass on a line is brought to rest at 0 by a force; rewards are around −0.001, for 40 steps."""

    limit = 40
    observation_space = _box(2)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    REWARD = 1e-3

    def start(self) -> None:
        self.place, self.speed = self.np_random.uniform(-1, 1, 2)

    def observe(self) -> Observation:
        return np.array((self.place, self.speed), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        force = min(1.0, max(-1.0, float(np.asarray(action).flat[0])))
        self.speed += 0.2 * force
        self.place = min(3.0, max(-3.0, self.place + 0.2 * self.speed))
        cost = self.place**2 + 0.1 * self.speed**2 + 0.02 * force**2
        return -self.REWARD * min(cost, 4.0), False


class Upright(TinyEnv):
    """An inverted pendulum with a continuous torque: 1 for every step upright, 300 at most.

    It is solved within some 50 updates. From then on every return is 300 and nothing is left to explain, so that a
    long run is one long after it was solved.
    """

    limit = 300
    observation_space = _box(2)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def start(self) -> None:
        self.angle, self.speed = self.np_random.uniform(-0.05, 0.05, 2)

    def observe(self) -> Observation:
        return np.array((4 * self.angle, self.speed), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        torque = min(1.0, max(-1.0, float(np.asarray(action).flat[0])))
        self.speed += 0.05 * (6.0 * self.angle + 6.0 * torque)
        self.angle += 0.05 * self.speed
        return 1.0, abs(self.angle) > 0.4


class Recall(TinyEnv):
    """Four symbols come one after another, and each pays 1 if it is named; at the end the first one pays 4 more.

    Only the symbol of the step is observed, so that no policy without a memory knows the last answer: 1 of its 4 is
    what can be had, and chance decides a third of what a good return is made of.
    """

    limit = 6
    observation_space = _box(8)
    action_space = spaces.Discrete(4)

    def start(self) -> None:
        self.symbols = self.np_random.integers(4, size=self.limit)

    def observe(self) -> Observation:
        is_last = self.steps >= self.limit - 1
        shown = self.symbols[min(self.steps, self.limit - 1)]
        return _one_hot(4, 8) if is_last else _one_hot(int(shown), 8)

    def move(self, action: Any) -> tuple[float, bool]:
        if self.steps < self.limit:
            return float(int(action) == self.symbols[self.steps - 1]), False
        return 4.0 * float(int(action) == self.symbols[0]), True


class Marathon(TinyEnv):
    """A level is kept in a band against a wind that turns slowly: 1 for every step inside, for 160 steps.

    All episodes begin and end together, many updates apart: most updates have no return of an episode.
    """

    limit = 160
    observation_space = _box(2)
    action_space = spaces.Discrete(3)

    def start(self) -> None:
        self.level, self.wind = self.np_random.uniform(-1, 1, 2)

    def observe(self) -> Observation:
        return np.array((self.level, self.wind), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        self.wind = min(1.0, max(-1.0, self.wind + 0.1 * float(self.np_random.standard_normal())))
        self.level = min(2.0, max(-2.0, self.level + 0.1 * self.wind + 0.2 * (int(action) - 1)))
        return float(abs(self.level) < 0.4), False


class HeavyTails(TinyEnv):
    """One of three actions is right in each of four contexts and pays 1, for ten steps; noise has Student's t of 2.1.

    Now and then one reward is worth more than all others of its update: means and deviations of returns leap.
    """

    limit = 10
    observation_space = _box(4)
    action_space = spaces.Discrete(3)
    RIGHT = (1, 0, 2, 1)
    FREEDOM, NOISE = 2.1, 0.4

    def start(self) -> None:
        self.context = int(self.np_random.integers(4))

    def observe(self) -> Observation:
        return _one_hot(self.context, 4)

    def move(self, action: Any) -> tuple[float, bool]:
        right = float(int(action) == self.RIGHT[self.context])
        self.context = int(self.np_random.integers(4))
        return right + self.NOISE * float(self.np_random.standard_t(self.FREEDOM)), False


class Tide(TinyEnv):
    """A target that is never observed goes up and down, once in 4,800 steps; the cost is the square of the distance.

    Time goes on from episode to episode. What was learned is wrong again a hundred updates later: the return falls and
    rises in a run that is sound.
    """

    limit = 20
    PERIOD = 4800
    observation_space = _box(1)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        if seed is not None:  # only the first episode of a run has one
            self.age = 0
        return super().reset(seed=seed, options=options)

    def observe(self) -> Observation:
        return np.ones(1, np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        self.age += 1
        target = 0.7 * np.sin(2 * np.pi * self.age / self.PERIOD)
        place = min(1.0, max(-1.0, float(np.asarray(action).flat[0])))
        return -float((place - target) ** 2), False
