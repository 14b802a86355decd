"""The horizontal axis of the screen, and the small charts that are pinned: by keys and by the command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.analyzer.app_driver import screen, settle, show, until
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.measuring.places import BY_UPDATE
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.metric_grid import MetricGrid
from esper_analyzer.terminal.scene import Chosen
from esper_recorder import Recorder

DATA = Path(__file__).parents[2] / "recorder" / "importing" / "data"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def paced(root: Path, run_id: str, steps: int, updates: int, **more: float) -> Path:
    """A run of so many environment steps per update, 100 of them in a second; its value loss is a line over them."""
    with Recorder.open(root, run_id=run_id, strict=True) as recorder:
        for update in range(updates):
            done = (update + 1) * steps
            recorder.record(
                update=update,
                policy_loss=-0.01,
                value_loss=2.0 - done / 40_000,
                env_steps=done,
                elapsed_secs=done / 100,
                extras={"mine": float(update), "yours": 1.0},
                **more,
            )
    return root / run_id


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A run of 1,000 steps per update, and one of four times as many per update that goes on for twice as long."""
    return paced(tmp_path, "small", 1000, 20), paced(tmp_path, "large", 4000, 10)


def test_a_key_switches_the_axis_of_the_chart(pair: tuple[Path, Path]) -> None:
    """x goes from updates to steps, to seconds of training, and back; the cursor stays at its update."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        seen = []
        await pilot.press("left", "left", "left")
        cursor = app.scene.window.cursor
        assert cursor is not None
        for _ in range(3):
            await settle(app, pilot)
            plot = app.scene.plot
            column = plot.column_of(cursor)
            assert column is not None
            assert plot.update_at(column) == cursor
            title = next(line for line in screen(app) if line.startswith(" value loss"))
            seen.append((plot.first, plot.last, "by steps" in title, "by time" in title))
            await pilot.press("x")
        assert seen == [(0, 19, False, False), (1000, 20000, True, False), (10, 200, False, True)]
        assert app.scene.ruler is BY_UPDATE

    lines = show(pair[0], steps)
    assert any("▏" in line for line in lines)


def test_by_steps_runs_of_different_batches_are_compared(pair: tuple[Path, Path]) -> None:
    """By updates the second run is beside the wrong values; by steps both are one line, and the longer one goes on."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.scene.beside()) == 1)
        assert app.scene.span == (0, 19)
        await pilot.press("x")
        await settle(app, pilot)
        assert (app.scene.span, app.scene.plot.last) == ((0, 39), 40_000)
        (beside,) = app.scene.beside()
        at = beside.ruler.all_at(beside.buckets.frame["first"].to_numpy())
        assert beside.buckets.frame["max"].to_list() == pytest.approx([2.0 - one / 40_000 for one in at])
        await pilot.press("plus", "home")  # the first half: of the second run, what is at the same steps
        await settle(app, pilot)
        assert app.scene.limits == (0, 19)
        assert app.scene.beside()[0].buckets.frame["first"].to_list() == [0, 1, 2, 3, 4]

    show(pair[0], steps, others=[open_run(pair[1])])


def test_the_command_draws_one_frame_by_steps_or_time(pair: tuple[Path, Path], command: Command) -> None:
    """The axis is labelled in steps or in seconds; without colour the lines have marks of their own."""
    by_steps = command("tail", "--once", *pair, "--by", "steps")
    assert by_steps.returncode == 0, by_steps.stderr
    assert " value loss  ━ small  o large  by steps" in by_steps.stdout
    assert {"20k", "40k"} <= set(by_steps.stdout.split())
    chart = [line for line in by_steps.stdout.split("\n") if "│" in line or "┤" in line]
    assert sum("o" in line for line in chart) > 2
    by_time = command("tail", "--once", pair[0], "--by", "time").stdout
    assert "200 s" in by_time or "3 min" in by_time
    assert "by time" in by_time


def test_an_axis_that_was_not_recorded_is_said(record: Callable[..., Path], tmp_path: Path, command: Command) -> None:
    """One line for the command; on the screen the chart stays by updates, and the run that has none is named."""
    bare, full = record([{"update": n, "env_steps": None} for n in range(30)], "bare"), paced(tmp_path, "full", 10, 30)
    done = command("tail", "--once", bare, "--by", "steps")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "bare has recorded no environment steps; use --by updates" in done.stderr
    assert "bare has recorded no environment steps" in command("tail", "--once", full, bare, "--by", "steps").stderr

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await settle(app, pilot)
        assert "no environment steps recorded" in "\n".join(screen(app))
        assert app.scene.plot.last == 29

    show(bare, steps, chosen=Chosen(by="steps"))

    async def beside(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.scene.others[0].picture.places.secs != {})
        await settle(app, pilot)
        assert "bare (no steps)" in "\n".join(screen(app))
        assert app.scene.beside() == []

    show(full, beside, others=[open_run(bare)], chosen=Chosen(by="steps"))


def test_the_places_of_a_run_that_goes_on_are_those_of_the_whole(tmp_path: Path) -> None:
    """Rows that are followed one after the other end at the same places as when all are read, over two attempts."""
    with Recorder.open(tmp_path, run_id="run", strict=True) as recorder:
        for update in range(5):
            recorder.record(
                update=update, policy_loss=0.0, value_loss=1.0, env_steps=10 * update, elapsed_secs=2.0 * update
            )
    feed = LiveFeed(open_run(tmp_path / "run"), 0)
    feed.finish()
    with Recorder.open(tmp_path, run_id="run", resume="must", strict=True) as recorder:
        for update in range(5, 9):
            recorder.record(
                update=update, policy_loss=0.0, value_loss=1.0, env_steps=10 * update, elapsed_secs=2.0 * (update - 4)
            )
            feed.look()
    try:
        followed = feed.finish().places
    finally:
        feed.close()
    whole = LiveFeed(open_run(tmp_path / "run"), 0)
    try:
        read = whole.finish().places
    finally:
        whole.close()
    for places in (followed, read):
        by_time, by_steps = places.ruler("time"), places.ruler("steps")
        assert by_time is not None
        assert by_steps is not None
        assert by_time.updates.tolist() == [*map(float, range(9))]
        assert by_time.places.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0]
        assert [by_steps.at(update) for update in (-1, 0, 2.5, 8, 12)] == [-10.0, 0.0, 25.0, 80.0, 120.0]
        assert [by_steps.update_at(place) for place in (-10, 25, 120)] == [-1.0, 2.5, 12.0]


@pytest.mark.slow
def test_a_metric_is_pinned_in_the_grid(pair: tuple[Path, Path]) -> None:
    """Space puts the marked metric first among the small charts, and takes it away; x is the axis of the grid, too."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"mine", "enter", "g")
        await until(pilot, lambda: "reading" not in "\n".join(screen(app)))
        assert isinstance(app.screen, MetricGrid)
        await pilot.press("space", "x")
        await pilot.pause()
        assert "▶●mine" in "\n".join(screen(app))
        assert "x axis: steps" in screen(app)[-1]
        await pilot.press("escape", "slash", *"value_loss", "enter")
        assert app.scene.by == "steps"
        await until(pilot, lambda: app.scene.picture.course("mine") is not None)
        await settle(app, pilot)
        small = next(line for line in screen(app) if line.startswith("  mine "))
        assert small.split()[1] == "19.000"
        assert any("⠀" < char <= "⣿" for char in small)
        await pilot.press("slash", *"mine", "enter", "g", "space", "escape")
        assert app.scene.pinned == ()

    show(pair[0], steps, (100, 30))


def test_the_command_chooses_the_charts(
    pair: tuple[Path, Path], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first metric is in the chart, the others are first among the small ones; a wrong name is one clear line."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    frame = command("tail", "--once", pair[0], "--metric", "mine,yours", "--metric", "policy_loss").stdout
    assert " mine  0 to 19" in frame
    (first,) = (line for line in frame.split("\n") if line.startswith("  yours "))
    assert "P.Loss" in first
    wrong = command("tail", "--once", pair[0], "--metric", "minee")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "small has recorded no metric 'minee'; did you mean mine?" in wrong.stderr
    assert "found an empty name" in command("tail", "--once", pair[0], "--metric", "mine,").stderr


def test_the_frame_that_is_left_shows_what_was_chosen(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """After q: all runs of the overlay, by the axis and in the metric that were chosen."""
    from esper_analyzer.terminal.tail import _leave

    left = []

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.scene.beside()) == 1)
        await pilot.press("x", "slash", *"mine", "enter")
        await until(pilot, lambda: app.scene.course() is not None and len(app.scene.beside()) == 1)
        left.append(app)

    show(pair[0], steps, others=[open_run(pair[1])])
    _leave(left[0].scene, left[0].last_picture())
    assert " mine  ━ small  o large  by steps" in capsys.readouterr().out


def test_other_runs_may_be_logs_of_other_trainers(pair: tuple[Path, Path], tmp_path: Path, command: Command) -> None:
    """A log beside a run of ours is imported for as long as it is watched, and drawn over it."""
    log = tmp_path / "lunar.csv"
    shutil.copy(DATA / "sb3_lunar_progress.csv", log)
    done = command("tail", "--once", pair[0], log, "--by", "steps")
    assert done.returncode == 0, done.stderr
    assert "is the log of another trainer: imported into a temporary run" in done.stderr
    assert "━ small  o lunar" in done.stdout
