"""Everything that can be checked in one rank: its segments, what they say together, its attempts, the names in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from esper_schemas.errors import RunDamagedError
from esper_schemas.faults import MAX_SEQ, Fault, FaultKind, KnownLosses, Loss, Range, is_plain_file, repairs_folder
from esper_schemas.run_directory import RankDirectory
from esper_schemas.run_files import Attempt
from esper_schemas.segment_check import MAX_ATTEMPTS, SegmentCheck, check_segment, number_of, numbered

Step = Callable[[], None]
"""Called after each segment."""


@dataclass(slots=True)
class RankCheck:
    """What was found in one rank.

    Attributes:
        faults: everything that is not as promised, and notes.
        segments: every segment that is there, in order.
        attempts: attempt records that can be read, by number.
        bad_attempts: attempts whose record is absent, unreadable or wrong, and why.
        losses: what is gone and no repair has recorded yet.
        known: what repairs have recorded as lost.
        misplaced: files that do not belong where they are.
        leftovers: whether an interrupted writer left something that recovery would clear away.
        orphan_seals: numbers of seals whose segment is not there.
        writing: whether a writer was there meanwhile.
        gaps: all sequence numbers that neither a row nor a drop explains, whether a repair has recorded them or not.
        last_seq: number of the last row that is there.
    """

    rank: RankDirectory
    known: KnownLosses
    faults: list[Fault] = field(default_factory=list)
    segments: list[SegmentCheck] = field(default_factory=list)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    bad_attempts: dict[int, str] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    misplaced: list[Path] = field(default_factory=list)
    leftovers: bool = False
    orphan_seals: list[int] = field(default_factory=list)
    writing: bool = False
    gaps: list[Range] = field(default_factory=list)
    last_seq: int = -1

    def say(self, kind: FaultKind, message: str, segment: int | None = None) -> None:
        """Add a fault that has no offset."""
        self.faults.append(Fault(self.rank.rank, segment, kind, None, " ".join(message.split())[:1000]))

    @property
    def all_faults(self) -> list[Fault]:
        """Those of its segments too; the end of the segment that a writer is at is none."""
        last = self.segments[-1].number if self.segments else None
        of_segments = [fault for segment in self.segments for fault in segment.faults]
        if self.writing:
            of_segments = [fault for fault in of_segments if fault.kind != "torn" or fault.segment != last]
        return [*of_segments, *self.faults, *self.known.faults()]


def check_rank(
    rank: RankDirectory, run_id: str | None, step: Step = lambda: None, *, locked: bool = False
) -> RankCheck:
    """Check everything of one rank.

    Args:
        rank: folder of the rank.
        run_id: id that its segments must carry; that of the first one if None.
        step: called after each segment.
        locked: whether the caller holds the lock, so that nobody else writes.

    Raises:
        FormatVersionError: a segment was written by a newer Esper.
    """
    check = RankCheck(rank, KnownLosses(rank))
    # What a writer does meanwhile only adds rows: whatever was read before the segments is there when they are read.
    check.writing = not locked and _has_writer(rank)
    numbers_of_attempts = _read_attempts(check)
    for number in sorted(segment_numbers(rank)):
        segment = check_segment(rank, number, run_id)
        if segment is not None:
            check.segments.append(segment)
            run_id = run_id or (segment.holds.identity.run_id if segment.holds else None)
        step()
    check.writing = check.writing or (not locked and _has_writer(rank))
    _check_continuity(check)
    _check_attempts(check, numbers_of_attempts)
    _check_names(check)
    return check


def segment_numbers(rank: RankDirectory) -> set[int]:
    """Numbers of all segments that are there, or that a seal says were there.

    In the order in which a segment goes through the folders backwards, so that one that moves on is not missed.
    """
    folders = ((rank.seals_folder, ".json"), (rank.active_folder, ".arrows"), (rank.segments_folder, ".parquet"))
    return {number for folder, suffix in folders for number, _ in numbered(folder, suffix)}


def _has_writer(rank: RankDirectory) -> bool:
    try:
        return is_plain_file(rank.lock_path) and rank.has_writer()
    except OSError:
        return False


# ------------------------------------------------------------------ sequence numbers


def _check_continuity(check: RankCheck) -> None:
    """Look for missing segments and rows."""
    next_number = 0
    last = -1
    cut_off: tuple[int, int] | None = None  # segment that lost rows at its end, and how many
    attempt = 0
    for segment in check.segments:
        _check_missing(check, next_number, segment.number - 1)
        next_number = segment.number + 1
        holds = segment.holds
        if holds is None:
            continue
        start = holds.identity.first_seq
        if start <= last or holds.identity.attempt < attempt:
            found = f"sequence number {start} of attempt {holds.identity.attempt}"
            said = f"{segment.path}: expected at least {last + 1} of attempt {attempt}, found {found}"
            segment.faults.append(Fault(check.rank.rank, segment.number, "corrupt", None, said))
            segment.holds = None
            continue
        _gap(check, last + 1, start - 1, cut_off[0] if cut_off else segment.number)
        for first, end in holds.gaps:
            _gap(check, first, end, segment.number)
        attempt = holds.identity.attempt
        last = holds.last_seq if holds.rows else start - 1
        cut_off = (segment.number, segment.rows_lost) if segment.rows_lost else None
    said_last = last + (cut_off[1] if cut_off else 0)
    for record in check.attempts.values():
        said_last = max(said_last, record.last_seq if record.last_seq is not None else -1)
    _gap(check, last + 1, said_last, cut_off[0] if cut_off else None)
    check.last_seq = last
    _check_orphan_seals(check, next_number)


def _check_missing(check: RankCheck, first: int, last: int) -> None:
    """Note segments that are not there although later ones are."""
    for start, end in check.known.unexplained_segments(first, last) if first <= last else []:
        said = "the segment is missing" if start == end else f"segments {start} to {end} are missing"
        check.say("missing", said, start)
        check.losses.append(Loss(first_segment=start, last_segment=end, cause="missing"))


def _check_orphan_seals(check: RankCheck, next_number: int) -> None:
    """Look for seals without a segment; those behind the last segment show that there were more."""
    if check.writing:
        return
    there = {segment.number for segment in check.segments}
    check.orphan_seals = sorted(set(dict(numbered(check.rank.seals_folder, ".json"))) - there)
    if check.orphan_seals and check.orphan_seals[-1] >= next_number:
        _check_missing(check, next_number, check.orphan_seals[-1])


def _gap(check: RankCheck, first: int, last: int, segment: int | None) -> None:
    if first > last:
        return
    check.gaps.append((first, last))
    for start, end in check.known.unexplained_rows(first, last):
        said = f"rows of sequence numbers {start} to {end} are lost" if end > start else f"row {start} is lost"
        check.say("lost", said, segment)
        check.losses.append(Loss(first_segment=None, first_seq=start, last_seq=end, cause="neither row nor drop"))


# ------------------------------------------------------------------ attempts


def _read_attempts(check: RankCheck) -> list[int]:
    """Read the attempt records; return the numbers of all that are there, in order."""
    folder = check.rank.attempts_folder
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        number = path.name.removesuffix(".json")
        if not number.isascii() or not number.isdecimal() or path.name == number:
            continue
        if path != check.rank.attempt_path(int(number)) or int(number) > MAX_ATTEMPTS:
            continue
        found.append(int(number))
        _read_attempt(check, int(number))
    return sorted(found)


def _read_attempt(check: RankCheck, number: int) -> None:
    path = check.rank.attempt_path(number)
    try:
        if not is_plain_file(path):
            raise RunDamagedError(f"{path}: expected a file, found something else")
        record = Attempt.read(path)
        if record.attempt != number:
            raise RunDamagedError(f"{path}: expected attempt {number}, found {record.attempt}")
        counts = (record.first_seq, record.rows, record.dropped_rows, (record.last_seq or 0) + 1)
        if min(counts) < 0 or max(counts) > MAX_SEQ:
            raise RunDamagedError(f"{path}: a count cannot be")
        check.attempts[number] = record
        check.bad_attempts.pop(number, None)
    except FileNotFoundError:
        check.bad_attempts[number] = f"no attempt record {path}"
    except (RunDamagedError, OSError) as error:
        check.bad_attempts[number] = str(error)


def _check_attempts(check: RankCheck, recorded: list[int]) -> None:
    seen = {segment.holds.identity.attempt for segment in check.segments if segment.holds}
    for number in range(max([*recorded, *seen], default=-1) + 1):
        if number not in check.attempts and number not in check.bad_attempts:
            _read_attempt(check, number)  # again: it may have begun since
    for number, cause in check.bad_attempts.items():
        absent = not check.rank.attempt_path(number).exists()
        check.say("missing" if absent else "unreadable", cause)
    for number, record in check.attempts.items():
        if wrong := _wrong_counts(check, record):
            said = f"{check.rank.attempt_path(number)}: {wrong}"
            check.bad_attempts[number] = said
            check.say("corrupt", said)


def _wrong_counts(check: RankCheck, record: Attempt) -> str:
    """What an attempt's counts say that its rows on disk contradict; rows that are lost may have been of any kind."""
    rows, dropped, lost = counts_on_disk(check, record.attempt)
    following = check.attempts.get(record.attempt + 1)
    if record.rows > rows + lost or (record.status is not None and record.rows < rows):
        return f"it says {record.rows} rows, {rows} are on disk and {lost} are lost"
    if record.status is None:
        return ""
    if record.dropped_rows < dropped:
        return f"it says {record.dropped_rows} dropped rows, the rows on disk say {dropped}"
    if following is not None and following.first_seq < record.first_seq + record.rows + record.dropped_rows:
        return f"it says {record.dropped_rows} dropped rows, more than there is room for before the next attempt"
    return ""


def counts_on_disk(check: RankCheck, attempt: int) -> tuple[int, int, int]:
    """Rows of an attempt on disk, rows that it dropped in front of these, and rows in its range that are lost."""
    held = [entry.holds for entry in check.segments if entry.holds and entry.holds.identity.attempt == attempt]
    record, following = check.attempts.get(attempt), check.attempts.get(attempt + 1)
    first = record.first_seq if record else min((holds.identity.first_seq for holds in held), default=0)
    dropped = sum(holds.dropped for holds in held)
    if held and held[0].rows:  # the drops of the attempt before stand in front of the first row of this one
        dropped -= max(0, min(first - held[0].identity.first_seq, dropped))
    starts = [first, *(holds.identity.first_seq for holds in held[:1])]
    end = following.first_seq if following else None
    lost = 0
    for gap_first, gap_last in check.gaps:
        stop = gap_last if end is None else min(gap_last, end - 1)
        lost += max(0, stop - max(gap_first, min(starts)) + 1)
    return sum(holds.rows for holds in held), dropped, lost


# ------------------------------------------------------------------ names


def _check_names(check: RankCheck) -> None:
    """What else is there: damage in `segments/`, where any engine reads everything; a note elsewhere.

    Each folder is looked into once: what a writer adds or removes meanwhile does not make two looks disagree.
    """
    rank = check.rank
    for path in _listing(rank.segments_folder):
        if number_of(path, ".parquet") is None:
            check.misplaced.append(path)
            check.say("foreign", f"{path} does not belong there")
    actives = _listing(rank.active_folder)
    numbers = {number_of(path, ".arrows") for path in actives}
    for segment in check.segments:
        if segment.number in numbers and not check.writing:
            check.leftovers = True
            what = "beside its sealed one" if segment.is_sealed else "not sealed yet"
            check.say("note", f"active file {what}", segment.number)
    attempts = {rank.attempt_path(number) for number in (*check.attempts, *check.bad_attempts)}
    others = {*rank.folders, rank.lock_path, repairs_folder(rank)}
    for path in (
        *(path for path in actives if number_of(path, ".arrows") is None),
        *(path for path in _listing(rank.seals_folder) if number_of(path, ".json") is None),
        *(path for path in _listing(rank.attempts_folder) if path not in attempts),
        *(path for path in _listing(rank.path) if path not in others),
    ):
        if path.suffix == ".tmp" and check.writing:
            continue
        if path.suffix == ".tmp":
            check.leftovers = True
            check.say("note", f"{path} is unfinished and means nothing")
        elif path.name.endswith(".broken"):
            check.say("note", f"{path} is what was cut off, {path.stat().st_size if path.is_file() else 0} bytes")
        else:
            check.say("note", f"{path} is no file of Esper")


def _listing(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
