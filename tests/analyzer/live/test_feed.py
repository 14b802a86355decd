from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from queue import Queue
from typing import Any

import polars as pl
import pytest
from tests.analyzer.judged import judged
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judge import Judge
from esper_analyzer.live.feed import end_of
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import RECENT_ROWS, Picture
from esper_analyzer.live.reader import Reader
from esper_analyzer.live.recorded import RecordedFeed
from esper_analyzer.reading.run_index import rows_of
from esper_recorder import Recorder


def record(root: Path, updates: Iterable[int], *, loss: float = 1.0, rows: int = 2048, **options: Any) -> Path:
    """Updates recorded in segments of so many rows, by one attempt."""
    with Recorder.open(root, run_id="run", segment_rows=rows, **options) as recorder:
        for update in updates:
            recorder.record(update=update, policy_loss=-0.01, value_loss=loss)
    return Path(recorder.path)


def catch_up(feed: LiveFeed | RecordedFeed) -> Picture:
    """The picture when nothing is left to read or to judge."""
    while feed.look() | feed.work():
        feed.picture()
    return feed.picture()


@pytest.mark.parametrize("back_to", [None, 4100, 3000])
def test_the_newest_rows_are_those_of_the_whole_run(tmp_path: Path, back_to: int | None) -> None:
    """The first picture of a run of many segments has the 512 newest rows, also just after it was resumed."""
    path = record(tmp_path, range(4116))
    if back_to is not None:
        record(tmp_path, range(back_to, back_to + 20), loss=2.0, resume="must")
    run = open_run(path)
    rows = run.updates(0).collect()
    index = run.look(0).rank(0)
    for count in range(1, len(index.pieces) + 1):
        few = replace(index, pieces=index.pieces[:count])
        newest = rows_of(few).collect().tail(RECENT_ROWS)
        assert end_of(rows_of(few), few.pieces).select(newest.columns).equals(newest)
    feed = LiveFeed(run, 0)
    picture = feed.picture()
    assert picture.recent["value_loss"].to_list() == rows["value_loss"].tail(RECENT_ROWS).to_list()
    assert picture.last_update == rows["update"][-1]
    assert picture.rows == index.rows
    assert catch_up(feed).rows == rows.height
    feed.close()


def test_a_run_that_went_far_back_is_not_empty(tmp_path: Path) -> None:
    """Resumed from long before its end, a run shows its rows at once, and tells no alert of before."""
    told: list[Alert] = []
    path = record(tmp_path, range(4116))
    record(tmp_path, range(1000, 1040), loss=2.0, resume="must")
    feed = LiveFeed(open_run(path), 0, on_alert=told.append)
    assert feed.picture().last_update == 1039
    catch_up(feed)
    feed.close()
    assert not told


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_meanwhile_the_picture_is_that_of_the_run(tmp_path: Path, seed: int) -> None:
    """Rows, gaps, drops, repeated updates and attempts that come while it reads: nothing is lost or stays."""
    rng = random.Random(seed)
    recorder = Recorder.open(tmp_path, run_id="run", segment_rows=16)
    update = rng.randrange(3)

    def add(value: object = 1.0) -> None:
        loss: Any = math.nan if rng.random() < 0.05 else value
        recorder.record(update=update, policy_loss=-0.01, value_loss=loss)

    for _ in range(20):
        add()
        update += 1
    feed = LiveFeed(open_run(recorder.path), 0)
    for _ in range(50):
        action = rng.choice(["rows", "rows", "rows", "gap", "drop", "again", "resume", "look", "look", "look", "work"])
        if action == "look":
            feed.look()
        elif action == "work":
            feed.work()
        elif action == "resume":
            recorder.close()
            recorder = Recorder.open(tmp_path, run_id="run", resume="must", segment_rows=16)
            update = max(0, update - rng.choice([0, 0, 3, 15]))
        elif action == "drop":
            add("bad")
            update += 1
        elif action == "again":
            update -= 1
        elif action == "gap":
            update += rng.choice([1, 2])
        for _ in range(rng.randrange(1, 5) if action not in ("look", "work") else 0):
            add(rng.uniform(0.5, 1.5))
            update += 1
    catch_up(feed)
    update -= 1
    add(0.75)
    recorder.close()
    picture = catch_up(feed)
    run = open_run(recorder.path)
    fresh = LiveFeed(run, 0)
    expected, report, rows = catch_up(fresh), run.report(), run.updates(0).collect()
    assert picture.verdict == expected.verdict
    assert picture.verdict == report.verdict
    assert picture.rows == expected.rows == rows.height
    assert picture.recent["seq"].to_list() == rows["seq"].to_list()
    listed = [
        [asdict(event.alert) | {"rank": 0} if event.alert else event.message for event in shown.events]
        for shown in (picture, expected)
    ]
    assert str(listed[0]) == str(listed[1])
    assert str([one for one in listed[0] if isinstance(one, dict)]) == str([asdict(one) for one in report.alerts])
    assert list(picture.gaps) == report.updates.missing
    assert picture.history.frame.equals(expected.history.frame)
    feed.close()
    fresh.close()


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_chart_in_detail_goes_on_with_the_run(tmp_path: Path, times: int) -> None:
    """What was read of a metric of the user's is continued by new rows, and read anew after a run went back."""

    def add(updates: Iterable[int]) -> None:
        for update in updates:
            extras = {"mine": float(update)}
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0, extras=extras)

    with Recorder.open(tmp_path, run_id="run") as recorder:
        add(range(20))
        feed = LiveFeed(open_run(recorder.path), 0)
        catch_up(feed)
        feed.read_detail("mine", 5, None)
        for time in range(times):
            add(range(15 - time, 18))
            feed.look()
        add([20, 21])
        detail = catch_up(feed).detail
    feed.close()
    assert detail is not None
    assert (detail.metric, detail.history.span) == ("mine", (5, 21))


@pytest.mark.parametrize("back_to", [4, 2])
@pytest.mark.parametrize("last", [8, None])
def test_rows_that_were_dropped_are_counted_as_in_the_report(tmp_path: Path, back_to: int, last: int | None) -> None:
    """Rows that the recorder dropped stand in the verdict, also those of updates that were recorded once more."""
    bad: Any = "bad"
    for first, stop in ((0, 4), (back_to, 8)):
        with Recorder.open(tmp_path, run_id="run", resume="allow") as recorder:
            for update in range(first, stop):
                loss = bad if update in (2, 6) and not (first and update == 2) else 1.0
                recorder.record(update=update, policy_loss=-0.01, value_loss=loss)
            if first:
                recorder.record(update=8, policy_loss=-0.01, value_loss=bad if last is None else 1.0)
    run = open_run(recorder.path)
    feed = LiveFeed(run, 0)
    verdict = catch_up(feed).verdict
    feed.close()
    assert verdict == run.report().verdict


def test_damage_is_looked_for_each_time_a_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that was changed is found by its checksum when the run has ended, also when it has ended again."""
    monkeypatch.setattr("esper_analyzer.live.live.STATUS_SECS", 0.0)

    def damage(number: int) -> None:
        segment = path / "rank-0000" / "segments" / f"{number:08}.parquet"
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(content)

    path = record(tmp_path, range(100), rows=16)
    feed = LiveFeed(open_run(path), 0)
    catch_up(feed)
    damage(1)
    assert catch_up(feed).damage == 0
    with Recorder.open(tmp_path, run_id="run", resume="must", segment_rows=16) as recorder:
        recorder.record(update=100, policy_loss=-0.01, value_loss=1.0)
        assert catch_up(feed).status == "live"
    assert catch_up(feed).damage == 2  # the segment, and that its rows are lost
    feed.close()


@pytest.mark.parametrize("at_once", [False, True])
def test_after_a_rollback_the_old_rows_are_gone(tmp_path: Path, at_once: bool) -> None:
    """What the new rows raise is told, and the cursor reads them, whether they come with the last old ones or not."""
    told: list[int] = []

    def add(recorder: Recorder, updates: Iterable[int], loss: float) -> None:
        for update in updates:
            bad = loss > 1.0 and 60 <= update < 63
            recorder.record(update=update, policy_loss=-0.01, value_loss=math.nan if bad else loss)

    with Recorder.open(tmp_path, run_id="run") as recorder:
        add(recorder, range(100), 1.0)
        feed = LiveFeed(open_run(recorder.path), 0, on_alert=lambda alert: told.append(alert.update))
        catch_up(feed)
        feed.read_row(70)
        assert feed.picture().row is not None
        add(recorder, range(100, 103), 1.0)
        if not at_once:
            catch_up(feed)
        add(recorder, range(50, 110), 2.0)
        assert feed.look()
        assert feed.picture().row is None
        feed.read_row(70)
        row = catch_up(feed).row
    feed.close()
    assert row is not None
    assert row[1] is not None
    assert row[1]["value_loss"] == 2.0
    assert 60 in told


def test_an_attempt_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    """The screen counts it as the report does."""
    path = record(tmp_path, range(30))
    (path / "rank-0000" / "attempts" / "0000.json").write_text("{")
    feed = LiveFeed(open_run(path), 0)
    assert catch_up(feed).damage == 1
    assert feed.picture().verdict == open_run(path).report().verdict
    feed.close()


def test_a_metric_may_have_any_name(tmp_path: Path) -> None:
    """The course of a metric whose name would be a pattern is its own."""
    names = ("*", "^v.*$", "^x$")
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(20):
            extras = {name: float(update + place) for place, name in enumerate(names)}
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0, extras=extras)
    feed = LiveFeed(open_run(recorder.path), 0)
    for place, name in enumerate(names):
        feed.read_detail(name, 0, None)
        detail = catch_up(feed).detail
        assert detail is not None
        assert detail.history.of(name).frame["max"].to_list() == [float(update + place) for update in range(20)]
    feed.close()


# ---------------------------------------------------------------------- the thread that reads


class CountingFeed(LiveFeed):
    """A feed that counts how often it is made to look."""

    looks = 0

    def look(self) -> bool:
        """As it is, counted."""
        self.looks += 1
        return super().look()


def test_a_reader_waits_unless_it_is_asked(tmp_path: Path) -> None:
    """It looks once in its interval, answers at once what it is asked meanwhile, and ends at once."""
    run = open_run(record(tmp_path, range(30)))
    told: Queue[Reader] = Queue()

    def see(condition: Callable[[Picture], bool]) -> None:
        while reader.picture is None or not condition(reader.picture):
            told.get(timeout=HANG_SECS)

    reader = Reader(lambda: CountingFeed(run, 0), 3600.0, told.put)
    reader.start()
    see(lambda picture: picture.verdict is not None)
    feed = reader.feed
    assert isinstance(feed, CountingFeed)
    before = feed.looks
    for update in range(5):
        reader.ask_row(update)
        see(lambda picture, update=update: picture.row is not None and picture.row[0] == update)  # type: ignore[misc]
    reader.ask_detail("entropy", 3, 9)
    see(lambda picture: picture.detail is not None)
    time.sleep(0.3)
    assert feed.looks <= before + 2 * 6
    reader.stop()
    assert not reader._thread.is_alive()
    assert reader.error is None


def test_a_panic_of_polars_ends_the_reading(tmp_path: Path) -> None:
    """What is no Exception ends it like one, so that the screen does not wait for ever."""
    told: Queue[Reader] = Queue()

    def make() -> LiveFeed:
        raise pl.exceptions.PanicException("index out of bounds")

    reader = Reader(make, 3600.0, told.put)
    reader.start()
    told.get(timeout=20)
    assert isinstance(reader.error, pl.exceptions.PanicException)
    reader.stop()


# ---------------------------------------------------------------------- replay


def test_the_next_alert_is_an_alert(demo: Path) -> None:
    """Forwards and backwards, every warning and critical event is come to, and nothing else, at its own row."""
    run = open_run(demo)
    feed = RecordedFeed(run, 0)
    catch_up(feed)
    feed.seek(feed.total)
    updates = run.updates(0).select("update").collect()["update"].to_list()
    judge = Judge(run.settings.rules)
    raised = {episode.update for begun in judge.advance_all(run.updates(0)) for episode in begun}
    raised |= {last + 1 for _, last in run.report().updates.missing}
    expected = sorted(updates.index(update) + 1 for update in raised)
    assert len(expected) > 10
    assert {event.update for event in feed.picture().events if event.alert is not None} < raised
    forwards, backwards = [0], [feed.total + 1]
    while (later := feed.alert_after(forwards[-1])) is not None:
        forwards.append(later)
    while (earlier := feed.alert_before(min(backwards[-1], feed.total))) is not None and earlier < backwards[-1]:
        backwards.append(earlier)
    assert forwards[1:] == expected
    assert sorted(backwards[1:]) == [position for position in expected if position < feed.total]


def test_the_cursor_and_a_chart_in_detail_do_not_look_into_the_future(demo: Path) -> None:
    """What was read for a later moment is not shown at an earlier one."""
    feed = RecordedFeed(open_run(demo), 0)
    catch_up(feed)
    feed.read_row(250)
    feed.read_detail("my_metric", 0, None)
    for position, is_known in ((297, True), (100, False)):
        feed.seek(position)
        picture = feed.picture()
        assert (picture.row is not None) == is_known
        assert picture.detail is not None
        assert picture.detail.history.span == (0, picture.last_update)


def test_a_replay_that_goes_back_has_the_verdict_of_then(tmp_path: Path) -> None:
    """Forwards, backwards, anywhere: the verdict is that of a judge who has seen the rows so far and no more."""
    path = record(tmp_path, range(20))
    record(tmp_path, range(20, 60), loss=math.nan, resume="must")
    run = open_run(path)
    feed = RecordedFeed(run, 0)
    while feed.work():
        pass
    rows = run.updates(0).collect()
    for position in (17, 5, 60, 17, 5, 19, 40, 3, 21, 20, 59):
        feed.seek(position)
        assert feed.picture().verdict == judged(run, rows[:position].lazy()).verdict
