"""Reads the points of one event file, or of the event files of a folder one after another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError, Watched
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.tfevents.scalars import Other, ScalarDecoder
from esper_recorder.importing.values import as_setting
from esper_schemas.tfevents.records import Chunk, RecordFile, is_start

NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")
"""How event files are named, with the second in which they were made."""

_MAX_SETTINGS = 1000


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Sort event files by the time in their name, then by name."""

    def key(path: Path) -> tuple[int, str]:
        found = NAME.match(path.name)
        return (int(found[1]) if found else 0), path.name

    return sorted(paths, key=key)


class EventFiles:
    """Event files of one training as a `PointReader`.

    Of a folder that is followed, the last file may grow, until there is another one behind it.

    Args:
        paths: The files, in any order.
        folder: The folder that they are in, if more files may turn up there.
        following: Whether and how they are followed.
    """

    what = "scalars"

    def __init__(self, paths: Sequence[Path], folder: Path | None = None, following: Following = READ_ONCE) -> None:
        self.config: dict[str, Any] = {}
        self._paths = in_order(paths)
        self._folder = folder
        self._following = following
        self._others: set[str] = set()  # names in the folder that are no event files
        self._read_to: dict[Path, int] = {}  # of the files before the one that may grow: their sizes

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of the files; see `PointReader.points`."""
        place = 0
        while place < len(self._paths):
            yield from self._points_of(place, on_read, account)
            place += 1

    def _points_of(self, place: int, on_read: OnRead, account: Account) -> Iterator[Points]:
        path, records = self._paths[place], RecordFile()
        is_new, decoder = True, ScalarDecoder()
        with path.open("rb") as file:
            watched = Watched(path, file, self._following)
            while True:
                is_last = watched.is_over or self._is_another_there(place)  # before it is read to its end
                for chunk in records.chunks(file):
                    on_read(chunk.size)
                    points, other = decoder.decode(chunk)
                    self._note(chunk, other, self._prefix(path), account)
                    if points.keys:
                        yield points._replace(begins_anew=is_new)
                        is_new = False
                if is_last:
                    self._read_to[path] = records.offset + records.torn_bytes
                    break
                watched.note_read(records.offset)
                yield NOTHING_YET
                while not (watched.has_changed() or watched.is_over or self._is_another_there(place)):
                    yield NOTHING_YET
        self._note_end(records, self._prefix(path), account)

    def _prefix(self, path: Path) -> str:
        """What the name of a place in a file begins with."""
        return f"{path.name}: " if len(self._paths) > 1 else ""

    def _is_another_there(self, place: int) -> bool:
        """Whether there is a file behind this one, so that this one is complete.

        Raises:
            RewrittenError: a file before this one is new, or has grown.
        """
        if self._folder is not None and not self._following.is_over and place == len(self._paths) - 1:
            known, self._paths = self._paths, in_order([*self._paths, *self._new_files(self._folder)])
            if self._paths[: len(known)] != known:
                raise RewrittenError
            with suppress(FileNotFoundError):  # a file that was read may be removed
                if any(path.stat().st_size != size for path, size in self._read_to.items()):
                    raise RewrittenError
        return place < len(self._paths) - 1

    def _new_files(self, folder: Path) -> list[Path]:
        """The event files in a folder that were not there before; none while it cannot be listed."""
        found = []
        with suppress(OSError):
            known = {path.name for path in self._paths} | self._others
            for path in (path for path in folder.iterdir() if path.name not in known):
                if not path.is_file():
                    self._others.add(path.name)
                    continue
                with path.open("rb") as file:
                    start = file.read(12)
                if is_start(start):
                    found.append(path)
                elif len(start) == 12:
                    self._others.add(path.name)
        return found

    def _note_end(self, records: RecordFile, name: str, account: Account) -> None:
        if records.is_broken:
            account.unreadable.add(
                f"{name}offset {records.offset:,} (the length of a record fails its checksum; the"
                f" {records.torn_bytes:,} bytes from there on were not read)"
            )
        elif records.torn_bytes:
            account.unreadable.add(
                f"{name}offset {records.offset:,} (torn: the file ends in the middle of a record, after"
                f" {records.torn_bytes:,} bytes)"
            )

    def _note(self, chunk: Chunk, other: Other, name: str, account: Account) -> None:
        for offset in chunk.corrupt:
            account.unreadable.add(f"{name}offset {offset:,} (the record fails its checksum; it was passed over)")
        if chunk.too_long is not None:
            offset, size = chunk.too_long
            account.unreadable.add(f"{name}offset {offset:,} (a record of {size:,} bytes; it was passed over)")
        for kind, count in other.counts.items():
            account.not_imported[kind] += count
        if other.malformed:
            account.not_imported["records that are no events"] += other.malformed
        self.config |= other.settings
        for key, text in other.texts:
            take_text(key, text, self.config, account)


def take_text(key: str, text: str, config: dict[str, Any], account: Account) -> None:
    """Add the hyper-parameters that a text has to a configuration, and note in the account what the text was."""
    settings = settings_of(text)
    if not settings:
        account.not_imported["texts"] += 1
    elif len(config) + len(settings) <= _MAX_SETTINGS:
        config |= settings
        account.notes.append(f"the {len(settings):,} hyper-parameters of {key} are in the run's header")


def settings_of(text: str) -> dict[str, Any]:
    """Return the hyper-parameters of a Markdown table of two columns, as CleanRL writes it; none for another text.

    A value is what `as_setting` makes of it.
    """
    lines = text.strip().split("\n")
    if len(lines) < 3 or not re.fullmatch(r"\|[^|]*\|[^|]*\|\s*", lines[0]) or set(lines[1].strip()) - set("|-: "):
        return {}
    found = {}
    for line in lines[2:]:
        cells = line.strip().removeprefix("|").removesuffix("|").split("|", 1)
        if len(cells) == 2 and cells[0].strip():
            found[cells[0].strip()] = as_setting(cells[1].strip())
    return found
