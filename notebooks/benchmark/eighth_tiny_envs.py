"""The small environments of our own in the eighth plan of fresh runs; `tiny_envs` says what all of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from benchmark.tiny_envs import Observation, TinyEnv


class Racetrack(TinyEnv):
    """A car drives up a road three cells wide and round a bend to the right, where the road ends at the finish.

    An action changes each of two speeds by −1, 0 or 1, within 0 to 2; a tenth of them, by chance, changes nothing. A
    step costs 0.1, the finish pays 3, and who leaves the road stands at the start again. After 60 steps an episode is
    cut off. After Barto, Bradtke and Singh 1995.
    """

    limit = 60
    WIDTH, LENGTH, SLIP, FASTEST = 3, 8, 0.1, 2
    observation_space = spaces.Box(0.0, 1.0, (2 * LENGTH + 2 * (FASTEST + 1),), np.float32)
    action_space = spaces.Discrete(9)

    def start(self) -> None:
        self.x, self.y = int(self.np_random.integers(self.WIDTH)), 0
        self.right, self.up = 0, 0

    def observe(self) -> Observation:
        row = np.zeros(2 * self.LENGTH + 2 * (self.FASTEST + 1), np.float32)
        speeds = 2 * self.LENGTH
        row[min(self.x, self.LENGTH - 1)] = row[self.LENGTH + self.y] = 1
        row[speeds + self.right] = row[speeds + self.FASTEST + 1 + self.up] = 1
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        if self.np_random.random() >= self.SLIP:
            right, up = divmod(int(action), 3)
            self.right = min(max(self.right + right - 1, 0), self.FASTEST)
            self.up = min(max(self.up + up - 1, 0), self.FASTEST)
        self.x, self.y = self.x + self.right, self.y + self.up
        is_on_road = self.y < self.LENGTH and (self.x < self.WIDTH or self.y >= self.LENGTH - self.WIDTH)
        if not is_on_road:
            self.start()
            return -0.1, False
        is_there = self.x >= self.LENGTH
        return -0.1 + 3.0 * is_there, is_there


class ConnectFour(TinyEnv):
    """Stones fall into five columns of four; four in a row, a column or a diagonal win, and are paid 1.

    The other player takes a win where it has one, and plays at random otherwise; chance says who begins. A lost game
    costs 1, as does a stone on a full column, which ends the game. A full board is a draw.
    """

    limit = 10
    COLUMNS, ROWS = 5, 4
    CELLS = tuple(cell for cell in range(25) if cell % 5 < 4)
    """The bit of each cell in a number that has the stones of a player; above each column is one that is never set."""

    observation_space = spaces.Box(0.0, 1.0, (2 * len(CELLS),), np.float32)
    action_space = spaces.Discrete(COLUMNS)

    def start(self) -> None:
        self.mine, self.others, self.heights = 0, 0, [0] * self.COLUMNS
        if self.np_random.random() < 0.5:
            self._answer()

    def observe(self) -> Observation:
        return np.array([stones >> cell & 1 for stones in (self.mine, self.others) for cell in self.CELLS], np.float32)

    def _stone(self, column: int) -> int:
        """The bit of the cell that the next stone in `column` falls to."""
        return 1 << (self.ROWS + 1) * column + self.heights[column]

    def _wins(self, stones: int) -> bool:
        for step in (1, self.ROWS, self.ROWS + 1, self.ROWS + 2):
            pairs = stones & stones >> step
            if pairs & pairs >> 2 * step:
                return True
        return False

    def _answer(self) -> bool:
        """Let the other player drop a stone; whether it wins."""
        free = [column for column in range(self.COLUMNS) if self.heights[column] < self.ROWS]
        winning = (column for column in free if self._wins(self.others | self._stone(column)))
        column = next(winning, free[int(self.np_random.random() * len(free))])
        self.others |= self._stone(column)
        self.heights[column] += 1
        return self._wins(self.others)

    def _is_full(self) -> bool:
        return min(self.heights) == self.ROWS

    def move(self, action: Any) -> tuple[float, bool]:
        column = int(action)
        if self.heights[column] == self.ROWS:
            return -1.0, True
        self.mine |= self._stone(column)
        self.heights[column] += 1
        if self._wins(self.mine):
            return 1.0, True
        if self._is_full():
            return 0.0, True
        if self._answer():
            return -1.0, True
        return 0.0, self._is_full()


class Copying(TinyEnv):
    """A head reads a tape of four symbols and writes what it reads: 1 for each symbol that is the tape's next.

    An action is a direction of the head, whether to write, and a symbol. A wrong symbol ends the episode, and so does
    the last of the tape, which has 5 to 20. Only the symbol under the head is seen, or that there is none. After 40
    steps an episode is cut off.
    """

    limit = 40
    SYMBOLS, SHORTEST, LONGEST = 4, 5, 20
    observation_space = spaces.Box(0.0, 1.0, (SYMBOLS + 1,), np.float32)
    action_space = spaces.Discrete(2 * 2 * SYMBOLS)

    def start(self) -> None:
        length = int(self.np_random.integers(self.SHORTEST, self.LONGEST + 1))
        self.tape: list[int] = self.np_random.integers(self.SYMBOLS, size=length).tolist()
        self.head, self.written = 0, 0

    def observe(self) -> Observation:
        row = np.zeros(self.SYMBOLS + 1, np.float32)
        row[self.tape[self.head] if 0 <= self.head < len(self.tape) else self.SYMBOLS] = 1
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        where, symbol = divmod(int(action), self.SYMBOLS)
        to_right, writes = divmod(where, 2)
        self.head += 1 if to_right else -1
        if not writes:
            return 0.0, False
        if symbol != self.tape[self.written]:
            return 0.0, True
        self.written += 1
        return 1.0, self.written == len(self.tape)


class Elevator(TinyEnv):
    """A lift for four takes people from four floors to the one below them; each who waits costs 0.02 in each step.

    An action goes up, goes down, or opens: those who wait at its floor get in. Below, all get out. In each step
    somebody comes to a floor with a probability of 0.3. An episode is cut off after 60 steps.
    """

    limit = 60
    FLOORS, PLACES, COMING, COST = 5, 4, 0.3, 0.02
    observation_space = spaces.Box(0.0, np.inf, (2 * FLOORS + 1,), np.float32)
    action_space = spaces.Discrete(3)

    def start(self) -> None:
        self.waiting = [0] * self.FLOORS
        self.floor, self.riding = 0, 0

    def observe(self) -> Observation:
        row = np.zeros(2 * self.FLOORS + 1, np.float32)
        row[: self.FLOORS] = self.waiting
        row[: self.FLOORS] /= self.PLACES
        row[self.FLOORS + self.floor] = 1
        row[-1] = self.riding / self.PLACES
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        if int(action) < 2:
            self.floor = min(max(self.floor + (1, -1)[int(action)], 0), self.FLOORS - 1)
            self.riding *= self.floor > 0
        else:
            entering = min(self.waiting[self.floor], self.PLACES - self.riding)
            self.waiting[self.floor] -= entering
            self.riding += entering
        if self.np_random.random() < self.COMING:
            self.waiting[int(self.np_random.integers(1, self.FLOORS))] += 1
        return -self.COST * sum(self.waiting), False


class WindyGrid(TinyEnv):
    """A king walks seven cells to the right, across columns where a wind of random strength blows it upwards.

    A step costs 0.1, and the goal ends the episode; after 100 steps it is cut off. After Sutton and Barto 2018,
    exercises 6.9 and 6.10.
    """

    limit = 100
    ROWS, START, GOAL = 7, (0, 3), (7, 3)
    WIND = (0, 0, 0, 1, 1, 1, 2, 2, 1, 0)
    MOVES = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
    observation_space = spaces.Box(0.0, 1.0, (len(WIND) + ROWS,), np.float32)
    action_space = spaces.Discrete(len(MOVES))

    def start(self) -> None:
        self.x, self.y = self.START

    def observe(self) -> Observation:
        row = np.zeros(len(self.WIND) + self.ROWS, np.float32)
        row[self.x] = row[len(self.WIND) + self.y] = 1
        return row

    def move(self, action: Any) -> tuple[float, bool]:
        dx, dy = self.MOVES[int(action)]
        wind = self.WIND[self.x]
        if wind:
            wind += int(self.np_random.integers(-1, 2))
        self.x = min(max(self.x + dx, 0), len(self.WIND) - 1)
        self.y = min(max(self.y + dy + wind, 0), self.ROWS - 1)
        return -0.1, (self.x, self.y) == self.GOAL


class BitFlip(TinyEnv):
    """Five bits and five to become are seen; an action turns one, and 1 is paid when all are equal.

    Each step before that costs 0.1, and after 20 steps an episode is cut off. After Andrychowicz et al. 2017.
    """

    limit = 20
    BITS = 5
    observation_space = spaces.Box(-1.0, 1.0, (2 * BITS,), np.float32)
    action_space = spaces.Discrete(BITS)

    def start(self) -> None:
        self.bits = self.goal = [0] * self.BITS
        while self.bits == self.goal:
            self.bits, self.goal = self.np_random.integers(2, size=(2, self.BITS)).tolist()

    def observe(self) -> Observation:
        return np.array([2 * bit - 1 for bit in self.bits + self.goal], np.float32)

    def move(self, action: Any) -> tuple[float, bool]:
        self.bits[int(action)] = 1 - self.bits[int(action)]
        is_equal = self.bits == self.goal
        return 1.0 if is_equal else -0.1, is_equal
