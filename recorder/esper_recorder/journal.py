"""The rows of one attempt as a chain of segments: opens, rotates, retires and seals them.

A journal belongs to one thread at a time; the `Recorder` sees to that.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from esper_recorder.sealing import seal
from esper_recorder.segment_writer import SegmentWriter
from esper_schemas.row_message import RowLayout, SegmentIdentity, column_types
from esper_schemas.run_directory import RankDirectory
from esper_schemas.segments import read_active


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
    """

    def __init__(
        self, rank: RankDirectory, run_id: str, attempt: int, next_segment: int, first_seq: int, limits: RotationLimits
    ) -> None:
        self.writer: SegmentWriter | None = None
        self._retired_last_seq = first_seq - 1
        self._retired_rows = 0
        self._rank = rank
        self._run_id = run_id
        self._attempt = attempt
        self._next_segment = next_segment
        self._limits = limits
        self._extras: dict[str, None] = {}  # an ordered set
        self._columns = column_types()
        self._retired: deque[SegmentWriter] = deque()

    def append(self, row: dict[str, Any]) -> None:
        """Append one validated row, given as column → plain number, `seq` among them.

        Raises:
            OSError: it could not be written; it may be tried again.
        """
        gap = row["seq"] - self.last_seq - 1
        row.pop("dropped_before", None)  # from an earlier try
        if gap:
            row["dropped_before"] = gap
        new = [name for name in row if name not in self._columns]
        if new:
            self._extras.update(dict.fromkeys(new))
            self._columns = column_types(self._extras)
            self.retire()
        writer = self.usable_writer()
        writer.append(writer.encode(row), row["seq"])
        self.appended(writer)

    def appended(self, writer: SegmentWriter) -> None:
        """After an append to `writer`: retire it when it is full."""
        if writer.rows >= self._limits.rows or writer.size >= self._limits.bytes:
            self.retire()

    def usable_writer(self) -> SegmentWriter:
        """The writer of the current segment, opening the next one if there is none, or a suspect one.

        Raises:
            OSError: the segment cannot be created.
        """
        if self.writer is not None and self.writer.suspect:
            self.retire()
        if self.writer is None:
            identity = SegmentIdentity(
                self._run_id, self._rank.rank, self._attempt, self._next_segment, self.last_seq + 1
            )
            self.writer = SegmentWriter(self._rank, RowLayout.create(identity, self._extras))
            self._next_segment += 1
        return self.writer

    def retire(self) -> None:
        """Write no more into the current segment; `seal_retired` turns it into Parquet."""
        writer, self.writer = self.writer, None
        if writer is not None:
            self._retired_last_seq = writer.last_seq
            self._retired_rows += writer.rows
            self._retired.append(writer)

    def retire_if_old(self) -> None:
        """Retire the current segment if it has reached its age."""
        if self.writer is not None and time.monotonic() - self.writer.opened_at >= self._limits.secs:
            self.retire()

    @property
    def last_seq(self) -> int:
        """Sequence number of the last row on disk."""
        return self._retired_last_seq if self.writer is None else self.writer.last_seq

    @property
    def rows(self) -> int:
        """Rows appended in this attempt."""
        return self._retired_rows + (0 if self.writer is None else self.writer.rows)

    @property
    def has_retired(self) -> bool:
        """Whether a segment waits to be sealed."""
        return bool(self._retired)

    def seal_retired(self) -> None:
        """Seal every retired segment, the oldest first.

        Raises:
            OSError: a step failed; that segment stays retired and may be tried again.
            RunDamagedError: the disk or the memory returned other bytes than were written.
        """
        while self._retired:
            writer = self._retired[0]
            try:
                seal(self._rank, read_active(writer.layout.identity.segment, writer.path))
            except OSError:
                raise
            except BaseException:
                self._retired.popleft().close()  # trying again would not help; the active file stays
                raise
            self._retired.popleft().close()

    def close_files(self) -> None:
        """Close every file without sealing, as a forked child does with its parent's."""
        for writer in [*self._retired, *([self.writer] if self.writer else [])]:
            writer.close()
        self._retired.clear()
        self.writer = None
