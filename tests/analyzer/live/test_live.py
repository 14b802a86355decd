from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.judge import Judge
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.measuring.history import History
from esper_recorder import Recorder
from esper_schemas import RankFollower

Process = subprocess.Popen[str]


def send(process: Process, update: int) -> None:
    """Have the child record an update; returns when the row is on disk."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{update}\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{update}\n"


def test_a_row_is_seen_at_the_first_look(writer: Callable[..., Process], tmp_path: Path) -> None:
    """Another process's row is there as soon as it was acknowledged, also where segments are sealed in between."""
    process = writer(segment_rows=8)
    feed = LiveFeed(open_run("run", tmp_path / "runs"), 0)
    for update in range(40):
        send(process, update)
        assert feed.look()
        assert feed.new_rows["update"].to_list() == [update]
        assert feed.picture().last_update == update
        assert feed.finish().rows == update + 1
    feed.close()


@pytest.mark.parametrize("rows", [0, 1, 7, 23])
def test_after_sigkill_every_kept_row_is_in_the_report(
    writer: Callable[..., Process], tmp_path: Path, rows: int
) -> None:
    """What `record` returned True for survives the writer, and the report says that the run crashed."""
    process = writer(segment_rows=10)
    for update in range(rows):
        send(process, update)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = open_run("run", tmp_path / "runs")
    report = run.report()
    assert report.run.status == "crashed"
    assert report.updates.rows == rows
    assert run.updates().collect()["update"].to_list() == list(range(rows))
    assert not report.is_damaged


def test_a_torn_tail_is_listed_and_is_no_damage(writer: Callable[..., Process], tmp_path: Path) -> None:
    """Half a row at the end of a crashed run is a fault, not damage; garbage in its middle is damage."""
    process = writer()
    for update in range(5):
        send(process, update)
    process.kill()
    process.wait()
    run = open_run("run", tmp_path / "runs")
    active = Path(run.path) / "rank-0000" / "active" / "00000000.arrows"
    whole = active.read_bytes()
    active.write_bytes(whole[:-10])
    report = run.report()
    assert [(fault.kind, fault.segment) for fault in report.integrity.faults] == [("torn", 0)]
    assert not report.is_damaged
    assert report.updates.rows == 4
    broken = bytearray(whole)
    broken[-40] ^= 255
    active.write_bytes(bytes(broken) + whole[-2000:])
    report = run.report()
    assert report.integrity.faults[0].kind == "corrupt"
    assert report.integrity.faults[0].offset is not None
    assert report.is_damaged
    assert report.updates.rows == 4


def test_a_refresh_costs_the_new_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After many rows a refresh reads, charts and judges as few as after few, and looks at no file again."""
    polled, charted, judged = list[int](), list[int](), list[int]()
    poll, with_rows, advance = RankFollower.poll, History.with_rows, Judge.advance

    def counted_poll(follower: RankFollower) -> list[pa.RecordBatch]:
        batches = list(poll(follower))
        polled.append(sum(batch.num_rows for batch in batches))
        return batches

    def counted_rows(history: History, rows: pl.LazyFrame | pl.DataFrame) -> History:
        charted.append(int(rows.lazy().select(pl.len()).collect().item()))
        return with_rows(history, rows)

    def counted_advance(judge: Judge, rows: pl.DataFrame) -> Sequence[Episode]:
        judged.append(rows.height)
        return advance(judge, rows)

    monkeypatch.setattr(RankFollower, "poll", counted_poll)
    monkeypatch.setattr(History, "with_rows", counted_rows)
    monkeypatch.setattr(Judge, "advance", counted_advance)

    def looks(recorder: Recorder, feed: LiveFeed, first: int) -> list[list[int]]:
        counts = (polled, charted, judged)
        for count in counts:
            count.clear()
        for update in range(first, first + 30):
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0)
            feed.look()
            feed.finish()
        return [list(count) for count in counts]

    with Recorder.open(tmp_path, run_id="run", segment_rows=1000) as recorder:
        feed = LiveFeed(open_run(recorder.path), 0)
        feed.finish()
        monkeypatch.setattr(feed.run, "look", None)  # nothing is examined again
        assert looks(recorder, feed, 0) == [
            [1] * 30,
            [1] * 60,
            [1] * 30,
        ]  # a row goes into the courses, and into the places
        for update in range(30, 5030):
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0)
        feed.look()
        assert looks(recorder, feed, 5030) == [
            [1] * 30,
            [1] * 60,
            [1] * 30,
        ]  # a row goes into the courses, and into the places
        feed.close()


def test_a_run_may_end_while_it_is_followed_as_lines(writer: Callable[..., Process], tmp_path: Path) -> None:
    """Off a terminal `tail` waits for the first update, prints one line for each, and ends with the run."""
    process = writer(segment_rows=5)
    command = [sys.executable, "-m", "esper_analyzer", "tail", "--root", str(tmp_path / "runs"), "--interval", "0.02"]
    tail = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    assert tail.stdout is not None
    assert tail.stderr is not None
    talk = tail.stderr.readline() + tail.stderr.readline()
    for update in range(12):
        send(process, update)
        assert tail.stdout.readline().startswith(f"update {update}  V.Loss ")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(HANG_SECS) == 0
    out, more = tail.communicate(timeout=HANG_SECS)
    talk += more
    assert (out, tail.returncode) == ("", 0)
    assert "latest run:" in talk
    assert "waiting for the first update" in talk
    assert "finished" in talk


def test_a_run_may_vanish_while_it_is_followed_as_lines(writer: Callable[..., Process], tmp_path: Path) -> None:
    """Where the folder is removed, `tail` says so in one line, and ends as for a run that was never there."""
    process = writer()
    send(process, 0)
    command = [sys.executable, "-m", "esper_analyzer", "tail", "--root", str(tmp_path / "runs"), "--interval", "0.02"]
    tail = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    assert tail.stdout is not None
    assert tail.stdout.readline().startswith("update 0 ")
    shutil.rmtree(tmp_path / "runs" / "run")
    out, talk = tail.communicate(timeout=HANG_SECS)
    assert (out, tail.returncode) == ("", 2)
    assert talk.splitlines()[-2:] == ["run: gone", f"esper-analyze: {tmp_path / 'runs' / 'run'} no longer exists"]


def test_stock_arrow_reads_the_active_segment(tmp_path: Path) -> None:
    """pyarrow's own stream reader finds the numbers that `updates` finds in a segment that is being written."""
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(7):
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0 / (update + 3))
        ours = open_run(recorder.path).updates().collect()
        stream = (recorder.path / "rank-0000" / "active" / "00000000.arrows").read_bytes()
        table = pa.ipc.open_stream(stream).read_all()
    assert table.column("value_loss").to_pylist() == ours["value_loss"].to_list()
