"""The small environments of the sixth to the eighth plan: who plays them well earns what their bounds call good."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark.fresh_environments import EVERY_TASK

pytestmark = pytest.mark.notebooks

Player = Callable[[Any, Any], Any]
"""Makes an action of the environment and what it shows."""


def played(name: str, player: Player, episodes: int) -> list[tuple[float, int]]:
    """The return and the length of each of some episodes."""
    env, found = EVERY_TASK[name].make(), []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        total, steps, is_over = 0.0, 0, False
        while not is_over:
            observation, reward, terminated, truncated, _ = env.step(player(env.unwrapped, observation))
            total, steps, is_over = total + float(reward), steps + 1, terminated or truncated
        found.append((total, steps))
    return found


def mean_return(name: str, player: Player, episodes: int = 40) -> float:
    """The mean return of some episodes."""
    return float(np.mean([total for total, _ in played(name, player, episodes)]))


def bound(name: str, which: str) -> float:
    """A bound of an environment: `random`, `learned` or `good`."""
    found: float = getattr(EVERY_TASK[name], which)
    return found


# ---------------------------------------------------------------------- the sixth plan


def test_a_code_is_broken_by_what_is_told_of_guesses() -> None:
    """Who guesses only what fits all answers needs at most five, and earns more than any sampled run."""

    def guess(env: Any, _: Any) -> int:
        fitting = [
            code
            for code in itertools.product(range(4), repeat=2)
            if all(sum(map(int.__eq__, code, told)) == right for told, right in env.guesses)
            and list(code[: len(env.chosen)]) == env.chosen
        ]
        return fitting[0][len(env.chosen)]

    found = played("Mastermind", guess, 60)
    assert all(total > 0.5 for total, _ in found)
    assert np.mean([total for total, _ in found]) > bound("Mastermind", "good")
    assert mean_return("Mastermind", lambda env, _: 0) < bound("Mastermind", "random")


def test_a_crossing_is_cleared_by_who_gives_green_where_more_wait() -> None:
    """One arm green for ever leaves the others full; who changes where many more wait earns what is good."""

    def longest(env: Any, _: Any) -> int:
        first, second = int(env.waiting[:2].sum()), int(env.waiting[2:].sum())
        return env.green if abs(first - second) < 6 else int(second > first)

    assert mean_return("Junction", lambda env, _: 0) < -30
    assert mean_return("Junction", longest) > bound("Junction", "learned")


def test_tiles_merge_once_in_each_move() -> None:
    """2 2 4 becomes 4 4 in one move, and pays 4; all directions are the same move, turned."""
    env: Any = EVERY_TASK["Twenty48"].make().unwrapped
    env.reset(seed=1)
    env.cells = [[1, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert env._moved(0) == ([[2, 2, 0], [0, 0, 0], [0, 0, 0]], 4)
    assert env._moved(1) == ([[0, 2, 2], [0, 0, 0], [0, 0, 0]], 4)
    assert env._moved(2)[0] == env.cells
    assert env._moved(3) == ([[0, 0, 0], [0, 0, 0], [1, 1, 2]], 0)


def test_a_portfolio_earns_by_its_signals() -> None:
    """Holding what its signal says pays about what the bounds call good; the noise of a return is larger than half."""

    def by_signal(env: Any, observation: Any) -> int:
        return int(observation[0] > 0) + 2 * int(observation[1] > 0)

    found = [total for total, _ in played("Portfolio", by_signal, 200)]
    assert np.mean(found) > bound("Portfolio", "learned")
    assert np.std(found) > 5


# ---------------------------------------------------------------------- the seventh plan


def test_a_game_of_pong_is_lost_by_who_stands_still() -> None:
    """Three points are a game; who follows the ball loses fewer, and who hits it with the edge wins some."""

    def follow(env: Any, _: Any) -> int:
        return 1 if env.y > env.mine + 0.03 else 2 if env.y < env.mine - 0.03 else 0

    still = played("Pong", lambda env, _: 0, 40)
    assert all(total in (-3, -1, 1, 3) for total, steps in still if steps < 300)
    assert np.mean([total for total, _ in still]) < -2
    assert mean_return("Pong", follow) > bound("Pong", "learned")
    env: Any = EVERY_TASK["Pong"].make().unwrapped
    env.reset(seed=1)
    env.x, env.y, env.dx, env.dy = 0.95, env.mine + 0.08, env.SPEED, 0.0
    assert env.step(0)[1:3] == (0.0, False)
    assert (env.dx, env.dy) == pytest.approx((-env.SPEED, 0.8 * env.SPEED))


def test_full_lines_of_blocks_go() -> None:
    """Three bars beside a square fill a line; one that reaches above the well ends the game."""
    env: Any = EVERY_TASK["Blocks"].make().unwrapped
    env.reset(seed=1)
    env.shape = 0
    assert env.step(0)[1:3] == (0.0, False)
    assert env.cells[0].tolist() == [True, True, True, False, False]
    env.shape = 2
    assert env.step(3)[1:3] == (1.0, False)
    assert env.cells[0].tolist() == [False, False, False, True, True]
    assert not env.cells[1:].any()
    for _ in range(3):
        env.shape = 2
        assert not env.step(3)[2]
    env.shape = 2
    assert env.step(3)[1:3] == (0.0, True)


def test_a_block_is_turned_and_stays_within_the_well() -> None:
    """A bar takes three columns, or one where it is turned; a column that is too far right is the last that fits."""
    for turns, column, cells in ((0, 4, {(0, 2), (0, 3), (0, 4)}), (1, 4, {(0, 4), (1, 4), (2, 4)})):
        env: Any = EVERY_TASK["Blocks"].make().unwrapped
        env.reset(seed=1)
        env.shape = 0
        env.step(5 * turns + column)
        assert {(int(y), int(x)) for y, x in np.argwhere(env.cells)} == cells


def test_mines_end_a_game_and_cells_say_how_many_are_near() -> None:
    """14 cells without a mine pay 0.1 each and the last one 1 more; the first is never a mine."""

    def know(env: Any, _: Any) -> int:
        if env.is_mine is None:
            return 5
        return int(np.flatnonzero(~(env.is_shown | env.is_mine).ravel())[0])

    assert np.allclose(played("Mines", know, 5), (2.4, 14))
    env: Any = EVERY_TASK["Mines"].make().unwrapped
    env.reset(seed=3)
    shown = env.step(5)[0].reshape(4, 4, 3)
    for seed in range(60):
        other: Any = EVERY_TASK["Mines"].make().unwrapped
        other.reset(seed=seed)
        other.step(5)
        assert not other.is_mine[1, 1]
    assert shown[1, 1].argmax() == env.is_mine[0:3, 0:3].sum()
    assert shown.sum() == 1
    assert env.step(5)[1:3] == (-0.05, False)
    assert env.step(int(np.flatnonzero(env.is_mine.ravel())[0]))[1:3] == (-1.0, True)


def test_an_answer_is_right_as_a_whole_or_wrong() -> None:
    """All four numbers from the least to the largest pay 1; three of four pay nothing."""
    assert played("Sorting", lambda env, _: int(env.numbers.argsort()[len(env.named)]), 20) == [(1.0, 4)] * 20
    nearly = played("Sorting", lambda env, _: int(env.numbers.argsort()[min(len(env.named), 2)]), 20)
    assert nearly == [(0.0, 4)] * 20


def test_bids_below_the_worth_earn() -> None:
    """Nothing bid earns nothing, all bid loses, and half of the worth earns what the bounds call learned."""
    assert mean_return("Auction", lambda env, _: np.array([-1.0])) == 0
    assert mean_return("Auction", lambda env, _: np.array([1.0])) < bound("Auction", "random")
    half = mean_return("Auction", lambda env, _: np.array([env.worth - 1.0]), 200)
    assert half > bound("Auction", "learned")


def test_a_car_parks_only_where_it_stands_and_heads_right() -> None:
    """One that stands in the place is parked at once; one that heads elsewhere, or drives far off, is not."""

    def placed(heading: float, x: float = 0.0) -> tuple[float, float]:
        env: Any = EVERY_TASK["Parking"].make().unwrapped
        env.reset(seed=1)
        env.x, env.y, env.heading, env.speed = x, 0.0, heading, 0.0
        _, reward, terminated, *_ = env.step(np.zeros(2))
        return float(reward), float(terminated)

    assert placed(0.0) == pytest.approx((4.98, 1))
    assert placed(2.0) == pytest.approx((-0.02, 0))
    assert placed(0.0, x=8.5) == (-2, 1)


# ---------------------------------------------------------------------- the eighth plan


def begun(name: str, **state: Any) -> Any:
    """An environment at the start of an episode, and in that state."""
    env: Any = EVERY_TASK[name].make().unwrapped
    env.reset(seed=1)
    for attribute, value in state.items():
        assert hasattr(env, attribute)
        setattr(env, attribute, value)
    return env


def test_a_reactor_is_held_by_who_cools_in_time() -> None:
    """Who steers the heat earns more than what is good, and nothing runs away; what is too hot has, and costs 20."""

    def cool(env: Any, _: Any) -> Any:
        wanted = 2.75 + 6 * (env.target - 0.45) + 3 * (env.target - env.share)
        return np.array([3 * (min(wanted, 3.6) - env.heat)])

    assert mean_return("Reactor", cool) > bound("Reactor", "good")
    assert all(steps == 60 for _, steps in played("Reactor", cool, 20))
    hot = begun("Reactor", share=0.2, heat=5.9)
    assert hot.step(np.array([1.0]))[1:3] == (-20.0, True)
    for push in (0.0, -1.0):
        still = begun("Reactor", share=0.144, heat=0.886, target=0.344)  # at rest without cooling
        assert still.step(np.array([push]))[1:3] == (pytest.approx(-1 + 0.02 * push, abs=0.03), False)
        assert still.heat == pytest.approx(0.886 + 0.5 * push, abs=0.1 * abs(push) + 0.005)
        assert still.share == pytest.approx(0.144, abs=0.005)


def test_a_satellite_is_turned_by_its_wheels_until_they_are_full() -> None:
    """Who brakes in time earns more than what is good; a full wheel turns nothing, and too fast a spin ends all."""

    def brake(env: Any, _: Any) -> Any:
        return np.array([-(angle + 1.5 * rate) for angle, rate in zip(env.angles, env.rates, strict=True)])

    assert mean_return("Attitude", brake) > bound("Attitude", "good")
    env = begun("Attitude", angles=[1.0, -1.0], rates=[0.5, 0.0], wheels=[2.0, 0.0])
    assert env.step(np.array([1.0, 1.0]))[1:3] == (pytest.approx(-0.2 * (1.1 + 0.96 + 0.2 * 0.7 + 0.1)), False)
    assert (env.rates, env.wheels) == (pytest.approx([0.5, 0.2]), pytest.approx([2.0, 0.2]))
    assert begun("Attitude", angles=[3.1, 0.0], rates=[1.0, 0.0]).step(np.zeros(2))[0][0] < -2.9
    assert begun("Attitude", rates=[1.9, 0.0]).step(np.array([1.0, 0.0]))[1:3] == (-15.0, True)


def test_a_walk_ends_in_the_corner_and_costs_more_in_a_puddle() -> None:
    """Who walks around the puddles earns more than what is good; a step in a puddle costs by its depth."""

    def around(env: Any, _: Any) -> Any:
        is_below = env.x < 0.6 and env.y < 0.9
        return np.array([1.0, 0.0 if is_below else 1.0])

    assert mean_return("PuddleWorld", around, 100) > bound("PuddleWorld", "good")
    dry = begun("PuddleWorld", x=0.8, y=0.2, NOISE=0.0)
    assert dry.step(np.array([1.0, -2.0]))[1:3] == (pytest.approx(-0.1), False)
    assert (dry.x, dry.y) == pytest.approx((0.85, 0.15))
    assert begun("PuddleWorld", x=0.45, y=0.55, NOISE=0.0).step(np.zeros(2))[1] == pytest.approx(-1.1)
    assert begun("PuddleWorld", x=0.05, y=0.75, NOISE=0.0).step(np.zeros(2))[1] == pytest.approx(-0.6)
    wall = begun("PuddleWorld", x=0.97, y=0.9, NOISE=0.0)
    assert wall.step(np.ones(2))[2]
    assert wall.x == 1
    assert {steps for _, steps in played("PuddleWorld", lambda env, _: np.array([-1.0, -1.0]), 3)} == {100}
    assert not begun("PuddleWorld", x=1.0, y=0.83, NOISE=0.0).step(np.ones(2))[2]


def test_jobs_wait_for_what_was_sent_before_them() -> None:
    """Who sends a job where it is done first has learned it; one server for all is worse than what has failed."""

    def first_done(env: Any, _: Any) -> int:
        return int(np.argmin([wait + 1 / speed for wait, speed in zip(env.waits, env.SPEEDS, strict=True)]))

    assert mean_return("Queues", first_done, 30) > bound("Queues", "learned")
    assert mean_return("Queues", lambda env, _: 0, 30) < bound("Queues", "failed")
    assert {steps for _, steps in played("Queues", first_done, 3)} == {100}
    costs = [begun("Queues", waits=[wait, 0.0, 0.0]).step(server)[1] for wait, server in ((0, 0), (5, 0), (5, 2))]
    assert costs[1] == pytest.approx(costs[0] - 0.5)
    assert costs[2] == pytest.approx(costs[0] / 0.4)
    env = begun("Queues", waits=[9.0, 9.0, 0.0], BETWEEN=0.0)
    assert env.step(1)[1] == pytest.approx(-0.1 * env.waits[1])
    assert env.waits[0] == 9
    assert env.waits[1] > 9


def test_a_boat_must_tack_to_its_mark() -> None:
    """Who tacks earns more than what is good; who heads for a mark where the wind comes from stands still."""

    def tack(env: Any, _: Any) -> Any:
        mark = math.remainder(math.atan2(-env.y, -env.x) - env.wind, math.tau)
        off = math.remainder(env.heading - env.wind, math.tau)
        wanted = mark if abs(mark) > 0.9 else math.copysign(0.9, mark if abs(mark) > 0.3 else off)
        return np.array([math.remainder(wanted - off, math.tau) / 0.6])

    assert mean_return("Sailing", tack) > bound("Sailing", "good")
    upwind: dict[str, Any] = {"x": -3.0, "y": 0.0, "wind": 0.0}
    assert begun("Sailing", heading=0.0, **upwind).step(np.zeros(1))[1:3] == (pytest.approx(-0.02), False)
    closer = begun("Sailing", heading=1.0, **upwind).step(np.zeros(1))[1]
    assert 0.03 < closer < 0.12
    there = begun("Sailing", heading=0.0, x=-0.5, y=0.0, wind=2.0)
    assert there.step(np.zeros(1))[1:3] == (pytest.approx(0.2 - 0.02 + 2), True)
    assert there.wind != 2.0
    assert begun("Sailing", heading=math.pi / 2, **upwind).way() < begun("Sailing", heading=2.0, **upwind).way() == 1
    lost = begun("Sailing", heading=math.pi, x=-4.9, y=0.0, wind=0.0).step(np.zeros(1))
    assert lost[1:3] == (pytest.approx(-0.2 - 0.02 - 1), True)


def test_what_is_fed_arrives_five_steps_later() -> None:
    """Who counts what is on its way earns more than what is good; a step costs what the level lies outside the band."""

    def count(env: Any, _: Any) -> Any:
        arriving = env.level + sum(env.coming) - 5 * env.eaten
        return np.array([(1 + env.eaten - arriving) / 0.2 - 1])

    assert mean_return("Feeding", count) > bound("Feeding", "good")
    for dose in (-1.0, 1.0):
        env = begun("Feeding", level=1.0)
        env.step(np.array([dose]))
        for _ in range(5):
            before = env.level
            env.step(np.zeros(1))
        assert env.level - before + env.eaten == pytest.approx(0.2 + 0.2 * dose)
    for level, cost in ((1.0, 0.0), (0.8, 0.0), (0.4, 0.3), (1.6, 0.3)):
        env = begun("Feeding", level=level)
        assert env.step(np.zeros(1))[1] == pytest.approx(-cost, abs=0.2)
        assert -env.step(np.zeros(1))[1] == pytest.approx(max(0, 0.7 - env.level, env.level - 1.3))


def test_a_racing_car_keeps_to_the_road() -> None:
    """Up slowly and round the bend fast reaches the finish; a car that leaves the road is at the start, and stands."""

    def drive(env: Any, _: Any) -> int:
        right, up = (2, 0) if env.y >= 5 else (0, 1)
        return int(3 * (np.sign(right - env.right) + 1) + np.sign(up - env.up) + 1)

    assert mean_return("Racetrack", drive) > bound("Racetrack", "learned")
    assert np.allclose(played("Racetrack", lambda env, _: 4, 3), (-6, 60))
    for place, speeds, action, then, reward in (
        ((1, 0), (0, 0), 5, (1, 1), -0.1),  # faster upwards
        ((1, 1), (0, 2), 5, (1, 3), -0.1),  # no faster than 2
        ((1, 1), (0, 0), 0, (1, 1), -0.1),  # and not backwards
        ((2, 5), (1, 0), 4, (3, 5), -0.1),
        ((2, 4), (1, 0), 4, None, -0.1),  # the bend is above
        ((1, 6), (0, 2), 4, None, -0.1),  # beyond it
        ((6, 6), (2, 0), 4, (8, 6), 2.9),
    ):
        env = begun("Racetrack", SLIP=0)
        (env.x, env.y), (env.right, env.up) = place, speeds
        assert env.step(action)[1:3] == (pytest.approx(reward), reward > 0)
        if then is None:
            assert (env.y, env.right, env.up) == (0, 0, 0)
            assert env.x < 3
        else:
            assert (env.x, env.y) == then
    assert {begun("Racetrack").reset(seed=seed)[0][:8].argmax() for seed in range(20)} == {0, 1, 2}
    assert begun("Racetrack", x=2, y=1, right=1, up=2).observe().nonzero()[0].tolist() == [2, 9, 17, 21]
    assert begun("Racetrack", x=8, y=7).observe().nonzero()[0].tolist() == [7, 15, 16, 19]
    slipping = begun("Racetrack", SLIP=1, x=1, y=0, up=1)
    slipping.step(8)
    assert (slipping.right, slipping.up, slipping.y) == (0, 1, 1)


def test_four_stones_in_line_win_a_game() -> None:
    """Every line of four wins, on any board, and nothing else does: a column goes on in no other."""
    wins = begun("ConnectFour")._wins
    cells = {(x, y): 1 << 5 * x + y for x in range(5) for y in range(4)}
    of_four = [
        [(x + step * dx, y + step * dy) for step in range(4)]
        for (x, y), (dx, dy) in itertools.product(cells, ((0, 1), (1, 0), (1, 1), (1, -1)))
    ]
    lines = [sum(cells[at] for at in line) for line in of_four if cells.keys() >= set(line)]
    assert len(lines) == 17
    rng = np.random.default_rng(1)
    for density in rng.uniform(0.2, 0.8, 500):
        stones = sum(bit for bit in cells.values() if rng.random() < density)
        assert wins(stones) == any(stones & line == line for line in lines)


def test_a_game_of_four_in_a_row_is_against_one_that_sees_its_wins() -> None:
    """Who wins where it can and hinders the other where it must earns what is good; the first column alone loses."""

    def look_ahead(env: Any, _: Any) -> int:
        free = [column for column in (2, 1, 3, 0, 4) if env.heights[column] < 4]
        for stones in (env.mine, env.others):
            for column in free:
                if env._wins(stones | env._stone(column)):
                    return column
        return free[0]

    found = played("ConnectFour", look_ahead, 200)
    assert {total for total, _ in found} <= {-1, 0, 1}
    assert np.mean([total for total, _ in found]) > bound("ConnectFour", "good")
    assert mean_return("ConnectFour", lambda env, _: 0) < 0
    assert {sum(begun("ConnectFour").reset(seed=seed)[0]) for seed in range(20)} == {0, 1}
    assert begun("ConnectFour", mine=0, others=0b111, heights=[3, 0, 0, 0, 0]).step(4)[1:3] == (-1, True)
    assert begun("ConnectFour", mine=0b111, others=0b111 << 5, heights=[3, 3, 0, 0, 0]).step(0)[1:3] == (1, True)
    assert begun("ConnectFour", mine=0, others=0, heights=[4, 0, 0, 0, 0]).step(0)[1:3] == (-1, True)
    for heights in ([3, 4, 4, 4, 4], [3, 3, 4, 4, 4]):
        assert begun("ConnectFour", mine=0, others=0, heights=heights).step(0)[1:3] == (0, True)
    seen, *others = begun("ConnectFour", mine=0, others=0, heights=[0] * 5).step(3)
    assert (seen[:20].nonzero()[0].tolist(), seen[20:].sum(), others[:2]) == ([12], 1, [0, False])


def test_a_tape_is_copied_until_a_symbol_is_wrong() -> None:
    """Who writes what is read and goes on earns the length of the tape, and who writes one symbol soon is wrong."""

    def copy(_: Any, observation: Any) -> int:
        return 12 + int(observation.argmax())

    found = played("Copying", copy, 200)
    assert {total for total, _ in found} == set(range(5, 21))
    assert all(total == steps for total, steps in found)
    assert mean_return("Copying", copy, 200) > bound("Copying", "learned")
    assert mean_return("Copying", lambda env, _: 12) < bound("Copying", "failed")
    assert played("Copying", lambda env, _: 8, 1) == [(0, 40)]
    env = begun("Copying", tape=[2, 3], head=0)
    assert env.step(12 + 2)[1:3] == (1, False)
    seen, *others = env.step(8 + 1)  # to the right, and nothing is written
    assert (seen.tolist(), others[:2]) == ([0, 0, 0, 0, 1], [0, False])
    assert env.step(1)[0].tolist() == [0, 0, 0, 1, 0]  # back to the left
    assert begun("Copying", tape=[2, 3], head=0).step(0)[0].tolist() == [0, 0, 0, 0, 1]
    assert env.step(12 + 2)[1:3] == (0, True)
    assert begun("Copying", tape=[2], head=0).step(4 + 2)[1:3] == (1, True)


def test_a_lift_takes_four_people_down() -> None:
    """Who fetches the uppermost first earns what is good, and a lift that stays below pays for all who ever came."""

    def fetch(env: Any, _: Any) -> int:
        if env.waiting[env.floor] and env.riding < 4:
            return 2
        return 0 if any(env.waiting[env.floor + 1 :]) and not env.riding else 1

    found = played("Elevator", fetch, 40)
    assert {steps for _, steps in found} == {60}
    assert np.mean([total for total, _ in found]) > bound("Elevator", "good")
    assert mean_return("Elevator", lambda env, _: 1) == pytest.approx(-0.02 * 0.3 * 60 * 61 / 2, rel=0.1)
    env = begun("Elevator", COMING=0, waiting=[0, 6, 0, 0, 1])
    for action, floor, riding, waiting in (
        (1, 0, 0, 7),
        (2, 0, 0, 7),
        (0, 1, 0, 7),
        (2, 1, 4, 3),
        (2, 1, 4, 3),
        (0, 2, 4, 3),
        (1, 1, 4, 3),
        (1, 0, 0, 3),
        (0, 1, 0, 3),
        (2, 1, 2, 1),
    ):
        seen, reward, is_over, *_ = env.step(action)
        assert (env.floor, env.riding, sum(env.waiting)) == (floor, riding, waiting)
        assert (reward, is_over) == (pytest.approx(-0.02 * waiting), False)
    assert seen.tolist() == [0, 0, 0, 0, 0.25, 0, 1, 0, 0, 0, 0.5]
    for _ in range(6):
        env.step(0)
    assert (env.floor, env.riding) == (4, 2)
    coming = begun("Elevator", COMING=1)
    for _ in range(50):
        coming.step(1)
    assert (coming.waiting[0], sum(coming.waiting), min(coming.waiting[1:]) > 0) == (0, 50, True)


def test_a_king_leans_against_the_wind() -> None:
    """Who reckons with the wind is soon at the goal, and who goes to the right alone is blown past it."""

    wind, moves = (0, 0, 0, 1, 1, 1, 2, 2, 1, 0), begun("WindyGrid").MOVES

    def following(x: int, y: int, move: tuple[int, int]) -> list[tuple[int, int]]:
        blown = (wind[x] - 1, wind[x], wind[x] + 1) if wind[x] else (0,)
        return [(min(max(x + move[0], 0), 9), min(max(y + move[1] + up, 0), 6)) for up in blown]

    worth = dict.fromkeys(itertools.product(range(10), range(7)), 0.0)

    def after(x: int, y: int, move: tuple[int, int]) -> float:
        reached = following(x, y, move)
        return sum(worth[at] for at in reached) / len(reached)

    for _ in range(25):
        worth |= {at: max(after(*at, move) for move in moves) - 1 for at in worth if at != (7, 3)}

    def against(env: Any, _: Any) -> int:
        return max(range(8), key=lambda action: after(env.x, env.y, moves[action]))

    assert mean_return("WindyGrid", against) > bound("WindyGrid", "good")
    assert np.allclose(played("WindyGrid", lambda env, _: 0, 1), (-10, 100))
    for x, blown in ((0, {0}), (3, {0, 1, 2}), (6, {1, 2, 3}), (9, {0})):
        env, found = begun("WindyGrid"), set()
        for _ in range(60):
            env.x, env.y = x, 2
            env.step(1)
            assert env.x == max(x - 1, 0)
            found.add(env.y - 2)
        assert found == blown
    env, ends = begun("WindyGrid"), set()
    for _ in range(60):
        env.x, env.y = 8, 2
        ends.add((env.step(0)[2], env.y))
    assert ends == {(False, 1), (False, 2), (True, 3)}
    env = begun("WindyGrid", x=9, y=2)
    env.step(6)
    assert (env.x, env.y) == (9, 2)
    env = begun("WindyGrid", x=7, y=6)
    env.step(7)
    assert (env.x, env.y) == (8, 6)
    assert begun("WindyGrid", x=9, y=3).step(1)[0].nonzero()[0].tolist() == [8, 13]
    assert begun("WindyGrid", GOAL=(1, 3)).step(6)[1:3] == (-0.1, True)
    assert begun("WindyGrid", GOAL=(1, 3)).step(7)[1:3] == (-0.1, False)


def test_bits_are_equal_after_as_many_steps_as_differ() -> None:
    """Each bit that differs is turned once, and the last pays 1; one that is turned twice is as it was."""

    def turn(env: Any, observation: Any) -> int:
        return int((observation[:5] != observation[5:]).argmax())

    found = played("BitFlip", turn, 100)
    assert all(total == pytest.approx(1.1 - 0.1 * steps) for total, steps in found)
    assert {steps for _, steps in found} == set(range(1, 6))
    assert mean_return("BitFlip", lambda env, _: 0, 100) < bound("BitFlip", "random")
    assert np.mean([total for total, _ in found]) > bound("BitFlip", "good")
    env = begun("BitFlip", bits=[0, 0, 0, 0, 1], goal=[0, 0, 0, 0, 0])
    assert env.step(0)[1:3] == (-0.1, False)
    assert env.step(0)[1:3] == (-0.1, False)
    assert env.step(4)[1:3] == (1, True)
