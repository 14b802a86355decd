"""The environments of the benchmark, with the bounds that say when a run has learned one: written before any verdict.

All trainers make them by `Task.make`. Observations are float32 vectors: states of the toy-text environments are
one-hot. The bounds are returns of the environment's own, undiscounted and unscaled, as a mean over the episodes that
end in the last fifth of a run:

- `learned` or more counts as learned: about 60 % of the way from a random policy to a good one;
- less than `failed` counts as failed: about 35 % of that way. In between nothing is claimed.

`critic_floor` is the explained variance below which a critic fails *if there is something to explain*; it is None
where noise leaves a perfect critic no more than a dead one. `outcomes` says how the bounds are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from benchmark import tiny_envs
from benchmark.hyper import Hyper

Group = Literal["discrete", "continuous", "toy"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One environment.

    Attributes:
        name: Its name in the plan and in all tables.
        group: What is held back holds one environment of each group.
        why: What verdicts get wrong on it, in one line.
        make: Makes one copy.
        random, good: Return of a random policy, measured over 6,000 steps, and of a good one.
        learned, failed: See above; None where every policy earns the same.
        critic_floor: See above.
        shortest: Updates after which sound runs have usually learned it, at least 40. Half of it is the least length.
        longest: Updates of the longest run; less than 2,000 where an update takes long.
        hyper: What all its runs have in common; `plan` varies the rest.
        runs: Weight in the plan; less for an environment that is slow, or on which little can break.
    """

    name: str
    group: Group
    why: str
    make: Callable[[], gymnasium.Env[Any, Any]]
    random: float
    good: float
    learned: float | None
    failed: float | None
    critic_floor: float | None
    shortest: int = 40
    longest: int = 2000
    hyper: Hyper = field(default_factory=Hyper)
    runs: float = 1.0

    def __post_init__(self) -> None:
        bounds = (self.random, self.failed, self.learned, self.good)
        if None not in bounds and list(bounds) != sorted(bounds):  # type: ignore[type-var]
            raise ValueError(f"{self.name}: expected random < failed < learned < good, found {bounds}")


class OneHot(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """The number of a state as a vector."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Discrete)
        self._rows = np.eye(int(env.observation_space.n), dtype=np.float32)
        self.observation_space = spaces.Box(0.0, 1.0, (len(self._rows),), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._rows[int(observation)]
        return row


def _made(env_id: str, **options: Any) -> Callable[[], gymnasium.Env[Any, Any]]:
    def make() -> gymnasium.Env[Any, Any]:
        return gymnasium.make(env_id, disable_env_checker=True, **options)

    return make


def toy(env_id: str, limit: int, **options: Any) -> Callable[[], gymnasium.Env[Any, Any]]:
    """Makes an environment of states by number, with episodes of `limit` steps at most."""

    def make() -> gymnasium.Env[Any, Any]:
        return OneHot(TimeLimit(gymnasium.make(env_id, disable_env_checker=True, **options), limit))

    return make


TASKS = (
    Task(
        name="CartPole-v1",
        group="discrete",
        why="the field's first example; solved, its returns no longer vary",
        make=_made("CartPole-v1"),
        random=22.8,
        good=500.0,
        learned=300.0,
        failed=190.0,
        critic_floor=0.2,
        shortest=180,
        hyper=Hyper(learning_rate=2e-3, gamma=0.98, gae_lambda=0.9, minibatches=4),
    ),
    Task(
        name="Acrobot-v1",
        group="discrete",
        why="no episode reaches the goal for a long time, and all of those are cut off at 500 steps",
        make=_made("Acrobot-v1"),
        random=-500.0,
        good=-85.0,
        learned=-200.0,
        failed=-330.0,
        critic_floor=0.2,
        shortest=220,
        longest=700,
        hyper=Hyper(num_envs=16, minibatches=4, learning_rate=2e-3, normalize_observations=True),
        runs=0.5,
    ),
    Task(
        name="HugeCatch",
        group="discrete",
        why="rewards of ±10,000, unscaled: value losses of 1e7 are ordinary",
        make=tiny_envs.HugeCatch,
        random=-7120.0,
        good=10_000.0,
        learned=4000.0,
        failed=-1000.0,
        critic_floor=None,  # V moves by a few units an update and stays far from ±10,000, while the policy learns
        shortest=100,
        hyper=Hyper(learning_rate=1e-3, gamma=0.99, max_grad_norm=1e9),
    ),
    Task(
        name="SparseCorridor",
        group="discrete",
        why="most returns are 0 until the goal is found",
        make=tiny_envs.SparseCorridor,
        random=0.336,
        good=1.0,
        learned=0.8,
        failed=0.6,
        critic_floor=0.1,
        hyper=Hyper(learning_rate=1e-3, gamma=0.97),
    ),
    Task(
        name="Pendulum-v1",
        group="continuous",
        why="returns of −1,600 unscaled; all episodes begin and end together",
        make=_made("Pendulum-v1"),
        random=-1215.0,
        good=-170.0,
        learned=-600.0,
        failed=-850.0,
        critic_floor=0.2,
        shortest=200,
        longest=700,
        hyper=Hyper(
            rollout_steps=64,
            epochs=6,
            minibatches=4,
            learning_rate=2e-3,
            gamma=0.9,
            scale_rewards=True,
            normalize_observations=True,
        ),
        runs=0.5,
    ),
    Task(
        name="Reach",
        group="continuous",
        why="two action dimensions; the differential entropy passes through 0 on its way down",
        make=tiny_envs.Reach,
        random=-29.1,
        good=-5.0,
        learned=-14.0,
        failed=-20.0,
        critic_floor=0.2,
        shortest=80,
        hyper=Hyper(learning_rate=1e-3, gamma=0.95),
    ),
    Task(
        name="TinyRegulator",
        group="continuous",
        why="rewards near zero: value losses of 1e-5 are ordinary",
        make=tiny_envs.TinyRegulator,
        random=-0.0937,
        good=-0.0025,
        learned=-0.03,
        failed=-0.06,
        critic_floor=None,  # V must resolve thousandths, which depends on how it was initialised
        shortest=80,
        hyper=Hyper(learning_rate=1e-3, gamma=0.95),
    ),
    Task(
        name="Upright",
        group="continuous",
        why="solved within some 50 updates; what follows is long after, and nothing is left to explain",
        make=tiny_envs.Upright,
        random=18.6,
        good=300.0,
        learned=190.0,
        failed=115.0,
        critic_floor=0.2,
        shortest=60,
        hyper=Hyper(learning_rate=1e-3, gamma=0.99),
    ),
    Task(
        name="FrozenLake",
        group="toy",
        why="one of sixteen states pays; solved, the returns vary by discount only",
        make=toy("FrozenLake-v1", 100, is_slippery=False),
        random=0.015,
        good=1.0,
        learned=0.6,
        failed=0.35,
        critic_floor=0.1,
        shortest=60,
        hyper=Hyper(learning_rate=2e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="FrozenLakeSlippery",
        group="toy",
        why="chance decides most of a return: no critic explains more than about 0.2",
        make=toy("FrozenLake-v1", 100, is_slippery=True),
        random=0.02,
        good=0.74,
        learned=0.4,
        failed=0.22,
        critic_floor=None,
        shortest=300,
        hyper=Hyper(learning_rate=2.5e-3, gamma=0.99, minibatches=4, entropy_coef=0.01),
    ),
    Task(
        name="CliffWalking",
        group="toy",
        why="returns begin at −1,000 and end at −13; most policies stand still at −100 for long",
        make=toy("CliffWalking-v1", 100),
        random=-1044.0,
        good=-13.0,
        learned=-200.0,
        failed=-420.0,
        critic_floor=0.1,
        shortest=100,
        hyper=Hyper(learning_rate=2e-3, gamma=0.97, max_grad_norm=5.0),
    ),
    Task(
        name="Bandit",
        group="toy",
        why="one state: there is nothing that a critic could explain",
        make=tiny_envs.Bandit,
        random=0.5,
        good=1.0,
        learned=0.8,
        failed=0.67,
        critic_floor=None,
        hyper=Hyper(learning_rate=1e-3, gamma=0.99),
        runs=0.7,
    ),
    Task(
        name="ContextualBandit",
        group="toy",
        why="solved, all contexts are worth the same and only chance is left",
        make=tiny_envs.ContextualBandit,
        random=0.3,
        good=0.9,
        learned=0.66,
        failed=0.5,
        critic_floor=None,
        hyper=Hyper(learning_rate=1e-3, gamma=0.99),
        runs=0.7,
    ),
    Task(
        name="ConstantReward",
        group="toy",
        why="all policies are optimal and all returns equal: nothing to learn, nothing to explain",
        make=tiny_envs.ConstantReward,
        random=20.0,
        good=20.0,
        learned=None,
        failed=None,
        critic_floor=None,
        hyper=Hyper(learning_rate=1e-3, gamma=0.95),
        runs=0.5,
    ),
)
