"""The small environments of our own in the sixth plan of fresh runs; `tiny_envs` says what all of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


class Mastermind(TinyEnv):
    """A code of two digits out of four is guessed, a digit with each step; after two it is said how many are right.

    Right are digits in their place. Who has both is paid 1 less 0.1 for each guess before; five guesses are all.
    What is seen is all guesses with their answers, and what has been chosen of this one.
    """

    DIGITS, CODE, GUESSES, SEEN = 4, 2, 5, 4
    limit = CODE * GUESSES
    observation_space = spaces.Box(0.0, 1.0, (SEEN * (CODE * DIGITS + 1) + CODE * DIGITS + CODE,), np.float32)
    action_space = spaces.Discrete(DIGITS)

    def start(self) -> None:
        self.code = [int(digit) for digit in self.np_random.integers(self.DIGITS, size=self.CODE)]
        self.guesses: list[tuple[list[int], int]] = []
        self.chosen: list[int] = []

    def observe(self) -> Observation:
        parts = [np.zeros(self.SEEN * (self.CODE * self.DIGITS + 1), np.float32)]
        for place, (guess, right) in enumerate(reversed(self.guesses[-self.SEEN :])):
            begin = place * (self.CODE * self.DIGITS + 1)
            for index, digit in enumerate(guess):
                parts[0][begin + index * self.DIGITS + digit] = 1
            parts[0][begin + self.CODE * self.DIGITS] = right / self.CODE
        now, which = np.zeros(self.CODE * self.DIGITS, np.float32), np.zeros(self.CODE, np.float32)
        for index, digit in enumerate(self.chosen):
            now[index * self.DIGITS + digit] = 1
        which[len(self.chosen) % self.CODE] = 1
        return np.concatenate([*parts, now, which])

    def move(self, action: Any) -> tuple[float, bool]:
        self.chosen.append(int(action))
        if len(self.chosen) < self.CODE:
            return 0.0, False
        right = sum(one == other for one, other in zip(self.chosen, self.code, strict=True))
        self.guesses.append((self.chosen, right))
        self.chosen = []
        if right < self.CODE:
            return 0.0, len(self.guesses) == self.GUESSES
        return 1.0 - 0.1 * (len(self.guesses) - 1), True


class Junction(TinyEnv):
    """Cars wait at four arms of a crossing; which two opposite ones have green is chosen, for 60 steps.

    Green lets one car of each arm go. After a change nobody goes for two steps. Each waiting car costs 0.02 a step, so
    that returns are below 0. How many come depends on the hour, which is not seen, and on chance.
    """

    limit = 60
    RATES = np.array([[0.7, 0.7, 0.15, 0.15], [0.15, 0.15, 0.7, 0.7], [0.4, 0.4, 0.4, 0.4]])
    COST, MOST = 0.02, 20
    observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float32)
    action_space = spaces.Discrete(2)

    def start(self) -> None:
        self.hour = int(self.np_random.integers(len(self.RATES)))
        self.waiting = self.np_random.integers(4, size=4)
        self.green, self.blocked = 0, 0

    def observe(self) -> Observation:
        return np.array([*(self.waiting / 10), float(self.green), self.blocked / 2], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        if int(action) != self.green:
            self.green, self.blocked = int(action), 2
        elif self.blocked:
            self.blocked -= 1
        if not self.blocked:
            arms = slice(2 * self.green, 2 * self.green + 2)
            self.waiting[arms] = np.maximum(self.waiting[arms] - 1, 0)
        self.waiting = np.minimum(self.waiting + self.np_random.poisson(self.RATES[self.hour]), self.MOST)
        return -self.COST * float(self.waiting.sum()), False


class Twenty48(TinyEnv):
    """The game of 2048 on three by three cells. What two tiles that merge make is paid, in hundreds.

    A move that changes nothing costs 0.02. The game is over when no move is left, or after 150 steps.
    """

    limit = 150
    SIZE, KINDS = 3, 9
    observation_space = spaces.Box(0.0, 1.0, (SIZE * SIZE * KINDS,), np.float32)
    action_space = spaces.Discrete(4)

    def start(self) -> None:
        self.cells = [[0] * self.SIZE for _ in range(self.SIZE)]
        self._draw()
        self._draw()

    def observe(self) -> Observation:
        row = np.zeros((self.SIZE * self.SIZE, self.KINDS), np.float32)
        for place, tile in enumerate(tile for line in self.cells for tile in line):
            row[place, min(tile, self.KINDS - 1)] = 1
        return row.ravel()

    def move(self, action: Any) -> tuple[float, bool]:
        cells, earned = self._moved(int(action))
        if cells == self.cells:
            return -0.02, not any(self._moved(other)[0] != self.cells for other in range(4))
        self.cells = cells
        self._draw()
        is_over = all(tile for line in cells for tile in line)
        return earned / 100, is_over and not any(self._moved(other)[0] != self.cells for other in range(4))

    def _moved(self, action: int) -> tuple[list[list[int]], int]:
        """The cells after a move to the left, the right, up or down, and what it earns."""
        lines = self.cells if action < 2 else [list(line) for line in zip(*self.cells, strict=True)]
        moved, earned = [], 0
        for line in lines:
            tiles = [tile for tile in (line if action % 2 == 0 else reversed(line)) if tile]
            merged: list[int] = []
            while tiles:
                tile = tiles.pop(0)
                if tiles and tiles[0] == tile:
                    tiles.pop(0)
                    tile += 1
                    earned += 2**tile
                merged.append(tile)
            merged += [0] * (self.SIZE - len(merged))
            moved.append(merged if action % 2 == 0 else merged[::-1])
        return (moved if action < 2 else [list(line) for line in zip(*moved, strict=True)]), earned

    def _draw(self) -> None:
        free = [(y, x) for y, line in enumerate(self.cells) for x, tile in enumerate(line) if not tile]
        if free:
            y, x = free[int(self.np_random.integers(len(free)))]
            self.cells[y][x] = 1 if self.np_random.random() < 0.9 else 2


class Portfolio(TinyEnv):
    """Each day money is put into none, one or the other of two goods, or into both, for 40 days.

    The price of a good moves by noise of deviation 1, and by 0.35 in the direction that a signal of it shows; signals
    wander. A change of what is held costs 0.1. Nearly all of a return is noise, which no critic can explain.
    """

    limit = 40
    EDGE, COST = 0.35, 0.1
    observation_space = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    action_space = spaces.Discrete(4)

    def start(self) -> None:
        self.signals = self.np_random.standard_normal(2)
        self.held, self.moves = 0, np.zeros(2)

    def observe(self) -> Observation:
        held = [float(self.held == one) for one in range(1, 4)]
        return np.array([*self.signals, *(self.moves / 2), *held], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        chosen = int(action)
        cost = self.COST * (chosen != self.held)
        self.held = chosen
        self.moves = self.EDGE * np.sign(self.signals) + self.np_random.standard_normal(2)
        self.signals = 0.9 * self.signals + 0.44 * self.np_random.standard_normal(2)
        return float((chosen & 1) * self.moves[0] + (chosen >> 1) * self.moves[1]) - cost, False
