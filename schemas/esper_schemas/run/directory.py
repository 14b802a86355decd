"""The folders of a run and of a rank, wherever they are stored, and the records that are read from them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from esper_schemas.errors import NotARunError, RunDamagedError, RunUnreadableError
from esper_schemas.limits import MAX_SEQ
from esper_schemas.run.files import Folder
from esper_schemas.run.names import (
    ACTIVE,
    ATTEMPTS,
    HEADER_NAME,
    LOCK_NAME,
    SEALS,
    SEGMENTS,
    active_name,
    attempt_name,
    rank_name,
    rank_numbers,
    seal_name,
    sealed_name,
)
from esper_schemas.run.records import Attempt, RunHeader, Seal
from esper_schemas.run.storage import Storage
from esper_schemas.run.store import Place, StoreUrl


def read_attempts(rank: Storage) -> list[Attempt]:
    """All attempts of a rank, oldest first; RunDamagedError if one cannot be read."""
    attempts: list[Attempt] = []
    while True:
        try:
            attempts.append(read_attempt(rank, len(attempts)))
        except FileNotFoundError:
            return attempts


def read_attempt(rank: Storage, number: int) -> Attempt:
    """Read the record of one attempt.

    Raises:
        FileNotFoundError: there is no such record.
        RunDamagedError: it cannot be read, or it belongs to another attempt, or a number in it is out of range.
    """
    name = attempt_name(number)
    record = Attempt.read(rank, name)
    if record.attempt != number:
        raise RunDamagedError(f"{rank.where(name)}: expected attempt {number}, found {record.attempt}")
    counts = (record.first_seq, record.rows, record.dropped_rows, (record.last_seq or 0) + 1)
    if min(counts) < 0 or max(counts) > MAX_SEQ:
        raise RunDamagedError(
            f"{rank.where(name)}: first_seq, last_seq, rows and dropped_rows must be from 0 to 2^62,"
            f" found {record.first_seq}, {record.last_seq}, {record.rows} and {record.dropped_rows}"
        )
    return record


def read_seal(rank: Storage, segment: int) -> Seal | None:
    """The seal record of a segment, None if there is none; RunDamagedError if it cannot be read."""
    try:
        return Seal.read(rank, seal_name(segment))
    except FileNotFoundError:
        return None


def has_writer(rank: Storage) -> bool | None:
    """Whether a running process on this machine holds the lock of a rank; None if that is unknown.

    It is unknown of a run in an object store, which may be recorded on another machine.
    """
    if not isinstance(rank, Folder):
        return None
    try:
        descriptor = rank.open_descriptor(LOCK_NAME)
    except FileNotFoundError:
        return False
    except (OSError, RunDamagedError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def open_place(path: Place) -> Storage:
    """Open a folder, or a place in an object store, for reading.

    Raises:
        FileNotFoundError, NotADirectoryError, OSError: it does not exist, is not a folder, or cannot be opened.
        StoreError: the object store does not answer, or refuses.
    """
    if isinstance(path, StoreUrl):
        from esper_schemas.run.objects import ObjectFolder  # for runs in an object store alone

        return ObjectFolder.at(path)
    return Folder.at(path)


def _open_folder(path: Path, root: Path | None) -> Folder:
    """Open a folder; if `root` is given, without following a link below it. Raises like `Folder.at` and `folder`."""
    if root is None:
        return Folder.at(path)
    with Folder.at(root) as folder:
        return folder.folder(path.relative_to(root).as_posix())


@dataclass(frozen=True, slots=True)
class StoredRank:
    """One rank of a run, wherever that is stored: segments, seals and attempts of one writer.

    Attributes:
        path: the place of its folder; for people and messages.
        rank: its number.
    """

    path: Place
    rank: int

    def open(self) -> Storage:
        """Open the folder for reading.

        Raises:
            FileNotFoundError: it does not exist.
            RunDamagedError: it is a link, or not a folder.
            OSError: it cannot be opened.
            StoreError: the object store does not answer, or refuses.
        """
        with open_place(self.path.parent) as run:
            return run.folder(self.path.name)

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first; RunDamagedError if one cannot be read."""
        try:
            with self.open() as rank:
                return read_attempts(rank)
        except FileNotFoundError:
            return []

    def seal(self, segment: int) -> Seal | None:
        """The seal record of a segment, None if there is none; RunDamagedError if it cannot be read."""
        with self.open() as rank:
            return read_seal(rank, segment)

    def has_writer(self) -> bool | None:
        """Whether a running process on this machine holds the lock of this rank; None if that is unknown."""
        try:
            with self.open() as rank:
                return has_writer(rank)
        except FileNotFoundError:
            return False
        except (OSError, RunDamagedError):
            return None


@dataclass(frozen=True, slots=True)
class RankDirectory(StoredRank):
    """The folder of one rank on a disk. The paths are for people and messages.

    `root` is that of the run; see `RunDirectory`.
    """

    path: Path
    root: Path | None = None

    def open(self) -> Folder:
        """Open the folder.

        Raises:
            FileNotFoundError: it does not exist.
            RunDamagedError: it is a link, or not a folder.
            OSError: it cannot be opened.
        """
        with _open_folder(self.path.parent, self.root) as run:
            return run.folder(self.path.name)

    @property
    def lock_path(self) -> Path:
        """File that the writer locks with an exclusive `flock` while it is running."""
        return self.path / LOCK_NAME

    @property
    def active_folder(self) -> Path:
        """Folder of active segments, and of what recovery cut off."""
        return self.path / ACTIVE

    @property
    def segments_folder(self) -> Path:
        """Folder of sealed segments; it never has other files."""
        return self.path / SEGMENTS

    @property
    def seals_folder(self) -> Path:
        """Folder of seal records."""
        return self.path / SEALS

    @property
    def attempts_folder(self) -> Path:
        """Folder of attempt records."""
        return self.path / ATTEMPTS

    def active_path(self, segment: int) -> Path:
        """Arrow IPC stream of an active segment."""
        return self.path / active_name(segment)

    def sealed_path(self, segment: int) -> Path:
        """Parquet file of a sealed segment."""
        return self.path / sealed_name(segment)

    def seal_path(self, segment: int) -> Path:
        """Seal record of a sealed segment."""
        return self.path / seal_name(segment)

    def attempt_path(self, attempt: int) -> Path:
        """Record of one attempt."""
        return self.path / attempt_name(attempt)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run, wherever it is stored: `run.json` and one folder for each rank.

    Attributes:
        path: the folder of the run, or its place in an object store.
    """

    path: Place

    def open(self) -> Storage:
        """Open the run for reading. Links in the path that a person gave are followed.

        Raises:
            NotARunError: there is nothing at this place.
            RunUnreadableError: it cannot be opened.
            StoreError: the object store does not answer, or refuses.
        """
        with _run_errors(self.path):
            return open_place(self.path)

    def header(self) -> RunHeader:
        """Read the run header.

        Raises:
            NotARunError: there is no header, so this is not a run.
            RunDamagedError: the header cannot be read.
            FormatVersionError: a newer Esper wrote it.
        """
        with self.open() as run:
            try:
                return RunHeader.read(run, HEADER_NAME)
            except FileNotFoundError:
                raise NotARunError(f"{self.path} is not an Esper run: it has no {HEADER_NAME}") from None

    def rank(self, rank: int) -> StoredRank:
        """The folder of one rank. It need not exist yet."""
        return StoredRank(self.path / rank_name(rank), rank)

    def ranks(self) -> Sequence[StoredRank]:
        """The ranks that have a folder, in order. A link with such a name counts, so that its fault is reported."""
        return [self.rank(number) for number in self._rank_numbers()]

    def _rank_numbers(self) -> list[int]:
        try:
            with self.open() as run:
                return rank_numbers(run)
        except NotARunError:
            return []


@dataclass(frozen=True, slots=True)
class RunDirectory(StoredRun):
    """The folder of one run on a disk.

    Attributes:
        path: its path, which begins with `root`, if that is given.
        root: the folder that a person gave, if a program chose the rest of the path: no link below it is followed.
            None if a person gave the whole path.
    """

    path: Path
    root: Path | None = None

    def open(self) -> Folder:
        """Open the folder. Links in the path that a person gave are followed.

        Raises:
            NotARunError: there is no such folder.
            RunUnreadableError: it cannot be opened.
            RunDamagedError: a part of the path below `root` is a link, or not a folder.
        """
        with _run_errors(self.path):
            return _open_folder(self.path, self.root)

    @property
    def header_path(self) -> Path:
        """Path of the run header."""
        return self.path / HEADER_NAME

    def rank(self, rank: int) -> RankDirectory:
        """The folder of one rank. It need not exist yet."""
        return RankDirectory(self.path / rank_name(rank), rank, self.root)

    def ranks(self) -> list[RankDirectory]:
        """The ranks that have a folder, in order. A link with such a name counts, so that its fault is reported."""
        return [self.rank(number) for number in self._rank_numbers()]


def run_at(place: Place) -> StoredRun:
    """The run at a place; a `RunDirectory` if that is a path."""
    return StoredRun(place) if isinstance(place, StoreUrl) else RunDirectory(place)


@contextmanager
def _run_errors(place: Place) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotARunError(f"{place} is not an Esper run: {_absent(place)}") from None
    except NotADirectoryError:
        raise NotARunError(f"{place} is not an Esper run: a file is where a folder is expected") from None
    except OSError as error:
        raise RunUnreadableError(f"{place}: cannot open the folder ({error.strerror})") from None


def _absent(place: Place) -> str:
    return "there are no objects below this URL" if isinstance(place, StoreUrl) else "the folder does not exist"
