from __future__ import annotations

import asyncio
import math
import re
import shutil
import threading
import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from tests.analyzer.app_driver import screen, settle, show, until
from tests.analyzer.garbled import garble
from tests.analyzer.judged import judged
from tests.waiting import HANG_SECS
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.drawing.window import Window
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.terminal.app.app import EsperApp
from esper_recorder import Recorder


def test_a_run_is_followed_through_attempts_and_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row yet, rows, a sealed segment, a resume that goes back, the end: each is shown as what it is."""
    monkeypatch.setattr("esper_analyzer.live.live.STATUS_SECS", 0.05)

    def record(recorder: Recorder, updates: range, loss: float) -> None:
        for update in updates:
            recorder.record(update=update, policy_loss=-0.01, value_loss=loss)

    recorder = Recorder.open(tmp_path, run_id="run", segment_rows=16)

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        assert "no updates yet" in "\n".join(screen(app))
        record(recorder, range(40), 1.0)
        await until(pilot, lambda: app.scene.picture.rows == 40)
        recorder.close()
        await until(pilot, lambda: app.scene.picture.status == "finished")
        with Recorder.open(tmp_path, run_id="run", resume="must", segment_rows=16) as resumed:
            record(resumed, range(30, 34), 2.0)
            await until(pilot, lambda: app.scene.picture.status == "live")
            await until(pilot, lambda: app.scene.picture.rows == 34 and app.scene.picture.verdict is not None)
            await pilot.pause()
            text = "\n".join(screen(app))
            assert "update 33 ·" in text
            assert "attempt 1" in text
            assert "30 ◆ Attempt 1 goes on from update 30." in text
            course = app.scene.picture.history.of("value_loss").frame
            assert course["max"].to_list() == [1.0] * 30 + [2.0] * 4
        await until(pilot, lambda: app.scene.picture.status == "finished")

    assert "● finished" in show(tmp_path / "run", steps)[0]


def test_a_feed_comes_to_the_verdict_of_all_rows(demo: Path) -> None:
    """Read in pieces and judged afterwards, a run has the verdict and the rows that all of it at once has."""
    run = open_run(demo)
    feed, expected = LiveFeed(run, 0), judged(run, run.updates(0))
    assert feed.picture().verdict is None
    picture = feed.finish()
    assert picture.verdict == expected.verdict == run.report().verdict
    rows, snapshot = run.updates(0).collect(), run.snapshot()
    assert (picture.rows, picture.last_update) == (rows.height, rows["update"][-1])
    assert picture.state("value_loss") == snapshot["value_loss"]
    course = picture.history.of("value_loss")
    assert course.frame.equals(expected.course.frame)
    feed.close()


@pytest.mark.parametrize("is_new", [False, True])
def test_alerts_are_told_once_and_only_from_now_on(tmp_path: Path, is_new: bool) -> None:
    """What is raised after the beginning is told, missing updates too; of a new run everything is."""
    told: list[Alert] = []
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(20):
            recorder.record(update=update, policy_loss=-0.01, value_loss=math.nan if update == 19 else 1.0)
        feed = LiveFeed(open_run(recorder.path), 0, on_alert=told.append, is_new=is_new)
        recorder.record(update=20, policy_loss=math.nan, value_loss=1.0)
        while feed.look() or feed.work():
            pass
        recorder.record(update=23, policy_loss=-0.01, value_loss=1.0)
        recorder.record(update=24, policy_loss=-0.01, value_loss=math.inf)
        while feed.look() or feed.work():
            pass
    feed.close()
    seen = [(alert.update, alert.metric) for alert in told]
    assert seen.count((23, "update")) == 1
    assert (20, "policy_loss") in seen
    assert ((19, "value_loss") in seen) == is_new
    assert len(seen) == len(set(seen))


def test_after_a_resume_only_what_the_new_rows_raise_is_told(tmp_path: Path) -> None:
    """An attempt that goes back has everything judged anew; alerts of before are not told again, later ones are."""
    told: list[Alert] = []

    def catch_up(feed: LiveFeed) -> None:
        while feed.look() or feed.work():
            pass

    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(40):
            recorder.record(update=update, policy_loss=-0.01, value_loss=math.nan if update == 15 else 1.0)
        feed = LiveFeed(open_run(recorder.path), 0, on_alert=told.append)
        catch_up(feed)
    with Recorder.open(tmp_path, run_id="run", resume="must") as recorder:
        for update in range(30, 36):
            recorder.record(update=update, policy_loss=-0.01, value_loss=math.inf if update == 32 else 1.0)
        catch_up(feed)
    feed.close()
    assert [alert.update for alert in told if alert.metric == "value_loss"] == [32]


def test_an_error_while_reading_ends_the_screen_and_is_raised(demo: Path, tmp_path: Path) -> None:
    """A segment that cannot be read any more gives no frozen screen: the error comes out where it was started."""
    path = shutil.copytree(demo, tmp_path / "copy")

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        garble(path / "rank-0000" / "segments" / "00000000.parquet")
        app.scene.window = Window(cursor=20)
        await pilot.press("right")
        await until(pilot, lambda: app._exit)
        app.scene.window = Window()

    with pytest.raises(pl.exceptions.PolarsError):
        show(path, steps)


def test_alerts_go_on_being_told_while_another_run_is_looked_at(tmp_path: Path) -> None:
    """What --on-alert waits for is the run it was given: no alert of it is missed, none of another run is told."""
    told: list[Alert] = []
    watched, other = (Recorder.open(tmp_path, run_id=name) for name in ("watched", "other"))

    def add(recorder: Recorder, update: int, loss: float = 1.0) -> None:
        recorder.record(update=update, policy_loss=-0.01, value_loss=loss)

    for update in range(5):
        add(watched, update)
        add(other, update, 2.0)

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("o", *"other", "enter")
        await until(pilot, lambda: app.scene.picture.last("value_loss") == 2.0)
        add(other, 5, math.inf)
        await until(pilot, lambda: app.scene.picture.last_update == 5)
        add(watched, 5, math.nan)
        await until(pilot, lambda: len(told) > 0)
        assert app.scene.picture.last_update == 5
        assert app.scene.picture.last("value_loss") == math.inf
        assert [(alert.metric, math.isnan(float(alert.value or 0.0))) for alert in told] == [("value_loss", True)]

    show(tmp_path / "watched", steps, on_alert=told.append)
    watched.close()
    other.close()


def test_a_run_that_is_deleted_while_it_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The screen says that it is gone, keeps what it has read, and answers keys."""
    monkeypatch.setattr("esper_analyzer.live.live.STATUS_SECS", 0.05)
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(40):
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0)
    path = recorder.path

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        shutil.rmtree(path)
        await until(pilot, lambda: app.scene.picture.status == "gone")
        await pilot.press("left", "plus", "plus", "o", "escape", "r", "slash", "escape")
        await settle(app, pilot)
        assert app.scene.picture.last_update == 39

    assert any(re.match(r"  V\.Loss +1\.000", line) for line in show(path, steps))


def test_the_age_of_the_newest_row_grows_while_nothing_comes(tmp_path: Path) -> None:
    """The heading of a live run says how long ago the newest update was, and says so anew each second."""
    with Recorder.open(tmp_path, run_id="run") as recorder:
        then = time.time_ns() // 1000 - 30_000_000
        recorder.record(update=0, policy_loss=-0.01, value_loss=1.0, wall_time=then)

        async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
            ages = set()

            def has_grown() -> bool:
                ages.update(re.findall(r" · (\d+) s ago", screen(app)[1]))
                return len(ages) > 1

            await until(pilot, has_grown)
            assert min(map(int, ages)) >= 30

        show(recorder.path, steps)


def test_the_chart_of_a_long_run_comes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that come while the chart is not due are drawn although no others follow."""
    monkeypatch.setattr("esper_analyzer.terminal.scene.CHART_SECS", 1.5)
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(6000):
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0)

        async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
            await until(pilot, lambda: app.scene.plot.last == 5999)
            for update in range(6000, 6010):
                recorder.record(update=update, policy_loss=-0.01, value_loss=math.nan)
            await until(pilot, lambda: app.scene.plot.last == 6009)
            await settle(app, pilot)
            assert "! 10 not finite" in "\n".join(screen(app))

        show(recorder.path, steps)


def test_the_chart_of_a_long_run_is_there_as_soon_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chart does not wait until one is due again."""
    monkeypatch.setattr("esper_analyzer.terminal.scene.CHART_SECS", 3600.0)
    reads = threading.Event()
    catch_up = LiveFeed.work

    def work(feed: LiveFeed) -> bool:
        reads.wait(HANG_SECS)
        return catch_up(feed)

    monkeypatch.setattr(LiveFeed, "work", work)
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(6000):
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0)

    async def drive() -> None:
        app = EsperApp(open_run(recorder.path), 0, style=Style(color=True, unicode=True))
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "reading" in " ".join(screen(app)))
            reads.set()
            await until(pilot, lambda: app.scene.plot.last == 5999)

    asyncio.run(drive())


def test_a_run_that_cannot_be_read_leaves_the_one_that_is_watched(tmp_path: Path) -> None:
    """A run of a newer format, chosen while alerts are watched for, is a line at the bottom; the other goes on."""
    for name in ("one", "two"):
        with Recorder.open(tmp_path, run_id=name) as recorder:
            for update in range(12):
                recorder.record(update=update, policy_loss=-0.01, value_loss=1.0)
    (seal,) = (tmp_path / "two" / "rank-0000" / "seals").iterdir()
    seal.unlink()
    (segment,) = (tmp_path / "two" / "rank-0000" / "segments").iterdir()
    table = pq.read_table(segment)
    metadata = {**table.schema.metadata, b"esper.format": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), segment)

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("o", *"two", "enter")
        await until(pilot, lambda: "has format 99" in screen(app)[-1])
        await pilot.press("o", *"one", "enter")
        await until(pilot, lambda: app.scene.picture.rows == 12)

    show(tmp_path / "one", steps, on_alert=lambda alert: None)
