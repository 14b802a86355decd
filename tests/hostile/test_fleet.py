"""`fleet` over every hostile folder at once: each is a row, kills no worker, and hides no other run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.hostile.bombs import SIZES
from tests.hostile.folders import LINKS, SPECIAL, Hostile
from tests.hostile.ground import Ground

pytestmark = pytest.mark.hostile

HOSTILE: dict[str, Hostile] = {**LINKS, **SPECIAL, **SIZES}
SOUND = ("a-sound-run", "m-sound-run", "z-sound-run")


def _sweep(ground: Ground) -> tuple[Path, list[Path]]:
    """A folder with one run made hostile in each way, in a folder of its own, and sound runs among them."""
    root, runs = ground.folder / "sweep", []
    for number, state in enumerate(HOSTILE.values()):
        run = root / f"{number:03}" / "good"
        shutil.copytree(ground.recorded, run)
        state.make(run, ground.outside)
        runs.append(run)
    for name in SOUND:
        shutil.copytree(ground.recorded, root / name)
    return root, runs


def test_a_fleet_of_hostile_runs(ground: Ground) -> None:
    """No worker dies of one, what is damaged says so, and the sound runs among them are judged as they are alone."""
    root, runs = _sweep(ground)
    options = ("--workers", "2", "--verify", "--format", "json")
    alone, together = ground.ask(
        ("esper-analyze", "fleet", root / SOUND[0], *options),
        ("esper-analyze", "fleet", root, *options),
        patience=120.0,
    )
    ground.check(alone, together)
    for run in runs:
        ground.check_discloses_nothing(run)
    (expected,) = json.loads(alone.out)["runs"]
    rows = {row["name"]: row for row in json.loads(together.out)["runs"]}
    for name in SOUND:
        assert (rows[name]["updates"], rows[name]["verdict"]) == (expected["updates"], expected["verdict"])
        assert (rows[name]["error"], rows[name]["damaged"]) == (None, False)
    errors = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert [error for error in errors.values() if "its process died" in error or "a defect of Esper" in error] == []
    for number, (name, state) in enumerate(HOSTILE.items()):
        row = rows.get(f"{number:03}/good")  # a folder whose header is a link, or is gone, may be no run
        assert row is None or row["error"] or row["damaged"] or not state.is_damage, name
    assert len(rows) > 0.8 * (len(HOSTILE) + len(SOUND))
