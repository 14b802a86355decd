"""Examines one rank: its segments, their sequence numbers, its attempts, black boxes and the names of its files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.attempts import check_attempts, read_attempts
from esper_schemas.examining.black_boxes import BlackBoxExamination, examine_black_box
from esper_schemas.examining.faults import Fault, KnownLosses, Loss
from esper_schemas.examining.names import check_names
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.examining.segment import CheckedFooters, Depth, Recording, SegmentExamination, examine_segment
from esper_schemas.run.directory import has_writer
from esper_schemas.run.files import Folder
from esper_schemas.run.names import (
    ACTIVE,
    ATTEMPTS,
    BLACK_BOXES,
    REPAIRS,
    SEALS,
    SEGMENTS,
    black_boxes,
    numbers_in,
    sealed_name,
    segment_numbers,
)
from esper_schemas.run.storage import Storage
from esper_schemas.segment import sealed

Step = Callable[[], None]
"""Called after each segment."""

_MANY_SEGMENTS = 64
"""The folders of so many segments are held open: opening one for every file takes half as long as reading a seal."""


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
    numbers_of_attempts = read_attempts(check)
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
    check.writing = bool(before or after) or (None in (before, after) and check.has_no_end)
    _check_continuity(check)
    check_attempts(check, numbers_of_attempts)
    _check_black_boxes(check, recording, boxes or depth)
    check_names(check)
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
        found |= numbers_in(check.names(folder), suffix).keys()
    return found


def _uploaded(check: RankExamination, numbers: list[int]) -> list[int]:
    """Leave out the last segments if they are being uploaded: a copy of a run without an end lacks their seals yet."""
    if isinstance(check.storage, Folder) or not check.has_no_end:
        return numbers
    last = max(numbers_in(check.names(SEALS), ".json"), default=-1)
    unfinished = {number for number in numbers_in(check.names(SEGMENTS), ".parquet") if number > last}
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
    check.orphan_seals = sorted(numbers_in(check.names(SEALS), ".json").keys() - there)
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
