from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.analyzer.app_driver import screen, settle, show, until
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.drawing.plot import MARGIN, draw_plot
from esper_analyzer.drawing.window import Window
from esper_analyzer.live.picture import CHARTED
from esper_analyzer.measuring.history import history_of
from esper_analyzer.measuring.levels import bands_of
from esper_analyzer.terminal.app.app import EsperApp
from esper_recorder import ValueLossDefinition

SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE_SNAPSHOTS = "UPDATE_SNAPSHOTS"
"""With this in the environment the snapshots are written anew; look at the difference before you commit it."""


@pytest.mark.parametrize("size", [(60, 20), (100, 30), (200, 60)])
def test_the_screen_looks_as_it_did(demo: Path, size: tuple[int, int]) -> None:
    """At each size the screen with a selected alert is the committed one, line by line."""

    async def steps(_app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "down")

    text = "\n".join(show(demo, steps, size)) + "\n"
    path = SNAPSHOTS / f"app_{size[0]}x{size[1]}.txt"
    if os.environ.get(UPDATE_SNAPSHOTS):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_in_ascii_nothing_else_is_on_the_screen(demo: Path) -> None:
    """Where the terminal has no Unicode, every character of every page is ASCII."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        for keys in ([], ["up"], ["question_mark"], ["escape", "slash"], ["escape", "o"], ["escape", "l"]):
            await pilot.press(*keys)
            await settle(app, pilot)
            text = "".join(screen(app))
            assert text.strip(), keys
            assert text.isascii(), keys

    show(demo, steps, unicode=False)


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


@pytest.mark.slow
@pytest.mark.parametrize("is_calm", [False, True])
def test_any_size_is_survived(demo: Path, record: Callable[..., Path], is_calm: bool) -> None:
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
                assert f"{width}×{height} cells; 60×20 are needed" in " ".join(lines)
            if width >= 60 and height >= 20:
                assert "V.Loss" in "\n".join(lines)
                assert "Verdict" in "\n".join(lines)
                layout = app.scene.layout(width, height)
                for panel, room in (("#numbers", layout.numbers), ("#alerts", layout.alerts)):
                    assert tuple(app.screen_stack[0].query_one(panel).size) == room

    calm = [{"update": n, "explained_variance": 0.9, "episode_return_mean": float(n)} for n in range(40)]
    declared = ValueLossDefinition(clipping="none")
    show(record(calm, value_loss_definition=declared) if is_calm else demo, steps)


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
    assert any(re.search(r"▏230  V\.Loss ∞", line) for line in lines)


def test_the_scale_is_switched_and_its_labels_are_true(demo: Path) -> None:
    """On a logarithmic scale the labels are values again; thresholds keep their line."""
    course = history_of(open_run(demo).updates(0), CHARTED).of("value_loss")
    for scale, highest in (("auto", "20"), ("log", "20"), ("linear", "20")):
        plot = draw_plot(course, bands_of("value_loss"), width=100, height=24, scaling=scale)  # type: ignore[arg-type]
        lines = plot.text.plain.split("\n")
        labels = [line[: MARGIN - 1].strip() for line in lines if line[MARGIN - 1 : MARGIN] == "┤"]
        assert len(lines) == 24
        assert highest in labels
        assert "5" in labels
        assert ("0.1" in labels) == (scale != "linear")

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("l")
        assert app.scene.scaling == "log"

    assert any(line.startswith(" value loss  log") for line in show(demo, steps))
