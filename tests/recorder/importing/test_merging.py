"""Points of files that grow side by side: which are kept for the sake of others, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from esper_recorder.importing.merging import Gathering
from esper_recorder.importing.points import NOTHING_YET, Points


def points(key: str, *steps: int) -> Points:
    """Points of one file, logged a second apart; each file is a bit later than those before it by name."""
    late = 0.01 * (ord(key) - ord("a"))
    return Points([key] * len(steps), steps, [step + late for step in steps], [0.5] * len(steps))


def due(gathering: Gathering, *, is_over: bool = False) -> list[tuple[str, int | None]]:
    """Key and step of what is due."""
    found: list[tuple[Sequence[str], Sequence[int | None]]] = [
        (part.keys, part.steps) for part in gathering.due(is_over=is_over)
    ]
    return [pair for keys, steps in found for pair in zip(keys, steps, strict=True)]


@pytest.fixture
def begun() -> Gathering:
    """Files `a` and `b`, both read up to step 1."""
    gathering = Gathering()
    gathering.add("a", points("a", 0, 1))
    gathering.add("b", points("b", 0, 1))
    assert due(gathering) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    return gathering


def test_a_point_waits_until_no_file_is_behind_it(begun: Gathering) -> None:
    """What is due comes in the order of its times, and nothing twice."""
    begun.add("a", points("a", 2, 3))
    begun.add("b", NOTHING_YET)
    assert due(begun) == []
    begun.add("b", points("b", 2))
    assert due(begun) == [("a", 2), ("b", 2)]
    begun.add("b", points("b", 3))
    assert due(begun) == [("a", 3), ("b", 3)]
    assert due(begun, is_over=True) == []


def test_nothing_is_kept_at_the_end(begun: Gathering) -> None:
    """However far the files have got."""
    begun.add("a", points("a", 2, 3))
    assert due(begun, is_over=True) == [("a", 2), ("a", 3)]


def test_a_file_that_has_ended_holds_up_nothing_for_long(begun: Gathering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that were kept long enough come, and with them those that belong before them."""
    begun.add("a", points("a", 2, 4))
    assert due(begun) == []
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.0)
    assert due(begun) == [("a", 2), ("a", 4)]


def test_the_first_points_come_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their keys tell whose log it is; a file without a point yet is waited for, too."""
    gathering = Gathering()
    gathering.add("a", points("a", 0, 1))
    gathering.add("b", points("b", 0))
    gathering.add("c", NOTHING_YET)
    assert (due(gathering), gathering.is_beginning) == ([], True)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.0)
    assert due(gathering) == [("a", 0), ("b", 0), ("a", 1)]
    assert (due(gathering), gathering.is_beginning) == ([], False)
