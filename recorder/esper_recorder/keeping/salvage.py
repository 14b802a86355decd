"""The whole rows of an active file that is damaged, those behind the damage too.

Rows stand at a fixed stride and carry their own checksum, so that each one can be judged by itself. What cannot be
judged any more is only what was lost; that shows as a gap in the sequence numbers.
"""

from __future__ import annotations

import struct

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.rank import RankExamination
from esper_schemas.examining.segment import Recording, SegmentExamination
from esper_schemas.limits import MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.run.files import Folder
from esper_schemas.segment.active import RowLayout, ScanEnd, SegmentIdentity
from esper_schemas.segment.scan import ActiveSegment, with_identity

_ROW_MARK = b"\xff\xff\xff\xff"  # opens every row; inside a header it stands only at the front
_SEQ_CELLS = struct.Struct("<qq")  # seq and dropped_before


def salvage(
    segment: SegmentExamination, rank: Folder, recording: Recording, known: RankExamination
) -> ActiveSegment | None:
    """Every whole row of a damaged active file, as a segment that can be sealed; None if its header is lost for good.

    Args:
        segment: the file as it was examined; it is corrupt somewhere.
        rank: folder of the rank that it belongs to.
        recording: the run.
        known: the rest of the rank, from which a damaged header can be made anew.

    Raises:
        OSError: the file cannot be read.
    """
    data = rank.read(segment.name, MAX_SEGMENT_BYTES)
    try:
        layout = RowLayout.read(data)
    except RunDamagedError:
        layout = None
    bad_at: int | None = None
    if layout is None:
        layout = _made_anew(data, segment.number, recording, known)
        bad_at = 0
    elif segment.holds is None:
        return None  # it is of another run, or its rows cannot be
    if layout is None:
        return None
    good, first_bad, last_good_end = _whole_rows(data, layout)
    batch = layout.decode(b"".join(good), len(good))
    at = first_bad if bad_at is None else bad_at
    rows_lost = -(-(len(data) - last_good_end) // layout.row_bytes)
    following = [entry.holds for entry in known.segments if entry.number > segment.number and entry.holds]
    if following:
        last_seq = batch.column("seq")[-1].as_py() if good else layout.identity.first_seq - 1
        rows_lost = max(0, following[0].identity.first_seq - last_seq - 1)
    end = ScanEnd("corrupt", at, "salvaged")
    rows = with_identity(batch, layout.identity)
    return ActiveSegment(segment.number, layout.identity, rows, end, data, rows_lost)


def _whole_rows(data: bytes, layout: RowLayout) -> tuple[list[bytes], int, int]:
    """The rows whose checksum is right and whose number rises; the first byte that is none, the end of the last one."""
    rows: list[bytes] = []
    next_seq = layout.identity.first_seq
    first_bad, last_good_end = None, len(layout.header)
    for start in range(len(layout.header), len(data) - layout.row_bytes + 1, layout.row_bytes):
        message = data[start : start + layout.row_bytes]
        seq, dropped = _SEQ_CELLS.unpack_from(message, layout.values_at)
        if dropped >= 0 and next_seq <= seq - dropped and seq <= MAX_SEQ:
            is_whole, _ = layout.scan(message, offset=start, next_seq=seq - dropped)
            if is_whole:
                rows.append(message)
                next_seq, last_good_end = seq + 1, start + layout.row_bytes
                continue
        first_bad = start if first_bad is None else first_bad
    return rows, last_good_end if first_bad is None else first_bad, last_good_end


def _made_anew(data: bytes, number: int, recording: Recording, known: RankExamination) -> RowLayout | None:
    """The layout of a file whose header is damaged, if the columns of its neighbours make its rows whole."""
    header_bytes = data.find(_ROW_MARK, len(_ROW_MARK))
    held = [entry.holds for entry in known.segments if entry.holds]
    run_id, run_uuid = recording.run_id or "", recording.run_uuid
    for extras in ([], *([*holds.extras] for holds in reversed(held) if holds.extras)):
        layout = RowLayout.create(SegmentIdentity(run_id, known.rank, 0, number, 0), extras)
        message = data[header_bytes : header_bytes + layout.row_bytes]
        if header_bytes < 0 or len(message) < layout.row_bytes:
            continue
        seq, dropped = _SEQ_CELLS.unpack_from(message, layout.values_at)
        if not 0 <= dropped <= seq <= MAX_SEQ or not layout.scan(message, offset=0, next_seq=seq - dropped)[0]:
            continue
        attempt = max((a.attempt for a in known.attempts.values() if a.first_seq <= seq), default=0)
        identity = SegmentIdentity(run_id, known.rank, attempt, number, seq - dropped, run_uuid)
        return RowLayout(layout.columns, identity, data[:header_bytes], layout.row_bytes)
    return None
