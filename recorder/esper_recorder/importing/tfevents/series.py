"""Reads what `add_scalars` of TensorBoard writes: each series into event files in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError
from esper_recorder.importing.merging import in_time_order
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.tfevents.reader import EventFiles
from esper_recorder.importing.tfevents.scalars import ScalarDecoder
from esper_schemas.tfevents.records import RecordFile, is_start


def series_in(folder: Path) -> dict[Path, str]:
    """Return the folders in `folder` that `add_scalars` made, with the key of each series.

    `add_scalars("losses", {"value": 0.5})` writes the tag `losses` into the folder `losses_value`; its key is
    `losses/value`.
    """
    found = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        tag = _tag_in(inner)
        prefix = f"{tag.replace('/', '_')}_"
        if tag and inner.name.startswith(prefix) and inner.name != prefix:
            found[inner] = f"{tag}/{inner.name.removeprefix(prefix)}"
    return found


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
    found = []
    for path in sorted(folder.iterdir()):
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
        while streams:
            new: list[Points] = []
            streams = [stream for stream in streams if not _read_on(*stream, new)]
            if new:
                yield in_time_order(new)
            if streams:
                yield NOTHING_YET
                self._check()

    def _check(self) -> None:
        """Check that no other series has begun.

        Raises:
            RewrittenError: one has.
        """
        if not self._following.is_over and series_in(self._folder).keys() != self._series.keys():
            raise RewrittenError


def _read_on(stream: Iterator[Points], key: str, new: list[Points]) -> bool:
    """Add the points of a stream that are there; return whether it is over."""
    for points in stream:
        if points is NOTHING_YET:
            return False
        new.append(points._replace(keys=[key] * len(points.keys)) if key else points)
    return True
