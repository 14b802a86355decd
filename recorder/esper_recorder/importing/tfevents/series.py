"""Reads what `add_scalars` of TensorBoard writes: each series into event files in a folder of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError
from esper_recorder.importing.merging import Gathering
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.tfevents.reader import EventFiles
from esper_recorder.importing.tfevents.scalars import ScalarDecoder
from esper_schemas.tfevents.records import RecordFile, is_start

_DEEPEST = 6
"""So many folders below a folder its series are looked for: a tag and the name of a series may both have slashes."""

_MAX_FOLDERS = 2_000
"""So many are looked into at most, since a log that is followed is looked at again and again."""

_INVALID = re.compile(r"[^-/\w.]")
"""What tensorboardX replaces in a tag, but not in the name of a folder."""


def series_in(folder: Path) -> dict[Path, str]:
    """Return the folders below `folder` that `add_scalars` made, with the key of each series.

    PyTorch writes `add_scalars("losses", {"value": 0.5})` as the tag `losses` into the folder `losses_value`,
    tensorboardX into `losses/value`; the key is `losses/value`. A series that is named after its tag, as in
    `add_scalars("agent0/ratio", {"agent0/ratio": 1.0})`, has the tag as its key.
    """
    found = {}
    for inner in _folders_below(folder):
        tag = _tag_in(inner)
        name = _series_name(inner.relative_to(folder).as_posix(), tag) if tag else ""
        if name:
            found[inner] = tag if _INVALID.sub("_", name) == _INVALID.sub("_", tag) else f"{tag}/{name}"
    return found


def _series_name(path: str, tag: str) -> str:
    """The name of the series in a folder with this tag; an empty text if `add_scalars` did not make the folder."""
    cleaned = _INVALID.sub("_", path)
    for prefix in (f"{tag}/", f"{tag.replace('/', '_')}_"):
        if cleaned.startswith(_INVALID.sub("_", prefix)):
            return path[len(prefix) :]
    return ""


def _folders_below(folder: Path) -> list[Path]:
    """The folders below a folder, those of each folder in the order of their names; links are left out."""
    found: list[Path] = []
    level = [folder]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in _folders_in(one)][: _MAX_FOLDERS - len(found)]
        found += level
    return found


def _folders_in(folder: Path) -> list[Path]:
    """The folders in a folder; none if it cannot be read, or is gone meanwhile."""
    try:
        with os.scandir(folder) as entries:  # it knows what is a folder without asking for each file
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _tag_in(folder: Path) -> str:
    """The tag of the first scalar in a folder; an empty text if it has none."""
    for path in _event_files(folder):
        with path.open("rb") as file:
            for chunk in RecordFile().chunks(file):
                points, _ = ScalarDecoder().decode(chunk)
                if points.keys:
                    return points.keys[0]
    return ""


def _event_files(folder: Path) -> list[Path]:
    """The event files in a folder, by their names, which both writers give them, and by how they begin."""
    found = []
    for path in sorted(folder.glob("*tfevents*")):
        with suppress(OSError):  # it cannot be read, or is gone meanwhile
            if path.is_file():
                with path.open("rb") as file:
                    if is_start(file.read(12)):
                        found.append(path)
    return found


class EventFolders:
    """Event files of a folder, and of the series in it, as one `PointReader`, in the order of their times.

    Args:
        paths: The event files of the folder itself.
        folder: The folder.
        series: The folders of the series in it, with their keys.
        following: Whether and how they are followed.
    """

    what = "scalars"

    def __init__(
        self, paths: Sequence[Path], folder: Path, series: Mapping[Path, str], following: Following = READ_ONCE
    ) -> None:
        self._folder = folder
        self._series = series
        self._following = following
        self._own = EventFiles(paths, folder, following)

    @property
    def config(self) -> Mapping[str, Any]:
        """Hyper-parameters of the event files of the folder itself."""
        return self._own.config

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points that are there, and then those that are new; see `PointReader.points`."""
        own = self._own.points(on_read, account)
        if not self._series:  # so far
            for points in own:
                yield points
                if points is NOTHING_YET:
                    self._check()
            return
        streams = [(own, "")]
        for inner, key in self._series.items():
            reader = EventFiles(_event_files(inner), inner, self._following)
            streams.append((reader.points(on_read, account), key))
        gathering = Gathering()
        while streams:
            streams = [stream for stream in streams if not _read_on(*stream, gathering)]
            yield from gathering.due(is_over=not streams)
            if gathering.is_beginning:
                self._following.pause()
            elif streams:
                yield NOTHING_YET
            self._check()

    def _check(self) -> None:
        """Check that no other series has begun.

        Raises:
            RewrittenError: one has.
        """
        if not self._following.is_over and series_in(self._folder).keys() != self._series.keys():
            raise RewrittenError


def _read_on(stream: Iterator[Points], key: str, gathering: Gathering) -> bool:
    """Gather the points of a stream that are there; return whether it is over."""
    for points in stream:
        gathering.add(key, points._replace(keys=[key] * len(points.keys)) if key else points)
        if points is NOTHING_YET:
            return False
    return True
