"""What became of everything that an import read: nothing is left out without standing here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

MAX_NAMED = 20
"""How many lines, updates or gaps are named; the others are counted."""


@dataclass(slots=True)
class Named:
    """Things of one kind, counted; the first of them are named."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: object) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < MAX_NAMED:
            self.first.append(str(name))

    def __str__(self) -> str:
        more = f", … ({self.count:,} in all)" if self.count > len(self.first) else ""
        return ", ".join(self.first) + more


@dataclass(frozen=True, slots=True)
class Mapped:
    """One key of the source: the column that it became, in what way, and in how many updates it had a value."""

    key: str
    column: str
    remark: str
    updates: int


@dataclass(slots=True)
class Account:
    """The balance of one import; `lines` says it to a person.

    Attributes:
        records: Everything that the source holds, such as events.
        updates: How many became rows.
        mapped: Where each key of an update went.
        not_imported: Kinds of records that are no updates, and how many of each there were.
        left_out: Key of an update -> why it became no column.
        notes: What else a reader must know.
        unreadable: Places that hold no record.
        refused: Updates that cannot be rows, with place and reason.
        duplicates: Updates that came again.
        gaps: What is known of updates that are missing, by gap.
    """

    records: int = 0
    updates: int = 0
    mapped: list[Mapped] = field(default_factory=list)
    not_imported: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unreadable: Named = field(default_factory=Named)
    refused: Named = field(default_factory=Named)
    duplicates: Named = field(default_factory=Named)
    gaps: Named = field(default_factory=Named)
    _seen: set[int] = field(default_factory=set)

    def count_update(self, update: int) -> None:
        """Count a row, and note if its update was there before."""
        self.updates += 1
        if update in self._seen:
            self.duplicates.add(update)
        self._seen.add(update)

    def missing(self) -> Named:
        """The updates between the first and the last that never came, as ranges."""
        missing = Named()
        ordered = sorted(self._seen)
        for before, after in pairwise(ordered):
            if after == before + 2:
                missing.add(before + 1)
            elif after > before + 2:
                missing.add(f"{before + 1}–{after - 1}")
        return missing

    def lines(self) -> list[str]:
        """The whole balance as lines of text."""
        told = ["mapped:", *self._mapping()]
        if self._seen:
            told += [f"updates: {self.updates:,} rows, from {min(self._seen)} to {max(self._seen)}"]
        gaps = f"; {self.gaps}" if self.gaps.count else ""
        told += _paragraph("missing updates", f"{self.missing()}{gaps}")
        told += _paragraph("recorded twice, the last one counts", str(self.duplicates))
        told += _paragraph("refused", str(self.refused))
        told += _paragraph("not readable", str(self.unreadable))
        told += _paragraph("not imported", ", ".join(f"{name} {n:,}" for name, n in self.not_imported.most_common()))
        told += _paragraph("keys left out", ", ".join(f"{key} ({why})" for key, why in self.left_out.items()))
        return told + [f"note: {note}" for note in self.notes]

    def _mapping(self) -> list[str]:
        width = max((len(entry.key) for entry in self.mapped), default=0)
        told = []
        for entry in self.mapped:
            share = "" if entry.updates == self.updates else f"in {entry.updates:,} of {self.updates:,} updates"
            remark = "; ".join(part for part in (entry.remark, share) if part)
            told.append(f"  {entry.key:<{width}} -> {entry.column}" + (f"  ({remark})" if remark else ""))
        return told


def _paragraph(title: str, text: str) -> list[str]:
    return [f"{title}: {text or 'none'}"]
