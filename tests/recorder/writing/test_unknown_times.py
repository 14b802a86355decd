"""Rows of a past whose times are not known: `fill_in_times=False`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esper_recorder import Recorder

ReadRows = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize("fills", [False, True])
def test_times_that_are_not_known_stay_null(fills: bool, tmp_path: Path, read_rows: ReadRows) -> None:
    """No row gets the time of now unless it is asked for, whatever the row before had; a given time stays."""
    with Recorder.open(tmp_path, run_id="r", fill_in_times=fills) as recorder:
        for update in range(4):
            assert recorder.record(update=update, policy_loss=0.0, value_loss=1.0)
        assert recorder.record(update=4, policy_loss=0.0, value_loss=1.0, elapsed_secs=3.0)
        for update in range(5, 8):
            assert recorder.record(
                update=update, policy_loss=0.0, value_loss=1.0, elapsed_secs=3.0, wall_time=1_700_000_000_000_000
            )
        assert recorder.record(update=8, policy_loss=0.0, value_loss=1.0)
    rows = read_rows(tmp_path / "r")
    given = [False] * 4 + [True] * 4 + [False]
    assert [row["elapsed_secs"] is not None for row in rows] == [fills or is_given for is_given in given]
    given[4] = False
    assert [row["wall_time"] is not None for row in rows] == [fills or is_given for is_given in given]
