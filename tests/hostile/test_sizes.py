"""Files that are, or unfold to be, larger than memory: refused before they are read, by every command alike."""

from __future__ import annotations

import pytest
from tests.hostile.bombs import SIZES
from tests.hostile.folders import Hostile
from tests.hostile.ground import Ground
from tests.hostile.server import ENOUGH_MB

pytestmark = pytest.mark.hostile

MOST_SAID = 200_000
"""No command writes more about a run of five updates, in characters."""


@pytest.mark.parametrize("name", SIZES)
def test_size_is_bounded_before_anything_is_read(ground: Ground, name: str) -> None:
    """No command takes a gigabyte, hangs, or dies of a file that is too large; what is too large is a fault."""
    state: Hostile = SIZES[name]
    answers = state.check(ground)
    swollen = [f"{answer.name}: {answer.peak_mb} MB" for answer in answers.values() if answer.peak_mb > ENOUGH_MB]
    assert not swollen, ", ".join(swollen)
    whole = [answer.name for answer in answers.values() if len(answer.said) > MOST_SAID]
    assert not whole, f"a long text is printed whole by {', '.join(whole)}"
