"""Where everything of a run stands on disk: names of folders and files, and how runs are found. See FORMAT.md."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from esper_schemas.errors import EsperError, NotARunError, RunDamagedError, RunUnreadableError
from esper_schemas.limits import MAX_SEQ
from esper_schemas.run.files import Folder, Storage
from esper_schemas.run.records import Attempt, RunHeader, Seal

HEADER_NAME = "run.json"

# Names inside the folder of a rank.
LOCK_NAME = "LOCK"
ACTIVE, SEGMENTS, SEALS, ATTEMPTS, REPAIRS = "active", "segments", "seals", "attempts", "repairs"
WRITTEN_FOLDERS = (ACTIVE, SEGMENTS, SEALS, ATTEMPTS)
"""Every folder that a writer needs."""

_FUTURE_SECS = 24 * 3600.0
"""A header may be so far ahead of this machine's clock; one from later says nothing about its age."""


def active_name(segment: int) -> str:
    """Arrow IPC stream of a segment that is being written."""
    return f"{ACTIVE}/{segment:08d}.arrows"


def sealed_name(segment: int) -> str:
    """Parquet file of a sealed segment."""
    return f"{SEGMENTS}/{segment:08d}.parquet"


def seal_name(segment: int) -> str:
    """Seal record of a sealed segment."""
    return f"{SEALS}/{segment:08d}.json"


def attempt_name(attempt: int) -> str:
    """Record of one attempt."""
    return f"{ATTEMPTS}/{attempt:04d}.json"


def rank_name(rank: int) -> str:
    """Folder of a rank."""
    return f"rank-{rank:04d}"


def numbers_in(names: Iterable[str], suffix: str, digits: int = 8) -> dict[int, str]:
    """Those names that are a number of so many ASCII digits and the suffix, by the number."""
    found = {}
    for name in names:
        number = name.removesuffix(suffix)
        is_number = number.isascii() and number.isdecimal() and number + suffix == name
        if is_number and f"{int(number):0{digits}d}" == number:
            found[int(number)] = name
    return found


def segment_numbers(rank: Storage) -> set[int]:
    """Numbers of all segments that a listing shows, sealed or active; only a hint while a writer lives."""
    return {*numbers_in(rank.names(ACTIVE), ".arrows"), *numbers_in(rank.names(SEGMENTS), ".parquet")}


def read_attempts(rank: Storage) -> list[Attempt]:
    """All attempts of a rank, oldest first; RunDamagedError if one cannot be read."""
    found: list[Attempt] = []
    while True:
        try:
            found.append(read_attempt(rank, len(found)))
        except FileNotFoundError:
            return found


def read_attempt(rank: Storage, number: int) -> Attempt:
    """The record of one attempt.

    Raises:
        FileNotFoundError: there is none.
        RunDamagedError: it cannot be read, or cannot be that of this attempt.
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


def has_writer(rank: Folder) -> bool | None:
    """Whether a living process holds the lock of a rank (on this machine); None where that cannot be told."""
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


@dataclass(frozen=True, slots=True)
class RankDirectory:
    """The folder of one rank: one writer, its segments, seals and attempts. The paths are for people and messages."""

    path: Path
    rank: int

    def open(self) -> Folder:
        """Hold the folder.

        Raises:
            FileNotFoundError: there is none.
            RunDamagedError: it is a link, or no folder.
            OSError: it cannot be opened.
        """
        with Folder.at(self.path.parent) as run:
            return run.folder(self.path.name)

    @property
    def lock_path(self) -> Path:
        """File that the writer holds an exclusive `flock` on while it lives."""
        return self.path / LOCK_NAME

    @property
    def active_folder(self) -> Path:
        """Folder of segments that are being written, and of what recovery cut off."""
        return self.path / ACTIVE

    @property
    def segments_folder(self) -> Path:
        """Folder of sealed segments; nothing else is ever in it."""
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
        """Arrow IPC stream of a segment that is being written."""
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
        """Whether a living process holds the lock of this rank (on this machine); None where that cannot be told."""
        try:
            with self.open() as rank:
                return has_writer(rank)
        except FileNotFoundError:
            return False
        except (OSError, RunDamagedError):
            return None


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder of one run: `run.json` and one folder for each rank."""

    path: Path

    def open(self) -> Folder:
        """Hold the folder; links on the way to it are followed, for a person named it.

        Raises:
            NotARunError: there is no such folder.
            RunUnreadableError: it may not be opened.
        """
        try:
            return Folder.at(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise NotARunError(f"{self.path} is not an Esper run: the folder does not exist") from None
        except OSError as error:
            raise RunUnreadableError(f"{self.path}: cannot open the folder ({error.strerror})") from None

    @property
    def header_path(self) -> Path:
        """The run header."""
        return self.path / HEADER_NAME

    def header(self) -> RunHeader:
        """Who wrote the run, and how.

        Raises:
            NotARunError: there is no header, so this is no run.
            RunDamagedError: the header cannot be read.
            FormatVersionError: it was written by a newer Esper.
        """
        with self.open() as run:
            try:
                return RunHeader.read(run, HEADER_NAME)
            except FileNotFoundError:
                raise NotARunError(f"{self.path} is not an Esper run: it has no {HEADER_NAME}") from None

    def rank(self, rank: int) -> RankDirectory:
        """The folder of one rank, which need not exist yet."""
        return RankDirectory(self.path / rank_name(rank), rank)

    def ranks(self) -> list[RankDirectory]:
        """The ranks that have written anything, in order; a link with the name of one is there too, for its fault."""
        try:
            with self.open() as run:
                return [self.rank(number) for number in rank_numbers(run)]
        except NotARunError:
            return []


def rank_numbers(run: Storage) -> list[int]:
    """Numbers of the ranks that have a folder, or anything else of its name, in order."""
    names = (name.removeprefix("rank-") for name in run.names() if name.startswith("rank-"))
    return sorted(numbers_in(names, "", 4))


def find_runs(root: Path) -> Iterator[RunDirectory]:
    """The runs directly under `root`, the oldest first (by the creation time in their headers).

    A header that cannot be read, or that is of tomorrow, counts as oldest; opening that run gives its error.

    Raises:
        NotARunError: `root` does not exist or is no folder.
    """
    try:
        with Folder.at(root) as folder:
            names = folder.names()
    except (FileNotFoundError, NotADirectoryError):
        raise NotARunError(f"{root} is not a folder of runs; record a run first, or pass another with --root") from None
    except OSError as error:
        raise NotARunError(f"cannot open {root} ({error.strerror}); pass another folder with --root") from None
    created = {}
    for name in names:
        run = RunDirectory(root / name)
        try:
            created[run] = _sortable(run.header().created)
        except NotARunError:
            continue
        except EsperError:
            created[run] = ""
    yield from sorted(created, key=lambda run: (created[run], run.path.name))


def _sortable(created: str) -> str:
    """The time of a header if it can be one of a run that was recorded; else "", the oldest."""
    try:
        is_future = datetime.fromisoformat(created).timestamp() > time.time() + _FUTURE_SECS
    except (ValueError, OverflowError):
        return ""
    return "" if is_future else created


def resolve_run(run: str | Path | None, root: Path) -> RunDirectory:
    """The run that a person means: a path, a name under `root`, or the latest one under `root`.

    Raises:
        NotARunError: there is no such run; the message names those there are.
        RunUnreadableError: what is there may not be opened.
    """
    if run is not None:
        for path in (root / run, Path(run)):
            try:
                with Folder.at(path) as folder:
                    if folder.exists(HEADER_NAME):
                        return RunDirectory(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as error:
                raise RunUnreadableError(f"{path}: cannot open the folder ({error.strerror})") from None
            except (OSError, ValueError) as error:  # such as a name too long
                reason = error.strerror if isinstance(error, OSError) else error
                raise NotARunError(f"{ascii(str(path))[1:-1]} is not the name of a run: {reason}") from None
    runs = list(find_runs(root)) if root.is_dir() else []
    if run is None and runs:
        return runs[-1]
    known = ", ".join(entry.path.name for entry in runs[-5:]) or "none"
    missing = f"no run {run}" if run is not None else "no run"
    if run is not None and Path(run).is_dir():
        missing = f"{run} is not an Esper run (it has no {HEADER_NAME}), and no run has that name"
    raise NotARunError(
        f"{ascii(missing)[1:-1]} under {root} (latest there: {known}); pass a path, or a name under --root"
    )
