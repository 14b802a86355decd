"""Examines one segment: its seal, bytes, columns and rows.

It trusts no file: it checks the size before it reads anything, and reports every error as a fault.
"""

from __future__ import annotations

import io
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from esper_schemas.errors import FormatVersionError, RunDamagedError
from esper_schemas.examining.faults import Fault, FaultKind
from esper_schemas.limits import MAX_ATTEMPTS, MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.run.names import active_name, seal_name, sealed_name, states_name
from esper_schemas.run.records import Seal
from esper_schemas.run.storage import Storage
from esper_schemas.segment import sealed
from esper_schemas.segment.active import ScanEnd, SegmentIdentity
from esper_schemas.segment.holds import Holds, check_columns, summarise
from esper_schemas.segment.scan import read_active
from esper_schemas.segment.states import differences, make_states, read_states

Depth = Literal["records", "checksums", "rows"]
"""How deep an examination goes; each depth includes the ones before.

records: names, seals, attempts and active files; of a sealed file only its size
checksums: the sha256, the footer and the identity of each sealed file
rows: every row
"""

DEPTHS: tuple[Depth, ...] = ("records", "checksums", "rows")


@dataclass(frozen=True, slots=True)
class Recording:
    """The recording that a segment must belong to; None accepts any."""

    run_id: str | None
    run_uuid: str | None


@dataclass(frozen=True, slots=True)
class CheckedFooter:
    """What the footer of a sealed file says, after it and the headers of all pages were found to be within bounds.

    It follows from the bytes of the file alone.

    Attributes:
        identity: which segment the file says it is.
        rows: number of rows.
        extras: columns that the user added.
    """

    identity: SegmentIdentity
    rows: int
    extras: list[str]


CheckedFooters = MutableMapping[str, CheckedFooter]
"""Checked footers by the sha256 of their files: whoever passes them on pays for the pages of each file once."""


@dataclass(slots=True)
class SegmentExamination:
    """The result of examining one segment.

    Attributes:
        number: number of the segment.
        name: path of its file in the folder of the rank.
        holds: summary of what it holds; None if the segment cannot be used. If only the seal was read, it repeats the
            seal.
        rows: the rows of an active segment.
        end: how an active file ends; None for a sealed one.
        seal: the seal of a sealed segment; None if it could not be read.
        seal_is_bad: whether the seal is missing, unreadable or wrong.
        bytes: size of the file.
        rows_lost: number of damaged rows after the last good one that were cut off, or would be.
        is_of_another: whether it belongs to another recording.
        rows_seen: whether `holds` was made from the rows.
    """

    number: int
    name: str
    holds: Holds | None = None
    rows: pa.RecordBatch | None = None
    end: ScanEnd | None = None
    seal: Seal | None = None
    seal_is_bad: bool = False
    bytes: int = 0
    rows_lost: int = 0
    is_of_another: bool = False
    rows_seen: bool = False
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_sealed(self) -> bool:
        """Whether it is a Parquet file."""
        return self.name.endswith(".parquet")


def examine_segment(
    storage: Storage, rank: int, number: int, recording: Recording, depth: Depth, footers: CheckedFooters | None = None
) -> SegmentExamination | None:
    """Examine a segment, sealed or active; None if it does not exist.

    Args:
        storage: the folder of the rank.
        rank: number of the rank.
        number: number of the segment.
        recording: the recording that it must belong to.
        depth: how deep to look. If the seal is missing or wrong, the rows are read at every depth.
        footers: those that were checked, at depth `checksums`, to which the examination adds. The sha256 of a file is
            computed from its bytes all the same.

    Raises:
        FormatVersionError: a newer Esper wrote it.
    """
    return _Examiner(storage, rank, recording, depth, {} if footers is None else footers).examine(number)


class _Examiner:
    def __init__(
        self, storage: Storage, rank: int, recording: Recording, depth: Depth, footers: CheckedFooters
    ) -> None:
        self.footers = footers
        self.storage = storage
        self.rank = rank
        self.recording = recording
        self.depth = DEPTHS.index(depth)

    def examine(self, number: int) -> SegmentExamination | None:
        for name, look in (
            (sealed_name(number), self._sealed),
            (active_name(number), self._active),
            (sealed_name(number), self._sealed),  # it may have been sealed in between
        ):
            found = SegmentExamination(number, name)
            try:
                look(found)
            except FileNotFoundError:
                continue
            except FormatVersionError:
                raise
            except RunDamagedError as error:
                self._say(found, "corrupt", str(error))
            except MemoryError:
                self._say(found, "unreadable", f"{self.storage.where(name)}: not enough memory to read it")
            except (OSError, ValueError, KeyError, TypeError, OverflowError, pa.ArrowException) as error:
                self._say(found, "unreadable", f"{self.storage.where(name)}: {error}")
            return found
        return None

    def _say(self, found: SegmentExamination, kind: FaultKind, message: str, offset: int | None = None) -> None:
        found.faults.append(Fault(self.rank, found.number, kind, offset, " ".join(message.split())[:1000]))

    # ------------------------------------------------------------------ sealed

    def _sealed(self, found: SegmentExamination) -> None:
        found.bytes = self.storage.size(found.name)
        self._read_seal(found)
        seal = None if found.seal_is_bad else found.seal
        where = self.storage.where(found.name)
        if found.bytes > MAX_SEGMENT_BYTES:
            raise RunDamagedError(f"{where}: expected at most {MAX_SEGMENT_BYTES:,} bytes, found {found.bytes:,}")
        if seal is not None:
            if found.bytes != seal.bytes:
                raise RunDamagedError(f"{where}: expected {seal.bytes} bytes, found {found.bytes}")
            found.rows_lost = seal.rows_lost
            if self.depth == 0:
                self._check_recording(found, seal.run_uuid)
                found.holds = self._as_sealed(seal)
                return
        data = self.storage.read(found.name, MAX_SEGMENT_BYTES)  # once, so that what is read is what has the sha256
        if seal is not None and sealed.sha256_of(data) != seal.sha256:
            raise RunDamagedError(f"{where}: its sha256 is not the one in its seal")
        matched = seal if self.depth == DEPTHS.index("checksums") else None  # else the rows are read in any case
        if matched is not None and (known := self.footers.get(matched.sha256)) is not None:
            self._check_identity(found, known.identity)
            if self._is_as_sealed(found, matched, known):
                return
        with sealed.open_parquet(io.BytesIO(data), len(data), where) as parquet:
            footer = sealed.read_footer(parquet, where)
            self._check_identity(found, footer.identity)
            extras = self._columns(found, footer.schema)
            if matched is not None:
                checked = CheckedFooter(footer.identity, footer.rows, extras)
                if self._is_as_sealed(found, matched, checked):
                    if not found.faults:  # a note on its columns is to be said again
                        self.footers[matched.sha256] = checked
                    return
            rows = list(sealed.batches(parquet))
            holds = summarise(footer.identity, extras, rows)
        if holds.rows != footer.rows:
            raise RunDamagedError(f"{where}: expected {footer.rows} rows, found {holds.rows}")
        found.holds, found.rows_seen = holds, True
        if seal is not None and (wrong := sealed.contradictions(seal, holds, rows_seen=True)):
            found.seal_is_bad = True
            self._say(found, "corrupt", f"{self.storage.where(seal_name(found.number))}: {'; '.join(wrong)}")
        elif seal is not None and self.depth == DEPTHS.index("rows"):
            self._check_states(found, seal, pa.Table.from_batches(rows, footer.schema))

    def _is_as_sealed(self, found: SegmentExamination, seal: Seal, footer: CheckedFooter) -> bool:
        """Whether a footer does not contradict the seal; `found` then holds what both say."""
        holds = self._as_sealed(seal, footer.identity)
        holds.rows, holds.extras = footer.rows, list(footer.extras)
        if sealed.contradictions(seal, holds, rows_seen=False):
            return False
        found.holds = holds
        return True

    def _check_states(self, found: SegmentExamination, seal: Seal, rows: pa.Table) -> None:
        """Note what is wrong with the column states; they are a cache, so it is no damage."""
        where = self.storage.where(states_name(found.number))
        try:
            there = read_states(self.storage, seal)
            if there is None:
                return
            assert found.holds is not None
            wrong = differences(there, make_states(rows, found.holds.identity))
            said = f"{where}: the rows say otherwise of {', '.join(wrong[:5])}" if wrong else ""
        except FileNotFoundError:
            said = f"{where} is missing"
        except RunDamagedError as error:
            said = str(error)
        except OSError as error:
            said = f"{where}: {error}"
        if said:
            self._say(found, "note", f"{said}; readers use the rows")

    def _read_seal(self, found: SegmentExamination) -> None:
        name = seal_name(found.number)
        where = self.storage.where(name)
        found.seal_is_bad = True
        try:
            found.seal = sealed.check_seal(Seal.read(self.storage, name), found.number, where)
        except FileNotFoundError:
            self._say(found, "missing", f"the seal record {where} is missing")
        except RunDamagedError as error:
            self._say(found, "unreadable", str(error))
        except OSError as error:
            self._say(found, "unreadable", f"{where}: {error}")
        else:
            found.seal_is_bad = False

    def _as_sealed(self, seal: Seal, identity: SegmentIdentity | None = None) -> Holds:
        """The summary according to the seal. Without a footer, `first_seq` of the identity is that of the first row."""
        if identity is None:
            run_id = self.recording.run_id or ""
            identity = SegmentIdentity(run_id, self.rank, seal.attempt, seal.segment, seal.first_seq, seal.run_uuid)
        return Holds(
            identity,
            list(seal.extras or ()),
            rows=seal.rows,
            first_seq=seal.first_seq,
            last_seq=seal.last_seq,
            first_update=seal.first_update,
            last_update=seal.last_update,
            updates_rise=seal.updates_rise,
        )

    # ------------------------------------------------------------------ active

    def _active(self, found: SegmentExamination) -> None:
        found.bytes = self.storage.size(found.name)
        segment = read_active(self.storage, found.number)
        found.end = segment.end
        found.rows_lost = segment.rows_lost
        if segment.end.kind != "clean":
            self._say(found, segment.end.kind, segment.end.cause, segment.end.offset)
        if segment.identity is None or segment.rows is None:
            return
        self._check_identity(found, segment.identity)
        extras = self._columns(found, segment.rows.schema)
        found.holds, found.rows_seen = summarise(segment.identity, extras, [segment.rows]), True
        found.rows = segment.rows

    # ------------------------------------------------------------------ both

    def _columns(self, found: SegmentExamination, schema: pa.Schema) -> list[str]:
        extras, note = check_columns(schema)
        if note:
            self._say(found, "note", note)
        return extras

    def _check_identity(self, found: SegmentExamination, identity: SegmentIdentity) -> None:
        for name, there, expected in (
            ("run", identity.run_id, self.recording.run_id or identity.run_id),
            ("rank", identity.rank, self.rank),
            ("segment", identity.segment, found.number),
        ):
            if there != expected:
                found.is_of_another = name == "run"
                raise RunDamagedError(f"expected a segment of {name} {expected!a}, found one of {there!a}")
        self._check_recording(found, identity.run_uuid)
        if not 0 <= identity.attempt <= MAX_ATTEMPTS or not 0 <= identity.first_seq <= MAX_SEQ:
            raise RunDamagedError(
                f"expected an attempt from 0 to {MAX_ATTEMPTS} and a sequence number from 0 to 2^62,"
                f" found {identity.attempt} and {identity.first_seq}"
            )

    def _check_recording(self, found: SegmentExamination, run_uuid: str | None) -> None:
        """Raise RunDamagedError for another recording. Files of 0.1.0 name no recording and fit any."""
        expected = self.recording.run_uuid
        if run_uuid is not None and expected is not None and run_uuid != expected:
            found.is_of_another = True
            raise RunDamagedError(
                f"expected a segment of the recording {expected!a}, found one of the recording {run_uuid!a}"
            )
