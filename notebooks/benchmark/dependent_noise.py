"""Measures what the rules on learning say of returns that are noise with a memory, alone and on top of a rise.

    python notebooks/benchmark/dependent_noise.py [--markdown] [--runs 200]

Takes about a minute of one core. The seed is fixed, so the same command prints the same numbers. Where nothing is
learned, an alert is right: noise that wanders looks like progress, so that none comes. Where a return has risen and
stays, an alert is false: noise that wanders looks like a fall.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmark.guarantee import render
from benchmark.judged import completed
from esper_analyzer.judging.judge import Judge, judge_each
from esper_analyzer.judging.returns import PROGRESS, Returns
from esper_analyzer.judging.rules import RULES

Values = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Values]
"""A number of updates → so many values, of deviation 1 if they have one."""

UPDATES = 700
"""Of a run."""

RUNS = 200
"""Of each noise, in the tables of the README."""

LEVEL, SIZE = 100.0, 10.0
"""The return at the start, and the deviation of its noise."""

RISEN, RISE_UPDATES = 60.0, 100
"""How far it rises where something is learned, and within how many updates."""

LEARNING = tuple(rule for rule in RULES.values() if rule.question == "learning")


def autoregressive(phi: float) -> Noise:
    """Stationary Gaussian AR(1) noise."""

    def drawn(rng: np.random.Generator, updates: int) -> Values:
        values: Values = np.sqrt(1 - phi**2) * rng.standard_normal(updates)
        state = float(rng.standard_normal())
        for index in range(updates):
            state = values[index] = phi * state + values[index]
        return values

    return drawn


def walk(share: float) -> Noise:
    """Independent noise on a random walk whose steps have `share` of its deviation."""
    return lambda rng, updates: rng.standard_normal(updates) + share * rng.standard_normal(updates).cumsum()


def heavy(freedom: float) -> Noise:
    """Independent noise of Student's t."""
    return lambda rng, updates: rng.standard_t(freedom, updates)


NOISES: dict[str, Noise] = {
    "independent": lambda rng, updates: rng.standard_normal(updates),
    "independent, Student's t of 2.1": heavy(2.1),
    "AR(1), φ = 0.5": autoregressive(0.5),
    "AR(1), φ = 0.9": autoregressive(0.9),
    "AR(1), φ = 0.98": autoregressive(0.98),
    "independent on a walk, steps of 0.1": walk(0.1),
    "independent on a walk, steps of 0.5": walk(0.5),
}
"""By name: what returns do around their mean."""


def made_run(noise: Values, *, has_learned: bool) -> pl.DataFrame:
    """A run whose return is its level, a rise if it has learned, and `noise`; all else is as in a sound run."""
    updates = np.arange(len(noise))
    rise = RISEN * np.minimum(1.0, updates / RISE_UPDATES) if has_learned else 0.0
    return pl.DataFrame(
        {
            "update": updates,
            "env_steps": 1000 * (updates + 1),
            "episode_return_mean": LEVEL + rise + SIZE * noise,
            "episode_length_mean": np.full(len(noise), 50.0),
            "entropy": np.linspace(1.2, 0.6, len(noise)),
            "kl_divergence": np.full(len(noise), 0.005),
            "explained_variance": np.full(len(noise), 0.6),
        }
    )


def critical_rules(runs: Sequence[pl.DataFrame]) -> list[frozenset[str]]:
    """For each run, the names of the rules on learning that are critical after any of its rows."""
    judges = [Judge(LEARNING) for _ in runs]
    portions = [(judge, completed(rows, judge.columns)) for judge, rows in zip(judges, runs, strict=True)]
    begun = judge_each(portions, side_by_side=True)
    return [
        frozenset(one.rule.name for one in (*new, *judge.in_force.values()) if one.severity == 2)
        for judge, new in zip(judges, begun, strict=True)
    ]


def shows_progress(rows: pl.DataFrame) -> bool:
    """Whether the return of a run has ever risen by what counts as progress."""
    numbers = Returns().extend(rows["episode_return_mean"].to_numpy())
    return bool((numbers[Returns.NAMES.index("return_rise")] >= PROGRESS).any())


def noise_row(name: str, runs: int, *, has_learned: bool) -> list[str]:
    """Its name, the share of its runs that are ever critical, of those that show progress, and that of each rule."""
    rng = np.random.default_rng(list(NOISES).index(name))
    made = [made_run(NOISES[name](rng, UPDATES), has_learned=has_learned) for _ in range(runs)]
    said = critical_rules(made)
    counts = Counter(rule for one in said for rule in one)
    named = ", ".join(f"`{rule}` {count / runs:.0%}" for rule, count in counts.most_common())
    progress = sum(map(shows_progress, made)) / runs
    return [name, f"{sum(map(bool, said)) / runs:.0%}", f"{progress:.0%}", named or "–"]


def tables(runs: int, *, markdown: bool) -> Iterator[str]:
    """Both tables as text."""
    head = ["noise", "ever critical", "progress is seen", "by rule"]
    cases = (("Nothing is learned", False), ("The return rose by six deviations, and stays", True))
    for title, has_learned in cases:
        rows = [noise_row(name, runs, has_learned=has_learned) for name in NOISES]
        yield render(f"{title}: {runs:,} runs of {UPDATES} updates each", head, rows, markdown=markdown)


@click.command()
@click.option("--runs", default=RUNS, show_default=True, help="Runs for each noise.")
@click.option("--markdown", is_flag=True, help="Print the tables in Markdown.")
def main(runs: int, markdown: bool) -> None:
    """Print how often the rules on learning are critical where returns are noise with a memory."""
    for table in tables(runs, markdown=markdown):
        click.echo(table + "\n")


if __name__ == "__main__":
    main()
