"""The environments of the second plan of fresh runs: real ones that people know, and three of our own.

`environments` says what the bounds are. They were measured on a few short runs, with seeds of no plan, of which nothing
was judged.
"""

from __future__ import annotations

from benchmark import second_tiny_envs
from benchmark.environments import Task
from benchmark.hyper import Hyper
from benchmark.packaged_environments import minigrid, mujoco

SECOND_TASKS = (
    Task(
        name="InvertedPendulum-v5",
        group="continuous",
        why="a solved episode has 1,000 steps, sixty updates: returns are rare when they are good, and frequent before",
        make=mujoco("InvertedPendulum-v5"),
        random=7.2,
        good=1000.0,
        learned=600.0,
        failed=355.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, scale_rewards=True, normalize_observations=True),
    ),
    Task(
        name="Reacher-v5",
        group="continuous",
        why="every episode has 50 steps, all end together, and all rewards are negative",
        make=mujoco("Reacher-v5"),
        random=-61.4,
        good=-6.0,
        learned=-28.2,
        failed=-42.0,
        critic_floor=None,
        shortest=100,
        longest=1080,
        hyper=Hyper(
            num_envs=16,
            rollout_steps=8,
            learning_rate=2e-3,
            gamma=0.95,
            scale_rewards=True,
            normalize_observations=True,
        ),
    ),
    Task(
        name="MiniGrid-Empty-Random-6x6",
        group="discrete",
        why="a random policy earns a third of what can be had, and 0 or much by chance",
        make=minigrid("MiniGrid-Empty-Random-6x6-v0"),
        random=0.27,
        good=0.96,
        learned=0.68,
        failed=0.51,
        critic_floor=None,
        shortest=80,
        longest=900,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=2e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="MiniGrid-LavaGapS5",
        group="discrete",
        why="the return stands for long at a third or two thirds: one gap in the lava of three is known, or two",
        make=minigrid("MiniGrid-LavaGapS5-v0"),
        random=0.043,
        good=0.95,
        learned=0.59,
        failed=0.36,
        critic_floor=None,
        shortest=150,
        longest=900,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=1e-3, gamma=0.97, entropy_coef=0.02),
    ),
    Task(
        name="Lock",
        group="discrete",
        why="the return is 0 until a lucky episode in two thousand has been learned from",
        make=second_tiny_envs.Lock,
        random=0.0005,
        good=1.0,
        learned=0.6,
        failed=0.35,
        critic_floor=None,
        shortest=200,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=8, epochs=3, learning_rate=1.5e-3, gamma=0.97, entropy_coef=0.02),
    ),
    Task(
        name="Stilts",
        group="discrete",
        why="all rewards are negative, and the return falls back while episodes get longer: a late fall costs most",
        make=second_tiny_envs.Stilts,
        random=-63.5,
        good=-24.0,
        learned=-39.8,
        failed=-49.7,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=2e-3, gamma=0.98, scale_rewards=True),
    ),
    Task(
        name="Heating",
        group="continuous",
        why="a return is measured in one update of fifteen, of all environments together",
        make=second_tiny_envs.Heating,
        random=-158.0,
        good=-10.0,
        learned=-69.0,
        failed=-106.0,
        critic_floor=None,
        shortest=100,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=2e-3, gamma=0.9, scale_rewards=True),
    ),
)
"""Environments that are in the fresh runs of the second plan alone."""
