"""Examines one rank: its segments, their sequence numbers, its attempts and the names of its files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.black_boxes import BlackBoxExamination, examine_black_box
from esper_schemas.examining.faults import Fault, FaultKind, KnownLosses, Loss
from esper_schemas.examining.segment import CheckedFooters, Depth, Recording, SegmentExamination, examine_segment
from esper_schemas.limits import MAX_ATTEMPTS
from esper_schemas.run.directory import (
    ACTIVE,
    ATTEMPTS,
    BLACK_BOXES,
    LOCK_NAME,
    REPAIRS,
    SEALS,
    SEGMENTS,
    STATES,
    WRITTEN_FOLDERS,
    attempt_name,
    black_box_of,
    black_boxes,
    has_writer,
    numbers_in,
    read_attempt,
    sealed_name,
    segment_numbers,
)
from esper_schemas.run.files import Folder
from esper_schemas.run.records import Attempt
from esper_schemas.run.storage import Storage
from esper_schemas.segment import sealed
from esper_schemas.segment.holds import Range

Step = Callable[[], None]
"""Called after each segment."""

_MANY_SEGMENTS = 64
"""The folders of so many segments are held open: opening one for every file takes half as long as reading a seal."""


@dataclass(slots=True)
class RankExamination:
    """The result of examining one rank.

    Attributes:
        storage: the folder of the rank.
        rank: its number.
        depth: how deep the examination went.
        faults: faults and notes about the rank; those of a segment are in its examination.
        segments: every segment that exists, in order.
        attempts: attempt records that can be read, by number.
        bad_attempts: number → reason, for attempts whose record is missing, unreadable or wrong.
        absent_attempts: the numbers of `bad_attempts` whose record is missing.
        losses: losses that no repair has recorded yet.
        known: losses that repairs have recorded.
        black_boxes: the black boxes in which nothing is wrong, oldest first.
        bad_black_boxes: name → reason, for black boxes that are incomplete, damaged or of another recording.
        misplaced: names of files that do not belong where they are.
        leftovers: whether an interrupted writer left something that recovery would remove.
        orphan_seals: numbers of seals whose segment does not exist.
        writing: whether a writer was running during the examination.
        gaps: all sequence numbers that neither a row nor a drop explains, whether a repair has recorded them or not.
        last_seq: sequence number of the last row.
    """

    storage: Storage
    rank: int
    depth: Depth
    known: KnownLosses
    faults: list[Fault] = field(default_factory=list)
    segments: list[SegmentExamination] = field(default_factory=list)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    bad_attempts: dict[int, str] = field(default_factory=dict)
    absent_attempts: set[int] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    black_boxes: list[BlackBoxExamination] = field(default_factory=list)
    bad_black_boxes: dict[str, str] = field(default_factory=dict)
    misplaced: list[str] = field(default_factory=list)
    leftovers: bool = False
    orphan_seals: list[int] = field(default_factory=list)
    writing: bool = False
    gaps: list[Range] = field(default_factory=list)
    last_seq: int = -1

    def say(self, kind: FaultKind, message: str, segment: int | None = None) -> None:
        """Add a fault without an offset."""
        self.faults.append(Fault(self.rank, segment, kind, None, " ".join(message.split())[:1000]))

    @property
    def is_partial(self) -> bool:
        """Whether it is a copy in an object store whose newest files may not be there: its run has not ended.

        The run goes on, or was cut; nobody can tell which.
        """
        return self.writing and not isinstance(self.storage, Folder)

    @property
    def all_faults(self) -> list[Fault]:
        """All faults, including those of segments. The torn end of a segment that is being written does not count."""
        last = self.segments[-1].number if self.segments else None
        of_segments = [fault for segment in self.segments for fault in segment.faults]
        if self.writing:
            of_segments = [fault for fault in of_segments if fault.kind != "torn" or fault.segment != last]
        return [*of_segments, *self.faults, *self.known.faults()]


def examine_rank(
    storage: Storage,
    rank: int,
    recording: Recording,
    depth: Depth,
    step: Step = lambda: None,
    *,
    locked: bool = False,
    boxes: Depth | None = None,
    footers: CheckedFooters | None = None,
) -> RankExamination:
    """Examine one rank completely. All readers and repairs use this examination.

    Args:
        storage: the folder of the rank.
        rank: its number.
        recording: the recording that its segments must belong to; if it names no run, that of the first segment.
        depth: how deep to look.
        step: called after each segment.
        locked: whether the caller holds the lock, so that nobody else writes.
        boxes: how deep to look at black boxes; by default as deep.
        footers: see `examine_segment`.

    Raises:
        FormatVersionError: a newer Esper wrote a segment.
    """
    storage.read_ahead((ATTEMPTS, REPAIRS, SEALS, BLACK_BOXES))
    check = RankExamination(storage, rank, depth, KnownLosses(storage, rank))
    # A running writer only adds rows, so whatever the records below mention exists when the segments are read.
    before = False if locked else has_writer(storage)
    numbers_of_attempts = _read_attempts(check)
    numbers = _uploaded(check, sorted(_all_segment_numbers(check)))
    if isinstance(storage, Folder) and len(numbers) >= _MANY_SEGMENTS:
        with suppress(RunDamagedError, OSError):  # reported with the segments
            for folder in (SEALS, SEGMENTS):
                storage.hold(folder)
    for number in numbers:
        segment = examine_segment(storage, rank, number, recording, depth, footers)
        if segment is not None:
            check.segments.append(segment)
            if recording.run_id is None and segment.holds:
                recording = Recording(segment.holds.identity.run_id, recording.run_uuid)
        step()
    after = False if locked else has_writer(storage)
    # A writer is unknown where no lock is, or none may be opened: then an attempt without an end may still be running.
    check.writing = bool(before or after) or (None in (before, after) and _has_no_end(check))
    _check_continuity(check)
    _check_attempts(check, numbers_of_attempts)
    _check_black_boxes(check, recording, boxes or depth)
    _check_names(check)
    return check


def count_segments(storage: Storage) -> int:
    """Number of segments in a listing, as the total of a progress bar."""
    try:
        return len(segment_numbers(storage))
    except (RunDamagedError, OSError):
        return 0


def _all_segment_numbers(check: RankExamination) -> set[int]:
    """Numbers of all segments that exist, or for which a seal exists.

    A segment moves from active to sealed. Listing the folders in this order never misses one that moves meanwhile.
    """
    found: set[int] = set()
    for folder, suffix in ((SEALS, ".json"), (ACTIVE, ".arrows"), (SEGMENTS, ".parquet")):
        found |= numbers_in(_names(check, folder), suffix).keys()
    return found


def _names(check: RankExamination, folder: str) -> list[str]:
    """Names in a folder of the rank. A folder that cannot be listed is a fault, reported once."""
    try:
        return check.storage.names(folder)
    except (RunDamagedError, OSError) as error:
        said = str(error) if isinstance(error, RunDamagedError) else f"{check.storage.where(folder)}: {error.strerror}"
        if all(fault.message != said for fault in check.faults):
            check.say("unreadable", said)
        return []


def _has_no_end(check: RankExamination) -> bool:
    """Whether its last attempt may still run, or was cut."""
    return not check.attempts or check.attempts[max(check.attempts)].status is None


def _uploaded(check: RankExamination, numbers: list[int]) -> list[int]:
    """Leave out the last segments if they are being uploaded: a copy of a run without an end lacks their seals yet."""
    if isinstance(check.storage, Folder) or not _has_no_end(check):
        return numbers
    last = max(numbers_in(_names(check, SEALS), ".json"), default=-1)
    unfinished = {number for number in numbers_in(_names(check, SEGMENTS), ".parquet") if number > last}
    for number in sorted(unfinished):
        check.say("note", f"{check.storage.where(sealed_name(number))} has no seal yet: it is being uploaded", number)
    return [number for number in numbers if number not in unfinished]


# ------------------------------------------------------------------ sequence numbers


def _check_continuity(check: RankExamination) -> None:
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
        _find_start(check, segment, last + 1 + (cut_off[1] if cut_off else 0))
        start = holds.identity.first_seq
        if start <= last or holds.identity.attempt < attempt:
            expected = f"sequence number {last + 1} or later, of attempt {attempt} or later"
            where = check.storage.where(segment.name)
            message = f"{where}: expected {expected}, found {start} of attempt {holds.identity.attempt}"
            segment.faults.append(Fault(check.rank, segment.number, "corrupt", None, message))
            segment.holds = None
            continue
        if not _is_beginning(check, segment.number, start):
            _gap(check, last + 1, start - 1, cut_off[0] if cut_off else segment.number)
        for first, end in holds.gaps:
            _gap(check, first, end, segment.number)
        attempt = holds.identity.attempt
        last = holds.last_seq if holds.rows else start - 1
        cut_off = (segment.number, segment.rows_lost) if segment.rows_lost else None
    said_last = last + (cut_off[1] if cut_off else 0)
    for record in () if check.is_partial else check.attempts.values():
        said_last = max(said_last, record.last_seq if record.last_seq is not None else -1)
    _gap(check, last + 1, said_last, cut_off[0] if cut_off else None)
    check.last_seq = last
    _check_orphan_seals(check, next_number)


def _is_beginning(check: RankExamination, number: int, start: int) -> bool:
    """Whether nothing was before a segment, though it begins beyond 0: its run goes on for one that was taken away."""
    first = check.attempts.get(0)
    return number == 0 and first is not None and first.first_seq == start


def _find_start(check: RankExamination, segment: SegmentExamination, expected: int) -> None:
    """Correct where a segment starts if only its seal was read: the seal knows the first row, not the drops before it.

    If the first row does not continue the segment before, read the footer of the file.
    """
    holds = segment.holds
    if holds is None or not segment.is_sealed or check.depth != "records" or segment.rows_seen:
        return
    if holds.first_seq == expected:
        return
    where = check.storage.where(segment.name)
    try:
        columns = ["dropped_before"]
        with (
            check.storage.open(segment.name) as file,
            sealed.open_parquet(file, segment.bytes, where, columns) as parquet,
        ):
            holds.identity = sealed.read_footer(parquet, where).identity
            if holds.identity.first_seq == holds.first_seq or not holds.rows:
                return
            first = next(sealed.batches(parquet, columns)).slice(0, 1).to_pylist()[0]
            drops_end = holds.first_seq - (first.get("dropped_before") or 0)
            if drops_end > holds.identity.first_seq:
                holds.gaps = [(holds.identity.first_seq, drops_end - 1)]
    except (RunDamagedError, OSError, ValueError, pa.ArrowException, StopIteration):
        return  # a deeper examination reports what is wrong with it


def _check_missing(check: RankExamination, first: int, last: int) -> None:
    """Report segments that are missing although later ones exist."""
    for start, end in check.known.unexplained_segments(first, last) if first <= last else []:
        said = "the segment is missing" if start == end else f"segments {start} to {end} are missing"
        check.say("missing", said, start)
        check.losses.append(Loss(first_segment=start, last_segment=end, cause="missing"))


def _check_orphan_seals(check: RankExamination, next_number: int) -> None:
    """Look for seals without a segment. Seals after the last segment show that more segments existed."""
    if check.writing:
        return
    there = {segment.number for segment in check.segments}
    check.orphan_seals = sorted(numbers_in(_names(check, SEALS), ".json").keys() - there)
    if check.orphan_seals and check.orphan_seals[-1] >= next_number:
        _check_missing(check, next_number, check.orphan_seals[-1])


def _gap(check: RankExamination, first: int, last: int, segment: int | None) -> None:
    if first > last:
        return
    check.gaps.append((first, last))
    for start, end in check.known.unexplained_rows(first, last):
        said = f"rows with sequence numbers {start} to {end} are lost" if end > start else f"row {start} is lost"
        check.say("lost", said, segment)
        check.losses.append(Loss(first_segment=None, first_seq=start, last_seq=end, cause="neither row nor drop"))


# ------------------------------------------------------------------ attempts


def _read_attempts(check: RankExamination) -> list[int]:
    """Read the attempt records; return the numbers of all that exist, in order."""
    numbers = sorted(number for number in numbers_in(_names(check, ATTEMPTS), ".json", 4) if number <= MAX_ATTEMPTS)
    for number in numbers:
        _read_attempt(check, number)
    return numbers


def _read_attempt(check: RankExamination, number: int) -> None:
    where = check.storage.where(attempt_name(number))
    try:
        record = read_attempt(check.storage, number)
        check.attempts[number] = record
        check.bad_attempts.pop(number, None)
        check.absent_attempts.discard(number)
    except FileNotFoundError:
        check.bad_attempts[number] = f"the attempt record {where} is missing"
        check.absent_attempts.add(number)
    except RunDamagedError as error:
        check.bad_attempts[number] = str(error)
    except OSError as error:
        check.bad_attempts[number] = f"{where}: {error.strerror}"


def _check_attempts(check: RankExamination, recorded: list[int]) -> None:
    seen = {segment.holds.identity.attempt for segment in check.segments if segment.holds}
    for number in range(max([*recorded, *seen], default=-1) + 1):
        if number not in check.attempts and number not in check.bad_attempts:
            _read_attempt(check, number)  # again: it may have started since
    for first, last in _ranges(check.absent_attempts):
        where = check.storage.where(attempt_name(first))
        if last > first:
            check.say("missing", f"the attempt records {where} to {attempt_name(last)} are missing")
        else:
            check.say("missing", f"the attempt record {where} is missing")
    for number, cause in check.bad_attempts.items():
        if number not in check.absent_attempts:
            check.say("unreadable", cause)
    for number, record in check.attempts.items():
        for name, refused in record.refused_values.items():
            check.say("note", f"attempt {number}: values of {name!a} that could not be stored are left out ({refused})")
        is_ahead = check.is_partial and record.status is None  # of the segments that are there
        if wrong := "" if is_ahead else _wrong_counts(check, record):
            said = f"{check.storage.where(attempt_name(number))}: {wrong}"
            check.bad_attempts[number] = said
            check.say("corrupt", said)


def _ranges(numbers: set[int]) -> list[Range]:
    """Numbers as ranges of consecutive numbers, in order."""
    found: list[Range] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _wrong_counts(check: RankExamination, record: Attempt) -> str:
    """How the rows on disk contradict an attempt's counts; "" if they agree. A lost number may be a row or a drop."""
    rows, dropped, lost = counts_on_disk(check, record.attempt)
    lost += max(0, _unexplained(check, record.attempt) - record.dropped_rows)
    following = check.attempts.get(record.attempt + 1)
    if record.rows > rows + lost or (record.status is not None and record.rows < rows):
        return f"it records {record.rows} rows, but {rows} are on disk and {lost} are lost"
    if record.status is None:
        return ""
    if record.dropped_rows < dropped:
        return f"it records {record.dropped_rows} dropped rows, but the rows on disk record {dropped}"
    if following is not None and following.first_seq < record.first_seq + record.rows + record.dropped_rows:
        return f"it records {record.dropped_rows} dropped rows, more than fit before the next attempt"
    return ""


def _unexplained(check: RankExamination, attempt: int) -> int:
    """Count the numbers without a row between first and last row of segments whose rows were not read.

    Only a deeper examination tells whether they were dropped or lost.
    """
    held = [entry.holds for entry in check.segments if entry.holds and not entry.rows_seen]
    spans = (holds.last_seq - holds.first_seq + 1 - holds.rows for holds in held if holds.identity.attempt == attempt)
    return sum(max(0, span) for span in spans)


def counts_on_disk(check: RankExamination, attempt: int) -> tuple[int, int, int]:
    """For one attempt: its rows on disk, the drops that these rows record, and the lost rows in its range."""
    held = [entry.holds for entry in check.segments if entry.holds and entry.holds.identity.attempt == attempt]
    record, following = check.attempts.get(attempt), check.attempts.get(attempt + 1)
    first = record.first_seq if record else min((holds.identity.first_seq for holds in held), default=0)
    dropped = sum(holds.dropped for holds in held)
    if held and held[0].rows:  # the first row also counts drops of the attempt before
        dropped -= max(0, min(first - held[0].identity.first_seq, dropped))
    starts = [first, *(holds.identity.first_seq for holds in held[:1])]
    end = following.first_seq if following else None
    lost = 0
    for gap_first, gap_last in check.gaps:
        stop = gap_last if end is None else min(gap_last, end - 1)
        lost += max(0, stop - max(gap_first, min(starts)) + 1)
    return sum(holds.rows for holds in held), dropped, lost


# ------------------------------------------------------------------ black boxes


def _check_black_boxes(check: RankExamination, recording: Recording, depth: Depth) -> None:
    if recording.run_uuid is None:  # without a header, that of the segments counts
        uuids = (entry.holds.identity.run_uuid for entry in check.segments if entry.holds)
        recording = Recording(recording.run_id, next(filter(None, uuids), None))
    try:
        names = black_boxes(check.storage)
    except (RunDamagedError, OSError):
        return  # reported with the names below
    for name in names:
        found = examine_black_box(check.storage, name, check.rank, recording, depth)
        if isinstance(found, BlackBoxExamination):
            check.black_boxes.append(found)
        elif found[0] == "missing" and check.is_partial:
            check.say("note", f"{found[1]}: it may still be uploaded")
        elif found[0] == "note":
            if not check.writing:
                check.leftovers = True
                check.say(*found)
        else:
            check.bad_black_boxes[name] = " ".join(found[1].split())[:1000]
            check.say(*found)


# ------------------------------------------------------------------ names


def _check_names(check: RankExamination) -> None:
    """Report other files: in `segments/` they are damage, since any engine reads all of it; elsewhere a note."""
    in_segments = _names(check, SEGMENTS)
    belonging = set(numbers_in(in_segments, ".parquet").values())
    for name in in_segments:
        if name.startswith("."):  # no engine reads it; file managers and sync tools leave such files
            check.say("note", f"{check.storage.where(f'{SEGMENTS}/{name}')} is a hidden file, not an Esper file")
        elif name not in belonging:
            check.misplaced.append(f"{SEGMENTS}/{name}")
            check.say("foreign", f"{check.storage.where(f'{SEGMENTS}/{name}')} does not belong there")
    in_active = _names(check, ACTIVE)
    actives = numbers_in(in_active, ".arrows")
    for segment in check.segments:
        if segment.number in actives and not check.writing:
            check.leftovers = True
            what = "beside its sealed one" if segment.is_sealed else "not sealed yet"
            check.say("note", f"active file {what}", segment.number)
    attempts = {attempt_name(number).removeprefix(f"{ATTEMPTS}/") for number in (*check.attempts, *check.bad_attempts)}
    known = {
        ACTIVE: (in_active, set(actives.values())),
        SEALS: (seals := _names(check, SEALS), set(numbers_in(seals, ".json").values())),
        STATES: (states := _names(check, STATES), set(numbers_in(states, ".json").values())),
        ATTEMPTS: (_names(check, ATTEMPTS), attempts),
        BLACK_BOXES: (boxes := _names(check, BLACK_BOXES), {name for name in boxes if black_box_of(name)}),
        "": (_names(check, ""), {*WRITTEN_FOLDERS, BLACK_BOXES, LOCK_NAME, REPAIRS}),
    }
    for folder, (names, own) in known.items():
        for name in names:
            if name not in own and not (name.endswith(".tmp") and check.writing):
                _check_name(check, f"{folder}/{name}" if folder else name)


def _check_name(check: RankExamination, name: str) -> None:
    where = check.storage.where(name)
    if name.endswith(".tmp"):
        check.leftovers = True
        check.say("note", f"{where} is an unfinished file, which no reader uses")
    elif name.endswith(".broken"):
        try:
            check.say("note", f"{where} holds {check.storage.size(name)} bytes that were cut off")
        except (OSError, RunDamagedError):
            check.say("note", f"{where} is not an Esper file")
    else:
        check.say("note", f"{where} is not an Esper file")
