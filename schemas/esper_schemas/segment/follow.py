"""Following the segments of a rank while they are being written, rotated and sealed: only what is new."""

from __future__ import annotations

import os
from typing import Self

import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.run.directory import RankDirectory, active_name, sealed_name, segment_numbers
from esper_schemas.run.files import Folder, read_descriptor
from esper_schemas.segment import sealed
from esper_schemas.segment.active import RowLayout, ScanEnd, SegmentIdentity
from esper_schemas.segment.scan import cut_header, exists, with_identity


class RankFollower:
    """Follows one rank of a run from segment `start` on: each `poll` returns the rows that are new since the last one.

    It keeps the active file open, so that a segment that is sealed and unlinked meanwhile is still read to
    its end. What follows the whole rows is looked at again each time, since it may be a write in progress; once a
    later segment exists it is passed over, and listed in `faults`. So is a segment of another run, recording, rank or
    number.
    """

    def __init__(
        self, rank: RankDirectory, start: int = 0, *, run_id: str | None = None, run_uuid: str | None = None
    ) -> None:
        """`run_id` and `run_uuid` say which recording is followed; where they are None, any is."""
        self.rank = rank
        self._run_id, self._run_uuid = run_id, run_uuid
        self.faults: list[str] = []
        self._folder: Folder | None = None
        self._number = start
        self._descriptor: int | None = None
        self._layout: RowLayout | None = None
        self._offset = 0
        self._next_seq = 0
        self._end = ScanEnd("clean", 0)
        self._has_rows = False
        self._is_idle = True  # the last look found nothing new

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is being followed, and the folder."""
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
            OSError: a file exists and cannot be read.
            FormatVersionError: a segment was written by a newer Esper.
        """
        if self._folder is None:
            try:
                self._folder = self.rank.open()
            except FileNotFoundError:
                return []
        folder = self._folder
        batches: list[pa.RecordBatch] = []
        while True:
            # Whoever creates a later segment writes no more into this one: look for it before the last read.
            # Only a listing shows that the next one is missing although later ones are there.
            is_last = not exists(folder, self._number + 1)
            if is_last and self._is_idle:
                is_last = max(segment_numbers(folder), default=-1) <= self._number
            try:
                new = self._read_on(folder) if self._open(folder) else None
            except RunDamagedError as error:  # something that is no file, or too large
                self._end, new = ScanEnd("corrupt", 0, str(error)), []
            if new is not None:
                self._is_idle = not new
                batches += new
            elif not is_last:
                self._end = ScanEnd("corrupt", 0, "the segment is missing")
            if is_last:
                return batches
            self._advance(folder if new is None else None)

    def _open(self, folder: Folder) -> bool:
        """Open the current segment, a sealed one as a file that holds no more to follow; False if it is not there.

        Until its first row was read it is opened anew each time: a file without rows may be removed, and its
        number used again.
        """
        if self._descriptor is not None:
            if self._has_rows:
                return True
            self._start(self._number)
        if folder.exists(sealed_name(self._number)):
            return True
        try:
            self._descriptor = folder.open_descriptor(active_name(self._number))
        except FileNotFoundError:
            return folder.exists(sealed_name(self._number))
        return True

    def _read_on(self, folder: Folder) -> list[pa.RecordBatch]:
        if self._descriptor is None:
            return self._read_sealed(folder)
        where = folder.where(active_name(self._number))
        data = read_descriptor(self._descriptor, MAX_SEGMENT_BYTES, where, self._offset)
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

    def _read_sealed(self, folder: Folder) -> list[pa.RecordBatch]:
        """The whole of a segment that was sealed before we came to it; afterwards it is done with."""
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
        """Files of 0.1.0 do not say which recording they belong to, and belong to any."""
        expected = (self._run_id or identity.run_id, self.rank.rank, self._number)
        is_ours = (identity.run_id, identity.rank, identity.segment) == expected
        if not is_ours or (self._run_uuid and identity.run_uuid and identity.run_uuid != self._run_uuid):
            raise RunDamagedError("the segment belongs to another run, recording or rank, or has another number")

    def _advance(self, missing_in: Folder | None) -> None:
        """Go on with the next segment; from a missing one with the next that is there."""
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
        """Begin a segment, with nothing of it read."""
        self._close_file()
        self._number = number
        self._layout = None
        self._offset = 0
        self._end = ScanEnd("clean", 0)
        self._has_rows = False
        self._is_idle = True


def _lacks_numbers(batch: pa.RecordBatch) -> bool:
    """Whether a row does not say which one it is: its checksum may be right all the same, if it was made on purpose."""
    return any(name not in batch.schema.names or batch.column(name).null_count > 0 for name in ("seq", "update"))
