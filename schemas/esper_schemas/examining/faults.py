"""The kinds of fault in the files of a run, and the records of repairs, which list what is lost for good."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEQ
from esper_schemas.run.names import REPAIRS, numbers_in
from esper_schemas.run.records import _JsonFile
from esper_schemas.run.storage import Storage
from esper_schemas.segment.holds import Range

FaultKind = Literal["torn", "corrupt", "missing", "unreadable", "lost", "foreign", "repaired", "note"]

HARMLESS = frozenset({"torn", "repaired", "note"})
"""Kinds of fault that are not damage."""

MAX_LOSSES_SHOWN = 1000
"""Most losses that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which the files of a run differ from what FORMAT.md promises.

    Attributes:
        rank: rank whose folder it is in; None if it is in no rank's folder.
        segment: number of the segment; None if the fault is in another file.
        kind: `torn` (a write that a crash cut short; not damage), `corrupt` (invalid bytes or values), `missing` (a
            file that should exist), `unreadable` (a file that cannot be read), `lost` (sequence numbers that neither a
            row nor a recorded drop explains), `foreign` (a file that does not belong there), `repaired` (rows that a
            repair has recorded as lost for good; no longer damage), `note` (leftovers; not damage).
        offset: byte in the file at which it begins; None where an offset makes no sense.
        message: one line that says what was expected and found.
    """

    rank: int | None
    segment: int | None
    kind: FaultKind
    offset: int | None
    message: str

    @property
    def is_damage(self) -> bool:
        """Whether it damages the run's data. A torn end does not count, nor does a loss that a repair has recorded."""
        return self.kind not in HARMLESS


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """Rows or segments that are lost for good. Each range may be unknown; both ends are inclusive."""

    first_segment: int | None = None
    last_segment: int | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    cause: str = ""

    def __str__(self) -> str:
        parts = []
        for name, first, last in (
            ("segment", self.first_segment, self.last_segment),
            ("row", self.first_seq, self.last_seq),
        ):
            if first is not None and last is not None:
                parts.append(f"{name} {first}" if first == last else f"{name}s {first} to {last}")
        return f"{' and '.join(parts) or 'an unknown number of rows'} lost ({self.cause})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair(_JsonFile):
    """What one repair of a rank did: `repairs/0000.json`. It keeps what it cut off in `repairs/0000.broken/`.

    `losses` are objects with the fields of `Loss`. From then on these losses are listed as `repaired` and no longer
    count as damage.
    """

    repair: int
    repaired: str
    losses: list[Any]
    done: list[str] = field(default_factory=list)

    def parsed(self, where: str) -> list[Loss]:
        """The losses as objects; RunDamagedError, which names `where`, if one is invalid."""
        losses = []
        for entry in self.losses:
            known: dict[str, Any] = dict.fromkeys(Loss.__slots__)
            if isinstance(entry, dict):
                known |= {name: entry.get(name) for name in Loss.__slots__}
            *numbers, cause = known.values()
            if not all(number is None or _is_count(number) for number in numbers) or not isinstance(cause, str):
                raise RunDamagedError(f"{where}: a loss has invalid values, {ascii(entry)[:60]}")
            losses.append(Loss(**known))
        return losses


def repair_names(rank: Storage) -> list[str]:
    """Names of the repair records, oldest first; empty before the first repair."""
    numbers = numbers_in(rank.names(REPAIRS), ".json", 4)
    return [f"{REPAIRS}/{numbers[number]}" for number in sorted(numbers)]


class KnownLosses:
    """Everything that the repairs of one rank have recorded as lost.

    Attributes:
        losses: the losses, those of the oldest repair first.
        unreadable: name → reason, for records that cannot be read.
    """

    def __init__(self, storage: Storage, rank: int) -> None:
        self.losses: list[Loss] = []
        self.unreadable: dict[str, str] = {}
        self._rank = rank
        try:
            names = repair_names(storage)
        except (RunDamagedError, OSError) as error:
            names = []
            self.unreadable[REPAIRS] = str(error)
        for name in names:
            try:
                self.losses += Repair.read(storage, name).parsed(storage.where(name))
            except (RunDamagedError, OSError) as error:
                self.unreadable[name] = str(error)
        self._rows = _ranges((loss.first_seq, loss.last_seq) for loss in self.losses)
        self._segments = _ranges((loss.first_segment, loss.last_segment) for loss in self.losses)

    def unexplained_rows(self, first: int, last: int) -> list[Range]:
        """The ranges of sequence numbers within `first` … `last` that no repair has recorded as lost."""
        return _without(first, last, self._rows)

    def unexplained_segments(self, first: int, last: int) -> list[Range]:
        """The ranges of segment numbers within `first` … `last` that no repair has recorded as lost."""
        return _without(first, last, self._segments)

    def faults(self) -> list[Fault]:
        """A fault of kind `repaired` for each loss, so that losses stay visible, and one for each unreadable record."""
        shown = self.losses[:MAX_LOSSES_SHOWN]
        faults = [Fault(self._rank, loss.first_segment, "repaired", None, str(loss)) for loss in shown]
        if more := len(self.losses) - len(shown):
            faults.append(Fault(self._rank, None, "repaired", None, f"{more:,} more losses are recorded"))
        return faults + [
            Fault(self._rank, None, "unreadable", None, " ".join(cause.split())) for cause in self.unreadable.values()
        ]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQ


def _ranges(pairs: Iterable[tuple[int | None, int | None]]) -> list[Range]:
    return sorted((first, last) for first, last in pairs if first is not None and last is not None)


def _without(first: int, last: int, known: list[Range]) -> list[Range]:
    """The ranges that remain of `first` … `last` without the sorted ranges `known`."""
    left = []
    for start, end in known:
        if start > last:
            break
        if start > first:
            left.append((first, start - 1))
        first = max(first, end + 1)
    return [*left, (first, last)] if first <= last else left
