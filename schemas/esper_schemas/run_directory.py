"""Where everything of a run stands on disk: names of folders and files, and how runs are found. See FORMAT.md."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esper_schemas.errors import EsperError, NotARunError
from esper_schemas.run_files import Attempt, RunHeader, Seal

HEADER_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class RankDirectory:
    """The folder of one rank: one writer, its segments, seals and attempts."""

    path: Path
    rank: int

    @property
    def lock_path(self) -> Path:
        """File that the writer holds an exclusive `flock` on while it lives."""
        return self.path / "LOCK"

    @property
    def active_folder(self) -> Path:
        """Folder of segments that are being written, and of what recovery cut off."""
        return self.path / "active"

    @property
    def segments_folder(self) -> Path:
        """Folder of sealed segments; nothing else is ever in it."""
        return self.path / "segments"

    @property
    def seals_folder(self) -> Path:
        """Folder of seal records."""
        return self.path / "seals"

    @property
    def attempts_folder(self) -> Path:
        """Folder of attempt records."""
        return self.path / "attempts"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder that a writer needs."""
        return (self.active_folder, self.segments_folder, self.seals_folder, self.attempts_folder)

    def active_path(self, segment: int) -> Path:
        """Arrow IPC stream of a segment that is being written."""
        return self.active_folder / f"{segment:08d}.arrows"

    def sealed_path(self, segment: int) -> Path:
        """Parquet file of a sealed segment."""
        return self.segments_folder / f"{segment:08d}.parquet"

    def seal_path(self, segment: int) -> Path:
        """Seal record of a sealed segment."""
        return self.seals_folder / f"{segment:08d}.json"

    def attempt_path(self, attempt: int) -> Path:
        """Record of one attempt."""
        return self.attempts_folder / f"{attempt:04d}.json"

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first; RunDamagedError if one cannot be read."""
        found: list[Attempt] = []
        while (path := self.attempt_path(len(found))).exists():
            found.append(Attempt.read(path))
        return found

    def seal(self, segment: int) -> Seal | None:
        """The seal record of a segment, None if there is none; RunDamagedError if it cannot be read."""
        try:
            return Seal.read(self.seal_path(segment))
        except FileNotFoundError:
            return None

    def segment_numbers(self) -> set[int]:
        """Numbers of all segments that a listing shows, sealed or active; only a hint while a writer lives."""
        numbers = set()
        for folder, suffix in ((self.active_folder, ".arrows"), (self.segments_folder, ".parquet")):
            if folder.is_dir():
                names = (path for path in folder.iterdir() if path.suffix == suffix)
                numbers |= {int(path.stem) for path in names if path.stem.isdecimal()}
        return numbers

    def has_writer(self) -> bool:
        """Whether a living process holds the lock of this rank (on this machine)."""
        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder of one run: `run.json` and one folder for each rank."""

    path: Path

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
        try:
            return RunHeader.read(self.header_path)
        except FileNotFoundError:
            raise NotARunError(f"{self.path} is no Esper run: it holds no {HEADER_NAME}") from None

    def rank(self, rank: int) -> RankDirectory:
        """The folder of one rank, which need not exist yet."""
        return RankDirectory(self.path / f"rank-{rank:04d}", rank)

    def ranks(self) -> list[RankDirectory]:
        """The ranks that have written anything, in order."""
        if not self.path.is_dir():
            return []
        names = (path.name.removeprefix("rank-") for path in self.path.glob("rank-*") if path.is_dir())
        return [self.rank(number) for number in sorted(int(name) for name in names if name.isdecimal())]


def find_runs(root: Path) -> Iterator[RunDirectory]:
    """The runs directly under `root`, the oldest first (by the creation time in their headers).

    A header that cannot be read counts as oldest; opening that run gives its error.

    Raises:
        NotARunError: `root` does not exist or is no folder.
    """
    if not root.is_dir():
        raise NotARunError(f"{root} is no folder of runs: record one, or name the folder with --root")
    created = {}
    for header_path in root.glob(f"*/{HEADER_NAME}"):
        run = RunDirectory(header_path.parent)
        try:
            created[run] = run.header().created
        except EsperError:
            created[run] = ""
    yield from sorted(created, key=lambda run: (created[run], run.path.name))


def resolve_run(run: str | Path | None, root: Path) -> RunDirectory:
    """The run that a person means: a path, a name under `root`, or the latest one under `root`.

    Raises:
        NotARunError: there is no such run; the message names those there are.
    """
    if run is not None:
        for path in (root / run, Path(run)):
            try:
                if (path / HEADER_NAME).is_file():
                    return RunDirectory(path)
            except OSError as error:  # a name too long, a folder that may not be looked into
                raise NotARunError(f"{ascii(str(path))[1:-1]} cannot be a run: {error.strerror}") from None
    runs = list(find_runs(root)) if root.is_dir() else []
    if run is None and runs:
        return runs[-1]
    known = ", ".join(entry.path.name for entry in runs[-5:]) or "none"
    missing = f"no run {run}" if run is not None else "no run"
    if run is not None and Path(run).is_dir():
        missing = f"{run} is no Esper run, for it holds no {HEADER_NAME}, and there is no run of that name"
    raise NotARunError(
        f"{ascii(missing)[1:-1]} under {root} (latest there: {known}); give a path, or a name under --root"
    )
