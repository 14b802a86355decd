"""The environments of the first plan of fresh runs, and every environment by name. `environments` says what bounds are.

None had been used when a rule was made. Their random and good returns were measured on a few short runs, of which
nothing was judged.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from benchmark import environments, tiny_envs
from benchmark.eighth_environments import EIGHTH_TASKS
from benchmark.environments import OneHot, Task
from benchmark.fifth_environments import FIFTH_TASKS
from benchmark.fourth_environments import FOURTH_TASKS
from benchmark.hyper import Hyper
from benchmark.second_environments import SECOND_TASKS
from benchmark.seventh_environments import SEVENTH_TASKS
from benchmark.sixth_environments import SIXTH_TASKS
from benchmark.third_environments import THIRD_TASKS


class Hand(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """The sum of the player, the card of the dealer and whether an ace counts 11, each at most 1."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0.0, 1.0, (3,), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        hand: NDArray[np.float32] = np.divide(observation, (32, 11, 1), dtype=np.float32)
        return hand


def _blackjack() -> gymnasium.Env[Any, Any]:
    return Hand(gymnasium.make("Blackjack-v1", disable_env_checker=True))


def _taxi() -> gymnasium.Env[Any, Any]:
    return OneHot(gymnasium.make("Taxi-v4", disable_env_checker=True))


FIRST_TASKS = (
    Task(
        name="Blackjack-v1",
        group="toy",
        why="the best policy loses, too, and a return is −1, 0 or 1 by chance",
        make=_blackjack,
        random=-0.39,
        good=-0.05,
        learned=-0.19,
        failed=-0.27,
        critic_floor=None,
        shortest=60,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=3e-3, normalize_observations=True),
    ),
    Task(
        name="Taxi-v4",
        group="toy",
        why="returns begin at −770 and stand at −200 for long, when forbidden moves are no longer tried",
        make=_taxi,
        random=-771.0,
        good=8.0,
        learned=-303.0,
        failed=-498.0,
        critic_floor=None,
        shortest=130,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=2.5e-3, max_grad_norm=5.0),
    ),
    Task(
        name="Recall",
        group="discrete",
        why="partially observed: no policy without a memory knows the answer that pays most",
        make=tiny_envs.Recall,
        random=2.25,
        good=6.0,
        learned=4.5,
        failed=3.56,
        critic_floor=None,
        shortest=40,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=2e-3),
    ),
    Task(
        name="Marathon",
        group="discrete",
        why="all episodes end together, ten or twenty updates apart: most updates have no return",
        make=tiny_envs.Marathon,
        random=18.0,
        good=158.0,
        learned=102.0,
        failed=67.0,
        critic_floor=None,
        shortest=110,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=2e-3, gamma=0.97),
    ),
    Task(
        name="HeavyTails",
        group="discrete",
        why="one reward in thousands is worth more than all others together: means and deviations leap",
        make=tiny_envs.HeavyTails,
        random=3.33,
        good=10.0,
        learned=7.3,
        failed=5.7,
        critic_floor=None,
        shortest=40,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=2e-3, gamma=0.9),
    ),
    Task(
        name="Tide",
        group="continuous",
        why="not stationary: what was learned is wrong a hundred updates later, and the return falls and rises",
        make=tiny_envs.Tide,
        random=-11.6,
        good=-0.15,
        learned=-4.7,
        failed=-7.6,
        critic_floor=None,
        shortest=60,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=5e-3, gamma=0.9, anneal=False),
    ),
)
"""Environments that are in the fresh runs of the first plan alone."""

FRESH_TASKS = (
    *(*FIRST_TASKS, *SECOND_TASKS, *THIRD_TASKS, *FOURTH_TASKS),
    *(*FIFTH_TASKS, *SIXTH_TASKS, *SEVENTH_TASKS, *EIGHTH_TASKS),
)
"""Environments that are in fresh runs alone: each in one plan."""

EVERY_TASK = {task.name: task for task in (*environments.TASKS, *FRESH_TASKS)}
"""Every environment by name."""
