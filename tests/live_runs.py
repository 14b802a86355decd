"""Copies of a run that is still recorded, as a kill at that moment would leave it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.waiting import wait_until


def copy_live_run(run: Path, target: Path, *, sealed: int) -> Path:
    """Copy a run that rank 0 records, once so many segments are sealed, and one is active.

    What the recorder writes aside is left out: it may be renamed before it is copied.
    """
    rank = run / "rank-0000"
    wait_until(
        lambda: len([*(rank / "segments").glob("*.parquet")]) == sealed and len([*(rank / "active").iterdir()]) == 1
    )
    return Path(shutil.copytree(run, target, ignore=shutil.ignore_patterns("*.tmp")))
