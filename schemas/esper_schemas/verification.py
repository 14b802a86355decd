"""Checks every promise of a run on disk, also while it is being written: `esper-rec verify`.

Memory is bounded by one segment, time by the bytes on disk. What is looked at in a rank is in `rank_check`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esper_schemas.errors import FormatVersionError, NotARunError, RunDamagedError
from esper_schemas.faults import Fault, is_plain_file
from esper_schemas.rank_check import RankCheck, Step, check_rank, segment_numbers
from esper_schemas.run_directory import RunDirectory, resolve_run
from esper_schemas.run_files import RunHeader


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify_run` found: faults of the whole run, and how much was looked at."""

    path: Path
    run_id: str | None
    ranks: int
    segments: int
    rows: int
    faults: list[Fault]

    @property
    def is_damaged(self) -> bool:
        """Whether any fault is damage."""
        return any(fault.is_damage for fault in self.faults)

    def to_dict(self) -> dict[str, Any]:
        """The verification as plain dictionaries and lists: the document `esper-verify/1`."""
        entries = [
            {name: getattr(fault, name) for name in ("rank", "segment", "kind", "offset", "message")}
            | {"damage": fault.is_damage}
            for fault in self.faults
        ]
        return {
            "format": "esper-verify/1",
            "run": {"run_id": self.run_id, "path": str(self.path), "ranks": self.ranks},
            "segments": self.segments,
            "rows": self.rows,
            "damaged": self.is_damaged,
            "faults": entries,
        }


def find_run(run: str | Path, root: Path) -> RunDirectory:
    """The run that a person means, as `resolve_run`, also where its `run.json` is gone.

    Raises:
        NotARunError: there is no such run.
    """
    try:
        return resolve_run(run, root)
    except NotARunError:
        for path in (root / run, Path(run)):
            if any(
                (rank.segments_folder.is_dir() or rank.active_folder.is_dir()) for rank in RunDirectory(path).ranks()
            ):
                return RunDirectory(path)
        raise


def count_segments(run: RunDirectory) -> int:
    """How many segments a listing shows, to measure progress by."""
    return sum(len(segment_numbers(rank)) for rank in run.ranks())


def verify_run(run: RunDirectory, step: Step = lambda: None) -> Verification:
    """Check everything of a run.

    Args:
        run: folder of the run.
        step: called after each segment.

    Raises:
        FormatVersionError: a part of it was written by a newer Esper.
    """
    return check_run(run, step).verification(run)


@dataclass(frozen=True, slots=True)
class RunCheck:
    """What was found in a run.

    Attributes:
        header: the run header; None where it cannot be read.
        run_id: id of the run: that of the header, unless all its segments say otherwise.
        faults: what is wrong with the header.
        ranks: what was found in each rank.
    """

    header: RunHeader | None
    run_id: str
    faults: list[Fault]
    ranks: list[RankCheck]

    def verification(self, run: RunDirectory) -> Verification:
        """The same for people."""
        segments = [segment for check in self.ranks for segment in check.segments]
        return Verification(
            path=run.path,
            run_id=self.run_id,
            ranks=len(self.ranks),
            segments=len(segments),
            rows=sum(segment.holds.rows for segment in segments if segment.holds),
            faults=[*self.faults, *(fault for check in self.ranks for fault in check.all_faults)],
        )


def check_run(run: RunDirectory, step: Step = lambda: None) -> RunCheck:
    """As `verify_run`, in a form that a repair can act on.

    Where no segment carries the id of the header (of the folder, if there is none), the one that they carry counts.
    """
    header, faults = check_header(run)
    expected = header.run_id if header else run.path.resolve().name
    checks = [check_rank(rank, expected, step) for rank in run.ranks()]
    if any(check.segments for check in checks) and not _ids(checks):
        anew = _ids(check_rank(rank, None) for rank in run.ranks())
        if anew:
            checks = [check_rank(rank, anew[0]) for rank in run.ranks()]
            if header:
                said = f"{run.header_path}: it is of run {expected!a}, the segments are of run {anew[0]!a}"
                faults.append(Fault(None, None, "corrupt", None, said))
            expected = anew[0]
    return RunCheck(header, expected, faults, checks)


def _ids(checks: Iterable[RankCheck]) -> list[str]:
    """The run ids of all segments that can be used."""
    return [segment.holds.identity.run_id for check in checks for segment in check.segments if segment.holds]


def check_header(run: RunDirectory) -> tuple[RunHeader | None, list[Fault]]:
    """The header, None where it cannot be read, and what is wrong with it.

    Raises:
        FormatVersionError: it was written by a newer Esper.
    """
    path = run.header_path
    try:
        if not is_plain_file(path):
            raise RunDamagedError(f"{path}: expected a file, found something else")
        header = RunHeader.read(path)
    except FileNotFoundError:
        return None, [Fault(None, None, "missing", None, f"no run header {path}")]
    except FormatVersionError:
        raise
    except (RunDamagedError, OSError) as error:
        return None, [Fault(None, None, "unreadable", None, " ".join(str(error).split()))]
    if header.run_id != run.path.resolve().name:
        said = f"the folder is named {run.path.resolve().name!a}, the run {header.run_id!a}"
        return header, [Fault(None, None, "note", None, said)]
    return header, []
