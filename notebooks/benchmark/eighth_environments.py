"""The environments of the eighth plan of fresh runs, of which `environments` says what the bounds are.

They were measured on short sound runs, with seeds of no plan, of which nothing was judged: `good` is what they reach.
"""

from __future__ import annotations

from benchmark import eighth_control_envs
from benchmark.environments import Task
from benchmark.hyper import Hyper

EIGHTH_TASKS = (
    Task(
        name="Reactor",
        group="continuous",
        why="the cost falls to a sixth in forty updates, as episodes no longer run away, and creeps down from there",
        make=eighth_control_envs.Reactor,
        random=-54.4,
        good=-5.9,
        learned=-25.0,
        failed=-37.0,
        critic_floor=0.1,
        shortest=60,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=2e-3, gamma=0.95),
    ),
    Task(
        name="Attitude",
        group="continuous",
        why="how long it stands at the start is from twenty to a hundred updates; sound critics explain 0.01 to 0.96",
        make=eighth_control_envs.Attitude,
        random=-38.6,
        good=-3.9,
        learned=-18.0,
        failed=-26.5,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=16, epochs=3, learning_rate=2e-3, gamma=0.95),
    ),
    Task(
        name="PuddleWorld",
        group="continuous",
        why="who walks better walks for a sixth of the steps, so that an update has six times as many returns",
        make=eighth_control_envs.PuddleWorld,
        random=-19.6,
        good=-2.0,
        learned=-9.0,
        failed=-13.4,
        critic_floor=0.2,
        shortest=60,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=20, epochs=3, learning_rate=2e-3, gamma=0.97),
    ),
    Task(
        name="Queues",
        group="discrete",
        why="all episodes end together, five updates apart, and a learned return varies by a quarter by chance alone",
        make=eighth_control_envs.Queues,
        random=-59.1,
        good=-20.0,
        learned=-36.0,
        failed=-45.0,
        critic_floor=None,
        shortest=60,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=20, epochs=2, learning_rate=2e-3, gamma=0.95),
    ),
    Task(
        name="Sailing",
        group="continuous",
        why="returns are below 0 at first, and stand near 0 where a boat is no longer lost and does not arrive",
        make=eighth_control_envs.Sailing,
        random=-3.3,
        good=3.55,
        learned=0.8,
        failed=-0.9,
        critic_floor=0.2,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=20, epochs=3, learning_rate=2e-3, gamma=0.97),
    ),
    Task(
        name="Feeding",
        group="continuous",
        why="the return stands still for ten to eighty updates, and once it is learned most rewards are 0",
        make=eighth_control_envs.Feeding,
        random=-44.2,
        good=-2.25,
        learned=-19.0,
        failed=-29.5,
        critic_floor=None,
        shortest=150,
        longest=1080,
        hyper=Hyper(num_envs=16, rollout_steps=20, epochs=3, learning_rate=3e-3, gamma=0.95),
    ),
)
"""Environments that are in the fresh runs of the eighth plan alone."""
