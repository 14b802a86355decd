"""Checkpoints, as a test reads them."""

from __future__ import annotations

from pathlib import Path

from esper_recorder.train.checkpoint import Checkpoint
from esper_schemas.run.files import Folder


def read_checkpoint(path: Path) -> Checkpoint:
    """That of the run whose `checkpoint.pt` is there."""
    assert path.name == "checkpoint.pt"
    with Folder.at(path.parent) as run:
        return Checkpoint.read(run)
