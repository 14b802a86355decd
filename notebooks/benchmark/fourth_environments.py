"""The environments of the fourth plan of fresh runs: walkers, a lander and an arm, a ball, a lake, and two of our own.

`environments` says what the bounds are. They were measured on some thirty short sound runs, with seeds of no plan, of
which nothing was judged. Where sound runs reach only a part of what can be had, `good` is what they reach.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from benchmark import fourth_tiny_envs
from benchmark.environments import OneHot, Task
from benchmark.hyper import Hyper
from benchmark.packaged_environments import babyai, box2d, mujoco


def _lake() -> gymnasium.Env[Any, Any]:
    return OneHot(gymnasium.make("FrozenLake8x8-v1", is_slippery=False, disable_env_checker=True))


FOURTH_TASKS = (
    Task(
        name="HalfCheetah-v5",
        group="continuous",
        why="nothing ends an episode but its 1,000 steps: a return is measured in one update of thirty",
        make=mujoco("HalfCheetah-v5"),
        random=-292.0,
        good=900.0,
        learned=425.0,
        failed=125.0,
        critic_floor=None,
        shortest=200,
        longest=900,
        hyper=Hyper(
            num_envs=16,
            minibatches=4,
            learning_rate=2e-3,
            gamma=0.98,
            scale_rewards=True,
            normalize_observations=True,
        ),
    ),
    Task(
        name="Walker2d-v5",
        group="continuous",
        why="the return rises from 2 to 300 within a hundred updates, and by little for hundreds after",
        make=mujoco("Walker2d-v5"),
        random=2.3,
        good=450.0,
        learned=270.0,
        failed=160.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, learning_rate=2e-3, scale_rewards=True, normalize_observations=True),
    ),
    Task(
        name="Pusher-v5",
        group="continuous",
        why="all rewards are negative, seven joints act at once, and all episodes end together, six updates apart",
        make=mujoco("Pusher-v5"),
        random=-120.0,  # of a policy that has learned nothing; actions that are drawn evenly earn −150
        good=-45.0,
        learned=-75.0,
        failed=-94.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(
            num_envs=16,
            rollout_steps=16,
            learning_rate=2e-3,
            gamma=0.95,
            scale_rewards=True,
            normalize_observations=True,
        ),
    ),
    Task(
        name="BipedalWalker-v3",
        group="continuous",
        why="who falls pays 100, and a walk has up to 1,600 steps: returns are rare, and more so when they are good",
        make=box2d("BipedalWalker-v3"),
        random=-99.4,
        good=120.0,
        learned=32.0,
        failed=-22.0,
        critic_floor=None,
        shortest=250,
        longest=900,
        hyper=Hyper(num_envs=16, minibatches=4, learning_rate=2e-3, scale_rewards=True, normalize_observations=True),
    ),
    Task(
        name="LunarLanderContinuous-v3",
        group="continuous",
        why="returns of one update are hundreds apart, and sound runs lose a hundred for a while",
        make=box2d("LunarLanderContinuous-v3"),
        random=-191.0,
        good=60.0,
        learned=-40.0,
        failed=-103.0,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(rollout_steps=64, minibatches=4, learning_rate=8e-4, gamma=0.999, gae_lambda=0.98),
    ),
    Task(
        name="BabyAI-GoToRedBallGrey",
        group="discrete",
        why="seven grey things are in the way, and the return rises by a thousandth with each update",
        make=babyai("BabyAI-GoToRedBallGrey-v0"),
        random=0.127,
        good=0.6,
        learned=0.41,
        failed=0.29,
        critic_floor=None,
        shortest=200,
        longest=900,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=1.5e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="FrozenLake8x8",
        group="toy",
        why="the return is exactly 0 until chance has found the goal, which some sound runs never do",
        make=_lake,
        random=0.0,
        good=1.0,
        learned=0.6,
        failed=0.35,
        critic_floor=None,
        shortest=200,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=2e-3, gamma=0.97, entropy_coef=0.01),
    ),
    Task(
        name="Syllabus",
        group="discrete",
        why="a curriculum: whenever the return is good, the task is made harder and the return falls",
        make=fourth_tiny_envs.Syllabus,
        random=3.4,
        good=14.0,
        learned=9.8,
        failed=7.1,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=1.5e-3, gamma=0.9),
    ),
    Task(
        name="Answers",
        group="discrete",
        why="the return is a noisy probability, as of answers that a judge marks, and an episode has six steps",
        make=fourth_tiny_envs.Answers,
        random=0.083,
        good=0.6,
        learned=0.39,
        failed=0.26,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=1e-3, entropy_coef=0.003),
    ),
)
"""Environments that are in the fresh runs of the fourth plan alone."""
