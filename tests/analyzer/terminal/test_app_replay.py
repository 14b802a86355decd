from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from tests.analyzer.app_driver import screen, show, until
from tests.analyzer.judged import judged
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.judging.alerts import MISSING_UPDATES
from esper_analyzer.live.clock import Clock
from esper_analyzer.live.recorded import RecordedFeed
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.replay_app import ReplayApp
from esper_recorder import Recorder


@pytest.mark.parametrize("rows_at_once", [64, 16_384])
def test_a_replay_shows_what_was_known_then(demo: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    """After any number of rows, forwards or backwards, verdict, alerts and chart are those of these rows alone."""
    monkeypatch.setattr("esper_analyzer.live.recorded.JUDGED_AT_ONCE", rows_at_once)
    run = open_run(demo)
    feed, rows = RecordedFeed(run, 0), run.updates(0)
    while feed.work():
        pass
    for position in (297, 1, 12, 151, 150, 200, 240):
        feed.seek(position)
        picture, expected = feed.picture(), judged(run, rows.head(position))
        assert picture.verdict == expected.verdict
        raised = Counter(one.rule.name for one in expected.episodes)
        first = {one.rule.name: one.update for one in reversed(expected.episodes)}
        alerts = [event.alert for event in picture.events if event.alert and event.alert.rule != MISSING_UPDATES]
        assert {alert.rule: alert.count for alert in alerts} == raised
        assert {alert.rule: alert.first for alert in alerts} == first
        course = picture.history.of("value_loss").frame
        assert course["max"].to_list() == expected.course.frame["max"].to_list()
        assert picture.last_update == rows.head(position).collect()["update"][-1]


def test_a_long_replay_does_not_look_into_the_future(tmp_path: Path) -> None:
    """Where a bucket holds many updates, the last one holds only those that have happened."""
    with Recorder.open(tmp_path, run_id="run", segment_rows=4096) as recorder:
        for update in range(6000):
            recorder.record(update=update, policy_loss=-0.01, value_loss=float(update))
    feed = RecordedFeed(open_run(recorder.path), 0)
    while feed.work():
        pass
    for position in (1, 2, 4097, 4098, 5999):
        feed.seek(position)
        picture = feed.picture()
        assert picture.history.width == 4
        assert picture.history.span == (0, position - 1)
        assert picture.history.of("value_loss").frame["max"].max() == position - 1


def last_raised(app: EsperApp) -> int:
    """The update at which an alert of the list was last raised."""
    return max(event.alert.last for event in app.scene.picture.events if event.alert is not None)


@pytest.mark.slow
def test_next_alert_answers_when_it_would_have_fired(demo: Path) -> None:
    """n pauses at the update where the next alert is raised: it is listed there, and not one step before."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        assert isinstance(app, ReplayApp)
        await until(pilot, lambda: app._clock is not None and app.scene.picture.total > 0)
        feed, clock = app._reader.feed, app._clock
        assert isinstance(feed, RecordedFeed)
        assert clock is not None
        await until(pilot, lambda: feed.is_judged)
        await pilot.press("space")
        clock.seek(150)
        await pilot.press("n")
        await until(pilot, lambda: app.scene.picture.last_update == 150)
        assert last_raised(app) == 150
        assert not clock.playing
        await pilot.press("comma")
        await until(pilot, lambda: app.scene.picture.last_update == 149)
        assert last_raised(app) < 150
        await pilot.press("full_stop", "N")
        await until(pilot, lambda: (app.scene.picture.last_update or 0) < 149)
        assert last_raised(app) == app.scene.picture.last_update
        clock.seek(clock.total)
        await pilot.press("n")
        await pilot.pause()
        assert "no later alert" in screen(app)[-1]
        await pilot.press("space")
        await until(pilot, lambda: app.scene.picture.rows > 0 and clock.playing and clock.position < clock.total)
        before = clock.speed
        await pilot.press("greater_than_sign", "t", "less_than_sign")
        assert clock.speed == 2 * before
        assert not clock.real
        await pilot.press("comma")
        assert not clock.playing
        await until(pilot, lambda: app.scene.picture.rows == clock.position)
        await pilot.pause()
        assert app.scene.plot.last == app.scene.picture.last_update

    lines = show(demo, steps, replay=True, speed=5.0)
    assert any("updates/s" in line for line in lines)


def test_the_clock_keeps_the_recorded_rhythm_or_a_fixed_rate() -> None:
    """Rows happen when they did, divided by the speed; or so many a second; never beyond the end."""
    clock = Clock(pl.Series([0.0, 1.0, 2.0, 10.0]), speed=2.0)
    positions = []
    for _ in range(6):
        clock.advance(0.5)
        positions.append(clock.position)
    assert positions == [2, 3, 3, 3, 3, 3]
    clock.advance(10.0)
    assert (clock.position, clock.playing) == (4, False)
    clock.toggle()
    assert (clock.position, clock.playing) == (0, True)
    clock.toggle_timing()
    clock.rate = 1.0
    clock.advance(2.5)
    assert clock.position == 2
    clock.seek(99)
    assert clock.position == 4
    nothing = Clock(pl.Series([], dtype=pl.Float64))
    nothing.advance(1.0)
    assert nothing.position == 0
    at_once = Clock(pl.Series([0.0, 100.0, 200.0, 300.0]), speed=0.0)
    at_once.advance(10.0)
    assert at_once.position == 4


def test_the_clock_goes_on_from_where_it_is() -> None:
    """After a jump, another speed or another timing, the next rows are those after the newest that was shown."""
    clock = Clock(pl.Series([float(second) for second in range(101)]), speed=1.0)
    clock.advance(20.5)
    assert (clock.position, clock.recorded_secs) == (21, 20.0)
    clock.seek(11)
    clock.advance(5.0)
    assert clock.position == 16
    clock.scale(2.0)
    clock.advance(5.0)
    assert (clock.speed, clock.position) == (2.0, 26)
    clock.toggle_timing()
    assert not clock.real
    assert clock.rate == pytest.approx(101 / 25)
    clock.rate = 4.0
    clock.advance(2.5)
    assert clock.position == 36
    clock.seek(50)
    clock.scale(0.5)
    clock.advance(2.0)
    assert (clock.rate, clock.position) == (2.0, 54)
    clock.toggle_timing()
    clock.advance(3.0)
    assert clock.position == 60
    assert Clock(pl.Series([0.0, 50.0])).speed == 2.0
