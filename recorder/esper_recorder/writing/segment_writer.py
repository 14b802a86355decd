"""Appends row messages to the active file of one segment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from esper_recorder.writing.row_plan import RowPlan, plan_rows
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.run.files import Folder, Identity, read_descriptor
from esper_schemas.run.names import ACTIVE, active_name
from esper_schemas.segment.active import RowEncoder, RowLayout
from esper_schemas.segment.scan import ActiveSegment, parse_active

_MAX_ENCODERS = 256


Kind = tuple[tuple[str, ...], tuple[type, ...]]
"""The names of a row, in order, and the types of its values."""


class SegmentWriter:
    """The active file of one segment. A row is never split across segments, and never stored in part.

    One `write()` to an append-only descriptor writes a row, or several that waited. If it fails, the file is cut back
    to its previous end. If that fails too, the segment is `suspect`, and nothing more may be written to it.

    Raises:
        OSError: the file cannot be created or written.
    """

    def __init__(self, rank: Folder, layout: RowLayout, max_rows: int, max_bytes: int) -> None:
        self.layout = layout
        self._rank = rank
        self._max_rows = min(max_rows, max(1, max_bytes // layout.row_bytes))
        self._name = active_name(layout.identity.segment)
        self.rows = 0
        self.size = 0
        self.last_seq = layout.identity.first_seq - 1
        self.opened_at = time.monotonic()
        self.suspect = False
        self.is_full = False
        self._synced_size = 0
        self._encoders: dict[frozenset[str], RowEncoder] = {}
        self.plans: dict[Kind, RowPlan | None] = {}
        self.kind: Kind | None = None
        self.plan: RowPlan | None = None
        self._cut_short: tuple[int, int, int] | None = None
        self._descriptor = _create(rank, self._name, len(layout.header))
        try:
            self._write_rest(layout.header, 0)
        except BaseException:
            identity = self.identity
            self.close()
            rank.unlink(self._name, identity)  # it has no rows, and its number will be used again
            raise
        self.size = len(layout.header)

    @property
    def room(self) -> int:
        """Number of rows that still fit into the segment."""
        return self._max_rows - self.rows

    @property
    def identity(self) -> Identity:
        """Device and inode of the file, whatever its name is by now."""
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino

    def read_back(self) -> ActiveSegment:
        """Read the file back and verify it.

        Raises:
            OSError: it cannot be read.
        """
        data = read_descriptor(self._descriptor, MAX_SEGMENT_BYTES, self._rank.where(self._name))
        return parse_active(self.layout.identity.segment, data)

    def append(self, message: bytes, seq: int, count: int = 1) -> None:
        """Append `count` row messages in one write; `seq` is the sequence number of the last.

        Raises:
            OSError: they were not written; the file ends where it did before, or the segment is suspect.
        """
        size, rows = self.size + len(message), self.rows + count
        try:
            written = os.write(self._descriptor, message)
            if written < len(message):
                self._write_rest(message, written)
            # From here to the end of the block nothing is called, so no signal handler can run in between.
            self.size = size
            self.rows = rows
            self.last_seq = seq
            if rows >= self._max_rows:
                self.is_full = True
        except BaseException:  # KeyboardInterrupt too: it may come after the row was written
            self._cut_short = (size, rows, seq)
            self.settle()
            raise

    def _write_rest(self, message: bytes, written: int) -> None:
        while written < len(message):
            written += os.write(self._descriptor, message[written:])

    def settle(self) -> None:
        """Finish an append that was cut short: count its rows if all bytes are there, otherwise cut the file back.

        Does nothing if no append was cut short. Call it again if an interrupt ends this call too.
        """
        if self._cut_short is None:
            return
        size, rows, seq = self._cut_short
        try:
            if os.fstat(self._descriptor).st_size == size:
                self.size, self.rows, self.last_seq = size, rows, seq
            else:
                os.ftruncate(self._descriptor, self.size)
        except OSError:
            self.suspect = True
        self._cut_short = None

    def encode(self, row: Mapping[str, Any]) -> bytes:
        """Encode a validated row, given as column → plain number."""
        present = frozenset(row)
        return self._encoder(present).encode([row[name] for name in self.layout.columns if name in present])

    def learn(self, names: tuple[str, ...], types: tuple[type, ...]) -> None:
        """Make the plan for rows with exactly these names, in this order, and values of these types."""
        if len(self.plans) >= _MAX_ENCODERS:
            self.plans.clear()
        self.plans[names, types] = plan_rows(self.layout, names, types)

    def plan_for(self, kind: Kind) -> RowPlan | None:
        """Return the plan for a kind of row, if `learn` made one; keep both in `kind` and `plan` for the next row."""
        plan = self.plans.get(kind)
        if plan is not None:
            self.kind, self.plan = kind, plan
        return plan

    def _encoder(self, present: frozenset[str]) -> RowEncoder:
        encoder = self._encoders.get(present)
        if encoder is None:
            if len(self._encoders) >= _MAX_ENCODERS:
                self._encoders.clear()
            encoder = self._encoders[present] = self.layout.encoder(present)
        return encoder

    def sync(self) -> None:
        """Make the rows appended so far, and the name of the file, survive a power loss."""
        size = self.size
        if size == self._synced_size:
            return
        os.fsync(self._descriptor)
        if not self._synced_size:
            self._rank.sync(ACTIVE)
        self._synced_size = size

    def close(self) -> None:
        """Close the file, without changing it."""
        os.close(self._descriptor)


def _create(rank: Folder, name: str, header_bytes: int) -> int:
    """Create a segment's file for appending.

    A file left by an interrupted call is replaced, if it is too short to contain a row.
    """
    try:
        return rank.create(name)
    except FileExistsError:
        if rank.size(name) > header_bytes:
            raise
        rank.unlink(name)
        return rank.create(name)
