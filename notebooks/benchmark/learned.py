"""What a classifier finds of the same runs: a measure of how much of a failure the recorded numbers show at all.

    python notebooks/benchmark/learned.py notebooks/benchmark/samples

Gradient boosting sees each open run at some ages: what its columns and the numbers of the rules were until then. The
runs of each tenth of the environments are judged by one that was fitted to all others. How sure it must be is set by
the sound runs that it judges, which is kinder to it than `thresholds.py` is to the rules. Takes about ten minutes of
two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from benchmark import public
from benchmark.corpus import Corpus, open_runs
from benchmark.judged import CRITICAL, LEVELS, Judged, completed, summed_up
from benchmark.rates import Rates, cases
from benchmark.tables import Table, rates_table
from esper_analyzer.judging.judge import Judge, numbers_of
from esper_analyzer.judging.rules import RULES

COLUMNS = (
    *("episode_return_mean", "episode_length_mean", "explained_variance", "value_loss", "policy_loss", "entropy"),
    *("kl_divergence", "clip_fraction", "pre_clip_grad_norm", "return_std", "return_mean", "value_std"),
    *("ratio_max", "advantage_std", "log_prob_min", "learning_rate"),
)
"""Whose course it sees."""

AGES = (30, 40, 50, 60, 80, 100, 130, 160, 200, 250, 300, 400, 500, 700, 1000, 1500, 2000)
"""Updates after which it looks at a run, and once more at the end."""

WINDOW = 20
"""Updates at the start, and up to each age, that are summed up by their median."""

FEWEST = 4
"""With fewer values nothing is said of the course of a column."""

FOLDS = 10

SHARES = (0.01, 0.02, 0.05, 0.1)
"""Of the sound runs that may be called critical."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Runs at some of their ages.

    Attributes:
        names: Of the runs, one for each example.
        ends: Rows until then, int64 [examples].
        numbers: What is known of the run by then, float64 [examples, features]; NaN where nothing is.
    """

    names: NDArray[np.str_]
    ends: NDArray[np.int64]
    numbers: Numbers


def course(values: Numbers) -> list[float]:
    """What is seen of the values of one column.

    Its share of values, the median at the start and now; in standard errors of these windows the rise, the best and the
    worst of it; where it is between its lowest and its highest; its noise beside its deviation; its memory.
    """
    known = values[np.isfinite(values)]
    share = len(known) / max(1, len(values))
    if len(known) < FEWEST:
        return [share, *[np.nan] * 8]
    size = max(3, min(WINDOW, len(known) // FEWEST))
    means = np.convolve(known, np.full(size, 1 / size), "valid")
    steps = np.diff(known)
    noise = float(np.median(np.abs(steps)))
    error, spread = max(noise / np.sqrt(size), 1e-12), float(np.std(known))
    moved = [float(one - means[0]) / error for one in (means[-1], means.max(), means.min())]
    way = float((means[-1] - means.min()) / max(means.max() - means.min(), 1e-12))
    memory = 1.0 - float(np.mean(steps**2)) / (2.0 * spread**2) if spread > 1e-12 else 0.0
    ends = [float(np.median(known[:size])), float(np.median(known[-size:]))]
    return [share, *ends, *moved, way, noise / max(spread, 1e-12), memory]


def examples(corpus: Corpus) -> Examples:
    """Each run at its ages, as the classifier sees it."""
    names, ends, numbers = [], [], []
    for name, rows in corpus.rows.items():
        if len(rows) < FEWEST:
            continue
        for end, known in _seen(rows, corpus.goals.get(name)):
            names.append(name)
            ends.append(end)
            numbers.append(known)
    return Examples(np.array(names), np.array(ends, np.int64), np.array(numbers))


def _seen(rows: pl.DataFrame, goal: float | None) -> Iterator[tuple[int, list[float]]]:
    rules = tuple(RULES.values())
    watched = completed(rows, Judge(rules).columns)
    of_rules = numbers_of(watched, rules, goal).select(pl.all().cast(pl.Float64).fill_null(np.nan)).to_numpy()
    columns = completed(rows, COLUMNS).select(pl.all().cast(pl.Float64).fill_null(np.nan)).to_numpy()
    for end in (*(age for age in AGES if age < len(rows)), len(rows)):
        until = np.where(np.isfinite(of_rules[:end]), of_rules[:end], np.nan)
        highest = np.fmax.reduce(until, axis=0)
        of_columns = [number for column in columns[:end].T for number in course(column)]
        yield end, [float(end), *of_columns, *until[-1], *highest]


def scores(seen: Examples, labels: pl.DataFrame, *, seed: int = 0) -> Numbers:
    """How sure the classifier is that each example is of a broken run, float64 [examples]; see the head of this file.

    Args:
        seen: The examples.
        labels: As `Corpus.labels`; an unclear run teaches nothing, and neither does a broken one before it broke.
        seed: Of what is drawn by chance.
    """
    runs = {run["name"]: run for run in labels.iter_rows(named=True)}
    of = [runs[name] for name in seen.names]
    is_broken = np.array([run["label"] == "broken" for run in of])
    has_broken = seen.ends > np.array([run["begins"] or 0 for run in of])
    teaches = np.array([run["label"] != "unclear" for run in of]) & (has_broken | ~is_broken)
    environments = np.unique([run["env"] for run in of])
    drawn = np.random.default_rng(seed).permutation(len(environments)) % FOLDS
    fold = drawn[np.searchsorted(environments, [run["env"] for run in of])]
    _, which, count = np.unique(seen.names, return_inverse=True, return_counts=True)
    weights = 1.0 / count[which]  # each run counts once
    found = np.full(len(of), np.nan)
    for number in range(FOLDS):
        left_out, taught = fold == number, teaches & (fold != number)
        if left_out.any():
            fitted = HistGradientBoostingClassifier(
                max_iter=250, learning_rate=0.05, max_leaf_nodes=15, max_features=0.3, random_state=seed
            )
            with threadpool_limits(1):  # beside other work its threads wait for each other most of the time
                fitted.fit(_rooted(seen.numbers[taught]), is_broken[taught], sample_weight=weights[taught])
            found[left_out] = fitted.predict_proba(_rooted(seen.numbers[left_out]))[:, 1]
    return found


def _rooted(numbers: Numbers) -> Numbers:
    """The numbers on a scale that any of them has a place on."""
    return np.where(np.isfinite(numbers), np.sign(numbers) * np.log1p(np.abs(numbers)), np.nan)


def judged_by(corpus: Corpus, seen: Examples, sure: Numbers, bound: float, *, only_at_end: bool) -> dict[str, Judged]:
    """The runs of `corpus`, critical from an age on at which the classifier was surer than `bound`."""
    found: dict[str, Judged] = {}
    for name, rows in corpus.rows.items():
        severities = np.zeros(len(rows), np.int8)
        counts = (seen.names == name) & (sure > bound) & ((seen.ends == len(rows)) | (not only_at_end))
        if counts.any():
            severities[int(seen.ends[counts].min()) - 1 :] = CRITICAL
        level = LEVELS[severities[-1]] if len(rows) else LEVELS[0]
        found[name] = summed_up(rows, severities, level, (), ())
    return found


def bound_for(share: float, highest_of_sound: Numbers) -> float:
    """How sure the classifier must be, so that it calls at most this share of the sound runs critical."""
    return float(np.sort(highest_of_sound)[::-1][int(share * len(highest_of_sound))])


def learned_table(corpus: Corpus, seen: Examples, sure: Numbers) -> Table:
    """What it finds at each of `SHARES`, whenever it looks and at the end alone."""
    sound = corpus.labels.filter(pl.col("label") == "sound")["name"].to_list()
    named: dict[str, Rates] = {}
    for words, at_end in (("whenever it looks", False), ("at the end alone", True)):
        counts = np.isin(seen.names, sound)
        if at_end:
            counts &= seen.ends == np.array([len(corpus.rows[name]) for name in seen.names])
        highest = pl.DataFrame({"name": seen.names[counts], "sure": sure[counts]}).group_by("name").max()
        for share in SHARES:
            bound = bound_for(share, highest["sure"].to_numpy())
            said: Mapping[str, Judged] = judged_by(corpus, seen, sure, bound, only_at_end=at_end)
            named[f"{words}, {share:.0%}"] = Rates.of(cases(said, corpus.labels))
    return rates_table("learned", "A classifier that knows the runs of all other environments", named)


@click.command()
@click.argument("out", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
def main(out: Path, markdown: bool) -> None:
    """Print what a classifier finds of the runs that sample.py put into FOLDER, and of public ones.

    Example: learned.py notebooks/benchmark/samples
    """
    corpus = open_runs(out).together(public.read())
    seen = examples(corpus)
    table = learned_table(corpus, seen, scores(seen, corpus.labels))
    click.echo(table.markdown() if markdown else table.text())


if __name__ == "__main__":
    main()
