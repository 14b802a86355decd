"""The goals that Gymnasium publishes, for runs that name their environment and declare no goal.

Most trainers and logs name the environment, and none of them the return that solves it. With it, a run that stands far
below is told from one whose task pays no more.
"""

from __future__ import annotations

from collections.abc import Mapping

from esper_analyzer.judging.task import Task

PUBLISHED_GOALS: Mapping[str, float] = {
    "Acrobot-v1": -100.0,
    "BipedalWalker-v3": 300.0,
    "CartPole-v0": 195.0,
    "CartPole-v1": 475.0,
    "FrozenLake-v1": 0.7,
    "FrozenLake8x8-v1": 0.85,
    "InvertedDoublePendulum-v2": 9100.0,
    "InvertedDoublePendulum-v4": 9100.0,
    "InvertedDoublePendulum-v5": 9100.0,
    "InvertedPendulum-v2": 950.0,
    "InvertedPendulum-v4": 950.0,
    "InvertedPendulum-v5": 950.0,
    "LunarLander-v2": 200.0,
    "LunarLander-v3": 200.0,
    "LunarLanderContinuous-v2": 200.0,
    "LunarLanderContinuous-v3": 200.0,
    "MountainCarContinuous-v0": 90.0,
    "Taxi-v3": 8.0,
    "Taxi-v4": 8.0,
}
"""`reward_threshold` of the registries of Gym 0.26 and Gymnasium 1, by the name of the environment.

Left out are environments whose goal PPO seldom reaches, or only after many more steps than most runs have (Ant,
HalfCheetah, Hopper, Swimmer, Pusher, Reacher, CarRacing), or whose rewards most people change (MountainCar).
"""


def published_goal(task: Task) -> float | None:
    """Return the goal of a task's environment; None without one, and where the environment has settings of its own."""
    return None if task.env_settings else PUBLISHED_GOALS.get(task.env or "")
