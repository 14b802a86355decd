"""Remarks on a run: what whoever reads its numbers has to know about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer import open_run
from esper_recorder import ValueLossDefinition

ROWS = [{"update": update} for update in range(3)]


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ((0,), "Only rank 0 of 8 recorded anything; the other ranks are not in these numbers."),
        ((3,), "Only rank 3 of 8 recorded anything; the other ranks are not in these numbers."),
        ((0, 2), "Only 2 ranks (0, 2) of 8 recorded anything; the other ranks are not in these numbers."),
        (range(7), "Only 7 ranks (0, 1, 2, 3 …) of 8 recorded anything; the other ranks are not in these numbers."),
        (range(8), None),
        ((), None),
    ],
)
def test_ranks_that_recorded_nothing_are_spoken_of(
    record: Callable[..., Path], tmp_path: Path, ranks: tuple[int, ...], said: str | None
) -> None:
    """A launcher starts eight processes, and some of them open no recorder: a report says so, check does not fail."""
    for rank in ranks:
        record(ROWS, rank=rank, world_size=8, resume="allow")
    if not ranks:
        record(ROWS, world_size=1)
    run = open_run(tmp_path / "runs" / "run")
    spoken = [remark for remark in run.remarks if "recorded anything" in remark]
    assert spoken == ([said] if said else [])
    reasons = {(reason.rule, reason.text) for reason in run.report(rank=None).verdict.findings}
    assert {text for rule, text in reasons if rule == "remark" and "recorded anything" in text} == set(spoken)


def test_remark_on_ranks_follows_a_run_that_is_being_recorded(record: Callable[..., Path]) -> None:
    """The ranks of a run begin one after the other; the remark goes when the last of them has begun."""
    run = open_run(record(ROWS, rank=0, world_size=2))
    assert "Only rank 0 of 2" in " ".join(run.remarks)
    record(ROWS, rank=1, world_size=2, resume="allow")
    assert "Only rank" not in " ".join(run.remarks)


@pytest.mark.parametrize(
    ("clipping", "said", "unsaid"),
    [
        ("none", "", "clipped"),
        ("max", "", "clipped"),
        ("unknown", "", "clipped"),
        ("clipped", "The value loss is that of clipped predictions alone", "cuts"),
        ("error_clipped", "The value loss cuts each squared error off at a maximum", "predictions"),
    ],
)
def test_a_clipped_error_is_told_from_clipped_predictions(
    record: Callable[..., Path], clipping: Any, said: str, unsaid: str
) -> None:
    """A loss that cuts errors off, as RLlib's does, never gets the remark on clipped predictions, and the other way."""
    definition = ValueLossDefinition(source="mean(clip((V - G)^2, 0, 10))", factor=0.5, clipping=clipping)
    run = open_run(record(ROWS, value_loss_definition=definition))
    assert run.header.value_loss_definition["clipping"] == clipping
    spoken = " ".join(run.remarks)
    assert said in spoken
    assert unsaid not in spoken
    assert said in " ".join(run.report().verdict.reasons)


def test_a_word_of_a_newer_version_is_no_error(record: Callable[..., Path]) -> None:
    """A reader that does not know what is clipped reads the run, and says nothing about it."""
    path = record(ROWS, value_loss_definition=ValueLossDefinition(clipping="max"))
    header = json.loads((path / "run.json").read_text())
    header["value_loss_definition"]["clipping"] = "something_else"
    (path / "run.json").write_text(json.dumps(header))
    assert open_run(path).remarks == []
    assert open_run(path).updates().collect().height == len(ROWS)
