"""The environments of the third plan of fresh runs: those that people know best, and two of our own.

`environments` says what the bounds are. They were measured on some sixty short sound runs, with seeds of no plan, of
which nothing was judged. Where sound runs reach only a part of what can be had, `good` is what they reach.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from benchmark import third_tiny_envs
from benchmark.environments import Task
from benchmark.hyper import Hyper
from benchmark.packaged_environments import box2d, minatar, minigrid, mujoco


def _mountain_car() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("MountainCarContinuous-v0", disable_env_checker=True)


THIRD_TASKS = (
    Task(
        name="LunarLander-v3",
        group="discrete",
        why="who hovers no longer crashes, and earns nothing: runs stand there for long, and some fall back to it",
        make=box2d("LunarLander-v3"),
        random=-168.0,
        good=100.0,
        learned=-7.0,
        failed=-74.0,
        critic_floor=None,
        shortest=150,
        longest=900,
        hyper=Hyper(
            rollout_steps=64, minibatches=4, learning_rate=8e-4, gamma=0.999, gae_lambda=0.98, entropy_coef=0.01
        ),
    ),
    Task(
        name="MinAtar-Breakout",
        group="discrete",
        why="the return is a count of bricks, mostly below 5, and rises by less than its noise for long",
        make=minatar("MinAtar-Breakout", "breakout"),
        random=0.39,
        good=5.0,
        learned=3.2,
        failed=2.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=1.5e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="MinAtar-SpaceInvaders",
        group="discrete",
        why="it is learned all the time and never to the end, while the game gets harder within an episode",
        make=minatar("MinAtar-SpaceInvaders", "space_invaders"),
        random=4.2,
        good=15.0,
        learned=10.7,
        failed=8.0,
        critic_floor=None,
        shortest=200,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=1.5e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="InvertedDoublePendulum-v5",
        group="continuous",
        why="the return stands at a twentieth for a hundred updates, rises twentyfold, and falls far for a while",
        make=mujoco("InvertedDoublePendulum-v5"),
        random=46.7,
        good=7000.0,
        learned=4200.0,
        failed=2480.0,
        critic_floor=None,
        shortest=250,
        longest=900,
        hyper=Hyper(
            num_envs=16,
            rollout_steps=16,
            epochs=6,
            learning_rate=3e-3,
            gamma=0.98,
            scale_rewards=True,
            normalize_observations=True,
        ),
    ),
    Task(
        name="Hopper-v5",
        group="continuous",
        why="a leap that ends in a fall after 150 steps pays 380, and is a local optimum to which sound runs come back",
        make=mujoco("Hopper-v5"),
        random=18.0,
        good=650.0,
        learned=400.0,
        failed=240.0,
        critic_floor=None,
        shortest=200,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, learning_rate=2e-3, scale_rewards=True, normalize_observations=True),
    ),
    Task(
        name="MountainCarContinuous-v0",
        group="continuous",
        why="the goal is found at once, and some sound runs lose it for good: full thrust to no end pays −99",
        make=_mountain_car,
        random=-33.4,
        good=93.0,
        learned=43.0,
        failed=11.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, learning_rate=1e-3, scale_rewards=True, normalize_observations=True),
    ),
    Task(
        name="MiniGrid-DoorKey-5x5",
        group="discrete",
        why="the return is 0 or nearly for a hundred updates: a key, a door and the goal must come in this order",
        make=minigrid("MiniGrid-DoorKey-5x5-v0"),
        random=0.04,
        good=0.96,
        learned=0.59,
        failed=0.36,
        critic_floor=None,
        shortest=200,
        longest=900,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=1.5e-3, gamma=0.97, entropy_coef=0.02),
    ),
    Task(
        name="Docking",
        group="discrete",
        why="an action has two parts, encoded as one; the return is a difference of distances, known beforehand",
        make=third_tiny_envs.Docking,
        random=-7.4,
        good=7.3,
        learned=1.4,
        failed=-2.3,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=1e-3, gamma=0.97),
    ),
    Task(
        name="Veins",
        group="toy",
        why="returns have two modes, 20 and 200, for good, so the mean of an update leaps",
        make=third_tiny_envs.Veins,
        random=27.1,
        good=110.0,
        learned=77.0,
        failed=56.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=7e-4, gamma=0.9, scale_rewards=True),
    ),
)
"""Environments that are in the fresh runs of the third plan alone."""
