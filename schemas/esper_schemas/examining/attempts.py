"""Examines the attempts of one rank: their records, and whether these agree with the rows on disk."""

from __future__ import annotations

from esper_schemas.cleaning import short
from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.limits import MAX_ATTEMPTS
from esper_schemas.run.directory import read_attempt
from esper_schemas.run.names import ATTEMPTS, attempt_name, numbers_in
from esper_schemas.run.records import Attempt
from esper_schemas.segment.holds import Range

_MAX_REASON = 200  # characters shown of why a value was left out


def read_attempts(check: RankExamination) -> list[int]:
    """Read the attempt records; return the numbers of all that exist, in order."""
    numbers = sorted(number for number in numbers_in(check.names(ATTEMPTS), ".json", 4) if number <= MAX_ATTEMPTS)
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


def check_attempts(check: RankExamination, recorded: list[int]) -> None:
    """Report records that are missing, cannot be read, or contradict the rows on disk; `recorded` were there."""
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
            said = f"attempt {number}: values of {short(name)} that could not be stored are left out"
            check.say("note", f"{said}{_how_many(refused)}")
        is_ahead = check.is_partial and record.status is None  # of the segments that are there
        if wrong := "" if is_ahead else _wrong_counts(check, record):
            said = f"{check.storage.where(attempt_name(number))}: {wrong}"
            check.bad_attempts[number] = said
            check.say("corrupt", said)


def _how_many(refused: object) -> str:
    """How many values of one metric an attempt left out, and why the last one; "" if its record does not say so."""
    if not isinstance(refused, dict) or not {"count", "reason"} <= refused.keys():
        return ""
    count = f"{refused['count']:,}" if isinstance(refused["count"], int) else short(refused["count"])
    return f" ({count}; the last because {' '.join(str(refused['reason']).split())[:_MAX_REASON]})"


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
