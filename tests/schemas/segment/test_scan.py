from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esper_schemas import FormatVersionError, RankDirectory, RankFollower, RunDamagedError, RunDirectory, read_segments
from esper_schemas.run.names import WRITTEN_FOLDERS, segment_numbers
from esper_schemas.segment.active import RowLayout, SegmentIdentity
from esper_schemas.segment.scan import ActiveSegment, MissingSegment, SealedSegment, with_identity


class _Rank:
    """A rank's folder whose segments a test writes byte by byte."""

    def __init__(self, folder: Path) -> None:
        self.directory = RankDirectory(folder / "rank-0000", 0)
        for name in WRITTEN_FOLDERS:
            (self.directory.path / name).mkdir(parents=True)

    def bytes_of(self, number: int, seqs: list[int], first_seq: int | None = None) -> bytes:
        """A whole active file; each row's update is its sequence number."""
        layout = self.layout(number, seqs[0] if first_seq is None and seqs else first_seq or 0)
        encode = layout.encoder({"seq", "update"}).encode
        return layout.header + b"".join(encode([seq, seq]) for seq in seqs)

    def layout(self, number: int, first_seq: int) -> RowLayout:
        return RowLayout.create(SegmentIdentity("r", 0, 0, number, first_seq))

    def write(self, number: int, data: bytes) -> None:
        self.directory.active_path(number).write_bytes(data)

    def seal(self, number: int, seqs: list[int]) -> None:
        data = self.bytes_of(number, seqs)
        layout = RowLayout.read(data)
        assert layout is not None
        rows = with_identity(layout.decode(data[len(layout.header) :], len(seqs)), layout.identity)
        pq.write_table(pa.Table.from_batches([rows]), self.directory.sealed_path(number))


@pytest.fixture
def rank(tmp_path: Path) -> _Rank:
    """The folder of a rank without any segment."""
    return _Rank(tmp_path)


def _row_bytes(rank: _Rank) -> int:
    return rank.layout(0, 0).row_bytes


def _offline(rank: _Rank) -> tuple[list[int], list[str]]:
    """Sequence numbers and faults as `read_segments` gives them."""
    seqs: list[int] = []
    faults: list[str] = []
    for segment in read_segments(rank.directory):
        if isinstance(segment, MissingSegment):
            faults += [f"{number} missing" for number in range(segment.number, segment.last + 1)]
        elif isinstance(segment, SealedSegment):
            try:
                seqs += pq.read_table(segment.path, columns=["seq"]).column("seq").to_pylist()
            except (pa.ArrowException, OSError):
                faults.append(f"{segment.number} corrupt")
        else:
            if segment.rows is not None:
                seqs += segment.rows.column("seq").to_pylist()
            if segment.end.kind != "clean":
                faults.append(f"{segment.number} {segment.end.kind}")
    return seqs, faults


def _online(rank: _Rank) -> tuple[list[int], list[str]]:
    """The same from a `RankFollower`; what the last segment ends in is no fault to it yet, so a next one is begun."""
    with RankFollower(rank.directory) as follower:
        seqs = _seqs_of(follower)
        assert _seqs_of(follower) == []
        with rank.directory.open() as folder:
            number = max(segment_numbers(folder), default=-1) + 1
        rank.write(number, b"")
        assert _seqs_of(follower) == []
        rank.directory.active_path(number).unlink()
        faults = []
        for fault in follower.faults:
            words = fault.replace(":", "").split()
            if words[0] == "segments":
                faults += [f"{number} missing" for number in range(int(words[1]), int(words[3]) + 1)]
                continue
            faults.append(f"{words[1]} {'missing' if 'is missing' in fault else words[2]}")
    return seqs, faults


def _seqs_of(follower: RankFollower) -> list[int]:
    return [seq for batch in follower.poll() for seq in batch.column("seq").to_pylist()]


def _corrupt(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _empty(rank: _Rank) -> None:
    pass


def _header_only(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, []))


def _one_row(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [0]))


def _torn_row(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [0, 1, 2])[:-5])


def _torn_header(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [0]))
    rank.write(1, rank.bytes_of(1, [])[:100])


def _first_bytes_only(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [])[:5])


def _zero_filled(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [0, 1]) + bytes(3 * _row_bytes(rank)))


def _all_zeros(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [0]))
    rank.write(1, bytes(5000))


def _corrupt_row(rank: _Rank) -> None:
    data = rank.bytes_of(0, [0, 1, 2, 3])
    rank.write(0, _corrupt(data, len(data) - 2 * _row_bytes(rank) + 9))


def _corrupt_in_the_middle(rank: _Rank) -> None:
    data = rank.bytes_of(0, [0, 1, 2, 3])
    rank.write(0, _corrupt(data, len(data) - 2 * _row_bytes(rank) + 9))
    rank.write(1, rank.bytes_of(1, [4, 5]))


def _corrupt_header(rank: _Rank) -> None:
    rank.write(0, _corrupt(rank.bytes_of(0, [0, 1]), 1000))
    rank.write(1, rank.bytes_of(1, [2]))


def _rotated(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [0, 1]))
    rank.write(1, rank.bytes_of(1, [2, 3]))
    rank.write(2, rank.bytes_of(2, []))


def _sealed(rank: _Rank) -> None:
    rank.seal(0, [0, 1])
    rank.seal(1, [2])


def _sealed_then_active(rank: _Rank) -> None:
    rank.seal(0, [0, 1])
    rank.write(1, rank.bytes_of(1, [2]))


def _both_files(rank: _Rank) -> None:
    rank.seal(0, [0, 1])
    rank.write(0, rank.bytes_of(0, [0, 1]))
    rank.write(1, rank.bytes_of(1, [2]))


def _missing_number(rank: _Rank) -> None:
    rank.seal(0, [0, 1])
    rank.write(2, rank.bytes_of(2, [5, 6]))


def _two_missing_numbers(rank: _Rank) -> None:
    rank.write(2, rank.bytes_of(2, [0]))


def _sealed_is_no_parquet(rank: _Rank) -> None:
    rank.directory.sealed_path(0).write_bytes(b"PAR1 and then nothing")
    rank.write(1, rank.bytes_of(1, [3]))


def _foreign_files(rank: _Rank) -> None:
    rank.write(0, rank.bytes_of(0, [0]))
    for name in ("00000007.arrows.broken", "00000008.parquet.tmp", "notes.arrows", ".hidden"):
        (rank.directory.active_folder / name).write_bytes(b"?")


CASES: list[tuple[Callable[[_Rank], None], list[int], list[str]]] = [
    (_empty, [], []),
    (_header_only, [], []),
    (_one_row, [0], []),
    (_torn_row, [0, 1], ["0 torn"]),
    (_torn_header, [0], ["1 torn"]),
    (_first_bytes_only, [], ["0 torn"]),
    (_zero_filled, [0, 1], ["0 torn"]),
    (_all_zeros, [0], ["1 torn"]),
    (_corrupt_row, [0, 1], ["0 corrupt"]),
    (_corrupt_in_the_middle, [0, 1, 4, 5], ["0 corrupt"]),
    (_corrupt_header, [2], ["0 corrupt"]),
    (_rotated, [0, 1, 2, 3], []),
    (_sealed, [0, 1, 2], []),
    (_sealed_then_active, [0, 1, 2], []),
    (_both_files, [0, 1, 2], []),
    (_missing_number, [0, 1, 5, 6], ["1 missing"]),
    (_two_missing_numbers, [0], ["0 missing", "1 missing"]),
    (_sealed_is_no_parquet, [3], ["0 corrupt"]),
    (_foreign_files, [0], []),
]


@pytest.mark.parametrize("read", [_offline, _online])
@pytest.mark.parametrize(("make", "seqs", "faults"), CASES, ids=[case[0].__name__.strip("_") for case in CASES])
def test_both_readers_agree(
    rank: _Rank,
    make: Callable[[_Rank], None],
    seqs: list[int],
    faults: list[str],
    read: Callable[[_Rank], tuple[list[int], list[str]]],
) -> None:
    """Reading once and following give the same rows and the same faults, whatever state the files are in."""
    make(rank)
    assert read(rank) == (seqs, faults)


def test_corrupt_segment_says_where_and_how_much(rank: _Rank) -> None:
    """The end of a corrupt segment gives the offset in the file and the number of rows behind it."""
    _corrupt_row(rank)
    (segment,) = read_segments(rank.directory)
    assert isinstance(segment, ActiveSegment)
    assert segment.end.offset == segment.bytes - 2 * _row_bytes(rank)
    assert segment.end.cause == "the checksum of a row does not match"
    assert segment.rows_lost == 2


def test_rows_carry_run_rank_and_attempt(rank: _Rank) -> None:
    """What is constant for a segment is a column in what readers get, as it is in the sealed file."""
    _one_row(rank)
    (segment,) = read_segments(rank.directory)
    assert isinstance(segment, ActiveSegment)
    assert segment.rows is not None
    row = segment.rows.to_pylist()[0]
    assert (row["run_id"], row["rank"], row["attempt"], row["update"]) == ("r", 0, 0, 0)
    with RankFollower(rank.directory) as follower:
        assert follower.poll()[0].equals(segment.rows)


def test_reading_may_begin_at_any_segment(rank: _Rank) -> None:
    """A reader that knows the first segments already begins behind them."""
    _rotated(rank)
    assert [segment.number for segment in read_segments(rank.directory, start=1)] == [1, 2]
    assert list(read_segments(rank.directory, start=3)) == []
    with RankFollower(rank.directory, start=1) as follower:
        assert _seqs_of(follower) == [2, 3]


def test_follower_sees_rows_as_they_come(rank: _Rank) -> None:
    """A row is returned once, as soon as its last byte is there, however the bytes arrive."""
    data = rank.bytes_of(0, [0, 1, 2])
    got: list[int] = []
    with RankFollower(rank.directory) as follower, rank.directory.active_path(0).open("wb", buffering=0) as file:
        for start in range(0, len(data), 997):
            file.write(data[start : start + 997])
            got += _seqs_of(follower)
            header = len(data) - 3 * _row_bytes(rank)
            assert len(got) == max(0, min(start + 997, len(data)) - header) // _row_bytes(rank)
    assert got == [0, 1, 2]


def test_follower_survives_a_row_that_was_cut_back(rank: _Rank) -> None:
    """A writer that cuts a half-written row off and writes another in its place is followed without harm."""
    one = rank.bytes_of(0, [0])
    other = rank.layout(0, 0).encoder({"seq", "update"}).encode([1, 77])
    with RankFollower(rank.directory) as follower:
        rank.write(0, one + b"\x00garbage" * 200)
        assert _seqs_of(follower) == [0]
        with rank.directory.active_path(0).open("r+b") as file:
            file.truncate(len(one))
            file.seek(len(one))
            file.write(other)
        (batch,) = follower.poll()
        assert batch.column("update").to_pylist() == [77]
        assert follower.faults == []


def test_follower_reads_on_after_a_mixed_look(rank: _Rank) -> None:
    """Bytes that look corrupt while the writer repairs its file are looked at again."""
    data = rank.bytes_of(0, [0, 1])
    with RankFollower(rank.directory) as follower:
        rank.write(0, _corrupt(data, len(data) - 1))
        assert _seqs_of(follower) == [0]
        with rank.directory.active_path(0).open("r+b") as file:
            file.write(data)
        assert _seqs_of(follower) == [1]


def test_follower_reads_a_segment_that_is_sealed_meanwhile_to_its_end(rank: _Rank) -> None:
    """Rows that came between the last look and the sealing are not lost when the active file is unlinked."""
    path = rank.directory.active_path(0)
    data = rank.bytes_of(0, [0, 1, 2])
    with RankFollower(rank.directory) as follower:
        path.write_bytes(data[: -2 * _row_bytes(rank)])
        assert _seqs_of(follower) == [0]
        with path.open("ab") as file:
            file.write(data[-2 * _row_bytes(rank) :])
        rank.seal(0, [0, 1, 2])
        path.unlink()
        assert _seqs_of(follower) == [1, 2]
        rank.write(1, rank.bytes_of(1, [3]))
        assert _seqs_of(follower) == [3]


@pytest.mark.parametrize("left", [0, 5, 100, None])
def test_follower_notices_that_a_number_is_used_again(rank: _Rank, left: int | None) -> None:
    """A file without rows that was removed and written anew under its number is followed in its new form."""
    with RankFollower(rank.directory) as follower:
        rank.write(0, rank.bytes_of(0, [])[:left])
        assert _seqs_of(follower) == []
        rank.directory.active_path(0).unlink()
        rank.write(0, rank.bytes_of(0, [0, 1]))
        assert _seqs_of(follower) == [0, 1]
        rank.write(1, rank.bytes_of(1, [2]))
        assert _seqs_of(follower) == [2]
        assert follower.faults == []


def test_follower_is_not_stopped_by_a_number_that_goes_missing(rank: _Rank) -> None:
    """A follower that waits at the end of a segment goes on when only a later number appears."""
    with RankFollower(rank.directory) as follower:
        rank.write(0, rank.bytes_of(0, [0]))
        assert _seqs_of(follower) == [0]
        assert _seqs_of(follower) == []
        rank.write(2, rank.bytes_of(2, [7]))
        assert _seqs_of(follower) + _seqs_of(follower) == [7]
        assert follower.faults == ["segment 1: corrupt at offset 0: the segment is missing"]


def test_reader_of_an_older_version_refuses(rank: _Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers pass the error of a newer format on instead of calling the file damaged."""
    with monkeypatch.context() as patched:
        patched.setattr("esper_schemas.segment.active.FORMAT_VERSION", 2)
        rank.write(0, rank.bytes_of(0, [0]))
    with pytest.raises(FormatVersionError):
        list(read_segments(rank.directory))
    with RankFollower(rank.directory) as follower, pytest.raises(FormatVersionError):
        follower.poll()


def test_what_is_no_file_is_not_taken_for_an_empty_one(rank: _Rank) -> None:
    """Something in a file's place that is none is damage to whoever reads."""
    rank.directory.active_path(0).mkdir()
    with pytest.raises(RunDamagedError, match="expected a file, found a folder"):
        list(read_segments(rank.directory))


WRITER = """
import sys
from esper_recorder import Recorder
with Recorder.open(sys.argv[1], run_id="r", segment_rows=int(sys.argv[2])) as recorder:
    for i in range(int(sys.argv[3])):
        recorder.record(update=i, policy_loss=0.5 * i, value_loss=float(i))  # False on a slow disk: written later
"""


@pytest.mark.parametrize("segment_rows", [3, 40])
def test_fast_rotation_is_followed_without_gap_or_duplicate(tmp_path: Path, segment_rows: int) -> None:
    """While another process rotates and seals as fast as it can, each row is returned exactly once, in order."""
    count = 25 * segment_rows + 1
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(segment_rows), str(count)])
    got: list[int] = []
    scans: list[list[int]] = []
    directory = RunDirectory(tmp_path / "r").rank(0)
    with RankFollower(directory) as follower:
        while writer.poll() is None:
            got += _seqs_of(follower)
            if directory.path.is_dir():
                scans.append(_all_seqs(directory))
        got += _seqs_of(follower)
        assert follower.faults == []
    assert writer.returncode == 0
    assert got == list(range(count))
    assert len(scans) > 1
    assert all(scan == list(range(len(scan))) for scan in scans)
    assert [len(scan) for scan in scans] == sorted(len(scan) for scan in scans)


def _all_seqs(directory: RankDirectory) -> list[int]:
    seqs: list[Any] = []
    for segment in read_segments(directory):
        assert not isinstance(segment, MissingSegment)
        if isinstance(segment, SealedSegment):
            seqs += pq.read_table(segment.path, columns=["seq"]).column("seq").to_pylist()
        elif segment.rows is not None:
            seqs += segment.rows.column("seq").to_pylist()
    return seqs


def test_follower_leaves_no_descriptor_open(rank: _Rank) -> None:
    """Following many segments takes one file descriptor, besides that of the folder."""
    before = _descriptors()
    for number in range(20):
        rank.write(number, rank.bytes_of(number, [number]))
    with RankFollower(rank.directory) as follower:
        assert _seqs_of(follower) == list(range(20))
        assert _descriptors() == before + 2


def _descriptors() -> int:
    """Number of open file descriptors of this process."""
    return len(list(Path("/dev/fd").iterdir()))


def test_follower_takes_no_row_that_names_no_update(rank: _Rank) -> None:
    """A row made on purpose, with a right checksum and no update, is damage and not a row."""
    layout = rank.layout(0, 0)
    rank.write(0, layout.header + layout.encoder({"seq"}).encode([0]))
    with RankFollower(rank.directory) as follower:
        assert _seqs_of(follower) == []
        rank.write(1, rank.bytes_of(1, [1]))
        assert _seqs_of(follower) == [1]
    assert [fault for fault in follower.faults if "seq or update is null" in fault]
