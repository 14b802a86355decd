"""The plan of the benchmark: every run is drawn beforehand, with a fixed seed, before the first one is trained.

    python notebooks/benchmark/plan.py          # prints what is planned, by environment, trainer and kind

The plan depends on this file, `environments.py` and `faults/` alone. Runs come in an order in which sampling that
is cut off early holds some of everything.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import polars as pl

from benchmark.environments import TASKS, Task
from benchmark.faults import KINDS, STRENGTHS, TRAINERS, Fault
from benchmark.fresh_environments import EVERY_TASK
from benchmark.fresh_faults import EVERY_KIND
from benchmark.hyper import Hyper

SOUND = Fault.name

SOUND_RUNS = 10
"""Sound runs of each environment and trainer, times the weight of the environment."""

LONG_SHARE = 4
"""Every fourth sound run has more than 1,000 updates, where its environment allows that."""

SHORT_UPDATES = 500
"""All other sound runs have at most so many updates."""

BROKEN_RUNS = 8
"""Runs of each kind, each on another environment, on its trainers in turn."""

BROKEN_UPDATES = 400
"""Broken runs have at most so many updates, those that break on their way a third more."""

RLMUTATION_SEEDS = 3
"""Runs of each of RLMutation's operators on CartPole-v1 with SB3, as the paper has them; twice as many are sound."""

RLMUTATION_HYPER = Hyper(
    num_envs=8,
    rollout_steps=32,
    epochs=20,
    minibatches=1,
    learning_rate=1e-3,
    gamma=0.98,
    gae_lambda=0.8,
    hidden=64,
)
"""The hyper-parameters that SB3's own collection has for CartPole-v1."""

RLMUTATION_UPDATES = 300
"""76,800 steps; sound runs reach 500 within half of them."""

BATCH_UPDATES = 5000
"""A batch is full when its runs have so many updates: some two minutes of one core."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One planned run.

    Attributes:
        run: Its number, in the order of the plan.
        trainer: "ours", "sb3" or "cleanrl".
        env: Name of the environment.
        kind: Kind of fault, or "sound".
        part: "main", or "rlmutation" for the operators of RLMutation as the paper has them.
        begins: First broken update; 0 where all are, or none is.
        strength: Of the fault, where it has one.
        is_held_back: Whether the run belongs to what is held back.
    """

    run: int
    trainer: str
    env: str
    kind: str
    part: str
    seed: int
    updates: int
    begins: int
    strength: float
    hyper: Hyper
    is_held_back: bool

    @property
    def task(self) -> Task:
        """The environment."""
        return EVERY_TASK[self.env]

    @property
    def name(self) -> str:
        """Name of the run."""
        return f"{self.run:04d}-{self.kind}-{self.env}-{self.trainer}"

    def fault(self) -> Fault:
        """The fault of the run, new."""
        kind = Fault if self.kind == SOUND else EVERY_KIND[self.kind]
        return kind(seed=self.seed, strength=self.strength)

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain values, its name among them; of the hyper-parameters those that are not the default."""
        default = asdict(Hyper())
        hyper = {name: value for name, value in asdict(self.hyper).items() if value != default[name]}
        return {"name": self.name} | asdict(self) | {"hyper": hyper}


# ---------------------------------------------------------------------- what is held back


def held_back() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the environments and of the kinds that are held back.

    One environment of each group, and two kinds of each area. CartPole-v1 is left out of the draw, since rules have
    been tuned on it before, and so are RLMutation's operators, whose outcomes are published.
    """
    rng = random.Random("held back")
    environments = [
        rng.choice([task.name for task in TASKS if task.group == group and task.name != "CartPole-v1"])
        for group in ("discrete", "continuous", "toy")
    ]
    kinds = [
        name
        for area in ("critic", "policy", "data")
        for name in rng.sample([n for n, kind in KINDS.items() if kind.area == area and not n.startswith("rlm-")], 2)
    ]
    return tuple(environments), tuple(kinds)


HELD_BACK_ENVIRONMENTS, HELD_BACK_KINDS = held_back()


# ---------------------------------------------------------------------- what varies from run to run


def draw_hyper(task: Task, trainer: str, rng: random.Random) -> Hyper:
    """Hyper-parameters that a person could have chosen for a sound run of `trainer` on `task`."""
    base = task.hyper
    doubled = 2 if rng.random() < 0.05 else 1
    num_envs = rng.choice((8, 16, 16)) if base.rollout_steps <= 32 else 8
    scales = {"ours": 0.85, "sb3": 0.2, "cleanrl": 0.2}[trainer]
    if task.hyper.scale_rewards:
        scales = {"ours": 1.0, "sb3": 0.8, "cleanrl": 1.0}[trainer]
    value_clips: Sequence[float | None] = {
        "ours": (10.0, 10.0, 0.5, None),
        "sb3": (None, None, None, 0.2),
        "cleanrl": (0.2, 0.2, 0.2, None),
    }[trainer]
    return replace(
        base,
        num_envs=num_envs,
        rollout_steps=max(16, doubled * base.samples // num_envs),
        epochs=max(2, base.epochs + rng.choice((-1, 0, 0, 1))),
        minibatches=rng.choice((base.minibatches, base.minibatches, max(2, base.minibatches // 2))),
        learning_rate=base.learning_rate * rng.choice((0.6, 0.8, 1.0, 1.0, 1.3)),
        anneal=rng.random() < {"ours": 0.7, "sb3": 0.3, "cleanrl": 0.8}[trainer],
        gamma=rng.choice((base.gamma, base.gamma, 1 - (1 - base.gamma) * 0.7, 1 - (1 - base.gamma) * 1.4)),
        gae_lambda=rng.choice((base.gae_lambda, base.gae_lambda, 0.9, 0.98)),
        clip_range=rng.choice((0.2, 0.2, 0.2, 0.1, 0.3)),
        entropy_coef=rng.choice((base.entropy_coef, base.entropy_coef, 0.003, 0.01)),
        vf_coef=rng.choice((0.5, 0.5, 0.5, 1.0, 0.25)),
        value_clip=rng.choice(value_clips),
        target_kl=rng.choice((None, None, None, None, 0.03)),
        scale_rewards=rng.random() < scales,
        normalize_observations=base.normalize_observations or rng.random() < 0.15,
        hidden=rng.choice((32, 32, 64)),
    )


def _log_uniform(rng: random.Random, low: float, high: float) -> int:
    share: float = rng.random()
    return round(math.exp(math.log(low) + share * math.log(high / low)))


def sound_length(
    task: Task, rng: random.Random, *, is_long: bool, at_least: int = 40, at_most: int = SHORT_UPDATES
) -> int:
    """Updates of a sound run, log-uniform, `at_most` unless it is long. The shortest end before they have learned."""
    if is_long and task.longest > 1000:
        return _log_uniform(rng, 1001, task.longest)
    return _log_uniform(rng, max(at_least, task.shortest // 2), at_most)


def broken_length(
    task: Task, rng: random.Random, *, is_later: bool, at_most: int = BROKEN_UPDATES, left: int = 0
) -> tuple[int, int]:
    """Updates of a broken run, log-uniform, and the first broken one, after which at least `left` are left.

    What breaks later has learned before.
    """
    if not is_later:
        return _log_uniform(rng, max(left, task.shortest), at_most), 0
    shortest = max(2 * task.shortest, task.shortest + left)
    updates = _log_uniform(rng, shortest, max(at_most * 4 / 3, 2.5 * task.shortest))
    return updates, min(round(updates * rng.uniform(0.5, 0.75)), updates - left)


# ---------------------------------------------------------------------- the plan

Drawn = tuple[float, Entry]
"""Where in the plan a run comes, from 0 to 1, and the run."""


def _entry(task: Task, trainer: str, kind: str, rng: random.Random, **more: Any) -> Entry:
    drawn: dict[str, Any] = {
        "run": 0,
        "trainer": trainer,
        "env": task.name,
        "kind": kind,
        "part": "main",
        "seed": 0,
        "begins": 0,
        "strength": rng.choice(STRENGTHS.get(kind, (1.0,))),
        "is_held_back": task.name in HELD_BACK_ENVIRONMENTS or kind in HELD_BACK_KINDS,
    }
    return Entry(**(drawn | more))


def _sound(rng: random.Random) -> Iterator[Drawn]:
    cells = [(task, trainer) for task in TASKS for trainer in TRAINERS]
    for cell, (task, trainer) in enumerate(cells):
        runs = round(SOUND_RUNS * task.runs)
        for index in range(runs):
            updates = sound_length(task, rng, is_long=(index + cell) % LONG_SHARE == 0)
            hyper = draw_hyper(task, trainer, rng)
            yield (index + rng.random()) / runs, _entry(task, trainer, SOUND, rng, updates=updates, hyper=hyper)


def _tasks_for(kind: type[Fault], rng: random.Random) -> list[Task]:
    """The environments of the runs of one kind, one on which its area is hardly of use among them."""
    useful = [task for task in TASKS if kind.area != "critic" or task.critic_floor is not None]
    useful = [task for task in useful if task.learned is not None]
    chosen = _draw(useful, min(len(useful), BROKEN_RUNS - 1), rng)
    return chosen + _draw([task for task in TASKS if task not in chosen], BROKEN_RUNS - len(chosen), rng)


def _draw(tasks: Sequence[Task], count: int, rng: random.Random) -> list[Task]:
    """Different environments, each by its weight (Efraimidis and Spirakis 2006)."""
    return sorted(tasks, key=lambda task: rng.random() ** (1 / task.runs), reverse=True)[:count]


def _broken(rng: random.Random) -> Iterator[Drawn]:
    for kind in KINDS.values():
        first = rng.randrange(len(kind.trainers))
        for index, task in enumerate(_tasks_for(kind, rng)):
            trainer = kind.trainers[(first + index) % len(kind.trainers)]
            is_later = kind.begins == "later" or (kind.begins == "either" and index % 2 == 1)
            updates, begins = broken_length(task, rng, is_later=is_later)
            hyper = kind().change_hyper(draw_hyper(task, trainer, rng))
            more = {"updates": updates, "begins": begins, "hyper": hyper}
            yield (index + rng.random()) / BROKEN_RUNS, _entry(task, trainer, kind.name, rng, **more)


def _rlmutation(rng: random.Random) -> Iterator[Drawn]:
    task = EVERY_TASK["CartPole-v1"]
    for name in (SOUND, *(name for name in KINDS if name.startswith("rlm-"))):
        hyper = RLMUTATION_HYPER if name == SOUND else KINDS[name]().change_hyper(RLMUTATION_HYPER)
        runs = RLMUTATION_SEEDS * (2 if name == SOUND else 1)
        strengths = STRENGTHS.get(name, (1.0,))
        for index in range(runs):
            more = {"updates": RLMUTATION_UPDATES, "hyper": hyper, "strength": strengths[-1 - index % len(strengths)]}
            yield (index + rng.random()) / runs, _entry(task, "sb3", name, rng, part="rlmutation", **more)


def make_plan() -> tuple[Entry, ...]:
    """Every run of the benchmark, in the order in which to sample them."""
    rng = random.Random("the plan of the benchmark")
    drawn = [*_sound(rng), *_broken(rng), *_rlmutation(rng)]
    drawn.sort(key=lambda pair: pair[0])
    seeds = rng.sample(range(1, 2**20), len(drawn))
    return tuple(replace(entry, run=number, seed=seeds[number]) for number, (_, entry) in enumerate(drawn))


@dataclass(frozen=True)
class Batch:
    """Runs that are sampled together and stored in one file: `folder/NNNN.parquet`."""

    folder: str
    number: int
    entries: tuple[Entry, ...]

    @property
    def updates(self) -> int:
        """Updates of all its runs."""
        return sum(entry.updates for entry in self.entries)


def make_batches(plan: Sequence[Entry]) -> tuple[Batch, ...]:
    """The runs of `plan` in batches, what is held back in batches of its own."""
    filling: dict[str, list[Entry]] = {"batches": [], "held_back": []}
    numbers = dict.fromkeys(filling, 0)
    batches: list[Batch] = []

    def close(folder: str) -> None:
        if filling[folder]:
            batches.append(Batch(folder, numbers[folder], tuple(filling[folder])))
            filling[folder], numbers[folder] = [], numbers[folder] + 1

    for entry in plan:
        folder = "held_back" if entry.is_held_back else "batches"
        filling[folder].append(entry)
        if sum(there.updates for there in filling[folder]) >= BATCH_UPDATES:
            close(folder)
    for folder in filling:
        close(folder)
    return tuple(batches)


def summary(plan: Sequence[Entry]) -> pl.DataFrame:
    """One row for each part, environment and trainer: runs and updates, sound and broken, and long sound runs."""
    rows = pl.DataFrame([entry.to_dict() for entry in plan], infer_schema_length=None)
    is_sound = pl.col("kind") == SOUND
    return (
        rows.group_by("part", "env", "trainer", "is_held_back")
        .agg(
            is_sound.sum().alias("sound"),
            (is_sound & (pl.col("updates") > 1000)).sum().alias("long"),
            (~is_sound).sum().alias("broken"),
            pl.col("updates").sum(),
        )
        .sort("part", "env", "trainer", "is_held_back")
    )


def main() -> None:
    """Print the plan."""
    plan = make_plan()
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(summary(plan))
    print(f"held back: {', '.join(HELD_BACK_ENVIRONMENTS)}; {', '.join(HELD_BACK_KINDS)}")
    print(f"{len(plan)} runs, {sum(entry.updates for entry in plan):,} updates, {len(make_batches(plan))} batches")


if __name__ == "__main__":
    main()
