"""Runs are judged beside sound siblings alone, never beside themselves, and what is said is that of both together."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import beside_sound, public
from benchmark.corpus import Corpus
from benchmark.judged import judged
from benchmark.rates import Rates, cases

pytestmark = pytest.mark.notebooks

RISES = [20.0 + 5.0 * i + i % 7 for i in range(120)]
STUCK = [20.0 + i % 7 for i in range(120)]


def made(kinds: dict[str, tuple[str, str, str, list[float]]]) -> Corpus:
    """Runs by name: their environment, kind and label, and their returns; all of one trainer."""
    labels = [
        {
            "name": name,
            "env": env,
            "trainer": "ours",
            "kind": kind,
            "label": label,
            "part": "main",
            "reasons": "return" if label == "broken" else "",
            "begins": 0,
            "deadline": None,
        }
        for name, (env, kind, label, _) in kinds.items()
    ]
    rows = {
        name: pl.DataFrame(
            {
                "update": range(len(returns)),
                "env_steps": [256 * (i + 1) for i in range(len(returns))],
                "episode_return_mean": returns,
                "value_loss": [1.0] * len(returns),
                "policy_loss": [0.1] * len(returns),
            }
        )
        for name, (_, _, _, returns) in kinds.items()
    }
    return Corpus(pl.DataFrame(labels, schema_overrides={"deadline": pl.Int64}), rows)


CORPUS = made(
    {
        "a": ("Hill", "sound", "sound", RISES),
        "b": ("Hill", "sound", "sound", RISES),
        "short": ("Hill", "sound", "sound", RISES[:5]),
        "harmless": ("Hill", "rlm-r", "sound", RISES),
        "stuck": ("Hill", "policy-frozen", "broken", STUCK),
        "unclear": ("Hill", "rlm-r", "unclear", STUCK),
        "alone": ("Lake", "policy-frozen", "broken", STUCK),
    }
)


def test_references_are_sound_runs_to_which_nothing_was_done() -> None:
    """Neither a run that a fault did no harm, nor one that measured too little, nor an unclear one is a reference."""
    assert [*beside_sound.sound_ones(CORPUS)] == ["a", "b"]


def test_siblings_are_others_of_the_same_task() -> None:
    """A run is not its own sibling, and one that has too few has none; each draw is the same again."""
    references = beside_sound.sound_ones(CORPUS)
    names = {
        count: {
            name: sorted(one.name for one in of)
            for name, of in beside_sound.siblings(CORPUS, references, count).items()
        }
        for count in (1, 2, 3)
    }
    assert names[2] == {"short": ["a", "b"], "harmless": ["a", "b"], "stuck": ["a", "b"]}
    assert {name: of for name, of in names[1].items() if name in "ab"} == {"a": ["b"], "b": ["a"]}
    assert names[3] == {}
    assert beside_sound.siblings(CORPUS, references, 1) == beside_sound.siblings(CORPUS, references, 1)


def test_of_many_siblings_so_many_are_drawn() -> None:
    """As many as there are, from the least to the most that are asked for."""
    many = made({f"run {i}": ("Hill", "sound", "sound", RISES) for i in range(6)})
    references = beside_sound.references_of(many, [f"run {i}" for i in range(5)])
    counts = {name: len(of) for name, of in beside_sound.siblings(many, references, 3, 4).items()}
    assert counts == {f"run {i}": 4 for i in range(6)}
    few = beside_sound.siblings(many, {name: references[name] for name in ("run 0", "run 1", "run 2")}, 3, 4)
    assert {name: len(of) for name, of in few.items()} == {f"run {i}": 3 for i in range(3, 6)}


def test_runs_of_an_unknown_environment_are_no_siblings() -> None:
    """Nobody knows whether they are of one task."""
    names = ["a", "b"]
    unknown = made(dict.fromkeys(names, (public.UNKNOWN, "sound", "sound", RISES)))
    assert beside_sound.siblings(unknown, beside_sound.references_of(unknown, names), 1) == {}


def test_healthy_ones_are_so_by_their_verdict() -> None:
    """Whatever they are labelled: a sound run that has not risen yet is none, and an unclear one that rose is."""
    mixed = made({"a": ("Hill", "sound", "sound", STUCK), "b": ("Hill", "rlm-r", "unclear", RISES)})
    assert [*beside_sound.healthy_ones(mixed, mixed.judged())] == ["b"]


def test_what_is_said_beside_siblings_is_that_of_both_together() -> None:
    """It is the same as that of a judge who has all rules and the references at once."""
    references = [*beside_sound.sound_ones(CORPUS).values()]
    for name in ("stuck", "a"):
        rows = CORPUS.rows[name]
        together, whole = beside_sound.beside(rows, judged(rows), references), judged(rows, references=references)
        assert together.severities.tolist() == whole.severities.tolist()
        assert (together.first_critical, together.first_warning) == (whole.first_critical, whole.first_warning)
    assert whole.first_critical is None


def test_the_table_has_the_same_runs_without_references_and_with() -> None:
    """The run that is stuck is found beside one sibling, and not alone; the one without siblings is in no row."""
    rows = {row["group"]: row for row in beside_sound.beside_table(CORPUS, {"all": [*CORPUS.rows]}).records}
    alone, beside = rows["all that have 1, alone"], rows["all, beside 1"]
    assert (alone["sound"], alone["broken"], alone["found"], alone["critical"]) == (4, 1, 0, 0)
    assert (beside["sound"], beside["broken"], beside["found"], beside["critical"]) == (4, 1, 1, 0)
    expected = Rates.of(
        cases(CORPUS.judged(), CORPUS.labels.filter(pl.col("name").is_in(["a", "b", "short", "harmless", "stuck"])))
    )
    assert alone["watched"] == expected.watched
