from __future__ import annotations

import asyncio
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.alerts import Alert
from esper_analyzer.app.app import EsperApp
from esper_analyzer.app.clock import Clock
from esper_analyzer.app.history import History, history_of
from esper_analyzer.app.live import LiveFeed
from esper_analyzer.app.picture import CHARTED
from esper_analyzer.app.plot import MARGIN, draw_plot
from esper_analyzer.app.recorded import RecordedFeed
from esper_analyzer.app.widgets import Chooser
from esper_analyzer.app.window import Window
from esper_analyzer.buckets import MAX_BUCKETS, Buckets
from esper_analyzer.health import bands_of
from esper_analyzer.style import Style
from esper_analyzer.view import View
from esper_recorder import Recorder

SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE_SNAPSHOTS = "UPDATE_SNAPSHOTS"
"""With this in the environment the snapshots are written anew; look at the difference before you commit it."""

Steps = Callable[[EsperApp, "Pilot[None]"], Awaitable[None]]
START = 1_700_000_000_000_000


def row(update: int, rng: random.Random) -> dict[str, Any]:
    """One update of a run that learns, spikes at 150, is NaN from 200 to 202 and infinite at 230."""
    loss = 8.0 * math.exp(-update / 40) + 0.3 * rng.random() + 0.05
    special = {150: 28.0, 200: math.nan, 201: math.nan, 202: math.nan, 230: math.inf}
    return {
        "update": update,
        "policy_loss": -0.02 + 0.01 * rng.random(),
        "value_loss": special.get(update, loss),
        "entropy": 1.38 * math.exp(-update / 300),
        "kl_divergence": 0.008 + 0.01 * rng.random() + 0.03 * (150 <= update < 160),
        "clip_fraction": 0.1 + 0.1 * rng.random(),
        "explained_variance": 1 - math.exp(-update / 60) - 0.2 * rng.random(),
        "pre_clip_grad_norm": 2 + rng.random(),
        "episode_return_mean": 500 * (1 - math.exp(-update / 80)) + 10 * rng.random(),
        "return_std": 1.0 + 0.1 * rng.random(),
        "return_mean": 2.0,
        "env_steps": update * 2048,
        "learning_rate": 3e-4,
        "elapsed_secs": update * 0.5,
        "wall_time": START + update * 500_000,
        "extras": {"my_metric": rng.random()},
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two attempts: the second goes on from update 130 of 150, and leaves out 260 to 262."""
    root, rng = tmp_path_factory.mktemp("runs"), random.Random(0)
    with Recorder.open(root, run_id="demo", env="CartPole-v1", trainer="esper-rec 0.1", segment_rows=64) as recorder:
        for update in range(150):
            recorder.record(**row(update, rng))
    with Recorder.open(root, run_id="demo", resume="must") as recorder:
        for update in [*range(130, 260), *range(263, 300)]:
            recorder.record(**row(update, rng))
    return Path(recorder.path)


def show(
    path: Path, steps: Steps | None = None, size: tuple[int, int] = (100, 30), *, unicode: bool = True, **options: Any
) -> list[str]:
    """The application on a terminal of this size, driven by `steps` once all rows are judged; its last screen."""

    async def drive() -> list[str]:
        app = EsperApp(open_run(path), 0, style=Style(color=True, unicode=unicode), interval=0.02, **options)
        async with app.run_test(size=size) as pilot:
            if not options.get("replay"):
                await until(pilot, lambda: app.scene.picture.verdict is not None)
            if steps is not None:
                await steps(app, pilot)
            await settle(app, pilot)
            found = screen(app)
        if app.error is not None:
            raise app.error
        return found

    return asyncio.run(drive())


async def until(pilot: Pilot[None], condition: Callable[[], bool], secs: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + secs
    while not condition():
        assert time.monotonic() < end, "\n".join(screen(pilot.app))
        await pilot.pause(0.01)


async def settle(app: EsperApp, pilot: Pilot[None]) -> None:
    """Wait until nothing more is read for the screen, and all is drawn."""
    scene = app.scene
    await until(pilot, lambda: scene.wanted_row() is None and scene.wanted_detail() is None)
    await pilot.pause()
    await pilot.pause()


def screen(app: Any) -> list[str]:
    """The lines that are on the screen."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


# ---------------------------------------------------------------------- looks


@pytest.mark.parametrize("size", [(60, 20), (100, 30), (200, 60)])
def test_the_screen_looks_as_it_did(demo: Path, size: tuple[int, int]) -> None:
    """At each size the screen with a selected alert is the committed one, line by line."""

    async def steps(_app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("up", "up", "up", "up")

    text = "\n".join(show(demo, steps, size)) + "\n"
    path = SNAPSHOTS / f"app_{size[0]}x{size[1]}.txt"
    if os.environ.get(UPDATE_SNAPSHOTS):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("keys", [[], ["up"], ["question_mark"], ["slash"], ["l"]])
def test_in_ascii_nothing_else_is_on_the_screen(demo: Path, keys: list[str]) -> None:
    """Where the terminal has no Unicode, every character of every page is ASCII."""

    async def steps(_app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press(*keys)

    assert "".join(show(demo, steps, unicode=False)).isascii()


@pytest.mark.parametrize(("no_color", "is_colored"), [("1", False), ("", True), (None, True)])
def test_colours_are_the_terminals_own_and_none_with_no_color(
    demo: Path, monkeypatch: pytest.MonkeyPatch, no_color: str | None, is_colored: bool
) -> None:
    """The 16 colours of the terminal on its own background, dark or light; with NO_COLOR its own foreground only."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    colors: set[str] = set()
    backgrounds: set[str] = set()

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: bool(app.scene.plot.text))
        await pilot.pause()
        for strip in app.screen._compositor.render_strips():
            for filter_ in app._filters:
                strip = strip.apply_filter(filter_, app.background_colors[1]) if filter_.enabled else strip
            for segment in strip:
                if segment.style is not None:
                    colors.add(segment.style.color.name if segment.style.color else "default")
                    backgrounds.add(segment.style.bgcolor.name if segment.style.bgcolor else "default")

    show(demo, steps)
    assert backgrounds == {"default"}
    assert (len(colors - {"default"}) > 0) == is_colored
    assert not any(name.startswith("#") for name in colors)


def test_any_size_is_survived(demo: Path) -> None:
    """Below 60×20 the screen says what it needs; made larger again, everything is back and nothing is too wide."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        for width, height in [
            (59, 20),
            (60, 19),
            (10, 3),
            (1, 1),
            (60, 20),
            (99, 29),
            (150, 30),
            (300, 100),
            (120, 24),
        ]:
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            lines = screen(app)
            assert len(lines) == height
            assert max(map(len, lines)) <= width
            if (width, height) in [(59, 20), (60, 19)]:
                assert f"needs 60×20 cells; the terminal has {width}×{height}" in " ".join(lines)
            if width >= 60 and height >= 20:
                assert "V.Loss" in "\n".join(lines)
                assert "Verdict" in "\n".join(lines)

    show(demo, steps)


# ---------------------------------------------------------------------- keys


def test_what_is_not_finite_is_marked_at_its_place(demo: Path) -> None:
    """The chart has a ! at the columns of the NaN and infinite updates; the cursor there reads the value."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: bool(app.scene.plot.text))
        plot = app.scene.plot
        marked = {match.start() for match in re.finditer("!", plot.text.plain.split("\n")[0])}
        assert marked == {plot.column_of(update) for update in (200, 201, 202, 230)}
        app.scene.window = Window().at(0, 299, 231)
        await pilot.press("left")
        app.scene.window = app.scene.window.at(0, 299, 230)
        await pilot.press("l")

    lines = show(demo, steps)
    assert any(re.search(r"▏230  V\.Loss inf", line) for line in lines)


def test_the_cursor_reads_exact_values_of_the_run(demo: Path) -> None:
    """Zoomed in to single updates, each step of the cursor shows the recorded number to the last digit."""
    recorded = dict(open_run(demo).updates(0).select("update", "value_loss").collect().iter_rows())

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("left", *["plus"] * 6)
        for _ in range(4):
            await pilot.press("left")
            await settle(app, pilot)
            cursor = app.scene.window.cursor
            assert cursor is not None
            assert f"▏{cursor}  V.Loss {recorded[cursor]!r}" in "\n".join(screen(app))
        assert app.scene.window.cursor == 295

    show(demo, steps)


def test_a_missing_update_is_said_to_be_missing(demo: Path) -> None:
    """At an update that was never recorded, the cursor shows no value."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        app.scene.window = Window(cursor=263)
        await pilot.press("plus", "plus", "plus", "plus", "left")

    assert any("▏262  this update is missing" in line for line in show(demo, steps))


def test_zoom_and_pan_go_through_the_whole_history(demo: Path) -> None:
    """+ halves what is shown and keeps the end, [ moves it, Home and End go to the ends, 0 shows all."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        expected = {
            "plus": (150, 299), "equals_sign": (225, 299), "left_square_bracket": (187, 261), "home": (0, 74),
            "shift+right": (38, 112), "minus": (0, 149), "end": (150, 299), "0": (0, 299),
        }  # fmt: skip
        for key, limits in expected.items():
            await pilot.press(key)
            assert app.scene.limits == limits, key
            await pilot.pause()
            plot = app.scene.plot
            assert limits[0] <= plot.first
            assert limits[1] - 3 < plot.last <= limits[1]  # 260 to 262 are missing

    show(demo, steps)


def test_alerts_are_gone_through_by_key(demo: Path) -> None:
    """↑ selects the newest alert and goes there, with its whole message; Esc gives the verdict back."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("up")
        newest = app.scene.picture.events[-1]
        assert app.scene.selected == newest
        assert app.scene.window.cursor == newest.update
        await settle(app, pilot)
        text = " ".join(" ".join(screen(app)).split())
        assert newest.message in text
        assert "Verdict" not in text
        await pilot.press("up", "down", "down", "escape")
        assert app.scene.selected is None

    assert "Verdict" in "\n".join(show(demo, steps))


def test_any_metric_is_found_by_a_part_of_its_name(demo: Path) -> None:
    """/ filters the recorded metrics while one types; Enter charts the first that is left, also one of the user's."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"y_met")
        assert isinstance(app.screen, Chooser)
        await pilot.press("enter")
        await pilot.pause()
        assert app.scene.metric == "my_metric"
        await settle(app, pilot)
        course = app.scene.course()
        assert course is not None
        assert course.frame.height == 297
        await pilot.press("m")
        assert app.scene.metric == "policy_loss"
        await pilot.press("slash", "escape")
        assert app.scene.metric == "policy_loss"

    assert any(line.startswith(" policy loss") for line in show(demo, steps))


def test_the_scale_is_switched_and_its_labels_are_true(demo: Path) -> None:
    """On a logarithmic scale the labels are values again; thresholds keep their line."""
    course = history_of(open_run(demo).updates(0), CHARTED).of("value_loss")
    for scale, highest in (("auto", "20"), ("log", "20"), ("linear", "20")):
        plot = draw_plot(course, bands_of("value_loss"), width=100, height=24, scale=scale)  # type: ignore[arg-type]
        lines = plot.text.plain.split("\n")
        labels = [line[: MARGIN - 1].strip() for line in lines if line[MARGIN - 1 : MARGIN] == "┤"]
        assert len(lines) == 24
        assert highest in labels
        assert "5" in labels
        assert ("0.1" in labels) == (scale != "linear")

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("l")
        assert app.scene.scale == "log"

    assert any(line.startswith(" value loss  log") for line in show(demo, steps))


def test_help_names_every_key_and_q_quits(demo: Path) -> None:
    """? shows the keys, and goes away again; q ends the application."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "What to look at" in "\n".join(screen(app))
        await pilot.press("escape")
        await pilot.pause()
        assert "What to look at" not in "\n".join(screen(app))
        await pilot.press("q")
        assert app._exit

    show(demo, steps)


def test_runs_and_ranks_are_switched_by_key(tmp_path: Path) -> None:
    """o lists the runs of the folder and opens one; r goes round the ranks."""
    for name, ranks in (("one", 1), ("two", 2)):
        for rank in range(ranks):
            with Recorder.open(tmp_path, run_id=name, rank=rank, world_size=ranks) as recorder:
                for update in range(12):
                    recorder.record(update=update, policy_loss=-0.01, value_loss=1.0 + rank)

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("o", *"two", "enter")
        await until(pilot, lambda: app.scene.picture.rows == 12 and app.scene.run.header.run_id == "two")
        await pilot.press("r")
        await until(pilot, lambda: app.scene.rank == 1 and app.scene.picture.last("value_loss") == 2.0)
        await pilot.pause()
        assert "rank 1 of 2" in "\n".join(screen(app))
        await pilot.press("r")
        await until(pilot, lambda: app.scene.rank == 0 and app.scene.picture.last("value_loss") == 1.0)

    show(tmp_path / "one", steps)


# ---------------------------------------------------------------------- live


def test_a_run_is_followed_through_attempts_and_segments(tmp_path: Path) -> None:
    """No row yet, rows, a sealed segment, a resume that goes back, the end: each is shown as what it is."""

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


def test_a_feed_comes_to_the_verdict_of_the_view(demo: Path) -> None:
    """Read in pieces and judged afterwards, a run has the verdict and the rows that a view of all of it has."""
    run = open_run(demo)
    feed, view = LiveFeed(run, 0), View(run.settings)
    assert feed.picture().verdict is None
    view.add(run.updates(0))
    while feed.work():
        pass
    picture = feed.picture()
    assert picture.verdict == view.verdict(remarks=run.remarks)
    assert (picture.rows, picture.last_update) == (view.rows, view.last_update)
    assert picture.state("value_loss") == view.state("value_loss")
    course = picture.history.of("value_loss")
    assert course.frame.equals(view.chart.frame)
    feed.close()


@pytest.mark.parametrize("is_new", [False, True])
def test_alerts_are_told_once_and_only_from_now_on(tmp_path: Path, is_new: bool) -> None:
    """What is raised after the beginning is told, missing updates too; of a new run everything is."""
    told: list[Alert] = []
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in range(20):
            recorder.record(update=update, policy_loss=-0.01, value_loss=math.nan if update == 15 else 1.0)
        feed = LiveFeed(open_run(recorder.path), 0, on_alert=told.append, is_new=is_new)
        recorder.record(update=20, policy_loss=-0.01, value_loss=1.0)
        while feed.look() or feed.work():
            pass
        recorder.record(update=23, policy_loss=-0.01, value_loss=1.0)
        recorder.record(update=24, policy_loss=-0.01, value_loss=math.inf)
        while feed.look() or feed.work():
            pass
    feed.close()
    seen = [(alert.update, alert.metric) for alert in told]
    assert seen.count((23, "update")) == 1
    assert ((15, "value_loss") in seen) == is_new
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
        segment = path / "rank-0000" / "segments" / "00000000.parquet"
        segment.write_bytes(bytes(segment.stat().st_size))
        app.scene.window = Window(cursor=20)
        await pilot.press("right")
        await until(pilot, lambda: app.error is not None)
        app.scene.window = Window()

    with pytest.raises(pl.exceptions.PolarsError):
        show(path, steps)


# ---------------------------------------------------------------------- replay


def test_a_replay_shows_what_was_known_then(demo: Path) -> None:
    """After any number of rows, forwards or backwards, verdict, alerts and chart are those of a view of these rows."""
    run = open_run(demo)
    feed, rows = RecordedFeed(run, 0), run.updates(0)
    while feed.work():
        pass
    for position in (297, 1, 12, 151, 150, 200, 240):
        feed.seek(position)
        picture, view = feed.picture(), View(run.settings)
        episodes = view.add(rows.head(position))
        assert picture.verdict == view.verdict(remarks=run.remarks)
        assert [event.update for event in picture.events if event.episode] == [one.update for one in episodes]
        course = picture.history.of("value_loss").frame
        assert course["max"].to_list() == view.chart.frame["max"].to_list()
        assert picture.last_update == view.last_update


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


def test_next_alert_answers_when_it_would_have_fired(demo: Path) -> None:
    """n pauses at the update where the next alert is raised: it is listed there, and not one step before."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app._clock is not None and app.scene.picture.total > 0)
        feed, clock = app._reader.feed, app._clock
        assert isinstance(feed, RecordedFeed)
        assert clock is not None
        await until(pilot, lambda: feed.is_judged)
        await pilot.press("space")
        clock.seek(150)
        await pilot.press("n")
        await until(pilot, lambda: app.scene.picture.last_update == 150)
        assert app.scene.picture.events[-1].update == 150
        assert not clock.playing
        await pilot.press("comma")
        await until(pilot, lambda: app.scene.picture.last_update == 149)
        assert app.scene.picture.events[-1].update < 150
        await pilot.press("full_stop", "N")
        await until(pilot, lambda: (app.scene.picture.last_update or 0) < 149)
        assert app.scene.picture.events[-1].update == app.scene.picture.last_update
        clock.seek(clock.total)
        await pilot.press("n")
        await pilot.pause()
        assert "no further alert" in screen(app)[-1]
        await pilot.press("space")
        await until(pilot, lambda: app.scene.picture.rows > 0 and clock.playing and clock.position < clock.total)
        before = clock.speed
        await pilot.press("greater_than_sign", "t", "less_than_sign")
        assert clock.speed == 2 * before
        assert not clock.real

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


# ---------------------------------------------------------------------- values


def test_a_history_does_not_depend_on_how_often_rows_came() -> None:
    """Added row by row or at once, many metrics together or one alone, the buckets are the same."""
    values = [math.sin(i) if i % 97 else math.nan for i in range(5000)]
    rows = pl.DataFrame({"update": range(5000), "value_loss": values, "policy_loss": values[::-1]})
    names = ("value_loss", "policy_loss")
    slowly = History.empty(names)
    for start in range(0, 5000, 7):
        slowly = slowly.with_rows(rows[start : start + 7])
    at_once = history_of(rows.lazy(), names)
    alone = Buckets()
    alone.add(rows.lazy(), "value_loss")
    assert at_once.frame.height <= MAX_BUCKETS
    assert slowly.width == at_once.width
    assert slowly.frame.equals(at_once.frame)
    assert (
        at_once.of("value_loss")
        .frame.select("min", "max", "nonfinite")
        .equals(alone.frame.select("min", "max", "nonfinite"))
    )
    assert at_once.rows == 5000


def test_a_window_stays_within_the_run() -> None:
    """Whatever keys are pressed, the chart shows updates that exist, and the cursor among them."""
    rng = random.Random(1)
    window, first, last = Window(), 5, 300
    for _ in range(2000):
        last += rng.randrange(3)
        choices = [
            window.zoom(first, last, closer=rng.random() < 0.6),
            window.pan(first, last, rng.uniform(-2, 2)),
            window.move(first, last, rng.randrange(-50, 50)),
            window.at(first, last, rng.randrange(-10, 400)),
        ]
        window = rng.choice(choices)
        low, high = window.limits(first, last)
        assert first <= low <= high <= last
        assert window.cursor is None or first <= window.cursor <= last


# ---------------------------------------------------------------------- a real terminal

TRAINER = """
    import math, sys
    from esper_recorder import Recorder
    with Recorder.open(sys.argv[1], run_id="run", segment_rows=32, resume=sys.argv[2]) as recorder:
        print("open", flush=True)
        for line in sys.stdin:
            first, last, loss = line.split()
            for update in range(int(first), int(last)):
                recorder.record(update=update, policy_loss=-0.01, value_loss=float(loss), return_std=1.0)
            print("done", flush=True)
"""
SHOW = "import sys; from esper_analyzer import open_run; from esper_analyzer.app import run_app;"
SHOW += "print('damage', run_app(open_run(sys.argv[1]), 0, interval=0.05))"


class Tmux:
    """A tmux of its own with one window of a given size."""

    def __init__(self, socket: Path, columns: int, rows: int) -> None:
        self._command = ["tmux", "-u", "-S", str(socket), "-f", "/dev/null"]
        self(
            "new-session", "-d", "-x", str(columns), "-y", str(rows), "env PS1='$ ' COLUMNS=100 TERM=screen-256color sh"
        )

    def __call__(self, *arguments: str) -> str:
        """Run a command of tmux; returns what it prints."""
        done = subprocess.run([*self._command, *arguments], capture_output=True, encoding="utf-8", check=True)
        return done.stdout

    def see(self, pattern: str, secs: float = 20.0) -> str:
        """Wait until the pattern is on the screen; returns the screen's text."""
        end = time.monotonic() + secs
        while not re.search(pattern, text := self("capture-pane", "-p")):
            assert time.monotonic() < end, f"{pattern!r} is not on the screen:\n{text}"
            time.sleep(0.05)
        return text


def trainer(root: Path, resume: str) -> subprocess.Popen[str]:
    """A process that records the updates that it is told to."""
    command = [sys.executable, "-c", textwrap.dedent(TRAINER), str(root), resume]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def tell(process: subprocess.Popen[str], steps: Sequence[tuple[int, int, float]]) -> None:
    """Have updates `first` up to `last` recorded with a value loss."""
    assert process.stdin is not None
    assert process.stdout is not None
    for first, last, loss in steps:
        process.stdin.write(f"{first} {last} {loss}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"


def end(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a process, and close its pipes."""
    process.wait(20)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def test_in_a_real_terminal_through_a_whole_life(tmp_path: Path) -> None:
    """Start, spike, NaN, SIGKILL, resume, end, and a window that changes its size: all seen in a real tmux."""
    process = trainer(tmp_path, "never")
    terminal = Tmux(tmp_path / "tmux", 100, 30)
    try:
        terminal("send-keys", f'{sys.executable} -c "{SHOW}" {tmp_path / "run"}', "Enter")
        terminal.see(r"run +● live(.|\n)*no updates yet")
        tell(process, [(0, 40, 1.0)])
        terminal.see(r"update 39 (.|\n)*V\.Loss +1\.000")
        tell(process, [(40, 41, 90.0), (41, 44, 1.0)])
        text = terminal.see(r"update 43 (.|\n)*▲")
        assert re.search(r"20┤.*┈", text)
        tell(process, [(44, 45, math.nan)])
        terminal.see(r"!(.|\n)*V\.Loss +NaN(.|\n)*44 ▲ Value loss is NaN(.|\n)*Verdict +critical")
        terminal("resize-window", "-x", "60", "-y", "20")
        terminal.see(r"!(.|\n)*V\.Loss +NaN(.|\n)*Verdict +critical")
        terminal("resize-window", "-x", "100", "-y", "30")
        process.send_signal(signal.SIGKILL)
        end(process)
        terminal.see(r"● crashed")
        process = trainer(tmp_path, "must")
        tell(process, [(30, 60, 0.5)])
        text = terminal.see(r"● live(.|\n)*update 59 (.|\n)*attempt 1(.|\n)*◆ Attempt 1 goes on from update 30")
        assert "NaN" not in text
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
        terminal.see(r"● finished(.|\n)*Verdict")
        terminal("send-keys", "q")
        terminal.see(r"damage 0\n\$")
    finally:
        process.kill()
        end(process)
        terminal("kill-server")
