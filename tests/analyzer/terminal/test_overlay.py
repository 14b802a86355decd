from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.analyzer.app_driver import screen, settle, show, until
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.measuring.history import history_of
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.metric_grid import MetricGrid
from esper_analyzer.terminal.choices import metric_entries

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def pair(record: Callable[..., Path]) -> tuple[Path, Path]:
    """Two runs: the second is longer, with a value loss ten times as high and a metric of its own."""
    first = record([{"update": n, "value_loss": 1.0 + n % 3, "extras": {"mine": 2.0}} for n in range(30)], "first")
    second = record([{"update": n, "value_loss": 12.0, "extras": {"mine": 7.0}} for n in range(60)], "second")
    return first, second


@pytest.mark.parametrize("size", [(60, 20), (100, 30)])
def test_one_frame_draws_the_second_run_over_the_first(
    pair: tuple[Path, Path], command: Command, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """The axes reach to the end and to the values of both runs, whose names are above; the numbers are the first's."""
    monkeypatch.setenv("COLUMNS", str(size[0]))
    monkeypatch.setenv("LINES", str(size[1]))
    ended = command("tail", "--once", *pair)
    assert ended.returncode == 0, ended.stderr
    assert " value loss  ━ first  o second" in ended.stdout
    assert "update 29" in ended.stdout
    axis = next(line for line in ended.stdout.split("\n") if line.startswith("        0  "))
    assert "40" in axis
    alone = command("tail", "--once", pair[0]).stdout
    assert "━" not in alone
    highest = [max(map(float, re.findall(r"^ *([0-9.]+)┤", text, re.MULTILINE))) for text in (alone, ended.stdout)]
    assert highest[0] <= 5.0 < 8.0 <= highest[1]


def test_in_a_pipe_each_line_has_the_name_of_its_run(pair: tuple[Path, Path], command: Command) -> None:
    """All rows of all runs come, each after the name of its run, and the verdicts of both are said."""
    ended = command("tail", *pair)
    lines = ended.stdout.splitlines()
    assert [line for line in lines if line.startswith("first: update ")] == lines[:30]
    assert [line for line in lines if line.startswith("second: update ")] == lines[30:]
    assert len(lines) == 90
    assert "first: verdict" in ended.stderr
    assert "second: verdict" in ended.stderr


def test_more_runs_than_colours_are_refused(pair: tuple[Path, Path], command: Command) -> None:
    """Seven runs end in one line that says how many fit, and what shows more."""
    ended = command("tail", "--once", *[pair[0]] * 7)
    assert ended.returncode == 2
    assert "at most 6 runs in one chart, found 7; `esper-analyze compare --format html`" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_key_draws_another_run_over_this_one(pair: tuple[Path, Path]) -> None:
    """b chooses a run and draws it, in any metric; b again takes it away."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("b", *"second", "enter")
        await until(pilot, lambda: app.scene.limits == (0, 59) and len(app.scene.beside()) == 1)
        await settle(app, pilot)
        assert "━ first  ━ second" in "\n".join(screen(app))
        assert app.scene.beside()[0].buckets.frame["max"].to_list() == [12.0] * 60
        await pilot.press("slash", *"mine", "enter")
        await until(pilot, lambda: app.scene.metric == "mine" and len(app.scene.beside()) == 1)
        assert app.scene.beside()[0].buckets.frame["max"].max() == 7.0
        await pilot.press("b")
        assert app.scene.limits == (0, 29)
        await settle(app, pilot)
        assert "━ second" not in "\n".join(screen(app))

    show(pair[0], steps)


def test_the_runs_of_the_command_are_on_the_screen(pair: tuple[Path, Path]) -> None:
    """A run given from the start is read in its own thread, and drawn."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.scene.limits == (0, 59))

    assert any("━ first  ━ second" in line for line in show(pair[0], steps, others=[open_run(pair[1])]))


def test_smoothing_is_the_average_of_tensorboard(record: Callable[..., Path]) -> None:
    """s goes through the weights and back; 0.6 gives the debiased average, worked out by hand for three values."""
    path = record([{"update": n, "value_loss": value} for n, value in enumerate([1.0, 2.0, 4.0])])
    smoothed = history_of(open_run(path).updates(0), ("value_loss",)).of("value_loss").smoothed(0.6).frame["max"]
    assert smoothed.to_list() == pytest.approx([1.0, (0.24 + 0.8) / 0.64, (0.144 + 0.48 + 1.6) / 0.784])

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        seen = []
        for _ in range(4):
            await pilot.press("s")
            seen.append(app.scene.smoothing)
            await settle(app, pilot)
            assert ("smoothed" in "\n".join(screen(app))) == (app.scene.smoothing > 0)
        assert seen == [0.6, 0.9, 0.97, 0.0]

    show(path, steps)


def test_an_alert_shows_its_metric_and_escape_the_one_before(demo: Path) -> None:
    """Each alert of a recorded metric puts it in the chart; Esc brings the metric back."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        seen = {}
        for _ in app.scene.picture.events:
            await pilot.press("down")
            assert app.scene.selected is not None
            seen[app.scene.selected.metric] = app.scene.metric
        assert seen["kl_divergence"] == "kl_divergence"
        assert seen["explained_variance"] == "explained_variance"
        await pilot.press("escape")
        assert app.scene.metric == "value_loss"

    show(demo, steps)


def test_the_configuration_is_a_key_away(record: Callable[..., Path]) -> None:
    """c shows the hyper-parameters by dotted name, and wraps long values; control characters are harmless."""
    config = {"lr": 3e-4, "net": {"sizes": "x" * 90}, "evil": "\x1b[31m"}
    path = record([{"update": 0}], config=config, env="CartPole-v1")

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("c")
        await pilot.pause()
        await pilot.pause()
        text = "\n".join(screen(app))
        assert "net.sizes" in text
        assert text.count("x") >= 90
        assert "0.0003" in text
        assert "\\x1b[31m" in text
        assert "CartPole-v1" in text

    show(path, steps, (80, 40))


@pytest.mark.parametrize("size", [(60, 20), (200, 60)])
def test_the_grid_has_every_metric_page_by_page(demo: Path, size: tuple[int, int]) -> None:
    """g shows every recorded metric with its course, the user's own too; Enter puts the marked one into the chart."""
    seen: set[str] = set()

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        names = [name for name, _ in metric_entries(app.scene.picture)]
        await pilot.press("g")
        for _ in names:
            await pilot.pause()
            await until(pilot, lambda: "reading" not in "\n".join(screen(app)))
            text = "\n".join(screen(app))
            assert re.search("[\u2801-\u28ff]", text)
            seen.update(name for name in names if name.replace("_", " ") in text or name in text)
            if seen == set(names):
                break
            await pilot.press("pagedown")
        assert seen == set(names)
        assert "my_metric" in seen
        assert isinstance(app.screen, MetricGrid)
        app.screen.action_move(-len(names))
        await pilot.press("right", "enter")
        await pilot.pause()
        assert app.scene.metric == names[1]

    show(demo, steps, size)
