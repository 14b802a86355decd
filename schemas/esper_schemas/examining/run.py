"""Examines a whole run, even while it is being written.

Memory is bounded by one segment; time by the bytes on disk or, at depth `records`, by the number of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from esper_schemas.errors import FormatVersionError, NotARunError, RunDamagedError
from esper_schemas.examining.faults import Fault
from esper_schemas.examining.rank import Step, count_segments, examine_rank
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.examining.segment import CheckedFooters, Depth, Recording
from esper_schemas.run.directory import StoredRun, open_place, run_at
from esper_schemas.run.ending import Ending, ending_of
from esper_schemas.run.finding import candidates, resolve_run
from esper_schemas.run.names import ACTIVE, HEADER_NAME, SEGMENTS, rank_name, rank_numbers
from esper_schemas.run.records import RunHeader
from esper_schemas.run.storage import Storage
from esper_schemas.run.store import Place


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify_run`: the faults of the whole run, how much was examined, and how the run ended.

    `ending` is None where nobody asked.
    """

    path: Place
    run_id: str | None
    ranks: int
    segments: int
    rows: int
    faults: list[Fault]
    ending: Ending | None = None

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
            "run": {
                "run_id": self.run_id,
                "path": str(self.path),
                "ranks": self.ranks,
                "status": self.ending and self.ending.status,
                "end_reason": self.ending and self.ending.reason,
            },
            "segments": self.segments,
            "rows": self.rows,
            "damaged": self.is_damaged,
            "faults": entries,
        }


def find_run(run: str | Path, root: Place) -> StoredRun:
    """Find the run that a person names, as `resolve_run` does, even if its `run.json` is missing.

    Raises:
        NotARunError: there is no such run.
    """
    try:
        return resolve_run(run, root)
    except NotARunError:
        for path in candidates(run, root):
            try:
                with open_place(path) as folder:
                    ranks = [rank_name(rank) for rank in rank_numbers(folder)]
                    if any(folder.is_folder(f"{rank}/{inner}") for rank in ranks for inner in (SEGMENTS, ACTIVE)):
                        return run_at(path)
            except (OSError, RunDamagedError):
                continue
        raise


def count_all_segments(run: StoredRun) -> int:
    """Number of segments in a listing of the run, as the total of a progress bar."""
    with run.open() as folder:
        return sum(count_segments(rank) for rank in _ranks(folder).values() if not isinstance(rank, Fault))


def verify_run(run: StoredRun, step: Step = lambda: None) -> Verification:
    """Check a run completely, down to every row.

    Args:
        run: the run.
        step: called after each segment.

    Raises:
        NotARunError, RunUnreadableError: the folder does not exist, or cannot be opened.
        FormatVersionError: a newer Esper wrote a part of it.
    """
    with run.open() as folder:
        found = examine_run(folder, run.path.resolve().name, "rows", step)
    return replace(found.verification(run.path), ending=ending_of(run, None))


@dataclass(frozen=True, slots=True)
class RunExamination:
    """The result of examining a run.

    Attributes:
        header: the run header; None if it cannot be read.
        recording: run id and uuid of the run: those of the header, unless all its segments carry others.
        faults: faults of the header, and ranks that cannot be opened.
        ranks: the result for each rank.
    """

    header: RunHeader | None
    recording: Recording
    faults: list[Fault]
    ranks: list[RankExamination]

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.recording.run_id or ""

    def verification(self, path: Place) -> Verification:
        """The same as one list of faults, with totals."""
        segments = [segment for check in self.ranks for segment in check.segments]
        return Verification(
            path=path,
            run_id=self.run_id,
            ranks=len(self.ranks),
            segments=len(segments),
            rows=sum(segment.holds.rows for segment in segments if segment.holds),
            faults=[*self.faults, *(fault for check in self.ranks for fault in check.all_faults)],
        )


def examine_run(
    run: Storage,
    name: str,
    depth: Depth,
    step: Step = lambda: None,
    *,
    only: int | None = None,
    boxes: Depth | None = None,
    footers: CheckedFooters | None = None,
) -> RunExamination:
    """Examine a run completely.

    If no segment carries the run id and uuid of the header (or of the folder's name, without a header), those that most
    segments carry are used instead.

    Args:
        run: folder of the run.
        name: name of the folder.
        depth: how deep to look.
        step: called after each segment.
        only: examine this rank alone. If its segments contradict the header, all ranks are examined to decide.
        boxes: how deep to look at black boxes; by default as deep.
        footers: see `examine_segment`; by default each is checked now.

    Raises:
        FormatVersionError: a newer Esper wrote a part of it.
    """
    examine = partial(examine_rank, depth=depth, boxes=boxes, footers=footers)
    header, faults = examine_header(run, name)
    expected = Recording(header.run_id if header else name, header.run_uuid if header else None)
    places = {}
    for rank, place in _ranks(run).items():
        if isinstance(place, Fault):
            faults.append(place)
        else:
            places[rank] = place
    chosen = places if only is None else {rank: place for rank, place in places.items() if rank == only}
    checks = [examine(place, rank, expected, step=step) for rank, place in chosen.items()]
    is_whole = len(chosen) == len(places)
    if any(check.segments for check in checks) and not _recordings(checks) and not is_whole:
        whole = examine_run(run, name, depth, boxes=boxes, footers=footers)
        return replace(whole, ranks=[check for check in whole.ranks if check.rank == only])
    if any(check.segments for check in checks) and not _recordings(checks):
        anyone = [examine(place, rank, Recording(None, None)) for rank, place in places.items()]
        if carried := _recordings(anyone):
            run_id, run_uuid = carried.most_common(1)[0][0]
            theirs = Recording(run_id or expected.run_id, run_uuid)  # a seal has a uuid but no run id
            checks = [examine(place, rank, theirs) for rank, place in places.items()]
            if header:
                where = run.where(HEADER_NAME)
                message = f"{where}: it belongs to {_words(expected)}, but the segments belong to {_words(theirs)}"
                faults.append(Fault(None, None, "corrupt", None, message))
            expected = theirs
    elif header is None:  # use the recording of the segments
        uuids = Counter({uuid: count for (_, uuid), count in _recordings(checks).items() if uuid})
        if len(uuids) > 1:
            expected = Recording(expected.run_id, uuids.most_common(1)[0][0])
            checks = [examine(place, rank, expected) for rank, place in chosen.items()]
        elif uuids:
            expected = Recording(expected.run_id, next(iter(uuids)))
    return RunExamination(header, expected, faults, checks)


def examine_header(run: Storage, name: str) -> tuple[RunHeader | None, list[Fault]]:
    """Read the header, None if that fails, and list its faults.

    Raises:
        FormatVersionError: a newer Esper wrote it.
    """
    where = run.where(HEADER_NAME)
    try:
        header = RunHeader.read(run, HEADER_NAME)
    except FileNotFoundError:
        return None, [Fault(None, None, "missing", None, f"the run header {where} is missing")]
    except FormatVersionError:
        raise
    except (RunDamagedError, OSError) as error:
        return None, [Fault(None, None, "unreadable", None, " ".join(str(error).split()))]
    if header.run_id != name:
        message = f"the folder is named {name!a}, but the run id is {header.run_id!a}"
        return header, [Fault(None, None, "note", None, message)]
    return header, []


def _ranks(run: Storage) -> dict[int, Storage | Fault]:
    """Rank → its folder, or the fault that keeps it from opening."""
    places: dict[int, Storage | Fault] = {}
    for rank in rank_numbers(run):
        try:
            places[rank] = run.folder(rank_name(rank))
        except RunDamagedError as error:
            places[rank] = Fault(rank, None, "unreadable", None, str(error))
        except OSError as error:
            message = f"{run.where(rank_name(rank))}: {error.strerror}"
            places[rank] = Fault(rank, None, "unreadable", None, message)
    return places


def _recordings(checks: Iterable[RankExamination]) -> Counter[tuple[str, str | None]]:
    """Count the run ids and uuids of all usable segments."""
    held = (segment.holds.identity for check in checks for segment in check.segments if segment.holds)
    return Counter((identity.run_id, identity.run_uuid) for identity in held)


def _words(recording: Recording) -> str:
    return f"run {recording.run_id!a}" + (f" (recording {recording.run_uuid})" if recording.run_uuid else "")
