"""The account of an import: what became of every record, key and update that it read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

MAX_NAMED = 20
"""At most this many lines, updates or gaps are listed by name; the rest are only counted."""


@dataclass(slots=True)
class Named:
    """A count of things of one kind, with the names of the first few."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: object) -> None:
        """Count one more thing; one with the name of the one before is not listed again."""
        self.count += 1
        if len(self.first) < MAX_NAMED and self.first[-1:] != [str(name)]:
            self.first.append(str(name))

    def __str__(self) -> str:
        more = f", … ({self.count:,} in all)" if self.count > len(self.first) else ""
        return ", ".join(self.first) + more


@dataclass(frozen=True, slots=True)
class Mapped:
    """One key of the source: the column it became, how the two differ, and how many updates had a value."""

    key: str
    column: str
    remark: str
    updates: int


@dataclass(slots=True)
class Account:
    """What one import did with everything it read; `lines` describes it for a person.

    Attributes:
        records: Number of records in the source, such as events.
        updates: Number of updates that became rows.
        mapped: The column that each key of an update became.
        not_imported: Kinds of records that are not updates, with their counts.
        left_out: Key of an update -> why it did not become a column.
        notes: Whatever else a reader must know.
        unreadable: Places in the source that could not be read as a record.
        refused: Updates that could not become rows, with place and reason.
        duplicates: Updates that were recorded more than once.
        gaps: What is known about each gap in the updates.
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

    def add(self, other: Account, source: str) -> None:
        """Add what another account says of one source, such as a file, whose name goes before its places."""
        self.not_imported.update(other.not_imported)
        self.left_out |= other.left_out
        self.notes += [note for note in other.notes if note not in self.notes]
        for place in other.unreadable.first:
            self.unreadable.add(f"{source}, {place}")
        self.unreadable.count += other.unreadable.count - len(other.unreadable.first)

    def count_update(self, update: int) -> None:
        """Count a row, and note whether its update had been recorded before."""
        self.updates += 1
        if update in self._seen:
            self.duplicates.add(update)
        self._seen.add(update)

    def missing(self) -> Named:
        """Return the updates between the first and the last that are missing, as ranges."""
        missing = Named()
        ordered = sorted(self._seen)
        for before, after in pairwise(ordered):
            if after == before + 2:
                missing.add(before + 1)
            elif after > before + 2:
                missing.add(f"{before + 1}–{after - 1}")
        return missing

    def lines(self) -> list[str]:
        """Return the account as lines of text."""
        lines = ["mapped:", *self._mapping()]
        if self._seen:
            lines += [f"updates: {self.updates:,} rows, from {min(self._seen)} to {max(self._seen)}"]
        return [*lines, *(f"{title}: {text or 'none'}" for title, text in self._paragraphs()), *self._notes()]

    def remarks(self) -> list[str]:
        """Return what was not imported, and whatever else a reader must know, as lines of text."""
        return [*(f"{title}: {text}" for title, text in self._paragraphs() if text), *self._notes()]

    def _notes(self) -> list[str]:
        return [f"note: {note}" for note in self.notes]

    def _paragraphs(self) -> Iterator[tuple[str, str]]:
        """Yield what was not imported: each kind with its title, empty if there was none."""
        gaps = f"; {self.gaps}" if self.gaps.count else ""
        yield ("missing updates", f"{self.missing()}{gaps}")
        yield ("recorded twice, the last one counts", str(self.duplicates))
        yield ("refused", str(self.refused))
        yield ("not readable", str(self.unreadable))
        yield ("not imported", ", ".join(f"{name} {n:,}" for name, n in self.not_imported.most_common()))
        yield ("keys left out", ", ".join(f"{key} ({why})" for key, why in self.left_out.items()))

    def _mapping(self) -> list[str]:
        width = max((len(entry.key) for entry in self.mapped), default=0)
        lines = []
        for entry in self.mapped:
            share = "" if entry.updates == self.updates else f"in {entry.updates:,} of {self.updates:,} updates"
            remark = "; ".join(part for part in (entry.remark, share) if part)
            lines.append(f"  {entry.key:<{width}} -> {entry.column}" + (f"  ({remark})" if remark else ""))
        return lines
