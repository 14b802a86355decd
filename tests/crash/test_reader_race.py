from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
from tests.crash.ledger import Ledger
from tests.crash.nursery import Nursery, rotate_fast
from tests.crash.oracle import Found, Outcome, rows_of
from tests.waiting import HANG_SECS

from esper_schemas import RankDirectory, RankFollower, RunDirectory, read_segments
from esper_schemas.segment.scan import read_active

SEGMENTS = 60
SEGMENT_ROWS = 4


def _scan(rank: RankDirectory) -> list[int]:
    """Updates, as a reader gets them that follows FORMAT.md."""
    found = Found()
    for segment in read_segments(rank):
        if (table := rows_of(segment, found.faults)) is not None:
            found.add(table)
    assert not found.wrong
    return found.updates


def _scan_naively(rank: RankDirectory) -> list[int]:
    """Updates, as a reader gets them that lists the files and then reads them."""
    paths = [*rank.active_folder.glob("*.arrows"), *rank.segments_folder.glob("*.parquet")]
    updates: list[int] = []
    with rank.open() as folder:
        for path in sorted(paths, key=lambda path: path.stem):
            try:
                if path.suffix == ".parquet":
                    updates += pq.read_table(path, columns=["update"]).column("update").to_pylist()
                elif (rows := read_active(folder, int(path.stem)).rows) is not None:
                    updates += rows.column("update").to_pylist()
            except FileNotFoundError:
                continue  # sealed meanwhile
    return updates


class _Reader:
    """Judges what one kind of reader gets, time after time."""

    def __init__(self) -> None:
        self._rows = 0

    def judge(self, updates: list[int]) -> Outcome:
        """No duplicate, no gap, nothing that was there before and is not there now."""
        expected = range(len(updates))
        outcome = Outcome(acknowledged=self._rows, lost=len(set(range(self._rows)) - set(updates)))
        if updates != list(expected):
            outcome.complaints.append("rows are missing in the middle, or come twice")
        self._rows = max(self._rows, len(updates))
        return outcome


def test_readers_against_rotation_and_sealing(memory: Path, nursery: Nursery, ledger: Ledger, is_long: bool) -> None:
    """While segments are rotated and sealed as fast as it goes, readers get every row once; the naive one does not."""
    followed = ledger.begin("follower against rotation and sealing (polls)")
    scanned = ledger.begin("whole scans against rotation and sealing")
    naive = ledger.begin("control: reader that lists and then reads", must_fail=True)
    began = time.perf_counter()
    for round_ in range(1000):
        secs = time.perf_counter() - began
        if secs > (60 if is_long else 3) and naive.broken:
            break
        rank = RunDirectory(memory / f"r{round_}").rank(0)
        pid = nursery.start(
            rotate_fast,
            root=str(memory),
            run_id=f"r{round_}",
            segment_rows=SEGMENT_ROWS,
            segments=SEGMENTS,
            backlog=6,
        )
        whole, careless, got = _Reader(), _Reader(), list[int]()
        deadline = time.monotonic() + HANG_SECS
        with RankFollower(rank) as follower:
            while not (rank.attempt_path(0).exists() and rank.attempts()[0].status):
                assert time.monotonic() < deadline, "the writer does not come to its end"
                for _ in range(5):
                    new = [update for batch in follower.poll() for update in batch.column("update").to_pylist()]
                    is_next = new == list(range(len(got), len(got) + len(new)))
                    got += new
                    followed.count(Outcome(len(new), complaints=[] if is_next else [f"{new[:3]}… follows {got[-3:]}"]))
                if rank.path.is_dir():
                    scanned.count(whole.judge(_scan(rank)))
                    naive.count(careless.judge(_scan_naively(rank)))
            for batch in follower.poll():
                got += batch.column("update").to_pylist()
            assert follower.faults == []
        assert nursery.wait(pid) == 0
        assert got == list(range(SEGMENTS * SEGMENT_ROWS))
        assert _scan(rank) == got
    for line in (followed, scanned, naive):
        line.secs = time.perf_counter() - began
        line.check()
