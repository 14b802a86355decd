"""The rows of one attempt as a chain of segments: opens, rotates, retires and seals them.

A journal belongs to one thread at a time; the `Recorder` sees to that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from esper_recorder.keeping.lock import RankLock
from esper_recorder.keeping.sealing import seal
from esper_recorder.writing.segment_writer import SegmentWriter
from esper_schemas.limits import MAX_COLUMNS
from esper_schemas.run.files import Folder
from esper_schemas.segment.active import RowLayout, SegmentIdentity, column_types

MAX_EXTRAS = MAX_COLUMNS - len(column_types()) - 256
"""Metrics that a run may have beside those of the table, which leaves room for the table to grow."""


@dataclass(frozen=True)
class RotationLimits:
    """A segment is sealed and the next one begun when any of these is reached."""

    rows: int = 8192
    bytes: int = 64 * 1024 * 1024
    secs: float = 3600.0


class Journal:
    """Appends validated rows in order of their sequence numbers.

    A row whose metrics are not all columns yet begins a new segment that has them. A row whose number does
    not follow the last one on disk carries the difference in `dropped_before`, so that every gap is
    explained in the file itself.

    Args:
        rank: folder of the rank.
        lock: of the rank; looked at before any file is made, replaced or removed.
        identity: of the next segment.
        limits: when a segment ends.

    Attributes:
        on_refused: told of the name of each metric that there is no room for, and why, at every row that has it.
    """

    def __init__(self, rank: Folder, lock: RankLock, identity: SegmentIdentity, limits: RotationLimits) -> None:
        self.writer: SegmentWriter | None = None
        self._retired_last_seq = identity.first_seq - 1
        self._retired_rows = 0
        self._rank = rank
        self._lock = lock
        self._identity = identity
        self._next_segment = identity.segment
        self.limits = limits
        self._extras: dict[str, None] = {}  # an ordered set
        self.on_refused: Callable[[str, str], None] = lambda name, reason: None
        self._columns = column_types()
        self._retired: deque[SegmentWriter] = deque()

    def append(self, row: dict[str, Any]) -> None:
        """As `append_all`, for one row."""
        self.append_all((row,))

    def append_all(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append validated rows, each given as column → plain number, `seq` among them; once only, if tried again.

        Neighbours that go into the same segment are one write.

        Raises:
            OSError: not all of them could be written; all may be tried again.
        """
        messages: list[bytes] = []
        last_seq = self.last_seq
        for row in rows:
            gap = row["seq"] - last_seq - 1
            if gap < 0:
                continue  # it was written, and an error came after that
            row.pop("dropped_before", None)  # from an earlier try
            if gap:
                row["dropped_before"] = gap
            new = self._admitted(row, [name for name in row if name not in self._columns])
            writer = self.writer
            if new or writer is None or writer.suspect or len(messages) == writer.room:
                self._write(messages, last_seq)
                if new:
                    self.retire()  # first, since an interrupt may come in between: no segment lacks a column
                    self._extras.update(dict.fromkeys(new))
                    self._columns = column_types(self._extras)
                writer = self.usable_writer()
            messages.append(writer.encode(row))
            last_seq = row["seq"]
        self._write(messages, last_seq)

    def _write(self, messages: list[bytes], last_seq: int) -> None:
        """Append these messages to the current segment, and empty the list."""
        writer = self.writer
        if messages and writer is not None:
            writer.append(b"".join(messages), last_seq, len(messages))
            messages.clear()
            if writer.is_full:
                self.retire()

    def _admitted(self, row: dict[str, Any], new: list[str]) -> list[str]:
        """Those of the new metrics that there is room for; the others are taken out of the row, and named once."""
        room = MAX_EXTRAS - len(self._extras)
        for name in new[room:]:
            del row[name]
            self.on_refused(name, f"{name!a} is not recorded: a run has at most {MAX_EXTRAS} metrics of its own")
        return new[:room]

    def usable_writer(self) -> SegmentWriter:
        """The writer of the current segment; opens the next one if there is none, or it takes no more.

        Raises:
            OSError: the segment cannot be created.
        """
        if self.writer is not None and (self.writer.suspect or self.writer.is_full):
            self.retire()
        if self.writer is None:
            self._lock.check()
            identity = replace(self._identity, segment=self._next_segment, first_seq=self.last_seq + 1)
            self.writer = SegmentWriter(
                self._rank, RowLayout.create(identity, self._extras), self.limits.rows, self.limits.bytes
            )
            self._next_segment += 1
        return self.writer

    def retire(self) -> None:
        """Write no more into the current segment; `seal_oldest` turns it into Parquet."""
        writer = self.writer
        if writer is not None:
            writer.settle()
            # From here on only `append` is called, so that no signal handler can come in between.
            self.writer = None
            self._retired_last_seq = writer.last_seq
            self._retired_rows += writer.rows
            self._retired.append(writer)

    def retire_if_old(self) -> None:
        """Retire the current segment if it has reached its age."""
        if self.writer is not None and time.monotonic() - self.writer.opened_at >= self.limits.secs:
            self.retire()

    @property
    def unsealed(self) -> int:
        """How many segments wait to be sealed; each is an open file."""
        return len(self._retired)

    @property
    def last_seq(self) -> int:
        """Sequence number of the last row on disk."""
        if self.writer is None:
            return self._retired_last_seq
        self.writer.settle()
        return self.writer.last_seq

    @property
    def rows(self) -> int:
        """Rows appended in this attempt."""
        return self._retired_rows + (0 if self.writer is None else self.writer.rows)

    def sync_retired(self) -> None:
        """Make every retired segment safe against power loss; until it is sealed, its active file is all there is.

        Raises:
            OSError: a file could not be synced.
        """
        for writer in tuple(self._retired):
            writer.sync()

    def unsealed_writers(self) -> tuple[SegmentWriter, ...]:
        """Every segment that is not sealed yet, in order."""
        return (*self._retired, *([self.writer] if self.writer is not None else []))

    def seal_oldest(self) -> bool:
        """Seal the oldest retired segment; False if there is none.

        Raises:
            OSError: a step failed; the segment stays retired and may be tried again.
            RunDamagedError: the disk or the memory returned other bytes than were written.
        """
        if not self._retired:
            return False
        writer = self._retired[0]
        self._lock.check()
        try:
            seal(self._rank, writer.read_back(), writer.identity)
        except BaseException as error:
            if not isinstance(error, OSError):
                self._retired.popleft().close()  # trying again would not help; the active file stays
            raise
        self._retired.popleft().close()
        return True

    def close_files(self) -> None:
        """Close every file without sealing, as a forked child does with its parent's."""
        for writer in self.unsealed_writers():
            writer.close()
        self._retired.clear()
        self.writer = None
