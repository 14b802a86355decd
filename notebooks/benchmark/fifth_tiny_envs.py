"""The small environments of our own in the fifth plan of fresh runs; `tiny_envs` says what all of them share."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


class CartPoleSwingUp(TinyEnv):
    """The cart and pole of CartPole-v1, but the pole hangs down at first, and a force from −1 to 1 swings it up.

    A step pays (1 + cos of the angle) / 2, less where the cart is far from the middle, for 200 steps. The cart stops at
    the ends of its track.
    """

    limit = 200
    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    TRACK, STEP, FORCE = 2.4, 0.05, 15.0

    def start(self) -> None:
        self.place, self.speed, angle, self.spin = self.np_random.uniform(-0.1, 0.1, 4).tolist()
        self.angle = math.pi + angle

    def observe(self) -> Observation:
        up, side = math.cos(self.angle), math.sin(self.angle)
        return np.array((self.place, self.speed / 2, up, side, self.spin / 5), dtype=np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        force = self.FORCE * min(1.0, max(-1.0, float(np.asarray(action).flat[0])))
        up, side = math.cos(self.angle), math.sin(self.angle)
        push = (force + 0.05 * self.spin**2 * side) / 1.1
        turning = (9.8 * side - up * push) / (0.5 * (4 / 3 - 0.1 * up**2 / 1.1))
        self.speed += self.STEP * (push - 0.05 * turning * up / 1.1)
        self.spin = min(20.0, max(-20.0, self.spin + self.STEP * turning))
        self.place += self.STEP * self.speed
        self.angle += self.STEP * self.spin
        if abs(self.place) > self.TRACK:
            self.place, self.speed = math.copysign(self.TRACK, self.place), 0.0
        return (1 + math.cos(self.angle)) / 2 * (1 - 0.5 * abs(self.place) / self.TRACK), False


class Quadrotor(TinyEnv):
    """A drone in a plane, with a thrust on either side, flies to a point and hovers there, for 120 steps.

    A step pays 1 less the distance, at least 0, and a little less for turning. More than 1.5 away from the point, or
    upside down, it has crashed: that costs 5, and ends the flight.
    """

    limit = 120
    STEP, CRASH = 0.05, 5.0
    observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def start(self) -> None:
        self.x, self.z = self.np_random.uniform(-0.8, 0.8, 2).tolist()
        self.tilt, self.x_speed, self.z_speed, self.spin = self.np_random.uniform(-0.2, 0.2, 4).tolist()

    def observe(self) -> Observation:
        return np.array((self.x, self.z, self.tilt, self.x_speed, self.z_speed, self.spin), np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        left, right = (min(1.0, max(-1.0, each)) for each in np.asarray(action, np.float64).ravel().tolist())
        lift = 4.0 * (1 + 0.5 * (left + right))
        self.spin += self.STEP * 8 * (left - right)
        self.x_speed += self.STEP * lift * math.sin(self.tilt)
        self.z_speed += self.STEP * (lift * math.cos(self.tilt) - 4.0)
        self.tilt += self.STEP * self.spin
        self.x += self.STEP * self.x_speed
        self.z += self.STEP * self.z_speed
        distance = math.hypot(self.x, self.z)
        if not (distance < 1.5 and abs(self.tilt) < math.pi / 2):  # also where it is NaN
            return -self.CRASH, True
        return max(0.0, 1 - distance) - 0.02 * min(5.0, abs(self.spin)), False


class Warehouse(TinyEnv):
    """Three goods share a warehouse: each day, so much of each is ordered, and comes two days later, for 30 days.

    A sale earns 1, and an order costs 0.5 a unit. Storage costs 0.05 a unit and day, a buyer who goes away 0.5, and
    what finds no room is lost. How many buyers come is Poisson, around a mean that depends on good and weekday. All is
    paid in tens.
    """

    limit = 30
    GOODS, ROOM, LARGEST = 3, 60, 20
    MEANS = np.array([[4, 8, 6], [4, 8, 6], [5, 8, 4], [6, 8, 3], [9, 8, 2], [14, 4, 1], [12, 2, 12]])
    observation_space = spaces.Box(-np.inf, np.inf, (16,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (GOODS,), np.float32)

    def start(self) -> None:
        self.day = int(self.np_random.integers(7))
        self.stock = [float(number) for number in self.np_random.integers(10, size=self.GOODS)]
        self.coming = deque([[6.0] * self.GOODS] * 2)

    def observe(self) -> Observation:
        goods = [number / 10 for numbers in (self.stock, *self.coming) for number in numbers]
        return np.array([*goods, *(float(day == self.day) for day in range(7))], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        chosen = np.asarray(action, np.float64).ravel().tolist()
        orders = [float(round(self.LARGEST * (min(1.0, max(-1.0, each)) + 1) / 2)) for each in chosen]
        stock = [there + come for there, come in zip(self.stock, self.coming.popleft(), strict=True)]
        self.coming.append(orders)
        share = min(1.0, self.ROOM / max(1.0, sum(stock)))
        buyers = self.np_random.poisson(self.MEANS[self.day]).tolist()
        self.day = (self.day + 1) % 7
        earned = -0.5 * sum(orders)
        for good, wanted in enumerate(buyers):
            sold = min(share * stock[good], wanted)
            self.stock[good] = share * stock[good] - sold
            earned += sold - 0.05 * self.stock[good] - 0.5 * (wanted - sold)
        return earned / 10, False


class Prose(TinyEnv):
    """A text of sixteen tokens out of twelve is written to one of four prompts, as when a language model is tuned.

    It is paid at its end, for how well each token goes with the one before, to that prompt, and for how many different
    ones there are, with noise of deviation 0.5. Each token costs as it does where a model must stay near a reference:
    0.05 times minus the logarithm of the probability that a fixed one gives it, after the token before.
    """

    limit = 16
    PROMPTS, TOKENS = 4, 12
    observation_space = spaces.Box(0.0, 1.0, (PROMPTS + 2 * TOKENS + limit,), np.float32)
    action_space = spaces.Discrete(TOKENS)
    FITS = np.random.default_rng(2).standard_normal((PROMPTS, TOKENS, TOKENS))
    _LOGITS = 1.5 * np.random.default_rng(4).standard_normal((TOKENS, TOKENS))
    REFERENCE = _LOGITS - np.log(np.exp(_LOGITS).sum(axis=1, keepdims=True))
    COST, NOISE = 0.05, 0.5

    def start(self) -> None:
        self.prompt = int(self.np_random.integers(self.PROMPTS))
        self.text = [int(self.np_random.integers(self.TOKENS))]

    def observe(self) -> Observation:
        row = np.zeros(self.PROMPTS + 2 * self.TOKENS + self.limit, np.float32)
        row[self.prompt] = row[self.PROMPTS + self.text[-1]] = 1
        if self.steps:
            row[self.PROMPTS + self.TOKENS + self.text[-2]] = 1
        if self.steps < self.limit:
            row[self.PROMPTS + 2 * self.TOKENS + self.steps] = 1
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        before, token = self.text[-1], int(action)
        self.text.append(token)
        reward = self.COST * float(self.REFERENCE[before, token])
        if self.steps < self.limit:
            return reward, False
        fit = float(self.FITS[self.prompt, self.text[:-1], self.text[1:]].mean())
        variety = len(set(self.text[1:])) / self.TOKENS
        return reward + 3 * fit + 2 * variety + self.NOISE * float(self.np_random.standard_normal()), True


class Sums(TinyEnv):
    """Two numbers of six digits to the base 6 are added, a digit at a time; each right one pays 0.5, at once.

    So the steps of a proof are marked. Who has made no mistake is paid 4 more at the end. Two digits and what is
    carried are seen.
    """

    limit = 6
    BASE = 6
    observation_space = spaces.Box(0.0, 1.0, (2 * BASE + 1,), np.float32)
    action_space = spaces.Discrete(BASE)

    def start(self) -> None:
        self.carried = self.right = 0
        self._draw()

    def observe(self) -> Observation:
        row = np.zeros(2 * self.BASE + 1, np.float32)
        row[self.one] = row[self.BASE + self.other] = 1
        row[-1] = self.carried
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        self.carried, right = divmod(self.one + self.other + self.carried, self.BASE)
        is_right = int(action) == right
        self.right += is_right
        self._draw()
        is_last = self.steps == self.limit
        return 0.5 * is_right + 4.0 * (is_last and self.right == self.limit), is_last

    def _draw(self) -> None:
        self.one, self.other = (int(digit) for digit in self.np_random.integers(self.BASE, size=2))


class DeepSea(TinyEnv):
    """A diver sinks through a square of cells, a row with each step, and only the right-most cell of the last has gold.

    Each cell has an action of its own that goes to the right and costs a little, and the other one goes to the left, as
    in the behaviour suite (Osband et al. 2020). A random policy finds the gold once in 2 ** SIZE episodes.
    """

    SIZE = limit = 7
    COST = 0.01
    RIGHT = np.random.default_rng(3).integers(2, size=(SIZE, SIZE))
    observation_space = spaces.Box(0.0, 1.0, (SIZE * SIZE,), np.float32)
    action_space = spaces.Discrete(2)

    def start(self) -> None:
        self.column = 0

    def observe(self) -> Observation:
        row = np.zeros(self.SIZE * self.SIZE, np.float32)
        if self.steps < self.SIZE:
            row[self.steps * self.SIZE + self.column] = 1
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        is_last = self.steps == self.SIZE
        if int(action) != self.RIGHT[self.steps - 1, self.column]:
            self.column = max(0, self.column - 1)
            return 0.0, is_last
        has_gold = is_last and self.column == self.SIZE - 1
        self.column = min(self.SIZE - 1, self.column + 1)
        return float(has_gold) - self.COST / self.SIZE, is_last


class Snake(TinyEnv):
    """The game on 6 × 6 cells: food pays 1 and makes the snake longer, a wall or its own body ends it and costs 1.

    Head, body and food are seen, each in 36 cells. A game has at most 120 steps.
    """

    limit = 120
    SIZE = 6
    MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
    observation_space = spaces.Box(0.0, 1.0, (3 * SIZE * SIZE,), np.float32)
    action_space = spaces.Discrete(4)

    def start(self) -> None:
        row, column = (int(each) for each in self.np_random.integers(1, self.SIZE - 1, size=2))
        self.body = deque([(row, column)])
        self._feed()

    def observe(self) -> Observation:
        seen = np.zeros((3, self.SIZE, self.SIZE), np.float32)
        for cell in self.body:
            seen[1][cell] = 1
        seen[0][self.body[0]] = seen[2][self.food] = 1
        return seen.ravel()

    def move(self, action: Any) -> tuple[float, bool]:
        head, step = self.body[0], self.MOVES[int(action)]
        cell = (head[0] + step[0], head[1] + step[1])
        if not all(0 <= each < self.SIZE for each in cell) or cell in self.body:
            return -1.0, True
        self.body.appendleft(cell)
        if cell != self.food:
            self.body.pop()
            return 0.0, False
        is_full = len(self.body) == self.SIZE**2
        if not is_full:
            self._feed()
        return 1.0, is_full

    def _feed(self) -> None:
        while True:
            row, column = divmod(int(self.np_random.integers(self.SIZE**2)), self.SIZE)
            if (row, column) not in self.body:
                self.food = (row, column)
                return


class TicTacToe(TinyEnv):
    """Noughts and crosses against one who wins if that is possible, and sees half of what must be prevented.

    Who wins earns 1, and who loses −1; a draw pays 0. A cell that is taken already loses the game. In half of the
    games the other one begins.
    """

    limit = 9
    LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
    observation_space = spaces.Box(0.0, 1.0, (18,), np.float32)
    action_space = spaces.Discrete(9)

    def start(self) -> None:
        self.board = [0] * 9
        if self.np_random.random() < 0.5:
            self._reply()

    def observe(self) -> Observation:
        return np.array([float(cell == player) for player in (1, -1) for cell in self.board], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        cell = int(action)
        if self.board[cell]:
            return -1.0, True
        self.board[cell] = 1
        if self._has_won(1):
            return 1.0, True
        if all(self.board):
            return 0.0, True
        self._reply()
        if self._has_won(-1):
            return -1.0, True
        return 0.0, all(self.board)

    def _has_won(self, player: int) -> bool:
        return any(all(self.board[cell] == player for cell in line) for line in self.LINES)

    def _reply(self) -> None:
        free = [cell for cell in range(9) if not self.board[cell]]
        chosen = self._completing(-1)
        if chosen is None and self.np_random.random() < 0.5:
            chosen = self._completing(1)
        self.board[free[int(self.np_random.integers(len(free)))] if chosen is None else chosen] = -1

    def _completing(self, player: int) -> int | None:
        """The cell that gives `player` a line, if there is one."""
        for line in self.LINES:
            cells = [self.board[cell] for cell in line]
            if sum(cells) == 2 * player and 0 in cells:
                return line[cells.index(0)]
        return None
