"""Whether new rows go on, leave a gap or supersede earlier ones, held against plain arithmetic."""

from __future__ import annotations

import random

import polars as pl
import pytest

from esper_analyzer.reading.gaps import gaps_in, gaps_of_new


def expected(updates: list[int], last: int | None) -> list[tuple[int, int]] | None:
    """What is missing before and between these updates, one after the other; None where one goes back."""
    found = []
    for update in updates:
        if last is not None and update <= last:
            return None
        if last is not None and update > last + 1:
            found.append((last + 1, update - 1))
        last = update
    return found


@pytest.mark.parametrize("seed", range(200))
def test_new_rows_go_on_leave_a_gap_or_go_back(seed: int) -> None:
    """Whatever comes after whatever: every gap is found with its ends, and every step back is seen."""
    rng = random.Random(seed)
    last = rng.choice([None, 0, 7])
    update = rng.randrange(3) + (0 if last is None else last)
    updates = [update]
    for _ in range(rng.randrange(6)):
        updates.append(updates[-1] + rng.choice([1, 1, 1, 1, 2, 5, 0, -2]))
    frame = pl.DataFrame({"update": updates}, schema={"update": pl.Int64})
    wanted = expected(updates, last)
    assert gaps_of_new(frame, last) == wanted
    if wanted is not None:
        assert gaps_in(frame.lazy(), last) == wanted


def test_a_gap_within_rows_of_as_many_as_expected_is_found() -> None:
    """Only rows that rise by one each leave nothing out, however many there are."""
    frame = pl.DataFrame({"update": [5, 7, 8]})
    assert gaps_of_new(frame, 4) == [(6, 6)]
    assert gaps_of_new(frame, None) == [(6, 6)]
    assert gaps_of_new(frame, 3) == [(4, 4), (6, 6)]
