"""What somebody sees first: `esper-rec train` with its defaults, and `esper-analyze tail` on that run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from tests.analyzer.app_driver import screen, show, until
from tests.analyzer.reporting.test_html import page_of, unpacked
from tests.colors import red_parts
from tests.forked import TRAINING, run_on_terminal
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.frame import draw_frame
from esper_schemas.metric.levels import PALETTE

SIZES = [(60, 20), (80, 24), (120, 40)]


def red_on(app: EsperApp) -> list[str]:
    """Each text on the screen that is red."""
    return [
        segment.text.strip()
        for strip in app.screen._compositor.render_strips()
        for segment in strip
        if segment.style is not None and segment.style.color is not None and segment.text.strip()
        if segment.style.color.name in ("red", "bright_red", "color(1)", "color(9)")
    ]


LENGTHS = (1, 30)


@pytest.fixture(scope="module")
def all_trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, str]]:
    """Default runs by their number of updates, and everything that `esper-rec train` wrote to its terminal."""
    root = tmp_path_factory.mktemp("runs")
    made = {}
    for updates in LENGTHS:
        words = ("train", "--out", root, "--run-id", updates, "--updates", updates)
        code, said = run_on_terminal("esper_recorder", *words, imports=TRAINING)
        assert code == 0, said
        made[updates] = root / str(updates), said
    return made


@pytest.fixture(scope="module", params=LENGTHS)
def trained(request: pytest.FixtureRequest, all_trained: dict[int, tuple[Path, str]]) -> tuple[Path, str]:
    """A default run after so many updates, and everything that `esper-rec train` wrote to its terminal."""
    return all_trained[request.param]


def test_the_first_screen_of_training_is_calm(trained: tuple[Path, str]) -> None:
    """A sound run trains without the word critical and without anything red."""
    _, said = trained
    assert "healthy" in said
    assert "\x1b[" in said
    assert "critical" not in said
    assert list(red_parts(said)) == []


def test_a_frame_in_the_terminal_leaves_a_line_for_the_prompt(all_trained: dict[int, tuple[Path, str]]) -> None:
    """`tail --once` fills the screen but for its last line, so that the heading is not pushed out of it."""
    code, said = run_on_terminal("esper_analyzer", "tail", all_trained[LENGTHS[-1]][0], "--once")
    assert (code, said.count("\n")) == (0, 23)


@pytest.mark.parametrize("size", SIZES)
def test_the_first_frame_of_tail_is_calm(trained: tuple[Path, str], size: tuple[int, int]) -> None:
    """No "critical", and nothing red but the number of Lv/Lp, which keeps its colour beside the word advisory."""
    run = open_run(trained[0])
    feed = LiveFeed(run, 0)
    try:
        picture = feed.finish()
    finally:
        feed.close()
    assert picture.levels["loss_ratio"] == "critical"
    lines = draw_frame(run, 0, picture, width=size[0], height=size[1], style=Style(color=True, unicode=True))
    assert "critical" not in "\n".join(lines)
    (ratio,) = (line for line in lines if "Lv/Lp" in line and "advisory" in line)
    (number,) = red_parts("\n".join(lines))
    assert number.strip() in ratio
    assert float(number) == pytest.approx(picture.last("loss_ratio"), rel=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_of_the_application_is_calm(trained: tuple[Path, str], size: tuple[int, int]) -> None:
    """The same on the screen of `tail`, cell by cell, also with Lv/Lp itself in the chart."""
    reds: dict[str, list[str]] = {}

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        for metric in ("value_loss", "loss_ratio"):
            app.scene.metric = metric
            app._renew()
            await until(pilot, lambda: app.scene.charted is app.scene.picture)
            await pilot.pause()
            assert "critical" not in "\n".join(screen(app))
            reds[metric] = red_on(app)

    show(trained[0], steps, size)
    assert [len(found) for found in reds.values()] == [1, 1], reds
    float(reds["value_loss"][0])


@pytest.mark.parametrize(("spread", "is_red"), [(1.0, False), (100.0, True)])
def test_explained_variance_is_red_only_where_there_is_something_to_explain(
    record: Callable[..., Path], spread: float, is_red: bool
) -> None:
    """Once a task was solved and returns hardly vary, an explained variance below 0 has no colour of a level."""
    rows = [
        {"update": i, "value_loss": 0.1, "return_mean": 200.0, "return_std": 100.0, "explained_variance": 0.9}
        for i in range(40)
    ]
    rows[-1] |= {"return_std": spread, "explained_variance": -0.5}
    run = open_run(record(rows))
    feed = LiveFeed(run, 0)
    try:
        picture = feed.finish()
    finally:
        feed.close()
    assert picture.levels["explained_variance"] == "critical"
    assert picture.is_explainable == is_red
    lines = draw_frame(run, 0, picture, width=120, height=40, style=Style(color=True, unicode=True))
    reds = [line for line in lines if any("-0.5" in part for part in red_parts(line))]
    assert bool(reds) == is_red


def test_the_bounds_of_lv_lp_are_never_red(record: Callable[..., Path]) -> None:
    """With all four bounds of Lv/Lp in view, its chart is not red, on the screen, on the page and in a notebook."""
    rows = [{"update": i, "value_loss": 0.004 * 1.2**i, "policy_loss": -0.1} for i in range(34)]
    path = record(rows)
    run = open_run(path)
    ratio = [row["value_loss"] / 0.1 for row in rows]
    assert ratio[0] < 0.1
    assert ratio[-1] > 10.0

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        app.scene.metric = "loss_ratio"
        app._renew()
        await until(pilot, lambda: app.scene.charted is app.scene.picture)
        await pilot.pause()
        assert sum("┈" in line for line in screen(app)) == 4
        (number,) = red_on(app)
        assert float(number) == pytest.approx(ratio[-1], abs=1e-3)

    show(path, steps, (120, 40))
    charts = {chart["name"]: chart for chart in unpacked(page_of(path))["charts"]}
    assert {level for level, *_ in charts["loss_ratio"]["bands"]} == {"advisory"}
    assert {level for level, *_ in charts["value_loss"]["bands"]} == {"warning", "critical"}
    (panel,) = run.plot("loss_ratio").axes
    drawn = {to_hex(line.get_color()) for line in panel.lines} | {
        to_hex(patch.get_facecolor()) for patch in panel.patches
    }
    assert PALETTE["warning"].color in drawn
    assert PALETTE["critical"].color not in drawn
