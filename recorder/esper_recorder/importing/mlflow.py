"""Reads a run of MLflow's file store: a folder with a text file for each metric, and one for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.number_files import NumberFiles
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.values import as_number, as_setting

_METRICS, _PARAMETERS = "metrics", "params"

OF_SYSTEM = "system/"
"""How the names of metrics of the machine begin, whose step counts their samples."""

_MAX_SETTINGS = 1000
_MAX_SETTING_BYTES = 64 * 1024


def run_of(folder: Path) -> Path | None:
    """Return the run of MLflow that a folder is, or whose metrics it has; None if it is neither."""
    run = folder.parent if folder.name == _METRICS else folder
    return run if (run / "meta.yaml").is_file() and (run / _METRICS).is_dir() else None


class MlflowRun(NumberFiles):
    """A run in the file store of MLflow as a `PointReader`.

    Each line of a metric's file has the time in milliseconds, the value and the step. Metrics of the machine,
    `system/…`, have a step of their own, and are counted.

    Args:
        folder: The folder of the run.
        following: Whether and how it is followed.
    """

    line_has = "time, value and step"

    def __init__(self, folder: Path, following: Following = READ_ONCE) -> None:
        super().__init__(folder, _METRICS, following=following)

    def kind_left_out(self, name: str) -> str:
        """Say that a metric is one of the machine."""
        return "metrics of the machine" if name.startswith(OF_SYSTEM) else ""

    def point_of(self, line: str) -> tuple[int | None, float | None, float] | None:
        """Read a line. Newer versions have the name of a data set behind the step."""
        cells = line.split()
        time, value = (as_number(cell) for cell in cells[:2]) if len(cells) > 1 else (None, None)
        if time is None or value is None:
            return None
        return as_steps(as_number(cells[2])) if len(cells) > 2 else None, time / 1000, value

    def settings(self, account: Account) -> Mapping[str, Any]:
        """Return the parameters of the run."""
        found: dict[str, Any] = {}
        with suppress(OSError):
            for path in sorted((self.folder / _PARAMETERS).iterdir())[:_MAX_SETTINGS]:
                if path.is_file():
                    with path.open("rb") as file:
                        text = file.read(_MAX_SETTING_BYTES)
                    found[path.name] = as_setting(text.decode("utf-8", "replace").strip())
        if found:
            account.notes.append(f"the {len(found):,} hyper-parameters of the run are in the run's header")
        return found
