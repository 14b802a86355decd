from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.live_runs import copy_live_run
from tests.recorder.keeping.deaths import Crash, dies_after
from tests.waiting import wait_until

from esper_recorder import Recorder
from esper_recorder.keeping.recovery import RecoveredRank, recover
from esper_schemas import RankDirectory, RunDamagedError, RunDirectory, read_segments
from esper_schemas.segment.active import RowLayout, SegmentIdentity

ReadRows = Callable[..., list[dict[str, Any]]]


def _record(recorder: Recorder, count: int, first: int = 0) -> None:
    for i in range(first, first + count):
        assert recorder.record(update=i, policy_loss=0.1, value_loss=i / 8)


def _crash_image(tmp_path: Path, rows: int = 5, tail: bytes = b"half a row") -> Path:
    """A run as SIGKILL would leave it: one active segment, with the beginning of a row behind its whole ones."""
    recorder = Recorder.open(tmp_path / "live", run_id="r", strict=True)
    _record(recorder, rows)
    image = copy_live_run(recorder.path, tmp_path / "image" / "r", sealed=0)
    recorder.close()
    with next((image / "rank-0000" / "active").glob("*.arrows")).open("ab") as file:
        file.write(tail)
    return image


def _files(rank: RankDirectory) -> list[str]:
    return sorted(str(path.relative_to(rank.path)) for path in rank.path.rglob("*") if path.is_file())


def _recover(rank: RankDirectory) -> RecoveredRank:
    with rank.open() as folder:
        return recover(folder, None)


def test_sealing_may_be_cut_short_between_any_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows
) -> None:
    """Wherever recovery dies, all rows can be read at once, and doing it again completes it."""
    image = _crash_image(tmp_path)
    expected = read_rows(image)
    assert [row["update"] for row in expected] == list(range(5))
    steps = 0
    while True:
        run = RunDirectory(tmp_path / f"try-{steps}")
        shutil.copytree(image, run.path)
        rank = run.rank(0)
        try:
            with dies_after(steps, monkeypatch):
                _recover(rank)
            done = True
        except Crash:
            done = False
        assert read_rows(run.path) == expected, steps
        recovered = _recover(rank)
        assert (recovered.next_segment, recovered.next_seq) == (1, 5), steps
        assert read_rows(run.path) == expected, steps
        assert _files(rank) == [
            "LOCK",
            "active/00000000.arrows.broken",
            "attempts/0000.json",
            "seals/00000000.json",
            "segments/00000000.parquet",
            "states/00000000.json",
        ], steps
        assert (rank.active_folder / "00000000.arrows.broken").read_bytes() == b"half a row"
        if done:
            break
        steps += 1
    assert steps >= 8  # fsync, rename or unlink of: Parquet, seal, tail, active file, and their folders


def test_recovery_twice_changes_nothing(tmp_path: Path) -> None:
    """Recovering a run that is in order leaves every byte as it is."""
    rank = RunDirectory(_crash_image(tmp_path)).rank(0)
    first = _recover(rank)
    before = {name: (rank.path / name).read_bytes() for name in _files(rank)}
    times = {name: (rank.path / name).stat().st_mtime_ns for name in _files(rank)}
    assert _recover(rank) == first
    assert {name: (rank.path / name).read_bytes() for name in _files(rank)} == before
    assert {name: (rank.path / name).stat().st_mtime_ns for name in _files(rank)} == times


def test_seal_record_describes_the_file(tmp_path: Path) -> None:
    """The seal holds checksum, size, counts and ranges of exactly the file that stands there."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=4, strict=True) as recorder:
        _record(recorder, 4, first=10)
        _record(recorder, 2, first=12)
    rank = RunDirectory(tmp_path / "r").rank(0)
    for number, rows, first_seq, updates, rise in [(0, 4, 0, (10, 13), True), (1, 2, 4, (12, 13), True)]:
        data = rank.sealed_path(number).read_bytes()
        seal = rank.seal(number)
        assert seal is not None
        assert (seal.sha256, seal.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
        assert (seal.segment, seal.attempt, seal.rows, seal.rows_lost) == (number, 0, rows, 0)
        assert (seal.first_seq, seal.last_seq) == (first_seq, first_seq + rows - 1)
        assert ((seal.first_update, seal.last_update), seal.updates_rise) == (updates, rise)
        metadata = pq.read_schema(rank.sealed_path(number)).metadata
        assert metadata[b"esper.run_id"] == b"r"
        assert metadata[b"esper.segment"] == str(number).encode()
        assert metadata[b"esper.first_seq"] == str(first_seq).encode()


def test_seal_says_when_updates_do_not_rise(tmp_path: Path) -> None:
    """A segment that goes back to an earlier update is marked, since rows in it supersede others."""
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        _record(recorder, 3)
        _record(recorder, 1, first=1)
    seal = RunDirectory(tmp_path / "r").rank(0).seal(0)
    assert seal is not None
    assert not seal.updates_rise


def test_sealed_files_do_not_change(tmp_path: Path) -> None:
    """What is sealed once keeps its bytes and its place through later rows, attempts and recoveries."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2, strict=True) as recorder:
        _record(recorder, 5)
    segments = RunDirectory(tmp_path / "r").rank(0).segments_folder
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in segments.iterdir()}
    with Recorder.open(tmp_path, run_id="r", resume="must", segment_rows=3, strict=True) as recorder:
        _record(recorder, 4, first=2)
    assert {name: (place.stat().st_ino, place.read_bytes()) for name in before if (place := segments / name)} == before
    assert len(list(segments.iterdir())) == 5


def test_engines_agree_on_sealed_files(tmp_path: Path) -> None:
    """polars, pyarrow and duckdb read the folder of sealed files alike, with run, rank and attempt as columns."""
    with Recorder.open(tmp_path, run_id="mine", segment_rows=7, strict=True) as recorder:
        _record(recorder, 20)
    pattern = str(tmp_path / "*" / "rank-*" / "segments" / "*.parquet")
    wanted = [("mine", 0, 0, i, i / 8) for i in range(20)]
    names = ["run_id", "rank", "attempt", "update", "value_loss"]
    assert pl.scan_parquet(pattern).select(names).collect().rows() == wanted
    found = duckdb.sql(f"select {', '.join(names)} from '{pattern}' order by rank, seq")
    assert found is not None
    assert found.fetchall() == wanted
    table = pq.read_table(tmp_path / "mine" / "rank-0000" / "segments", columns=names, partitioning=None)
    assert [tuple(row.values()) for row in table.to_pylist()] == wanted


def _sealed_rows(run: Path, count: int) -> list[int]:
    """Rows of each sealed segment, once there are `count` of them."""
    folder = run / "rank-0000" / "segments"
    wait_until(lambda: len(list(folder.glob("*.parquet"))) >= count, "it was not sealed")
    return [pq.read_metadata(path).num_rows for path in sorted(folder.glob("*.parquet"))]


def test_rotation_by_rows(tmp_path: Path) -> None:
    """A segment that has its rows is sealed in the background, without waiting for the next row."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=3, strict=True) as recorder:
        _record(recorder, 9)
        assert _sealed_rows(recorder.path, 3) == [3, 3, 3]


def test_rotation_by_bytes(tmp_path: Path) -> None:
    """A segment does not grow beyond its bytes; one that is smaller than a row still takes one."""
    with Recorder.open(tmp_path, run_id="r", segment_bytes=10_000, strict=True) as recorder:
        _record(recorder, 4)
        assert _sealed_rows(recorder.path, 2) == [2, 2]
    with Recorder.open(tmp_path, run_id="s", segment_bytes=1, strict=True) as recorder:
        _record(recorder, 3)
        assert _sealed_rows(recorder.path, 3) == [1, 1, 1]


def test_rotation_by_age(tmp_path: Path) -> None:
    """A segment that is old enough is sealed although no further row comes."""
    with Recorder.open(tmp_path, run_id="r", segment_secs=0.05, strict=True) as recorder:
        _record(recorder, 2)
        wait_until(lambda: sum(_sealed_rows(recorder.path, 1)) == 2)
        _record(recorder, 1, first=2)
        wait_until(lambda: sum(_sealed_rows(recorder.path, 1)) == 3)


def _flip(path: Path, from_end: int) -> None:
    data = bytearray(path.read_bytes())
    data[-from_end] ^= 1
    path.write_bytes(data)


def test_resume_after_a_corrupt_middle_keeps_what_is_whole_and_shows_the_gap(
    tmp_path: Path, read_rows: ReadRows
) -> None:
    """Rows before the damage are sealed, the rest is kept aside, and its numbers stay unused and unexplained."""
    image = _crash_image(tmp_path, rows=6, tail=b"")
    rank = RunDirectory(image).rank(0)
    active = rank.active_path(0)
    row_bytes = _row_bytes(rank)
    _flip(active, 2 * row_bytes + 20)
    with Recorder.open(image.parent, run_id="r", resume="must", strict=True) as recorder:
        _record(recorder, 2, first=6)
    rows = read_rows(image)
    assert [row["seq"] for row in rows] == [0, 1, 2, 6, 7]
    assert rows[3]["dropped_before"] is None
    seal = rank.seal(0)
    assert seal is not None
    assert (seal.rows, seal.rows_lost, seal.last_seq) == (3, 3, 2)
    assert len((rank.active_folder / "00000000.arrows.broken").read_bytes()) == 3 * row_bytes


def _row_bytes(rank: RankDirectory) -> int:
    layout = RowLayout.read(rank.active_path(0).read_bytes())
    assert layout is not None
    return layout.row_bytes


def test_resume_after_a_corrupt_header_leaves_its_number_missing(tmp_path: Path, read_rows: ReadRows) -> None:
    """A segment whose header is damaged is kept aside; its number is not used again, so that readers report it."""
    image = _crash_image(tmp_path)
    rank = RunDirectory(image).rank(0)
    data = bytearray(rank.active_path(0).read_bytes())
    data[500] ^= 1
    rank.active_path(0).write_bytes(data)
    with Recorder.open(image.parent, run_id="r", resume="must", strict=True) as recorder:
        _record(recorder, 2)
        assert [type(segment).__name__ for segment in read_segments(rank)] == ["MissingSegment", "ActiveSegment"]
    assert (rank.active_folder / "00000000.arrows.broken").read_bytes() == data
    assert len(read_rows(image)) == 2


def test_resume_after_a_header_that_was_never_whole_uses_its_number_again(tmp_path: Path, read_rows: ReadRows) -> None:
    """A file that was cut off before its first row held nothing, and leaves no gap."""
    image = _crash_image(tmp_path, tail=b"")
    rank = RunDirectory(image).rank(0)
    for cut in (0, 3, 700):
        rank.active_path(1).write_bytes(rank.active_path(0).read_bytes()[:cut] if rank.active_path(0).exists() else b"")
        shutil.copytree(image, tmp_path / f"cut-{cut}" / "r")
        copy = RunDirectory(tmp_path / f"cut-{cut}" / "r")
        with Recorder.open(tmp_path / f"cut-{cut}", run_id="r", resume="must", strict=True) as recorder:
            _record(recorder, 2, first=5)
        assert [row["seq"] for row in read_rows(copy.path)] == list(range(7))
        assert [segment.number for segment in read_segments(copy.rank(0))] == [0, 1]


def test_zero_filled_end_loses_no_number(tmp_path: Path, read_rows: ReadRows) -> None:
    """Zeros that a power loss left at the end are cut off, and numbering goes on where the rows end."""
    image = _crash_image(tmp_path, tail=bytes(10_000))
    with Recorder.open(image.parent, run_id="r", resume="must", strict=True) as recorder:
        _record(recorder, 1, first=5)
    assert [row["seq"] for row in read_rows(image)] == list(range(6))


def test_numbering_continues_behind_an_empty_segment_without_seal(tmp_path: Path, read_rows: ReadRows) -> None:
    """The last segment being empty and its seal record being gone does not begin the numbers anew."""
    image = _crash_image(tmp_path, tail=b"")
    rank = RunDirectory(image).rank(0)
    _recover(rank)
    rank.active_path(1).write_bytes(RowLayout.create(SegmentIdentity("r", 0, 0, 1, 5)).header)
    _recover(rank)
    rank.seal_path(1).unlink()
    assert _recover(rank).next_seq == 5


def _without_seq(path: Path) -> None:
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["seq"]), path)


def _zero(start: int, end: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[start:end] = bytes(len(data[start:end]))
        path.write_bytes(data)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_without_seq, id="columns"),
        pytest.param(_zero(200, 400), id="pages"),
        pytest.param(_zero(-3000, -8), id="footer"),
        pytest.param(_zero(-8, -1), id="end"),
    ],
)
def test_damaged_file_without_a_seal_is_left_to_repair(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Where the last segment cannot say how numbering goes on, no attempt is begun, and nothing is touched."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=3, strict=True) as recorder:
        _record(recorder, 7)
    rank = RunDirectory(tmp_path / "r").rank(0)
    rank.seal_path(2).unlink()
    damage(rank.sealed_path(2))
    before = {name: (rank.path / name).read_bytes() for name in _files(rank) if name != "LOCK"}
    with pytest.raises(RunDamagedError) as caught:
        Recorder.open(tmp_path, run_id="r", resume="must")
    assert str(rank.sealed_path(2)) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {name: (rank.path / name).read_bytes() for name in _files(rank) if name != "LOCK"} == before
    assert not rank.has_writer()


def test_failed_sealing_leaves_the_rows_readable_and_is_tried_again(
    tmp_path: Path, read_rows: ReadRows, caplog: pytest.LogCaptureFixture
) -> None:
    """While something is in the way of a sealed file, recording goes on; afterwards everything is sealed."""
    recorder = Recorder.open(tmp_path, run_id="r", segment_rows=2)
    rank = RunDirectory(tmp_path / "r").rank(0)
    in_the_way = rank.active_folder / "00000000.parquet.tmp"
    in_the_way.mkdir()
    _record(recorder, 7)
    wait_until(lambda: "sealing failed" in caplog.text)
    assert [row["seq"] for row in read_rows(tmp_path / "r")] == list(range(7))
    in_the_way.rmdir()
    recorder.close()
    assert [row["seq"] for row in read_rows(tmp_path / "r")] == list(range(7))
    assert _sealed_rows(tmp_path / "r", 4) == [2, 2, 2, 1]
    assert rank.attempts()[0].status == "finished"


def test_folder_of_sealed_files_that_is_another_one_gets_nothing_until_the_next_attempt(
    tmp_path: Path, read_rows: ReadRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is removed and made anew, no row is lost: they stay in their active files, and resuming seals them."""
    monkeypatch.setattr("esper_recorder.writing.background.CLOSE_TIMEOUT_SECS", 1)
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        rank = RunDirectory(tmp_path / "r").rank(0)
        rank.segments_folder.rmdir()
        rank.segments_folder.mkdir()
        _record(recorder, 7)
    assert [row["seq"] for row in read_rows(tmp_path / "r")] == list(range(7))
    assert not list(rank.segments_folder.iterdir())
    Recorder.open(tmp_path, run_id="r", resume="must").close()
    assert [row["seq"] for row in read_rows(tmp_path / "r")] == list(range(7))
    assert _sealed_rows(tmp_path / "r", 4) == [2, 2, 2, 1]
    assert [attempt.status for attempt in rank.attempts()] == [None, "finished"]


def test_damage_under_a_living_recorder_does_not_stop_it(tmp_path: Path, read_rows: ReadRows) -> None:
    """A row that rots on disk before its segment is sealed is lost and counted; everything else is sealed."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=4) as recorder:
        rank = RunDirectory(tmp_path / "r").rank(0)
        _record(recorder, 3)
        _flip(rank.active_path(0), 100)
        _record(recorder, 6, first=3)
    assert [row["seq"] for row in read_rows(tmp_path / "r")] == [0, 1, 4, 5, 6, 7, 8]
    seal = rank.seal(0)
    assert seal is not None
    assert (seal.rows, seal.rows_lost) == (2, 2)


def test_unsealable_segment_does_not_block_those_behind_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A segment whose header rots cannot be sealed: it stays as it is, the others are sealed, the run ends properly."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        rank = RunDirectory(tmp_path / "r").rank(0)
        _record(recorder, 1)
        data = bytearray(rank.active_path(0).read_bytes())
        data[300] ^= 1
        rank.active_path(0).write_bytes(data)
        _record(recorder, 5, first=1)
    assert rank.active_path(0).exists()
    assert sorted(path.name for path in rank.segments_folder.iterdir()) == ["00000001.parquet", "00000002.parquet"]
    assert rank.attempts()[0].status == "finished"
    assert "not the header of a segment" in caplog.text


def _with_other_bits(table: pa.Table) -> pa.Table:
    values = table.column("value_loss").to_numpy().copy()
    values.view("int64")[2] ^= 1
    return table.set_column(table.schema.get_field_index("value_loss"), "value_loss", pa.array(values))


def _with_a_null(table: pa.Table) -> pa.Table:
    values = [None, *table.column("policy_loss").to_pylist()[1:]]
    return table.set_column(table.schema.get_field_index("policy_loss"), "policy_loss", pa.array(values, pa.float64()))


READ_BACK: dict[str, Callable[[pa.Table], pa.Table]] = {
    "a bit": _with_other_bits,
    "a null": _with_a_null,
    "a row less": lambda table: table.slice(0, table.num_rows - 1),
    "a column less": lambda table: table.drop_columns(["entropy"]),
}


@pytest.mark.parametrize("change", READ_BACK)
def test_sealing_reads_back_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows, change: str
) -> None:
    """A Parquet file that holds anything else than the rows is thrown away, and the active file stays as it is."""
    rank = RunDirectory(_crash_image(tmp_path, tail=b"")).rank(0)
    active = rank.active_path(0).read_bytes()
    write = pq.write_table

    def write_wrongly(table: pa.Table, *places: Any, **options: Any) -> None:
        write(READ_BACK[change](table), *places, **options)

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", write_wrongly)
        with pytest.raises(RunDamagedError, match="read back"):
            Recorder.open(tmp_path / "image", run_id="r", resume="must")
    assert rank.active_path(0).read_bytes() == active
    assert not [*rank.segments_folder.iterdir(), *rank.seals_folder.iterdir(), *rank.path.rglob("*.tmp")]
    Recorder.open(tmp_path / "image", run_id="r", resume="must").close()
    assert [row["update"] for row in read_rows(tmp_path / "image" / "r")] == list(range(5))


THREADS = """
import contextlib, pathlib, sys, time
import numpy  # has threads of its own

from esper_recorder import Recorder

def threads():
    names = []
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            names.append((task / "comm").read_text().strip())
    return len(names) - names.count("jemalloc_bg_thd")  # of Arrow's memory; it does not mind the end of a process

before = threads()
with Recorder.open(sys.argv[1], segment_rows=10) as recorder:
    for update in range(95):
        recorder.record(update=update, policy_loss=0.1, value_loss=0.2)
until = time.monotonic() + 10
while threads() > before and time.monotonic() < until:  # one that has ended is there for a moment longer
    time.sleep(0.01)
print(max(0, threads() - before))  # one of those from before may have ended
"""


def test_sealing_leaves_no_thread_behind(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    """A thread of Arrow's pool, or the recorder's own, that still lives when Python ends may abort the process."""
    done = run_python(THREADS, tmp_path)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_recorder_that_reads_back_something_else_keeps_the_active_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows, caplog: pytest.LogCaptureFixture
) -> None:
    """Sealing in the background takes no row from a segment that does not come back, and goes on with the others."""
    write, tables = pq.write_table, list[pa.Table]()

    def write_the_first_wrongly(table: pa.Table, *places: Any, **options: Any) -> None:
        tables.append(table)
        write(_with_other_bits(table) if len(tables) == 1 else table, *places, **options)

    monkeypatch.setattr(pq, "write_table", write_the_first_wrongly)
    with Recorder.open(tmp_path, run_id="r", segment_rows=4) as recorder:
        _record(recorder, 8)
    rank = RunDirectory(tmp_path / "r").rank(0)
    assert rank.active_path(0).exists()
    assert [path.name for path in rank.segments_folder.iterdir()] == ["00000001.parquet"]
    assert [row["value_loss"] for row in read_rows(tmp_path / "r")] == [i / 8 for i in range(8)]
    assert "read back" in caplog.text
