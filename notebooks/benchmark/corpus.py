"""Labelled runs with their rows: what is judged together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from benchmark.judged import Judged, judged
from benchmark.outcomes import label_folder
from benchmark.storage import TRUTH, read_rows

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
    """

    labels: pl.DataFrame
    rows: Mapping[str, pl.DataFrame]

    def judged(self, judging: Judging = judged) -> dict[str, Judged]:
        """Judge each run."""
        return {name: judging(rows) for name, rows in self.rows.items()}

    def keeping(self, columns: frozenset[str]) -> Corpus:
        """The same runs as if only `columns` had been recorded."""
        kept = {name: rows.select(c for c in rows.columns if c in columns) for name, rows in self.rows.items()}
        return Corpus(self.labels, kept)

    def together(self, other: Corpus) -> Corpus:
        """The runs of both."""
        return Corpus(pl.concat([self.labels, other.labels], how="diagonal_relaxed"), {**self.rows, **other.rows})


def sampled(out: Path, *, held_back: bool = False) -> Corpus:
    """The runs that sample.py put into `out`, those that are held back or the others."""
    folder = "held_back" if held_back else "batches"
    labels = label_folder(out, [folder]).with_columns(pl.lit(None, pl.Int64).alias("deadline"))
    every = read_rows(out / folder).drop(TRUTH).collect()
    there = {int(rows["run"][0]): rows.drop("run") for rows in every.partition_by("run", maintain_order=True)}
    nothing = every.drop("run").clear()
    return Corpus(labels, {name: there.get(run, nothing) for name, run in labels.select("name", "run").iter_rows()})
