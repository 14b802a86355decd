"""The real event files of esper-lite, events like theirs, and the import command on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from esper_recorder.cli import main

DATA = Path(__file__).parent / "data"
SHORT = DATA / "esper_lite_2025-12-06_114137.events.jsonl"
GAP = DATA / "esper_lite_2025-12-07_081426.events.jsonl"


def run_import(*arguments: object, root: Path) -> Result:
    """Run `esper-rec import` in this process."""
    return CliRunner().invoke(main, ["import", *map(str, arguments), "--out", str(root)])


def events_of(path: Path) -> list[dict[str, Any]]:
    """The events of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def an_update(batch: int, /, **changed: Any) -> dict[str, Any]:
    """An event like those of the real runs; a key that is changed to `...` is left out."""
    losses = {"policy_loss": 0.01, "value_loss": 2.0, "entropy": 0.5, "approx_kl": -0.001}
    ratios = {"clip_fraction": 0.02, "ratio_max": 1.1, "ratio_min": 0.9, "ratio_std": 0.05, "explained_variance": 0.4}
    data = {"batch": batch, "train_steps": batch, **losses, **ratios, **changed}
    return {
        "event_type": "PPO_UPDATE_COMPLETED",
        "timestamp": f"2025-12-06T00:{batch:02d}:00+00:00",
        "data": {key: value for key, value in data.items() if value is not ...},
    }


def write(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A file of these events; text is written as it is."""
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path
