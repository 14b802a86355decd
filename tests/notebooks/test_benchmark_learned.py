"""The classifier sees what it should, judges only environments that it was not fitted to, and its rates are counted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import learned, results
from benchmark.corpus import sampled

RISE, BEST, WORST, WAY, MEMORY = 3, 4, 5, 6, 8
"""Places in what `course` returns."""


def made(label_of: dict[str, str], runs: int) -> tuple[learned.Examples, pl.DataFrame]:
    """Runs of environments that are all sound or all broken; their first number is the label, their second is noise."""
    rng = np.random.default_rng(0)
    records = [
        {"name": f"{env}-{number}", "env": env, "label": label, "begins": 0}
        for env, label in label_of.items()
        for number in range(runs)
    ]
    names = np.array([record["name"] for record in records])
    telling = np.array([record["label"] == "broken" for record in records], float)
    numbers = np.column_stack([telling + 0.1 * rng.standard_normal(len(names)), rng.standard_normal(len(names))])
    return learned.Examples(names, np.full(len(names), 100), numbers), pl.DataFrame(records)


LABELS = {f"E{number}": "broken" if number % 3 == 0 else "sound" for number in range(20)}


def test_the_course_of_a_rise_a_fall_and_nothing() -> None:
    """A rise ends at its highest, a fall at its lowest, and what never moves has no size."""
    noise = np.random.default_rng(1).standard_normal(200)
    rise, fall = learned.course(np.arange(200) + noise), learned.course(noise - np.arange(200))
    assert (rise[RISE], rise[WAY]) == (rise[BEST], 1.0)
    assert (fall[RISE], fall[WAY]) == (fall[WORST], 0.0)
    assert rise[RISE] > 100 > -100 > fall[RISE]
    assert learned.course(np.full(50, 3.0)) == [1.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_a_course_has_a_memory_or_none() -> None:
    """It is the correlation of a value with the one before: about 0 for noise, and about 1 for a walk."""
    noise = np.random.default_rng(2).standard_normal(2000)
    assert learned.course(noise)[MEMORY] == pytest.approx(0.0, abs=0.1)
    assert learned.course(noise.cumsum())[MEMORY] == pytest.approx(1.0, abs=0.05)


def test_what_was_hardly_measured_is_unknown() -> None:
    """With three values only their share is said."""
    share, *others = learned.course(np.array([1.0, np.nan, 2.0, np.inf, 3.0]))
    assert share == 0.6
    assert np.isnan(others).all()


@pytest.mark.notebooks
def test_what_tells_is_learned_and_the_environment_judged_is_not() -> None:
    """A number that has the label in every environment is found; one that only names the environment says nothing."""
    seen, labels = made(LABELS, 20)
    sure = learned.scores(seen, labels)
    is_broken = (labels["label"] == "broken").to_numpy()
    assert sure[is_broken].min() > sure[~is_broken].max()
    names = np.repeat(np.arange(len(LABELS)), 20)
    which = (names[:, None] == np.arange(len(LABELS))).astype(float)
    blind = learned.scores(replace(seen, numbers=which), labels)
    assert np.ptp(blind) < 0.5, "an environment was judged by a classifier that had seen it"


@pytest.mark.notebooks
def test_a_run_teaches_from_when_it_broke() -> None:
    """What is not yet broken is no example of a broken run."""
    seen, labels = made(LABELS, 20)
    never = labels.with_columns(pl.when(pl.col("label") == "broken").then(200).otherwise(0).alias("begins"))
    assert learned.scores(seen, never).max() < 0.5


@pytest.mark.parametrize(("share", "above"), [(0.01, 1), (0.02, 2), (0.1, 10)])
def test_the_bound_lets_as_many_sound_runs_through_as_it_says(share: float, above: int) -> None:
    """Of a hundred sound runs, so many are above it."""
    highest = np.random.default_rng(0).permutation(np.linspace(0, 1, 100))
    assert int((highest > learned.bound_for(share, highest)).sum()) == above


@pytest.mark.notebooks
def test_runs_of_the_benchmark_are_seen_at_their_ages_and_counted() -> None:
    """Each run is seen once at each age that it reached and at its end, and the table has each in its rates."""
    corpus = sampled(results.FILE.parent / "samples")
    names = corpus.labels.filter(pl.col("label") != "unclear")["name"].to_list()[::60]
    some = replace(
        corpus,
        labels=corpus.labels.filter(pl.col("name").is_in(names)),
        rows={name: corpus.rows[name] for name in names},
    )
    seen = learned.examples(some)
    for name in names:
        ends = seen.ends[seen.names == name].tolist()
        length = len(some.rows[name])
        assert ends == [*(age for age in learned.AGES if age < length), length]
    sure = np.isin(seen.names, some.labels.filter(pl.col("label") == "broken")["name"].to_list()).astype(float)
    table = learned.learned_table(some, seen, sure)
    sound, broken = (int((some.labels["label"] == label).sum()) for label in ("sound", "broken"))
    assert len(table.records) == 2 * len(learned.SHARES)
    for row in table.records:
        assert (row["sound"], row["broken"]) == (sound, broken)
        assert row["critical"] == 0
        assert row["found"] == row["broken"]
