"""The small environments of our own in the seventh plan of fresh runs; `tiny_envs` says what all of them share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


class Pong(TinyEnv):
    """Two paddles and a ball, in a field of 1 × 1. A point is 1 or −1, and a game is over with three of them.

    The other paddle follows the ball, more slowly than it can fly: the edge of a paddle sends it so far off. After 300
    steps a game is cut off.
    """

    limit = 300
    POINTS, HALF, SPEED, MINE, OTHERS = 3, 0.1, 0.07, 0.05, 0.05
    observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float32)
    action_space = spaces.Discrete(3)

    def start(self) -> None:
        self.mine, self.other, self.lost, self.won = 0.5, 0.5, 0, 0
        self._serve()

    def _serve(self) -> None:
        self.x, self.y = 0.5, float(self.np_random.uniform(0.2, 0.8))
        self.dx = self.SPEED * float(self.np_random.choice((-1, 1)))
        self.dy = self.SPEED * float(self.np_random.uniform(-0.7, 0.7))

    def observe(self) -> Observation:
        place = (self.x, self.y, self.mine, self.other)
        return np.array([*(2 * number - 1 for number in place), self.dx / self.SPEED, self.dy / self.SPEED], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        self.mine = min(max(self.mine + self.MINE * (0, 1, -1)[int(action)], 0.0), 1.0)
        self.other = min(max(self.other + min(max(self.y - self.other, -self.OTHERS), self.OTHERS), 0.0), 1.0)
        self.x, self.y = self.x + self.dx, self.y + self.dy
        if not 0 <= self.y <= 1:
            self.y, self.dy = -self.y if self.y < 0 else 2 - self.y, -self.dy
        if 0 < self.x < 1:
            return 0.0, False
        is_mine = self.x >= 1
        off = self.y - (self.mine if is_mine else self.other)
        if abs(off) <= self.HALF:
            self.x, self.dx = min(max(self.x, 0.01), 0.99), -self.dx
            self.dy = self.SPEED * off / self.HALF
            return 0.0, False
        self.lost, self.won = self.lost + is_mine, self.won + (not is_mine)
        self._serve()
        return -1.0 if is_mine else 1.0, self.lost + self.won == self.POINTS


class Blocks(TinyEnv):
    """Blocks of three or four cells fall into a well five cells wide; a full line goes, and is paid 1.

    An action is a quarter turn and a column. The game is over when a block ends above eight cells, or after 50 blocks.
    """

    limit = 50
    WIDTH, HEIGHT = 5, 8
    SHAPES = (((0, 0), (0, 1), (0, 2)), ((0, 0), (0, 1), (1, 0)), ((0, 0), (0, 1), (1, 0), (1, 1)))
    observation_space = spaces.Box(0.0, 1.0, (WIDTH * HEIGHT + len(SHAPES),), np.float32)
    action_space = spaces.Discrete(4 * WIDTH)

    def start(self) -> None:
        self.cells = np.zeros((self.HEIGHT, self.WIDTH), np.bool_)
        self.shape = int(self.np_random.integers(len(self.SHAPES)))

    def observe(self) -> Observation:
        kind = np.arange(len(self.SHAPES)) == self.shape
        return np.concatenate([self.cells.ravel(), kind]).astype(np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        turns, column = divmod(int(action), self.WIDTH)
        block = np.array(self.SHAPES[self.shape])
        for _ in range(turns):
            block = np.stack([block[:, 1], -block[:, 0]], axis=1)
        block -= block.min(axis=0)
        block[:, 1] += min(column, self.WIDTH - 1 - int(block[:, 1].max()))
        tops = [
            self.HEIGHT - int(self.cells[:, at][::-1].argmax()) if self.cells[:, at].any() else 0 for at in block[:, 1]
        ]
        block[:, 0] += max(top - int(row) for top, row in zip(tops, block[:, 0], strict=True))
        if int(block[:, 0].max()) >= self.HEIGHT:
            return 0.0, True
        self.cells[block[:, 0], block[:, 1]] = True
        kept = self.cells[~self.cells.all(axis=1)]
        lines = self.HEIGHT - len(kept)
        self.cells = np.concatenate([kept, np.zeros((lines, self.WIDTH), np.bool_)])
        self.shape = int(self.np_random.integers(len(self.SHAPES)))
        return float(lines), False


class Mines(TinyEnv):
    """Two of sixteen cells hide a mine; an action uncovers a cell, which says how many mines lie around it.

    A cell without a mine is paid 0.1, the last of them 1 more, and a mine costs 1 and ends the episode. To uncover a
    cell again costs 0.05. The first cell has no mine. After 30 steps an episode is cut off.
    """

    limit = 30
    SIZE, MINES, MOST = 4, 2, 3
    observation_space = spaces.Box(0.0, 1.0, (SIZE * SIZE * MOST,), np.float32)
    action_space = spaces.Discrete(SIZE * SIZE)

    def start(self) -> None:
        self.is_shown = np.zeros((self.SIZE, self.SIZE), np.bool_)
        self.is_mine: Any = None

    def observe(self) -> Observation:
        seen = np.zeros((self.SIZE, self.SIZE, self.MOST), np.float32)
        for y, x in np.argwhere(self.is_shown):
            seen[y, x, int(self.is_mine[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].sum())] = 1
        return seen.ravel()

    def move(self, action: Any) -> tuple[float, bool]:
        if self.is_mine is None:
            others = [cell for cell in range(self.SIZE**2) if cell != int(action)]
            self.is_mine = np.zeros(self.SIZE**2, np.bool_)
            self.is_mine[self.np_random.choice(others, self.MINES, replace=False)] = True
            self.is_mine = self.is_mine.reshape(self.SIZE, self.SIZE)
        y, x = divmod(int(action), self.SIZE)
        if self.is_shown[y, x]:
            return -0.05, False
        if self.is_mine[y, x]:
            return -1.0, True
        self.is_shown[y, x] = True
        is_done = bool((self.is_shown | self.is_mine).all())
        return 0.1 + float(is_done), is_done


class Sorting(TinyEnv):
    """Four numbers are seen, and are to be named from the least to the largest, one with each step.

    As with an answer that a program checks, 1 is paid at the end if all is right, and nothing else.
    """

    limit = NUMBERS = 4
    observation_space = spaces.Box(-np.inf, np.inf, (2 * NUMBERS,), np.float32)
    action_space = spaces.Discrete(NUMBERS)

    def start(self) -> None:
        self.numbers = self.np_random.uniform(-1, 1, self.NUMBERS)
        self.named: list[int] = []

    def observe(self) -> Observation:
        is_named = [float(number in self.named) for number in range(self.NUMBERS)]
        return np.array([*self.numbers, *is_named], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        self.named.append(int(action))
        is_over = len(self.named) == self.NUMBERS
        return float(is_over and self.named == [int(place) for place in self.numbers.argsort()]), is_over


class Auction(TinyEnv):
    """Twenty things are sold one after another: what each is worth is seen, and the highest bid pays what it bids.

    An action of −1 bids 0 and one of 1 bids 1. How high the others bid differs between episodes, and is seen only in
    who won. Much of what is won at first costs more than it is worth.
    """

    limit = 20
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def start(self) -> None:
        self.level = float(self.np_random.uniform(0.2, 0.8))
        self.worth, self.has_won, self.bids = float(self.np_random.random()), 0.0, 0.0

    def observe(self) -> Observation:
        return np.array([2 * self.worth - 1, self.has_won, self.bids, self.steps / self.limit], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        bid = 0.5 + 0.5 * min(max(float(np.ravel(action)[0]), -1.0), 1.0)
        other = self.level * float(self.np_random.random()) ** 0.5
        self.has_won, self.bids = float(bid > other), bid
        reward = self.has_won * (self.worth - bid)
        self.worth = float(self.np_random.random())
        return reward, False


class Parking(TinyEnv):
    """A car of length 1 is driven backwards and forwards into a place: at 0, heading to the right, and standing.

    An action has a push and a turn of the wheels. What it comes nearer is paid, 5 more when it is parked, and each step
    costs 0.02. After 80 steps an episode is cut off.
    """

    limit = 80
    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def start(self) -> None:
        self.x, self.y = (float(number) for number in self.np_random.uniform(-2, 2, 2))
        self.heading, self.speed = float(self.np_random.uniform(-1, 1)), 0.0

    def observe(self) -> Observation:
        return np.array(
            [self.x / 3, self.y / 3, math.cos(self.heading), math.sin(self.heading), self.speed], np.float32
        )

    def _far(self) -> float:
        return math.hypot(self.x, self.y) + 0.5 * abs(math.remainder(self.heading, math.tau))

    def move(self, action: Any) -> tuple[float, bool]:
        push, turn = (min(max(float(number), -1.0), 1.0) for number in np.ravel(action))
        before = self._far()
        self.speed = 0.8 * self.speed + 0.3 * push
        self.heading += 0.2 * self.speed * math.tan(0.8 * turn)
        self.x += 0.2 * self.speed * math.cos(self.heading)
        self.y += 0.2 * self.speed * math.sin(self.heading)
        if math.hypot(self.x, self.y) > 8:
            return -2.0, True
        is_parked = self._far() < 0.8 and abs(self.speed) < 0.7
        return before - self._far() - 0.02 + 5.0 * is_parked, is_parked
