"""Sets the bounds at which a rule calls a run critical, from training runs alone, and judges runs that were left out.

    python notebooks/benchmark/thresholds.py notebooks/benchmark/samples

For each rule of `TUNED` the most sensitive candidate is looked for at which it calls at most one of `OUTLIERS` sound
training runs critical, sampled and public ones. Chosen is the one that is `MARGIN` candidates less sensitive, since
what just holds for these runs would not hold for others; where no candidate holds, the last. Each environment is left
out once, and each kind of failure: its runs are judged with bounds that were chosen without them. What ships, in the
analyzer's rules, is the choice by all open runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmark import public
from benchmark.corpus import Corpus, open_runs
from benchmark.judged import Judged, completed, judged
from benchmark.rates import Rates, cases, folds
from benchmark.tables import Table, rates_table
from esper_analyzer.judging.judge import Judge, numbers_of
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.rules.rule import Rule
from esper_schemas.metric.metrics import Limit

TUNED: Mapping[str, tuple[float, ...]] = {
    "explosion": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0),
    "error_beyond_returns": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0),
    "explains_nothing": (0.2, 0.15, 0.1, 0.075, 0.05, 0.04, 0.03, 0.02, 0.01, 0.0, -0.05, -0.1),
    "return_fall": (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    "fall_for_good": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    "policy_unmoved": (30, 40, 50, 60, 80, 100),
    "return_below_start": (0.1, 0.15, 0.2, 0.25, 0.33, 0.5, 0.75, 1.0),
    "return_stalled": (80, 100, 120, 150, 200, 250, 300, 400, 500),
    "policy_wanders": (8, 10, 12, 14, 16, 20, 25, 30),
    "return_at_lowest": (60, 80, 100, 120, 150, 200),
    "far_from_goal": (40, 50, 60, 70, 80, 100, 120, 150, 200, 250, 300, 400),
    "entropy_at_ceiling": (60, 80, 100, 120, 150, 200),
    "return_below_first": (0.33, 0.4, 0.5, 0.6, 0.75, 1.0),
    "unexplained_for_long": (0.2, 0.15, 0.1, 0.075, 0.05, 0.04, 0.03, 0.02, 0.01, 0.0, -0.05, -0.1),
}
"""Candidates for the critical bound of each rule, the most sensitive one first."""

OUTLIERS = 100
"""A single odd run, or a fault that shows though the task was learned, does not choose the bound of a rule for all."""

MARGIN = 4
"""So many candidates. This and `OUTLIERS` were set by what is said of environments that are left out."""

Bounds = Mapping[str, float]


def reached(rows: pl.DataFrame, return_goal: float | None = None) -> dict[str, float]:
    """The bound of each rule of `TUNED` at which it would just have called a run critical; −inf or inf if at none.

    Args:
        rows: The updates of the run, in order.
        return_goal: The goal of the episode return, if the run knows one.
    """
    rules = [RULES[name] for name in TUNED]
    numbers = numbers_of(completed(rows, Judge(rules).columns), rules, return_goal)
    return {rule.name: _reached(rule, numbers[rule.name]) for rule in rules}


def reached_by(corpus: Corpus) -> dict[str, dict[str, float]]:
    """What `reached` returns for each run."""
    return {name: reached(rows, corpus.goals.get(name)) for name, rows in corpus.rows.items()}


def _reached(rule: Rule, numbers: pl.Series) -> float:
    sign = _sign(rule)
    counting = np.arange(len(numbers)) >= rule.from_row
    values = np.where(counting & numbers.is_not_null().to_numpy(), sign * numbers.to_numpy(), -np.inf)
    values[np.isnan(values)] = -np.inf
    if not len(values):
        return sign * -np.inf
    hits, of = rule.hold
    padded = np.concatenate([np.full(of - 1, -np.inf), values])
    windows: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(padded, of)
    held = np.sort(windows, axis=1)[:, of - hits]
    return sign * float(np.minimum(held, values).max())


def _sign(rule: Rule) -> float:
    return 1.0 if _limit(rule).comparison.startswith(">") else -1.0


def _limit(rule: Rule) -> Limit:
    (limit,) = rule.bands.critical
    return limit


def chosen(reached_by_sound: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The bounds that some sound runs allow; see the head of this file.

    Args:
        reached_by_sound: What `reached` returns for each of them.
    """
    return {name: _chosen(RULES[name], [one[name] for one in reached_by_sound]) for name in TUNED}


def _chosen(rule: Rule, found: Sequence[float]) -> float:
    sign, candidates = _sign(rule), TUNED[rule.name]
    beyond = sorted((sign * one for one in found), reverse=True)
    most = beyond[len(beyond) // OUTLIERS]
    holding = next((index for index, bound in enumerate(candidates) if sign * bound > most), len(candidates))
    return candidates[min(holding + MARGIN, len(candidates) - 1)]


def with_bounds(bounds: Bounds) -> tuple[Rule, ...]:
    """All rules, with these critical bounds."""
    return tuple(
        replace(rule, bands=replace(rule.bands, critical=(_limit(rule)._replace(bound=bounds[rule.name]),)))
        if rule.name in bounds
        else rule
        for rule in RULES.values()
    )


def shipped() -> dict[str, float]:
    """The bounds in the rules now."""
    return {name: _limit(RULES[name]).bound for name in TUNED}


def cross_validated(corpus: Corpus, by: str, of_run: Mapping[str, Mapping[str, float]]) -> pl.DataFrame:
    """The runs of each fold, judged with bounds that were chosen without them; as `rates.cases` returns them."""
    found: list[pl.DataFrame] = []
    known: dict[tuple[float, ...], dict[str, Judged]] = {}
    for training, left_out in folds(corpus.labels, [by]):
        sound = training.filter(pl.col("label") == "sound")["name"]
        bounds = chosen([of_run[name] for name in sound])
        rules, of_these = with_bounds(bounds), known.setdefault(tuple(bounds.values()), {})
        for name in left_out["name"]:
            if name not in of_these:
                of_these[name] = judged(corpus.rows[name], rules, corpus.goals.get(name))
        found.append(cases({name: of_these[name] for name in left_out["name"]}, left_out))
    return pl.concat(found)


def left_out_table(corpus: Corpus, of_run: Mapping[str, Mapping[str, float]]) -> Table:
    """The counts of runs that were judged with bounds that were chosen without them.

    Args:
        corpus: All runs.
        of_run: What `reached` returns for each of them.
    """
    named = {
        f"left out by {word}": Rates.of(cross_validated(corpus, column, of_run))
        for word, column in (("environment", "env"), ("kind of failure", "kind"))
    }
    return rates_table("left_out", "Runs that were left out when the bounds were chosen", named)


@click.command()
@click.argument("out", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--public",
    "public_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=public.FOLDER,
    help="Folder of public runs, in place of the extracts that come with the benchmark.",
)
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
def main(out: Path, public_folder: Path, form: str | None) -> None:
    """Choose the critical bounds by the runs that sample.py put into FOLDER and public ones, and judge those left out.

    Example: thresholds.py notebooks/benchmark/samples
    """
    corpus = open_runs(out).together(public.read(public_folder))
    of_run = reached_by(corpus)
    sound = corpus.labels.filter(pl.col("label") == "sound")["name"]
    bounds, now = chosen([of_run[name] for name in sound]), shipped()
    for name, bound in bounds.items():
        differs = "" if bound == now[name] else f"; the rule has {now[name]:g}"
        click.echo(f"{name}: {bound:g}{differs}")
    table = left_out_table(corpus, of_run)
    click.echo(table.markdown() if form == "markdown" else table.text())


if __name__ == "__main__":
    main()
