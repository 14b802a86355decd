"""Writes the rows of one attempt as a chain of segments: opens, rotates, retires and seals them.

A journal belongs to one thread at a time; the `Recorder` ensures that.
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
from esper_schemas.errors import UsageError
from esper_schemas.limits import MAX_COLUMNS, MAX_SEGMENT_BYTES
from esper_schemas.run.files import Folder
from esper_schemas.segment.active import RowLayout, SegmentIdentity, column_types

MAX_EXTRAS = MAX_COLUMNS - len(column_types()) - 256
"""Maximum number of extra metrics in a run; it leaves room for the metrics table to grow."""


@dataclass(frozen=True)
class RotationLimits:
    """A segment that reaches one of these limits is sealed, and the next one begins.

    Raises:
        UsageError: a limit is not greater than 0, or `bytes` is greater than the format allows.
    """

    rows: int = 8192
    bytes: int = 64 * 1024 * 1024
    secs: float = 3600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UsageError(f"segment_{name} must be greater than 0, found {value}")
        if self.bytes > MAX_SEGMENT_BYTES:
            raise UsageError(f"segment_bytes must be at most {MAX_SEGMENT_BYTES}, found {self.bytes}")


class Journal:
    """Appends validated rows in order of their sequence numbers.

    A row with metrics that have no column yet begins a new segment with those columns. A row whose number does not
    follow the last one on disk stores the difference in `dropped_before`, so the file itself explains every gap.

    Args:
        rank: folder of the rank.
        lock: lock of the rank; checked before any file is created, replaced or removed.
        identity: identity of the first segment.
        limits: when a segment ends.

    Attributes:
        limits: when a segment ends, as given.
        on_refused: called with name and reason for each metric of a row that there is no room for.
        writer: writer of the current segment, None if there is none.
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
        self._extras: dict[str, None] = {}  # in order; the values are not used
        self.on_refused: Callable[[str, str], None] = lambda name, reason: None
        self._columns = column_types()
        self._retired: deque[SegmentWriter] = deque()

    def append(self, row: dict[str, Any]) -> None:
        """Append one validated row; see `append_all`."""
        self.append_all((row,))

    def append_all(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append validated rows, each a mapping of column → plain number with `seq`. Skip rows already on disk.

        Consecutive rows of the same segment are written in one call.

        Raises:
            OSError: not all rows could be written; call again with all of them.
        """
        messages: list[bytes] = []
        last_seq = self.last_seq
        for row in rows:
            gap = row["seq"] - last_seq - 1
            if gap < 0:
                continue  # an earlier call wrote it before it failed
            row.pop("dropped_before", None)  # set by an earlier call
            if gap:
                row["dropped_before"] = gap
            new = self._admitted(row, [name for name in row if name not in self._columns])
            writer = self.writer
            if new or writer is None or writer.suspect or len(messages) == writer.room:
                self._write(messages, last_seq)
                if new:
                    self.retire()  # before the columns change, so no segment lacks one after an interrupt
                    self._extras.update(dict.fromkeys(new))
                    self._columns = column_types(self._extras)
                writer = self.usable_writer()
            messages.append(writer.encode(row))
            last_seq = row["seq"]
        self._write(messages, last_seq)

    def append_possible(self, rows: list[dict[str, Any]], on_impossible: Callable[[Exception], None]) -> None:
        """Append rows as `append_all` does, without those that can never be written, which are removed from the list.

        Args:
            rows: the rows.
            on_impossible: called with the error of each row that is left out.

        Raises:
            OSError: not all rows could be written; call again with all of them.
        """
        try:
            self.append_all(rows)
        except OSError:
            raise
        except Exception:
            for row in tuple(rows):
                try:
                    self.append(row)
                except OSError:
                    raise
                except Exception as error:
                    rows.remove(row)
                    on_impossible(error)

    def _write(self, messages: list[bytes], last_seq: int) -> None:
        """Append these messages to the current segment, and clear the list."""
        writer = self.writer
        if messages and writer is not None:
            writer.append(b"".join(messages), last_seq, len(messages))
            messages.clear()
            if writer.is_full:
                self.retire()

    def _admitted(self, row: dict[str, Any], new: list[str]) -> list[str]:
        """Return the new metrics that there is room for; remove the others from the row and report them."""
        room = MAX_EXTRAS - len(self._extras)
        for name in new[room:]:
            del row[name]
            self.on_refused(name, f"{name!a} is not recorded: a run has at most {MAX_EXTRAS} extra metrics")
        return new[:room]

    def usable_writer(self) -> SegmentWriter:
        """Return the writer of the current segment; open the next one if there is none, or it is full or suspect.

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
        """Stop writing to the current segment; `seal_oldest` will turn it into Parquet."""
        writer = self.writer
        if writer is not None:
            writer.settle()
            # From here on only `append` is called, so no signal handler can run in between.
            self.writer = None
            self._retired_last_seq = writer.last_seq
            self._retired_rows += writer.rows
            self._retired.append(writer)

    def retire_if_old(self) -> None:
        """Retire the current segment if it has reached its maximum age."""
        if self.writer is not None and time.monotonic() - self.writer.opened_at >= self.limits.secs:
            self.retire()

    @property
    def unsealed(self) -> int:
        """Number of segments that wait to be sealed; each is an open file."""
        return len(self._retired)

    @property
    def last_seq(self) -> int:
        """Sequence number of the last row on disk; before the first row, the one before it."""
        if self.writer is None:
            return self._retired_last_seq
        self.writer.settle()
        return self.writer.last_seq

    @property
    def rows(self) -> int:
        """Number of rows appended in this attempt."""
        return self._retired_rows + (0 if self.writer is None else self.writer.rows)

    def sync_retired(self) -> None:
        """Sync every retired segment: until it is sealed, its active file is the only copy of its rows.

        Raises:
            OSError: a file could not be synced.
        """
        for writer in tuple(self._retired):
            writer.sync()

    def unsealed_writers(self) -> tuple[SegmentWriter, ...]:
        """Return the writers of all segments that are not sealed yet, in order."""
        return (*self._retired, *([self.writer] if self.writer is not None else []))

    def seal_oldest(self) -> bool:
        """Seal the oldest retired segment; return False if there is none.

        Raises:
            OSError: a step failed; the segment stays retired, and sealing may be tried again.
            RunDamagedError: the disk or memory returned other bytes than were written; the active file stays.
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
        """Close every file without sealing it, as a forked child does with the files of its parent."""
        for writer in self.unsealed_writers():
            writer.close()
        self._retired.clear()
        self.writer = None
