"""Follows the segments of a rank while a writer adds, rotates and seals them; returns only new rows."""

from __future__ import annotations

import os
from typing import Self

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.run.directory import StoredRank
from esper_schemas.run.files import Folder, read_descriptor
from esper_schemas.run.names import active_name, sealed_name, segment_numbers
from esper_schemas.run.storage import Storage
from esper_schemas.segment import sealed
from esper_schemas.segment.active import RowLayout, ScanEnd, SegmentIdentity
from esper_schemas.segment.scan import cut_header, exists, with_identity


class RankFollower:
    """Follows one rank of a run from segment `start` on: each `poll` returns the rows that are new since the last one.

    It keeps the active file open, so it reads a segment to its end even if the file is sealed and unlinked meanwhile.
    Bytes after the last whole row may be a write in progress, so each poll reads them again. Once a later segment
    exists, they are skipped and listed in `faults`. So is a segment of another run, recording, rank or number.

    In an object store, a segment is read once it is sealed, or whole if the run ended without sealing it.
    """

    def __init__(
        self, rank: StoredRank, start: int = 0, *, run_id: str | None = None, run_uuid: str | None = None
    ) -> None:
        """`run_id` and `run_uuid` name the recording to follow; None accepts any."""
        self.rank = rank
        self._run_id, self._run_uuid = run_id, run_uuid
        self.faults: list[str] = []
        self._folder: Storage | None = None
        self._number = start
        self._descriptor: int | None = None
        self._layout: RowLayout | None = None
        self._offset = 0
        self._next_seq = 0
        self._end = ScanEnd("clean", 0)
        self._has_rows = False
        self._is_idle = True  # the last read returned no new rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the current file and the folder."""
        self._close_file()
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def poll(self) -> list[pa.RecordBatch]:
        """The new rows, in order, as one batch for each segment; empty if there are none yet.

        Raises:
            OSError: a file exists but cannot be read.
            FormatVersionError: a newer Esper wrote a segment.
        """
        if not isinstance(self._folder, Folder):  # the list of an object store is of one moment
            try:
                self._folder = self.rank.open()
            except FileNotFoundError:
                return []
        folder = self._folder
        batches: list[pa.RecordBatch] = []
        while True:
            # A writer that has created a later segment no longer writes to this one, so look for a later one before
            # the last read. Only a listing shows that the next one is missing although later ones exist.
            is_last = not exists(folder, self._number + 1)
            if is_last and self._is_idle:
                is_last = max(segment_numbers(folder), default=-1) <= self._number
            try:
                new = self._read_on(folder) if self._open(folder) else None
            except RunDamagedError as error:  # not a regular file, or too large
                self._end, new = ScanEnd("corrupt", 0, str(error)), []
            if new is not None:
                self._is_idle = not new
                batches += new
            elif not is_last:
                self._end = ScanEnd("corrupt", 0, "the segment is missing")
            if is_last:
                return batches
            self._advance(folder if new is None else None)

    def _open(self, folder: Storage) -> bool:
        """Open the current segment if it is active; return False if it does not exist, active or sealed.

        Until its first row has been read, open the file again each time: a file without rows may be removed, and its
        number used again.
        """
        if self._descriptor is not None:
            if self._has_rows:
                return True
            self._start(self._number)
        if folder.exists(sealed_name(self._number)):
            return True
        if not isinstance(folder, Folder):
            return folder.exists(active_name(self._number))
        try:
            self._descriptor = folder.open_descriptor(active_name(self._number))
        except FileNotFoundError:
            return folder.exists(sealed_name(self._number))
        return True

    def _read_on(self, folder: Storage) -> list[pa.RecordBatch]:
        name = active_name(self._number)
        if self._descriptor is not None:
            data = read_descriptor(self._descriptor, MAX_SEGMENT_BYTES, folder.where(name), self._offset)
        elif folder.exists(sealed_name(self._number)):
            return self._read_sealed(folder)
        else:
            data = folder.read(name, MAX_SEGMENT_BYTES)[self._offset :]
        if self._layout is None:
            try:
                self._layout = RowLayout.read(data)
            except RunDamagedError as error:
                self._end = ScanEnd("corrupt" if data.strip(b"\0") else "torn", 0, str(error))
                return []
            if self._layout is None:
                self._end = cut_header(data)
                return []
            try:
                self._check_identity(self._layout.identity)
            except RunDamagedError:
                self._layout = None
                raise
            self._offset = len(self._layout.header)
            self._next_seq = self._layout.identity.first_seq
            data = data[self._offset :]
        layout = self._layout
        rows, self._end = layout.scan(data, offset=self._offset, next_seq=self._next_seq)
        if not rows:
            return []
        batch = with_identity(layout.decode(data, rows), layout.identity)
        if _lacks_numbers(batch):
            self._end = ScanEnd("corrupt", self._offset, "seq or update is null in a row")
            return []
        self._has_rows = True
        self._offset += rows * layout.row_bytes
        self._next_seq = batch.column("seq")[rows - 1].as_py() + 1
        return [batch]

    def _read_sealed(self, folder: Storage) -> list[pa.RecordBatch]:
        """Read a whole segment that was sealed before we reached it; later calls return nothing."""
        if self._end.kind == "corrupt" or self._offset:
            return []
        name = sealed_name(self._number)
        try:
            size = folder.size(name)
            with folder.open(name) as file, sealed.open_parquet(file, size, folder.where(name)) as parquet:
                if self._run_id is not None:
                    self._check_identity(sealed.read_footer(parquet, folder.where(name)).identity)
                table: pa.Table = parquet.read()
        except (pa.ArrowException, OSError) as error:
            self._end = ScanEnd("corrupt", 0, " ".join(str(error).split()))
            return []
        self._offset = size
        batches: list[pa.RecordBatch] = table.combine_chunks().to_batches()
        if any(_lacks_numbers(batch) for batch in batches):
            self._end = ScanEnd("corrupt", 0, "seq or update is null in a row")
            return []
        return batches

    def _check_identity(self, identity: SegmentIdentity) -> None:
        """Raise RunDamagedError for a segment of something else. Files of 0.1.0 name no recording and fit any."""
        expected = (self._run_id or identity.run_id, self.rank.rank, self._number)
        is_ours = (identity.run_id, identity.rank, identity.segment) == expected
        if not is_ours or (self._run_uuid and identity.run_uuid and identity.run_uuid != self._run_uuid):
            raise RunDamagedError("the segment belongs to another run, recording or rank, or has another number")

    def _advance(self, missing_in: Storage | None) -> None:
        """Go on to the next segment; after a missing one, to the next that exists."""
        following = self._number + 1
        if missing_in is not None:
            following = min((n for n in segment_numbers(missing_in) if n > self._number), default=following)
        if following > self._number + 1:
            self.faults.append(f"segments {self._number} to {following - 1} are missing")
        elif self._end.kind != "clean":
            self.faults.append(
                f"segment {self._number}: {self._end.kind} at offset {self._end.offset}: {self._end.cause}"
            )
        self._start(following)

    def _start(self, number: int) -> None:
        """Start reading a segment from its beginning."""
        self._close_file()
        self._number = number
        self._layout = None
        self._offset = 0
        self._end = ScanEnd("clean", 0)
        self._has_rows = False
        self._is_idle = True


def _lacks_numbers(batch: pa.RecordBatch) -> bool:
    """Whether a row has no seq or update. A forged row can lack them although its checksum is right."""
    return any(name not in batch.schema.names or batch.column(name).null_count > 0 for name in ("seq", "update"))
