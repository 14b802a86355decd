"""The plan of runs whose rollouts are as large as most trainers have them: 2,048 or 4,096 steps, of 10 epochs.

    python notebooks/benchmark/large_plan.py          # prints what is planned, by environment, trainer and kind

The other plans have rollouts of 200 to 1,000 steps, so that many updates take little time. Stable-Baselines3 collects
2,048 steps by default, CleanRL's continuous script too, and massively parallel simulators many more: what takes a run
of the other plans for seventy updates is over in ten. These runs are on known environments, broken in known ways, and
rules may be made with them.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import polars as pl

from benchmark.environments import Task
from benchmark.faults import TRAINERS
from benchmark.fresh_environments import EVERY_TASK
from benchmark.fresh_faults import EVERY_KIND
from benchmark.hyper import Hyper
from benchmark.plan import SOUND, Batch, Entry, summary

LARGE = "large"
"""Folder of their batches."""

TASKS = (
    "CartPole-v1",
    "Acrobot-v1",
    "InvertedPendulum-v5",
    "Reacher-v5",
    "LunarLander-v3",
    "FrozenLakeSlippery",
    "Racetrack",
    "ConnectFour",
    "Elevator",
)
"""The environments, each with one of the trainers in turn."""

KINDS = (
    "advantages-half-flipped",
    "advantages-noise",
    "critic-constant",
    "critic-frozen",
    "envs-desynchronised",
    "log-probs-stale",
    "next-action-stored",
    "observations-sorted",
    "observations-zero",
    "policy-reset",
    "rate-jumps",
    "returns-shuffled",
    "rewards-of-last-episode",
    "rlm-ilf",
    "rlm-msu",
    "softmax-over-batch",
    "steps-of-random-sign",
    "values-exchanged",
    "weights-clipped",
)
"""Kinds that break most runs."""

SOUND_RUNS, BROKEN_RUNS = 4, 4
"""Of each environment; sound ones are as long as any broken one, so that each has a control of its age."""

SOUND_UPDATES, BROKEN_UPDATES, LATER_UPDATES = (110, 140), (70, 100), (100, 120)
"""Least and most updates: of sound runs, of those that are broken from the start, and of those that break later."""

LATER_SHARE = (0.4, 0.55)
"""Where in its course a run breaks that breaks later."""

FIRST_RUN, FIRST_SEED = 20_000, 2**30


def draw_hyper(task: Task, trainer: str, rng: random.Random) -> Hyper:
    """Hyper-parameters near the defaults of Stable-Baselines3, or of CleanRL's scripts for `trainer` "cleanrl"."""
    num_envs, rollout_steps = rng.choice(((1, 2048), (4, 512), (8, 256), (8, 512)))
    samples = num_envs * rollout_steps
    return Hyper(
        num_envs=num_envs,
        rollout_steps=rollout_steps,
        epochs=rng.choice((10, 10, 5)),
        minibatches=rng.choice((32, samples // 256)),
        learning_rate=rng.choice((3e-4, 3e-4, 3e-4, 1e-3)),
        anneal=rng.random() < {"ours": 0.5, "sb3": 0.2, "cleanrl": 0.8}[trainer],
        entropy_coef=rng.choice((0.0, 0.0, 0.01)),
        value_clip=0.2 if trainer == "cleanrl" else None,
        scale_rewards=rng.random() < {"ours": 0.8, "sb3": 0.2, "cleanrl": 0.4}[trainer],
        normalize_observations=task.hyper.normalize_observations,
        hidden=64,
    )


def make_large_plan() -> tuple[Entry, ...]:
    """Every run, one environment after another."""
    rng = random.Random("the plan of large rollouts")
    entries: list[Entry] = []
    for number, name in enumerate(TASKS):
        task, trainer = EVERY_TASK[name], TRAINERS[number % len(TRAINERS)]
        kinds = rng.sample([kind for kind in KINDS if trainer in EVERY_KIND[kind].trainers], BROKEN_RUNS)
        for kind in (*[SOUND] * SOUND_RUNS, *kinds):
            updates, begins, hyper = rng.randint(*SOUND_UPDATES), 0, draw_hyper(task, trainer, rng)
            if kind != SOUND:
                broken = EVERY_KIND[kind]
                hyper = broken().change_hyper(hyper)
                is_later = broken.begins == "later" or (broken.begins == "either" and rng.random() < 0.5)
                updates = rng.randint(*(LATER_UPDATES if is_later else BROKEN_UPDATES))
                begins = round(updates * rng.uniform(*LATER_SHARE)) if is_later else 0
            entries.append(
                Entry(
                    run=FIRST_RUN + len(entries),
                    trainer=trainer,
                    env=name,
                    kind=kind,
                    part="main",
                    seed=FIRST_SEED + rng.randrange(FIRST_SEED),
                    updates=updates,
                    begins=begins,
                    strength=1.0,
                    hyper=hyper,
                    is_held_back=False,
                )
            )
    return tuple(entries)


def make_large_batches() -> tuple[Batch, ...]:
    """The runs in batches of one environment each: a half that is sound, and one that is not."""
    entries, size = make_large_plan(), SOUND_RUNS
    return tuple(Batch(LARGE, at // size, entries[at : at + size]) for at in range(0, len(entries), size))


def main() -> None:
    """Print the plan."""
    entries = make_large_plan()
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(summary(entries))
    print(f"{len(entries)} runs, {sum(entry.updates for entry in entries):,} updates")


if __name__ == "__main__":
    main()
