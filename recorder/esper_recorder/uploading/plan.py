"""What of a run can be uploaded by now, and in which order: finished files only.

The order is that in which a recorder writes them (FORMAT.md, "Uploading"), so the copy is at each moment what the
run itself was at some moment, and a reader needs no rules of its own for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from esper_recorder.uploading.redaction import Redaction
from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.run.directory import has_writer, read_attempt, read_attempts, read_seal
from esper_schemas.run.files import Folder
from esper_schemas.run.names import (
    ACTIVE,
    HEADER_NAME,
    REPAIRS,
    SEGMENTS,
    attempt_name,
    black_box_name,
    black_box_record_name,
    black_boxes,
    numbers_in,
    rank_name,
    seal_name,
    sealed_name,
    states_name,
)
from esper_schemas.run.records import MAX_JSON_BYTES, Attempt, BlackBoxRecord, RunHeader, Seal

_SEALS_AT_ONCE = 16


class Rule(Enum):
    """What may be done with the object of a file.

    ONCE: it is put if it is absent, and never replaced.
    BEGUN: the record of an attempt as it was when the attempt began; any record of that attempt will do.
    ENDED: the record of an attempt that is over; it replaces the one of when the attempt began.
    """

    ONCE = "once"
    BEGUN = "begun"
    ENDED = "ended"


Key = tuple[str, Rule]
"""What identifies a file of a plan."""


class File(NamedTuple):
    """One file of a run that is to be uploaded.

    Attributes:
        name: its name in the folder of the run, and of its object.
        rule: what may be done with the object.
        size, sha256: of its content; the size in bytes.
        load: returns its content; None if the file is of no use, and is left out. It raises RunDamagedError if the
            content is not that which its record names, and OSError if it cannot be read.
    """

    name: str
    rule: Rule
    size: int
    sha256: str
    load: Callable[[], bytes | None]

    @property
    def key(self) -> Key:
        """What identifies it."""
        return self.name, self.rule


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a run is to be uploaded by now.

    Attributes:
        groups: the files, in order; those of a group may be uploaded at the same time.
        is_over: whether nobody records the run, so that nothing will be added to the plan.
        has_rows: whether any rows were recorded; of a run without rows nothing is uploaded, since the next recording
            under its name may be another one.
    """

    groups: list[list[File]]
    is_over: bool
    has_rows: bool


def plan_run(run: Folder, ranks: Sequence[int], redaction: Redaction, done: Container[Key]) -> Plan:
    """Look what of a run can be uploaded by now.

    Args:
        run: the folder of the run.
        ranks: the ranks to upload.
        redaction: what is left out.
        done: files that were uploaded before, and are left out of the plan.

    Raises:
        FileNotFoundError, RunDamagedError, FormatVersionError: the header, or a record, is missing or damaged.
        OSError: a file cannot be read.
    """
    RunHeader.read(run, HEADER_NAME)
    planned = [_RankPlan(run.folder(rank_name(rank)), rank, redaction, done) for rank in ranks]
    header = _record(HEADER_NAME, redaction.of_header(run.read(HEADER_NAME, MAX_JSON_BYTES)), Rule.ONCE)
    groups = [[header], *(group for rank in planned for group in rank.groups)]
    has_rows = any(rank.has_rows for rank in planned)
    left = ([file for file in group if file.key not in done] for group in groups)
    return Plan([group for group in left if group and has_rows], all(rank.is_over for rank in planned), has_rows)


class _RankPlan:
    """The plan of one rank."""

    def __init__(self, rank: Folder, number: int, redaction: Redaction, done: Container[Key]) -> None:
        self._rank, self._prefix, self._redaction, self._done = rank, f"{rank_name(number)}/", redaction, done
        self.groups: list[list[File]] = []
        # In this order: all segments of an attempt that another one follows are sealed before that one begins, and
        # without a writer, before and after, nothing changes in between.
        before = has_writer(rank)
        begun = read_attempts(rank)
        numbers = sorted(numbers_in(rank.names(SEGMENTS), ".parquet"))
        active = self._active() if before is False else []
        after = has_writer(rank)
        is_unknown = None in (before, after) and bool(begun) and begun[-1].status is not None
        self.is_over = (before is after is False or is_unknown) and read_attempts(rank) == begun
        self.has_rows = bool(numbers) or (self.is_over and bool(active))
        self._add_repairs()
        segments = self._segments_of_attempts(numbers)
        for attempt in begun:
            is_last = attempt is begun[-1]
            self._add(_record(self._prefix + attempt_name(attempt.attempt), _as_begun(attempt, redaction), Rule.BEGUN))
            self._add_segments(segments.pop(attempt.attempt, []))
            if is_last and self.is_over:
                self.groups += [[file] for file in active]
            if is_last:
                self._add_black_boxes()
            if not is_last or self.is_over:
                self._add_ended(attempt.attempt)
        if segments and self.is_over:
            where = rank.where(attempt_name(min(segments)))
            raise RunDamagedError(f"the attempt record {where} is missing; esper-rec repair makes it anew")

    def _add(self, *files: File) -> None:
        self.groups.append(list(files))

    def _add_repairs(self) -> None:
        for name in sorted(numbers_in(self._rank.names(REPAIRS), ".json", 4).values()):
            data = self._rank.read(f"{REPAIRS}/{name}", MAX_JSON_BYTES)
            self._add(_record(f"{self._prefix}{REPAIRS}/{name}", data, Rule.ONCE))

    def _segments_of_attempts(self, numbers: list[int]) -> dict[int, list[Seal]]:
        """Attempt → the seals of its segments that were not uploaded before."""
        found: dict[int, list[Seal]] = {}
        for number in numbers:
            if (self._prefix + sealed_name(number), Rule.ONCE) in self._done:
                continue
            seal = read_seal(self._rank, number)
            if seal is None:
                where = self._rank.where(sealed_name(number))
                raise RunDamagedError(f"{where} has no seal; esper-rec repair makes it anew")
            found.setdefault(seal.attempt, []).append(seal)
        return found

    def _add_segments(self, seals: list[Seal]) -> None:
        """Add segments: their column states and seals, many at a time, then the segments one after another."""
        for start in range(0, len(seals), _SEALS_AT_ONCE):
            some = seals[start : start + _SEALS_AT_ONCE]
            names = [seal_name(seal.segment) for seal in some]
            records = [_record(self._prefix + name, self._rank.read(name, MAX_JSON_BYTES), Rule.ONCE) for name in names]
            self._add(*filter(None, map(self._states, some)), *records)
            for seal in some:
                self._add(self._checked(sealed_name(seal.segment), seal.bytes, seal.sha256))

    def _states(self, seal: Seal) -> File | None:
        """The column states of a segment: a cache, which is left out if it is not the one that the seal names."""
        name = states_name(seal.segment)
        try:
            size = self._rank.size(name)
        except FileNotFoundError:
            return None
        if seal.states_sha256 is None or size > MAX_JSON_BYTES:
            return None

        def load() -> bytes | None:
            try:
                data = self._rank.read(name, MAX_JSON_BYTES)
            except FileNotFoundError:
                return None
            return data if hashlib.sha256(data).hexdigest() == seal.states_sha256 else None

        return File(self._prefix + name, Rule.ONCE, size, seal.states_sha256, load)

    def _checked(self, name: str, size: int, sha256: str) -> File:
        """A file whose record names its size and sha256."""

        def load() -> bytes:
            data = self._rank.read(name, MAX_SEGMENT_BYTES)
            if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
                raise RunDamagedError(
                    f"{self._rank.where(name)}: its sha256 is not the one in its record, so it is not uploaded;"
                    " esper-rec verify shows the damage, esper-rec repair moves it aside"
                )
            return data

        return File(self._prefix + name, Rule.ONCE, size, sha256, load)

    def _active(self) -> list[File]:
        """The active files of a rank that nobody records: the rows that a killed process left."""
        found = []
        for name in sorted(numbers_in(self._rank.names(ACTIVE), ".arrows").values()):
            try:
                data = self._rank.read(f"{ACTIVE}/{name}", MAX_SEGMENT_BYTES)
            except FileNotFoundError:
                continue  # a recorder has begun, and has sealed it
            found.append(_record(f"{self._prefix}{ACTIVE}/{name}", data, Rule.ONCE))
        return found

    def _add_black_boxes(self) -> None:
        for box in black_boxes(self._rank):
            try:
                record = BlackBoxRecord.read(self._rank, black_box_record_name(box))
                self._rank.size(black_box_name(box))
            except FileNotFoundError:
                continue  # not finished
            data = self._rank.read(black_box_record_name(box), MAX_JSON_BYTES)
            self._add(_record(self._prefix + black_box_record_name(box), data, Rule.ONCE))
            self._add(self._checked(black_box_name(box), record.bytes, record.sha256))

    def _add_ended(self, attempt: int) -> None:
        read_attempt(self._rank, attempt)  # checks it
        data = self._redaction.of_attempt(self._rank.read(attempt_name(attempt), MAX_JSON_BYTES))
        self._add(_record(self._prefix + attempt_name(attempt), data, Rule.ENDED))


def _as_begun(attempt: Attempt, redaction: Redaction) -> bytes:
    """The record of an attempt as it was when the attempt began."""
    begun = Attempt(
        attempt=attempt.attempt,
        started=attempt.started,
        first_seq=attempt.first_seq,
        pid=attempt.pid,
        host=attempt.host,
    )
    return redaction.of_attempt(begun.to_bytes())


def _record(name: str, data: bytes, rule: Rule) -> File:
    """A file that is small, and was read."""
    return File(name, rule, len(data), hashlib.sha256(data).hexdigest(), lambda: data)
