"""What happens to the folder and to the clock under a living recorder.

A second writer, a writer in a forked child, many threads and signals are in tests/recorder:
`test_second_writer_is_refused`, `test_forked_child_neither_records_nor_holds_the_lock`,
`test_many_threads_record_without_loss`, `test_signals_at_any_moment_neither_lose_nor_double_a_row`.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.crash.ledger import Ledger
from tests.crash.nursery import ACKNOWLEDGED, REFUSED, STOP, Board, Nursery, record_steadily
from tests.crash.oracle import finish_case, read_run, row_of
from tests.waiting import wait_until

from esper_recorder import Recorder
from esper_schemas import RunDirectory

NOBODY = 65534


def _wait_for(board: Board, place: int, number: int) -> None:
    wait_until(lambda: board[place] >= number, "the writer does not go on")


def test_folder_read_only_for_a_while(memory: Path, nursery: Nursery, ledger: Ledger, is_long: bool) -> None:
    """While folders of the run may not be written, rows wait, and none is lost when they may be again."""
    memory.chmod(0o755)
    with ledger.line("folders made read-only under the writer, and writable again") as line:
        folders = ["active", "segments", "attempts", "seals"]
        sets = [chosen for count in range(1, 5) for chosen in itertools.combinations(folders, count)]
        for names in sets if is_long else [("active", "segments")]:
            root = memory / f"run-{line.states}"
            root.mkdir()
            root.chmod(0o777)
            board = Board(root / "board")
            (root / "board").chmod(0o666)
            pid = nursery.start(record_steadily, root=str(root), run_id="r", board=str(root / "board"), uid=_uid())
            _wait_for(board, ACKNOWLEDGED, 60)
            rank = root / "r" / "rank-0000"
            for name in names:
                (rank / name).chmod(0o555)
            if "active" in names:
                _wait_for(board, REFUSED, 10)
            time.sleep(0.05)
            for name in names:
                (rank / name).chmod(0o755)
            _wait_for(board, ACKNOWLEDGED, board[ACKNOWLEDGED] + 60)
            board[STOP] = 1
            was_stopped = nursery.wait(pid) != 0
            outcome = finish_case(root / "r", range(board[ACKNOWLEDGED] + board[REFUSED]))
            if was_stopped:
                outcome.complaints.append("the training was stopped")
            line.count(outcome, names)
    line.check()


def _uid() -> int | None:
    """Root may write anywhere, so that the writer must be someone else."""
    return NOBODY if os.getuid() == 0 else None


def test_run_folder_removed_under_the_writer(memory: Path, ledger: Ledger, is_long: bool) -> None:
    """A run that is deleted while it is written goes on beside it with every row that is still at hand."""
    with ledger.line("run folder removed under the writer") as line:
        for after in range(0, 40, 1 if is_long else 13):
            recorder = Recorder.open(memory, run_id="r", segment_rows=5)
            for update in range(after):
                assert recorder.record(**row_of(update))
            recorder.path.rename(memory / "removed")
            shutil.rmtree(memory / "removed", ignore_errors=True)
            later = range(after, after + 30)
            for update in later:
                recorder.record(**row_of(update))
            recorder.close()
            found = read_run(recorder.path)
            outcome = finish_case(memory / "r", [])
            outcome.acknowledged, outcome.lost = len(later), found.lost(later)
            outcome.wrong += found.wrong
            if recorder.path.name == "r" or recorder.dropped_rows or found.dropped:
                outcome.complaints.append(f"recorded into {recorder.path.name}, {recorder.dropped_rows} rows dropped")
            line.count(outcome, after)
            shutil.rmtree(memory / "removed", ignore_errors=True)
            shutil.rmtree(recorder.path)
            shutil.rmtree(memory / "r")
    line.check()


def test_clock_that_jumps_back(memory: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, is_long: bool) -> None:
    """Rows keep the order in which they were recorded, and the times that the clock said, whatever it said."""
    with ledger.line("clock that jumps back, within and between attempts") as line:
        hour = 3_600_000_000_000
        for jumps in range(1, 20 if is_long else 4):
            times = [10**18 - (i // jumps) * hour + i for i in range(30)]
            for attempt in range(3):
                clock = iter(times[10 * attempt : 10 * attempt + 10])
                with monkeypatch.context() as patched:
                    for module in ("planned", "unplanned"):
                        patched.setattr(f"esper_recorder.writing.{module}.time_ns", lambda clock=clock: next(clock))
                    started = datetime.fromtimestamp(1e9 - attempt * 86400, UTC).isoformat()
                    patched.setattr("esper_recorder.writing.opening.now", lambda started=started: started)
                    with Recorder.open(memory, run_id="r", resume="allow", segment_rows=4) as recorder:
                        for update in range(10 * attempt, 10 * attempt + 10):
                            assert recorder.record(**row_of(update))
            outcome = finish_case(memory / "r", range(30))
            if read_run(memory / "r").updates[:30] != list(range(30)):
                outcome.complaints.append("the order changed")
            wall_times = [time_ns // 1000 for time_ns in times]
            if _wall_times(memory / "r")[:30] != wall_times:
                outcome.complaints.append("times changed")
            line.count(outcome, jumps)
            shutil.rmtree(memory / "r")
    line.check()


def _wall_times(run: Path) -> list[int]:
    """Wall times of all rows, in µs."""
    tables = [pq.read_table(path) for path in sorted(RunDirectory(run).rank(0).segments_folder.glob("*.parquet"))]
    return [time for table in tables for time in table.column("wall_time").cast(pa.int64()).to_pylist()]
