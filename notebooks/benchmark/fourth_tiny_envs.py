"""The small environments of our own in the fourth plan of fresh runs; `tiny_envs` says what all of them share."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


class Syllabus(TinyEnv):
    """Twenty questions are asked, each has one of six answers, and a right one pays 1: a curriculum.

    Four different questions are asked at first, and twice as many, up to 256, as soon as the mean of the last twenty
    returns is at least 16. Half of them are new then, so the return falls to about 10, and rises again.
    """

    limit = 20
    LARGEST = 256
    PASSED = 16
    ANSWERS = np.random.default_rng(0).integers(6, size=LARGEST)
    observation_space = spaces.Box(0.0, 1.0, (LARGEST,), np.float32)
    action_space = spaces.Discrete(6)

    def __init__(self) -> None:
        self.asked = 4
        self._sum = 0.0
        self._returns: deque[float] = deque(maxlen=20)

    def start(self) -> None:
        if len(self._returns) == 20 and np.mean(self._returns) >= self.PASSED and self.asked < self.LARGEST:
            self.asked *= 2
            self._returns.clear()
        self._sum = 0.0
        self._ask()

    def observe(self) -> Observation:
        row = np.zeros(self.LARGEST, np.float32)
        row[self.question] = 1
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        reward = float(int(action) == self.ANSWERS[self.question])
        self._sum += reward
        if self.steps == self.limit:
            self._returns.append(self._sum)
        self._ask()
        return reward, False

    def _ask(self) -> None:
        self.question = int(self.np_random.integers(self.asked))


class Answers(TinyEnv):
    """Six tokens out of twelve answer one of eight prompts, and only the last one is paid, as a language model is.

    The reward is what a judge takes for the probability that the answer is good: a logistic function of how many
    tokens are right, with noise of deviation 1 inside, so between 0 and 1 and never quite either.
    """

    limit = 6
    RIGHT = np.random.default_rng(1).integers(12, size=(8, 6))
    observation_space = spaces.Box(0.0, 1.0, (14,), np.float32)
    action_space = spaces.Discrete(12)

    def start(self) -> None:
        self.prompt = int(self.np_random.integers(8))
        self.right = 0

    def observe(self) -> Observation:
        row = np.zeros(14, np.float32)
        row[self.prompt] = 1
        if self.steps < self.limit:
            row[8 + self.steps] = 1
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        self.right += int(action) == self.RIGHT[self.prompt, self.steps - 1]
        if self.steps < self.limit:
            return 0.0, False
        logit = 1.2 * (self.right - 3) + float(self.np_random.standard_normal())
        return float(1 / (1 + np.exp(-logit))), True
