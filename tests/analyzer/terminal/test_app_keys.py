from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from tests.analyzer.app_driver import screen, settle, show, until
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.drawing.window import Window
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.widgets import Chooser
from esper_recorder import Recorder


@pytest.mark.slow
def test_the_cursor_reads_the_values_of_the_run(demo: Path) -> None:
    """Zoomed in to single updates, each step of the cursor shows the recorded number, rounded, and the return."""
    recorded = dict(open_run(demo).updates(0).select("update", "value_loss").collect().iter_rows())

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("left", *["plus"] * 6)
        for _ in range(4):
            await pilot.press("left")
            await settle(app, pilot)
            cursor = app.scene.window.cursor
            assert cursor is not None
            assert f"▏{cursor}  V.Loss {recorded[cursor]:.4f}  Return 4" in "\n".join(screen(app))
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
    """↓ selects the first alert of the list and goes there, with its whole message; Esc gives the verdict back."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        first, newest = app.scene.picture.events[0], app.scene.picture.events[-1]
        assert app.scene.selected == first
        assert app.scene.window.cursor == first.update
        await settle(app, pilot)
        text = " ".join(" ".join(screen(app)).split())
        assert first.message in text
        assert first.alert is not None
        assert first.alert.course in text
        assert "Verdict" not in text
        for _ in range(len(app.scene.picture.events) + 2):
            app.action_alert(-1)
        assert app.scene.selected == app.scene.picture.events[0]
        await pilot.press("down")
        assert app.scene.selected == app.scene.picture.events[1]
        for _ in range(len(app.scene.picture.events) + 2):
            app.action_alert(1)
        assert app.scene.selected == newest
        await pilot.press("escape")
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


@pytest.mark.slow
def test_runs_and_ranks_are_switched_by_key(tmp_path: Path) -> None:
    """o lists the runs of the folder and opens one; r goes round the ranks."""
    for name, ranks in (("one", 1), ("two", 3)):
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
        assert "rank 1 of 3" in "\n".join(screen(app))
        await pilot.press("r", "r")
        await until(pilot, lambda: app.scene.rank == 0 and app.scene.picture.last("value_loss") == 1.0)
        await pilot.press("left", "plus", "r", "r")
        await until(pilot, lambda: app.scene.rank == 2 and app.scene.picture.last("value_loss") == 3.0)
        assert app.scene.window == Window()
        (tmp_path / "two" / "run.json").write_text("{")
        await pilot.press("o", *"two", "enter")
        await until(pilot, lambda: "two" in screen(app)[-1])
        assert app.scene.rank == 2
        await pilot.press("o", *"one", "enter")
        await until(pilot, lambda: app.scene.picture.rows == 12 and app.scene.run.header.run_id == "one")
        assert app.scene.rank == 0

    show(tmp_path / "one", steps)


def test_the_mouse_puts_the_cursor_and_zooms(demo: Path) -> None:
    """A click in the chart puts the cursor at the update of that column; the wheel zooms in and out."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: bool(app.scene.plot.text))
        column = app.scene.plot.column_of(230)
        assert column is not None
        await pilot.click("#chart", offset=(column, 3))
        assert app.scene.window.cursor == app.scene.plot.update_at(column)
        await settle(app, pilot)
        assert f"▏{app.scene.window.cursor}  V.Loss" in "\n".join(screen(app))
        await pilot.click("#chart", offset=(2, 3))
        await pilot.click("#verdict", offset=(column - 9, 1))
        assert app.scene.window.cursor == app.scene.plot.update_at(column)
        await pilot.press("escape")
        chart = app.query_one("#chart")
        at: dict[str, Any] = {"x": 1, "y": 1, "delta_x": 0, "button": 0, "shift": False, "meta": False, "ctrl": False}
        chart.post_message(MouseScrollUp(chart, delta_y=-1, **at))
        await until(pilot, lambda: app.scene.limits == (150, 299))
        chart.post_message(MouseScrollDown(chart, delta_y=1, **at))
        await until(pilot, lambda: app.scene.limits == (0, 299))

    show(demo, steps)


@pytest.mark.slow
def test_what_the_cursor_and_the_chart_show_is_always_what_was_asked_for_last(demo: Path) -> None:
    """Keys that come faster than the run is read end at the row, and at the part of the metric, of the last one."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        app.scene.metric = "my_metric"
        for keys in (["left", "left"], ["home"], ["plus", "plus"], ["end"], ["right"], ["minus", "left"]):
            await pilot.press(*keys)
            await settle(app, pilot)
            cursor, detail, limits = app.scene.window.cursor, app.scene.picture.detail, app.scene.limits
            assert app.scene.picture.row is not None
            assert app.scene.picture.row[0] == cursor
            assert detail is not None
            assert limits is not None
            assert detail.covers("my_metric", *limits)
            assert re.search(rf"▏{cursor}  my_metric 0\.\d+ .*Lv/Lp", "\n".join(screen(app)))

    show(demo, steps, (160, 30))


def test_the_whole_verdict_is_a_key_away(tmp_path: Path) -> None:
    """v shows every reason, or the whole message of the alert that is selected."""
    with Recorder.open(tmp_path, run_id="run") as recorder:
        for update in (*range(10), *range(20, 30)):
            recorder.record(update=update, policy_loss=-0.01, value_loss=math.nan if update > 25 else 1.0)
    reasons = open_run(recorder.path).report().verdict.reasons
    assert len(reasons) > 2

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("v")
        await pilot.pause()
        shown = " ".join(" ".join(screen(app)).split())
        assert all(reason in " ".join(shown.replace("│", " ").split()) for reason in reasons)
        await pilot.press("escape", "up", "v")
        await pilot.pause()
        assert "Updates 10 to 19 are missing" in " ".join(screen(app)) or "Value loss is NaN" in " ".join(screen(app))
        assert "declare" not in " ".join(screen(app))

    show(recorder.path, steps, (60, 20))
