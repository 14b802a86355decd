"""The runs that break at a drawn update, and that `explain` names the cause: the short form of what is measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark.what_moved import FIRST, KINDS, ask, last_update, train

from esper_analyzer import open_run
from esper_schemas import METRICS


def test_causes_are_metrics() -> None:
    """There are ten kinds, and each counts metrics as its cause that its runs record."""
    assert len(KINDS) == 10
    for kind in KINDS.values():
        assert kind.causes
        assert kind.causes <= {*METRICS, "reward_alive", "reward_effort"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["NaN in one minibatch", pytest.param("learning rate jumps", marks=pytest.mark.notebooks)]
)
def test_the_cause_is_among_the_first_three(kind: str, tmp_path: Path) -> None:
    """A run that the built-in trainer records breaks, and `explain` names the cause and the update."""
    run = train(kind, 0, tmp_path, rollout_steps=8)
    answer = ask(kind, run, last_update(run))
    assert answer.is_named, answer
    assert {name: update for name, update in answer.first[:FIRST] if name in KINDS[kind].causes}.popitem()[
        1
    ] == run.begins
    assert ask(kind, run, run.begins - 1).place is None
    if kind == "NaN in one minibatch":
        first = open_run(run.path).explain(last_update(run)).moved[0]
        assert (first.metric, first.minibatch) == ("value_loss", 6)
