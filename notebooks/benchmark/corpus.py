"""Labelled runs with their rows: what is judged together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import polars as pl

from benchmark.fresh_environments import EVERY_TASK
from benchmark.judged import Judged, judged
from benchmark.outcomes import OPEN_FOLDERS, label_folder
from benchmark.storage import TRUTH, has_batches, read_rows
from esper_recorder import return_goal_of

Judging = Callable[[pl.DataFrame], Judged]
"""Takes the rows of one run, and returns what was said of it: `judged`, or a rival's."""


@dataclass(frozen=True)
class Corpus:
    """Runs that are judged together.

    Attributes:
        labels: One row each: `name`, `part`, `env`, `trainer`, `kind`, `label` ("sound", "broken" or "unclear"),
            `reasons` separated by commas, `begins` (first broken update) and `deadline` (last update at which it must
            be found; null for no bound).
        rows: Their updates by name, with columns of the metrics table; empty if a run crashed at once.
        goals: The goal of the episode return, by name, of those runs that know one.
    """

    labels: pl.DataFrame
    rows: Mapping[str, pl.DataFrame]
    goals: Mapping[str, float] = field(default_factory=dict)

    def judged(self, judging: Judging | None = None) -> dict[str, Judged]:
        """Judge each run; by default with the rules of the analyzer, and with its goal if it knows one."""
        if judging is not None:
            return {name: judging(rows) for name, rows in self.rows.items()}
        return {name: judged(rows, return_goal=self.goals.get(name)) for name, rows in self.rows.items()}

    def knowing_goals(self) -> Corpus:
        """Only the runs that know a goal."""
        return self.only(name for name in self.rows if name in self.goals)

    def only(self, names: Iterable[str]) -> Corpus:
        """Only the runs with these names."""
        wanted = set(names)
        rows = {name: rows for name, rows in self.rows.items() if name in wanted}
        return replace(self, labels=self.labels.filter(pl.col("name").is_in([*rows])), rows=rows)

    def without_goals(self) -> Corpus:
        """The same runs as if nobody had declared a goal."""
        return replace(self, goals={})

    def keeping(self, columns: frozenset[str]) -> Corpus:
        """The same runs as if only `columns` had been recorded."""
        kept = {name: rows.select(c for c in rows.columns if c in columns) for name, rows in self.rows.items()}
        return replace(self, rows=kept)

    def together(self, other: Corpus) -> Corpus:
        """The runs of both."""
        labels = pl.concat([self.labels, other.labels], how="diagonal_relaxed")
        return Corpus(labels, {**self.rows, **other.rows}, {**self.goals, **other.goals})


def sampled(out: Path, folder: str = "batches") -> Corpus:
    """The runs that sample.py put into one folder of `out`."""
    labels = label_folder(out, folder).with_columns(pl.lit(None, pl.Int64).alias("deadline"))
    every = read_rows(out / folder).drop(TRUTH).collect()
    there = {int(rows["run"][0]): rows.drop("run") for rows in every.partition_by("run", maintain_order=True)}
    nothing = every.drop("run").clear()
    rows = {name: there.get(run, nothing) for name, run in labels.select("name", "run").iter_rows()}
    return Corpus(labels, rows, known_goals(labels))


def open_runs(out: Path) -> Corpus:
    """The runs in `out` that rules are made with: those of `OPEN_FOLDERS`, as far as sample.py has made some."""
    there = [folder for folder in OPEN_FOLDERS if has_batches(out / folder)]
    return reduce(Corpus.together, (sampled(out, folder) for folder in there))


def known_goals(labels: pl.DataFrame) -> dict[str, float]:
    """The goals of those runs whose environment Gymnasium's registry names one for, by name."""
    goals = {name: return_goal_of(EVERY_TASK[name].make()) for name in labels["env"].unique() if name in EVERY_TASK}
    known = ((name, goals.get(env)) for name, env in labels.select("name", "env").iter_rows())
    return {name: goal for name, goal in known if goal is not None}
