"""Reads a folder that has a text file for each number, with a line for each point, as MLflow and TorchRL write it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError
from esper_recorder.importing.json_lines import MAX_LINE_BYTES
from esper_recorder.importing.merging import Gathering
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.run_import import OnRead

_MAX_FILES = 5000


class NumberFiles(ABC):
    """Such a folder as a `PointReader`. Points of several files are put in the order of their times, then their steps.

    Args:
        folder: The folder of the run.
        inside: The folder in it that has the files; in the name of a number, a slash is a folder.
        ending: How the names of the files end, behind the name of the number.
        following: Whether and how it is followed.
    """

    what = "numbers"
    line_has = ""
    """What a line is expected to have, for messages."""

    def __init__(self, folder: Path, inside: str, ending: str = "", following: Following = READ_ONCE) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {}
        self._root = folder / inside
        self._ending = ending
        self._following = following
        self._read_to: dict[Path, int] = {}
        self._torn: dict[str, None] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points that are there, and then those that are new; see `PointReader.points`."""
        self.config.update(self.settings(account))
        gathering = Gathering()
        while True:
            is_over = self._following.is_over
            for name, path in self._files():
                new = self._new_points(path, name, on_read, account)
                if not self.kind_left_out(name):
                    gathering.add(name, new)
            yield from gathering.due(is_over=is_over)
            if is_over:
                break
            if gathering.is_beginning:
                self._following.pause()
            else:
                yield NOTHING_YET
        for name in self._torn:
            account.unreadable.add(f"{name} (torn: its last line does not end)")

    def settings(self, account: Account) -> Mapping[str, Any]:
        """Return the hyper-parameters, where the folder has them."""
        return {}

    def kind_left_out(self, name: str) -> str:
        """Say what a number is that is not imported; an empty text if it is imported."""
        return ""

    @abstractmethod
    def point_of(self, line: str) -> tuple[int | None, float | None, float] | None:
        """Return step, time in seconds since 1970, and value of a line; None if it is no point."""

    def _files(self) -> list[tuple[str, Path]]:
        if not self._root.is_dir():
            self._following.note_gone(self.folder)
            return []
        self._following.note_there()
        paths = [path for path in sorted(self._root.rglob(f"*{self._ending}")) if path.is_file()]
        names = [path.relative_to(self._root).as_posix().removesuffix(self._ending) for path in paths]
        return list(zip(names, paths, strict=True))[:_MAX_FILES]

    def _new_points(self, path: Path, name: str, on_read: OnRead, account: Account) -> Points:
        begin = end = self._read_to.get(path, 0)
        keys: list[str] = []
        steps: list[int | None] = []
        times: list[float | None] = []
        values: list[float] = []
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
                text = line.decode("utf-8", "replace").strip()
                if kind := self.kind_left_out(name):
                    account.not_imported[kind] += 1
                elif (point := self.point_of(text)) is None:
                    account.unreadable.add(f"{name} ({text[:60]!a} is no {self.line_has})")
                else:
                    step, time, value = point
                    keys.append(name)
                    steps.append(step)
                    times.append(time)
                    values.append(value)
        self._read_to[path] = end
        on_read(end - begin)
        return Points(keys, steps, times, values)
