"""The plans of the fresh runs, which judge rules once: drawn with fixed seeds, before the first one is trained.

    python notebooks/benchmark/fresh_plan.py          # prints what is planned, by environment, trainer and kind

They are on environments, and broken in ways, that were in no run when a rule was made. Known kinds on these
environments are among them, in the first plan also the new kinds on known environments, and RLMutation's operators with
new seeds. When the runs of one plan have changed a rule, the next plan has environments and kinds of its own.

The plans depend on this file, on the environments and faults of each (`fresh_environments.py` and `fresh_faults.py`,
`second_environments.py` and `second_faults.py`, and so on to `eighth_environments.py` and `eighth_faults.py`), and on
what they take from `plan.py`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import polars as pl

from benchmark.eighth_environments import EIGHTH_TASKS
from benchmark.eighth_faults import EIGHTH_KINDS
from benchmark.environments import Task
from benchmark.faults import STRENGTHS, TRAINERS
from benchmark.fifth_environments import FIFTH_TASKS
from benchmark.fifth_faults import FIFTH_KINDS
from benchmark.fourth_environments import FOURTH_TASKS
from benchmark.fourth_faults import FOURTH_KINDS
from benchmark.fresh_environments import EVERY_TASK, FIRST_TASKS
from benchmark.fresh_faults import EVERY_KIND, FIRST_KINDS
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
from benchmark.second_environments import SECOND_TASKS
from benchmark.second_faults import SECOND_KINDS
from benchmark.seventh_environments import SEVENTH_TASKS
from benchmark.seventh_faults import SEVENTH_KINDS
from benchmark.sixth_environments import SIXTH_TASKS
from benchmark.sixth_faults import SIXTH_KINDS
from benchmark.third_environments import THIRD_TASKS
from benchmark.third_faults import THIRD_KINDS

LOTS = ("fresh", *(f"fresh_{number}" for number in range(2, 11)))
"""Folders of the samples, the oldest first. A lot judges the rules once; if a rule changes for what it showed, the
batches that nobody has looked at are the next lot."""

FIRST_LOT, SECOND_LOT, THIRD_LOT, FOURTH_LOT, FIFTH_LOT = LOTS[:5]
SIXTH_LOT, SEVENTH_LOT, EIGHTH_LOT, NINTH_LOT, TENTH_LOT = LOTS[5:]

USED_UP = frozenset(LOTS) - {TENTH_LOT}
"""Lots that judged older rules: a rule was changed since, for what they showed or for another reason."""

EARLY = 0.7
"""Sound runs of new environments are done after this share of the plan, since others are labelled beside them."""

BATCH_UPDATES = 1200
"""A batch is full when its runs have so many updates, so that little is lost where sampling is cut off."""


@dataclass(frozen=True, kw_only=True, eq=False)  # a plan is itself alone
class FreshPlan:
    """What a plan of fresh runs is drawn from.

    Attributes:
        seed: Of all that is drawn.
        first_run, first_seed: Number of its first run, those of other plans being smaller; and the least seed of a run.
        tasks, kinds: Environments and names of kinds that are in no older part.
        known_tasks, known_kinds: Those that are, and are in this plan, too.
        sound_runs: Sound runs of each trainer on each new environment, and on each known one.
        kind_runs: Runs of each new kind on new environments, and on known ones.
        known_kind_runs: Runs of each known kind, on new environments.
        rlmutation_runs: Runs of each of RLMutation's operators on CartPole-v1, and sound ones.
        shortest, longest: Updates of a sound run that is not long.
        broken_longest: Most updates of a run that is broken from the start; one that breaks later has a third more.
        left: Least updates of a broken run, from the first broken one on.
        small_rollouts: Rollouts have 16 environments and 8 or 16 steps; else those of the environment.
        lot: Folder of its batches, but for those of `older_lots`, by number.
    """

    seed: str
    first_run: int
    first_seed: int
    tasks: Sequence[Task]
    kinds: Sequence[str]
    known_tasks: Sequence[str] = ()
    known_kinds: Sequence[str]
    sound_runs: tuple[int, int]
    kind_runs: tuple[int, int]
    known_kind_runs: int
    rlmutation_runs: tuple[int, int]
    shortest: int = 40
    longest: int
    broken_longest: int
    left: int = 0
    small_rollouts: bool = False
    lot: str
    older_lots: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def entries(self) -> tuple[Entry, ...]:
        """Every run, in the order in which to sample them: any beginning of it holds some of everything."""
        rng = random.Random(self.seed)
        drawn = sorted([*self._sound(rng), *self._broken(rng), *self._rlmutation(rng)], key=lambda pair: pair[0])
        seeds = rng.sample(range(self.first_seed, 2 * self.first_seed), len(drawn))
        return tuple(
            replace(entry, run=self.first_run + number, seed=seeds[number]) for number, (_, entry) in enumerate(drawn)
        )

    def batches(self) -> tuple[Batch, ...]:
        """The runs in batches, each of one lot."""
        batches: list[Batch] = []
        filling: list[Entry] = []
        for entry in (entries := self.entries()):
            filling.append(entry)
            if sum(there.updates for there in filling) >= BATCH_UPDATES or entry is entries[-1]:
                batches.append(Batch(self._lot_of(len(batches)), len(batches), tuple(filling)))
                filling = []
        return tuple(batches)

    def _lot_of(self, batch: int) -> str:
        return next((lot for lot, numbers in self.older_lots.items() if batch in numbers), self.lot)

    def _hyper(self, task: Task, trainer: str, rng: random.Random, *, is_long: bool = False) -> Hyper:
        """As `draw_hyper`, with the small rollouts of the new environments, and few minibatches where a run is long."""
        hyper = draw_hyper(task, trainer, rng)
        if not self.small_rollouts:
            hyper = replace(hyper, num_envs=task.hyper.num_envs, rollout_steps=task.hyper.rollout_steps)
        elif task in self.tasks:
            hyper = replace(hyper, num_envs=16, rollout_steps=16 if hyper.rollout_steps > 16 else 8)
        else:
            hyper = replace(hyper, num_envs=16, rollout_steps=16)
        if is_long:
            hyper = replace(hyper, epochs=2, minibatches=1)
        return replace(hyper, anneal=hyper.anneal and task.hyper.anneal)

    def _sound(self, rng: random.Random) -> Iterator[Drawn]:
        known = [EVERY_TASK[name] for name in self.known_tasks]
        cells = [(task, trainer) for task in (*self.tasks, *known) for trainer in TRAINERS]
        for cell, (task, trainer) in enumerate(cells):
            is_new = task in self.tasks
            runs = self.sound_runs[0 if is_new else 1]
            for index in range(runs):
                is_long = is_new and (index + cell) % LONG_SHARE == 0
                updates = sound_length(task, rng, is_long=is_long, at_least=self.shortest, at_most=self.longest)
                hyper = self._hyper(task, trainer, rng, is_long=is_long)
                place = (index + rng.random()) / runs * (EARLY if is_new and not is_long else 1.0)
                yield place, _entry(task, trainer, SOUND, rng, updates, 0, hyper)

    def _broken(self, rng: random.Random) -> Iterator[Drawn]:
        known = [EVERY_TASK[name] for name in self.known_tasks]
        for name in (*self.kinds, *self.known_kinds):
            kind = EVERY_KIND[name]
            if name in self.kinds:
                new, old = self.kind_runs
                tasks = rng.sample(self.tasks, new) + rng.sample(known, old)
            else:
                tasks = rng.sample(self.tasks, self.known_kind_runs)
            rng.shuffle(tasks)
            first = rng.randrange(len(kind.trainers))
            for index, task in enumerate(tasks):
                trainer = kind.trainers[(first + index) % len(kind.trainers)]
                is_later = kind.begins == "later" or (kind.begins == "either" and index % 2 == 1)
                updates, begins = broken_length(
                    task, rng, is_later=is_later, at_most=self.broken_longest, left=self.left
                )
                hyper = kind().change_hyper(self._hyper(task, trainer, rng))
                yield (index + rng.random()) / len(tasks), _entry(task, trainer, name, rng, updates, begins, hyper)

    def _rlmutation(self, rng: random.Random) -> Iterator[Drawn]:
        task = EVERY_TASK["CartPole-v1"]
        for name in (SOUND, *(name for name in EVERY_KIND if name.startswith("rlm-"))):
            hyper = RLMUTATION_HYPER if name == SOUND else EVERY_KIND[name]().change_hyper(RLMUTATION_HYPER)
            runs = self.rlmutation_runs[1 if name == SOUND else 0]
            strengths = STRENGTHS.get(name, (1.0,))
            for index in range(runs):
                entry = _entry(task, "sb3", name, rng, RLMUTATION_UPDATES, 0, hyper)
                yield (
                    (index + rng.random()) / runs,
                    replace(entry, part="rlmutation", strength=strengths[-1 - index % len(strengths)]),
                )


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


FIRST_PLAN = FreshPlan(
    seed="the fresh runs of the benchmark",
    first_run=1000,
    first_seed=2**20,
    tasks=FIRST_TASKS,
    kinds=tuple(FIRST_KINDS),
    # Known environments whose updates take least.
    known_tasks=(
        "SparseCorridor",
        "Upright",
        "Reach",
        "TinyRegulator",
        "FrozenLake",
        "CliffWalking",
        "ContextualBandit",
    ),
    # Kinds that broke at least half of their runs in the batches, by their labels: others leave few broken runs.
    known_kinds=(
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
    ),
    sound_runs=(6, 2),
    kind_runs=(4, 2),
    known_kind_runs=3,
    rlmutation_runs=(2, 6),
    longest=220,
    broken_longest=250,
    small_rollouts=True,
    lot=THIRD_LOT,
    older_lots={
        # Those that were sampled when two rules changed for what they showed.
        FIRST_LOT: frozenset({*range(11), *range(14, 21), 24, *range(27, 36)}),
        # Those that judged the rules before warnings, health and falls were judged anew.
        SECOND_LOT: frozenset({*range(11, 14), *range(21, 24), 25}),
    },
)

SECOND_PLAN = FreshPlan(
    seed="the second plan of fresh runs",
    first_run=2000,
    first_seed=2**21,
    tasks=SECOND_TASKS,
    kinds=tuple(SECOND_KINDS),
    # Of those of the first plan, the ones that break most runs.
    known_kinds=(
        "advantages-noise",
        "envs-desynchronised",
        "nan-in-returns",
        "observations-nan",
        "policy-reset",
        "rate-jumps",
        "rewards-negated",
        "rewards-stop",
        "rlm-ilf",
        "rlm-msu",
        "rlm-poc",
        "weights-noisy",
    ),
    sound_runs=(4, 0),
    kind_runs=(3, 0),
    known_kind_runs=2,
    rlmutation_runs=(1, 4),
    shortest=200,
    longest=700,
    broken_longest=600,
    left=150,
    lot=FOURTH_LOT,
)

THIRD_PLAN = FreshPlan(
    seed="a third plan of fresh runs",
    first_run=3000,
    first_seed=2**22,
    tasks=THIRD_TASKS,
    kinds=tuple(THIRD_KINDS),
    # Those of the open plan that break most runs, by the labels of the fourth lot or by what they do.
    known_kinds=(
        "advantages-noise",
        "nan-in-returns",
        "observations-zero",
        "policy-reset",
        "rate-jumps",
        "rewards-negated",
        "rlm-ilf",
        "weights-noisy",
    ),
    sound_runs=(4, 0),
    kind_runs=(3, 0),
    known_kind_runs=2,
    rlmutation_runs=(1, 4),
    shortest=150,
    longest=700,
    broken_longest=525,
    left=120,
    lot=FIFTH_LOT,
)

FOURTH_PLAN = FreshPlan(
    seed="a fourth plan of fresh runs",
    first_run=4000,
    first_seed=2**23,
    tasks=FOURTH_TASKS,
    kinds=tuple(FOURTH_KINDS),
    # Those of the open plan that break most runs, by the labels of the fifth lot or by what they do.
    known_kinds=(
        "advantages-noise",
        "envs-desynchronised",
        "observations-zero",
        "policy-reset",
        "rate-jumps",
        "rewards-negated",
        "rlm-ilf",
        "rlm-msu",
    ),
    sound_runs=(5, 0),
    kind_runs=(3, 0),
    known_kind_runs=2,
    rlmutation_runs=(1, 4),
    shortest=150,
    longest=540,
    broken_longest=440,
    left=120,
    lot=SIXTH_LOT,
)

FIFTH_PLAN = FreshPlan(
    seed="a fifth plan of fresh runs",
    first_run=5000,
    first_seed=2**24,
    tasks=FIFTH_TASKS,
    kinds=tuple(FIFTH_KINDS),
    # Those of the third plan again: they break most runs.
    known_kinds=(
        "advantages-noise",
        "nan-in-returns",
        "observations-zero",
        "policy-reset",
        "rate-jumps",
        "rewards-negated",
        "rlm-ilf",
        "weights-noisy",
    ),
    sound_runs=(5, 0),
    kind_runs=(3, 0),
    known_kind_runs=2,
    rlmutation_runs=(1, 4),
    shortest=150,
    longest=480,
    broken_longest=400,
    left=120,
    lot=SEVENTH_LOT,
)

SIXTH_PLAN = FreshPlan(
    seed="the sixth plan of fresh runs",
    first_run=6000,
    first_seed=2**25,
    tasks=SIXTH_TASKS,
    kinds=tuple(SIXTH_KINDS),
    # Those of the fourth plan again: they break most runs.
    known_kinds=(
        "advantages-noise",
        "envs-desynchronised",
        "observations-zero",
        "policy-reset",
        "rate-jumps",
        "rewards-negated",
        "rlm-ilf",
        "rlm-msu",
    ),
    sound_runs=(4, 0),
    kind_runs=(3, 0),
    known_kind_runs=2,
    rlmutation_runs=(1, 4),
    shortest=150,
    longest=420,
    broken_longest=330,
    left=120,
    lot=EIGHTH_LOT,
)

SEVENTH_PLAN = FreshPlan(
    seed="the seventh plan of fresh runs",
    first_run=7000,
    first_seed=2**26,
    tasks=SEVENTH_TASKS,
    kinds=tuple(SEVENTH_KINDS),
    # Those of the sixth plan again: they break most runs.
    known_kinds=SIXTH_PLAN.known_kinds,
    sound_runs=(4, 0),
    kind_runs=(4, 0),
    known_kind_runs=2,
    rlmutation_runs=(1, 4),
    shortest=150,
    longest=420,
    broken_longest=330,
    left=120,
    lot=NINTH_LOT,
)

EIGHTH_PLAN = FreshPlan(
    seed="the eighth plan of fresh runs",
    first_run=8000,
    first_seed=2**27,
    tasks=EIGHTH_TASKS,
    kinds=tuple(EIGHTH_KINDS),
    # Those of the sixth and seventh plan again: they break most runs.
    known_kinds=SIXTH_PLAN.known_kinds,
    sound_runs=(7, 0),
    kind_runs=(4, 0),
    known_kind_runs=2,
    rlmutation_runs=(1, 4),
    shortest=200,
    longest=700,
    broken_longest=600,
    left=150,
    lot=TENTH_LOT,
)

PLANS = (FIRST_PLAN, SECOND_PLAN, THIRD_PLAN, FOURTH_PLAN, FIFTH_PLAN, SIXTH_PLAN, SEVENTH_PLAN, EIGHTH_PLAN)


def make_fresh_plan() -> tuple[Entry, ...]:
    """The runs of all plans, the oldest first."""
    return tuple(entry for plan in PLANS for entry in plan.entries())


def make_fresh_batches() -> tuple[Batch, ...]:
    """The batches of all plans, the oldest first."""
    return tuple(batch for plan in PLANS for batch in plan.batches())


def main() -> None:
    """Print the plans."""
    for plan in PLANS:
        entries = plan.entries()
        with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
            print(summary(entries))
        updates = sum(entry.updates for entry in entries)
        print(f"{len(entries)} runs, {updates:,} updates, {len(plan.batches())} batches")


if __name__ == "__main__":
    main()
