"""Reads a folder of TorchRL's CSVLogger: `scalars/` with a file for each number, `step,value` in each line."""

from __future__ import annotations

from pathlib import Path

from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.number_files import NumberFiles
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.values import as_number

_SCALARS = "scalars"
_BESIDE = ("texts", "videos")  # it makes all three, whatever is logged


def experiment_of(folder: Path) -> Path | None:
    """Return the experiment of TorchRL that a folder is, or whose scalars it has; None if it is neither."""
    experiment = folder.parent if folder.name == _SCALARS else folder
    return experiment if all((experiment / name).is_dir() for name in (_SCALARS, *_BESIDE)) else None


class TorchrlExperiment(NumberFiles):
    """An experiment of TorchRL's CSVLogger as a `PointReader`. It has no times.

    Args:
        folder: The folder of the experiment.
        following: Whether and how it is followed.
    """

    line_has = "step and value"

    def __init__(self, folder: Path, following: Following = READ_ONCE) -> None:
        super().__init__(folder, _SCALARS, ".csv", following)

    def point_of(self, line: str) -> tuple[int | None, float | None, float] | None:
        """Read a line."""
        cells = line.split(",")
        value = as_number(cells[1]) if len(cells) == 2 else None
        return None if value is None else (as_steps(as_number(cells[0])), None, value)
