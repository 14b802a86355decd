"""Salvages the whole rows of a damaged active file, including those behind the damage.

Rows have a fixed stride, and each has its own checksum, so each can be judged by itself. Only damaged rows are lost;
they leave a gap in the sequence numbers.
"""

from __future__ import annotations

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.examining.segment import Recording, SegmentExamination
from esper_schemas.limits import MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.run.files import Folder
from esper_schemas.segment.active import ROW_MARK, SEQ_CELLS, RowLayout, ScanEnd, SegmentIdentity
from esper_schemas.segment.scan import ActiveSegment, with_identity


def salvage(
    segment: SegmentExamination, rank: Folder, recording: Recording, known: RankExamination
) -> ActiveSegment | None:
    """Return every whole row of a damaged active file as a segment that can be sealed.

    None means that its header cannot be rebuilt, or that the file belongs to another run or its rows are not valid.

    Args:
        segment: examination of the file, which found it corrupt.
        rank: folder of the rank that it belongs to.
        recording: the run id and uuid of the run.
        known: examination of the whole rank, from which a damaged header can be rebuilt.

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
        return None  # it belongs to another run, or its rows are not valid
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
    """Return the whole rows whose `seq` rises, the offset of the first byte outside them, and the end of the last."""
    rows: list[bytes] = []
    next_seq = layout.identity.first_seq
    first_bad, last_good_end = None, len(layout.header)
    for start in range(len(layout.header), len(data) - layout.row_bytes + 1, layout.row_bytes):
        message = data[start : start + layout.row_bytes]
        seq, dropped = SEQ_CELLS.unpack_from(message, layout.values_at)
        if dropped >= 0 and next_seq <= seq - dropped and seq <= MAX_SEQ and layout.is_whole(message):
            rows.append(message)
            next_seq, last_good_end = seq + 1, start + layout.row_bytes
            continue
        first_bad = start if first_bad is None else first_bad
    return rows, last_good_end if first_bad is None else first_bad, last_good_end


def _made_anew(data: bytes, number: int, recording: Recording, known: RankExamination) -> RowLayout | None:
    """Rebuild the layout of a file with a damaged header, if its first row is whole with the columns of a neighbour."""
    header_bytes = data.find(ROW_MARK, len(ROW_MARK))
    held = [entry.holds for entry in known.segments if entry.holds]
    run_id, run_uuid = recording.run_id or "", recording.run_uuid
    for extras in ([], *([*holds.extras] for holds in reversed(held) if holds.extras)):
        layout = RowLayout.create(SegmentIdentity(run_id, known.rank, 0, number, 0), extras)
        message = data[header_bytes : header_bytes + layout.row_bytes]
        if header_bytes < 0 or len(message) < layout.row_bytes:
            continue
        seq, dropped = SEQ_CELLS.unpack_from(message, layout.values_at)
        if not 0 <= dropped <= seq <= MAX_SEQ or not layout.is_whole(message):
            continue
        attempt = max((a.attempt for a in known.attempts.values() if a.first_seq <= seq), default=0)
        identity = SegmentIdentity(run_id, known.rank, attempt, number, seq - dropped, run_uuid)
        return RowLayout(layout.columns, identity, data[:header_bytes], layout.row_bytes)
    return None
