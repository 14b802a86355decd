"""The environments of the eighth plan of fresh runs.

`environments` says what the bounds are. They were measured on short sound runs, with seeds of no plan, of which
nothing was judged. Where sound runs reach only a part of what can be had, `good` is what they reach.
"""

from __future__ import annotations

from benchmark import eighth_tiny_envs
from benchmark.environments import Task
from benchmark.hyper import Hyper

EIGHTH_TASKS = (
    Task(
        name="Racetrack",
        group="discrete",
        why="nearly all episodes are cut off at −6 at first, and after forty updates chance moves returns by a tenth",
        make=eighth_tiny_envs.Racetrack,
        random=-4.9,
        good=2.3,
        learned=-0.6,
        failed=-2.4,
        critic_floor=0.2,
        shortest=60,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=24, epochs=3, learning_rate=2e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="ConnectFour",
        group="discrete",
        why="a return is −1 or 1, hardly ever 0, and sound runs still lose one game of three or four",
        make=eighth_tiny_envs.ConnectFour,
        random=-0.77,
        good=0.5,
        learned=0.0,
        failed=-0.33,
        critic_floor=0.1,
        shortest=100,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=24, epochs=3, learning_rate=3e-3, gamma=0.98, entropy_coef=0.01),
    ),
    Task(
        name="Copying",
        group="discrete",
        why="solved, a return is 5 to 20 by the length of a tape that nobody sees, and the critic explains nothing",
        make=eighth_tiny_envs.Copying,
        random=0.32,
        good=12.5,
        learned=7.6,
        failed=4.6,
        critic_floor=None,
        shortest=60,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=20, epochs=3, learning_rate=2e-3, gamma=0.95, entropy_coef=0.01),
    ),
    Task(
        name="Elevator",
        group="discrete",
        why="all episodes end together, three updates apart, and some runs stand at −7 for eighty updates",
        make=eighth_tiny_envs.Elevator,
        random=-7.1,
        good=-3.0,
        learned=-4.6,
        failed=-5.7,
        critic_floor=0.1,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=20, epochs=3, learning_rate=3e-3, gamma=0.95, entropy_coef=0.01),
    ),
    Task(
        name="WindyGrid",
        group="discrete",
        why="nearly all episodes are cut off at first; solved, wind leaves a critic a sixth of returns to explain",
        make=eighth_tiny_envs.WindyGrid,
        random=-9.85,
        good=-1.3,
        learned=-4.7,
        failed=-6.9,
        critic_floor=None,
        shortest=100,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=24, epochs=3, learning_rate=2e-3, gamma=0.98, entropy_coef=0.01),
    ),
    Task(
        name="BitFlip",
        group="discrete",
        why="returns stand at −1.1 for forty updates, all is learned in sixty more; then a critic explains 0.8 and more",
        make=eighth_tiny_envs.BitFlip,
        random=-1.1,
        good=0.82,
        learned=0.05,
        failed=-0.42,
        critic_floor=0.2,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=24, epochs=3, learning_rate=4e-3, gamma=0.9, entropy_coef=0.02),
    ),
)
"""Environments that are in the fresh runs of the eighth plan alone."""
