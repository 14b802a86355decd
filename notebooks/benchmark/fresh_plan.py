"""The plan of the fresh runs, which judge rules once: drawn with a fixed seed, before the first one is trained.

    python notebooks/benchmark/fresh_plan.py          # prints what is planned, by environment, trainer and kind

They are on environments, and broken in ways, that were in no run when a rule was made. Known kinds on these
environments and the new kinds on known ones are among them, and RLMutation's operators with new seeds. The plan depends
on this file, `fresh_environments.py`, `fresh_faults.py` and on what it takes from `plan.py`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import polars as pl

from benchmark.environments import Task
from benchmark.faults import STRENGTHS, TRAINERS
from benchmark.fresh_environments import EVERY_TASK, FRESH_TASKS
from benchmark.fresh_faults import EVERY_KIND, FRESH_KINDS
from benchmark.hyper import Hyper
from benchmark.plan import (
    LONG_SHARE,
    RLMUTATION_HYPER,
    RLMUTATION_UPDATES,
    SOUND,
    Batch,
    Drawn,
    Entry,
    broken_length,
    draw_hyper,
    sound_length,
    summary,
)

FIRST_LOT, SECOND_LOT, THIRD_LOT = LOTS = ("fresh", "fresh_2", "fresh_3")
"""Folders of the samples, the oldest first. A lot judges the rules once; if a rule changes for what it showed, the
batches that nobody has looked at are the next lot."""

FIRST_LOT_BATCHES = frozenset({*range(11), *range(14, 21), 24, *range(27, 36)})
"""Numbers of the batches of the first lot: those that were sampled when two rules changed for what they showed."""

SECOND_LOT_BATCHES = frozenset({*range(11, 14), *range(21, 24), 25})
"""Those of the second lot, which judged the rules before warnings, health and falls were judged anew."""

FIRST_RUN = 1000
"""Number of the first run; those of `plan` are smaller."""

SOUND_RUNS, KNOWN_SOUND_RUNS = 6, 2
"""Sound runs of each trainer on each new and on each known environment."""

SHORT_UPDATES, BROKEN_UPDATES = 220, 250
"""Sound runs that are not long, and broken ones, have at most so many updates."""

EARLY = 0.7
"""Sound runs of new environments are done after this share of the plan, since others are labelled beside them."""

KNOWN_TASKS = ("SparseCorridor", "Upright", "Reach", "TinyRegulator", "FrozenLake", "CliffWalking", "ContextualBandit")
"""Known environments whose updates take least."""

KNOWN_KINDS = (
    "advantages-noise",
    "advantages-zero",
    "clip-zero",
    "critic-explodes",
    "critic-rate-low",
    "ends-ignored",
    "envs-desynchronised",
    "log-probs-stale",
    "nan-in-returns",
    "observations-nan",
    "policy-reset",
    "rate-jumps",
    "rewards-delayed",
    "rewards-negated",
    "rewards-stop",
    "rlm-ilf",
    "rlm-msu",
    "rlm-nr",
    "rlm-pac",
    "rlm-poc",
    "rlm-ra",
    "weights-noisy",
)
"""Kinds that broke at least half of their runs in the batches, by their labels: others leave few broken runs."""

FRESH_KIND_RUNS, KNOWN_KIND_RUNS = (4, 2), 3
"""Runs of each new kind on new and on known environments, and of each known kind on new ones."""

RLMUTATION_SEEDS = 2
"""New seeds of each of RLMutation's operators; three times as many are sound."""

BATCH_UPDATES = 1200
"""A batch is full when its runs have so many updates, so that little is lost where sampling is cut off."""


def fresh_hyper(task: Task, trainer: str, rng: random.Random, *, is_long: bool = False) -> Hyper:
    """As `draw_hyper`, with the small rollouts of the new environments, and few minibatches where a run is long."""
    hyper = draw_hyper(task, trainer, rng)
    if task in FRESH_TASKS:
        hyper = replace(hyper, num_envs=16, rollout_steps=16 if hyper.rollout_steps > 16 else 8)
    else:
        hyper = replace(hyper, num_envs=16, rollout_steps=16)
    if is_long:
        hyper = replace(hyper, epochs=2, minibatches=1)
    return replace(hyper, anneal=hyper.anneal and task.hyper.anneal)


def _entry(task: Task, trainer: str, kind: str, rng: random.Random, updates: int, begins: int, hyper: Hyper) -> Entry:
    return Entry(
        run=0,
        trainer=trainer,
        env=task.name,
        kind=kind,
        part="main",
        seed=0,
        updates=updates,
        begins=begins,
        strength=rng.choice(STRENGTHS.get(kind, (1.0,))),
        hyper=hyper,
        is_held_back=True,
    )


def _sound(rng: random.Random) -> Iterator[Drawn]:
    known = [EVERY_TASK[name] for name in KNOWN_TASKS]
    cells = [(task, trainer) for task in (*FRESH_TASKS, *known) for trainer in TRAINERS]
    for cell, (task, trainer) in enumerate(cells):
        is_new = task in FRESH_TASKS
        runs = SOUND_RUNS if is_new else KNOWN_SOUND_RUNS
        for index in range(runs):
            is_long = is_new and (index + cell) % LONG_SHARE == 0
            updates = sound_length(task, rng, is_long=is_long, at_most=SHORT_UPDATES)
            hyper = fresh_hyper(task, trainer, rng, is_long=is_long)
            place = (index + rng.random()) / runs * (EARLY if is_new and not is_long else 1.0)
            yield place, _entry(task, trainer, SOUND, rng, updates, 0, hyper)


def _broken(rng: random.Random) -> Iterator[Drawn]:
    known = [EVERY_TASK[name] for name in KNOWN_TASKS]
    for name in (*FRESH_KINDS, *KNOWN_KINDS):
        kind = EVERY_KIND[name]
        if name in FRESH_KINDS:
            new, old = FRESH_KIND_RUNS
            tasks = rng.sample(FRESH_TASKS, new) + rng.sample(known, old)
        else:
            tasks = rng.sample(FRESH_TASKS, KNOWN_KIND_RUNS)
        rng.shuffle(tasks)
        first = rng.randrange(len(kind.trainers))
        for index, task in enumerate(tasks):
            trainer = kind.trainers[(first + index) % len(kind.trainers)]
            is_later = kind.begins == "later" or (kind.begins == "either" and index % 2 == 1)
            updates, begins = broken_length(task, rng, is_later=is_later, at_most=BROKEN_UPDATES)
            hyper = kind().change_hyper(fresh_hyper(task, trainer, rng))
            yield (index + rng.random()) / len(tasks), _entry(task, trainer, name, rng, updates, begins, hyper)


def _rlmutation(rng: random.Random) -> Iterator[Drawn]:
    task = EVERY_TASK["CartPole-v1"]
    for name in (SOUND, *(name for name in EVERY_KIND if name.startswith("rlm-"))):
        hyper = RLMUTATION_HYPER if name == SOUND else EVERY_KIND[name]().change_hyper(RLMUTATION_HYPER)
        runs = RLMUTATION_SEEDS * (3 if name == SOUND else 1)
        strengths = STRENGTHS.get(name, (1.0,))
        for index in range(runs):
            entry = _entry(task, "sb3", name, rng, RLMUTATION_UPDATES, 0, hyper)
            yield (
                (index + rng.random()) / runs,
                replace(entry, part="rlmutation", strength=strengths[-1 - index % len(strengths)]),
            )


def make_fresh_plan() -> tuple[Entry, ...]:
    """Every fresh run, in the order in which to sample them: any beginning of it holds some of everything."""
    rng = random.Random("the fresh runs of the benchmark")
    drawn = sorted([*_sound(rng), *_broken(rng), *_rlmutation(rng)], key=lambda pair: pair[0])
    seeds = rng.sample(range(2**20, 2**21), len(drawn))
    return tuple(replace(entry, run=FIRST_RUN + number, seed=seeds[number]) for number, (_, entry) in enumerate(drawn))


def make_fresh_batches() -> tuple[Batch, ...]:
    """The runs of the plan in batches, each of one lot."""
    batches: list[Batch] = []
    filling: list[Entry] = []
    for entry in (plan := make_fresh_plan()):
        filling.append(entry)
        if sum(there.updates for there in filling) >= BATCH_UPDATES or entry is plan[-1]:
            batches.append(Batch(_lot_of(len(batches)), len(batches), tuple(filling)))
            filling = []
    return tuple(batches)


def _lot_of(batch: int) -> str:
    if batch in FIRST_LOT_BATCHES:
        return FIRST_LOT
    return SECOND_LOT if batch in SECOND_LOT_BATCHES else THIRD_LOT


def main() -> None:
    """Print the plan."""
    plan = make_fresh_plan()
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(summary(plan))
    print(f"{len(plan)} runs, {sum(entry.updates for entry in plan):,} updates, {len(make_fresh_batches())} batches")


if __name__ == "__main__":
    main()
