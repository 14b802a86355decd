"""Reads a run of MLflow's file store: a folder with a text file for each metric, and one for each parameter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError
from esper_recorder.importing.json_lines import MAX_LINE_BYTES
from esper_recorder.importing.merging import in_time_order
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import as_number, as_setting

_METRICS, _PARAMETERS = "metrics", "params"

OF_SYSTEM = "system/"
"""How the names of metrics of the machine begin, whose step counts their samples."""

_MAX_SETTINGS = 1000
_MAX_SETTING_BYTES = 64 * 1024
_MAX_METRICS = 5000


def run_of(folder: Path) -> Path | None:
    """Return the run of MLflow that a folder is, or whose metrics it has; None if it is neither."""
    run = folder.parent if folder.name == _METRICS else folder
    return run if (run / "meta.yaml").is_file() and (run / _METRICS).is_dir() else None


class MlflowRun:
    """A run in the file store of MLflow as a `PointReader`.

    Each line of a metric's file has the time in milliseconds, the value and the step. Points of several metrics are put
    in the order of their times. Metrics of the machine, `system/…`, have a step of their own, and are counted.

    Args:
        folder: The folder of the run.
        following: Whether and how it is followed.
    """

    what = "numbers"

    def __init__(self, folder: Path, following: Following = READ_ONCE) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {}
        self._following = following
        self._read_to: dict[Path, int] = {}
        self._torn: dict[str, None] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points that are there, and then those that are new; see `PointReader.points`."""
        self._read_settings(account)
        while True:
            is_over = self._following.is_over
            new = [self._new_points(path, name, on_read, account) for name, path in self._files()]
            if any(part.keys for part in new):
                yield in_time_order(new)
            if is_over:
                break
            yield NOTHING_YET
        for name in self._torn:
            account.unreadable.add(f"{name} (torn: its last line does not end)")

    def _files(self) -> list[tuple[str, Path]]:
        """The files of the metrics by their names, in which a slash is a folder."""
        root = self.folder / _METRICS
        if not root.is_dir():
            self._following.note_gone(self.folder)
            return []
        self._following.note_there()
        found = [(path.relative_to(root).as_posix(), path) for path in sorted(root.rglob("*")) if path.is_file()]
        return found[:_MAX_METRICS]

    def _new_points(self, path: Path, name: str, on_read: OnRead, account: Account) -> Points:
        begin = end = self._read_to.get(path, 0)
        points = Points([], [], [], [])
        with path.open("rb") as file:
            if path.stat().st_size < begin:
                raise RewrittenError
            file.seek(begin)
            self._torn.pop(name, None)
            while line := file.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n"):
                    self._torn[name] = None
                    break
                end += len(line)
                if name.startswith(OF_SYSTEM):
                    account.not_imported["metrics of the machine"] += 1
                elif not _add(points, name, line):
                    account.unreadable.add(
                        f"{name} ({line[:60].decode('utf-8', 'replace').strip()!a} is no time, value and step)"
                    )
        self._read_to[path] = end
        on_read(end - begin)
        return points

    def _read_settings(self, account: Account) -> None:
        with suppress(OSError):
            for path in sorted((self.folder / _PARAMETERS).iterdir())[:_MAX_SETTINGS]:
                if path.is_file():
                    with path.open("rb") as file:
                        text = file.read(_MAX_SETTING_BYTES)
                    self.config[path.name] = as_setting(text.decode("utf-8", "replace").strip())
        if self.config:
            account.notes.append(f"the {len(self.config):,} hyper-parameters of the run are in the run's header")


def _add(points: Points, name: str, line: bytes) -> bool:
    """Add the point that a line is; False if it is none. Newer versions have the name of a data set behind the step."""
    cells = line.decode("utf-8", "replace").split()
    time, value = (as_number(cell) for cell in cells[:2]) if len(cells) > 1 else (None, None)
    if time is None or value is None:
        return False
    step = as_steps(as_number(cells[2])) if len(cells) > 2 else None
    for column, item in zip(points[:4], (name, step, time / 1000, value), strict=True):
        assert isinstance(column, list)
        column.append(item)
    return True
