"""Remarks on a run: what whoever reads its numbers has to know about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from esper_analyzer import open_run

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
