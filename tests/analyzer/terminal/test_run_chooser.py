"""The chooser of runs in the screen: the columns, filters and names of `esper-analyze runs`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.analyzer.app_driver import screen, settle, show, until
from textual.pilot import Pilot
from textual.widgets import Input

from esper_analyzer.terminal.app.app import EsperApp
from esper_recorder import Recorder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: two of a sweep, and one beside it."""
    folder = tmp_path_factory.mktemp("runs")
    for place, name in enumerate(("sweep/slow", "sweep/fast", "alone")):
        path = folder / name
        with Recorder.open(path.parent, run_id=path.name, env="CartPole-v1", config={"lr": 10.0**-place}) as recorder:
            for update in range(12):
                recorder.record(update=update, policy_loss=0.1, value_loss=0.2, episode_return_mean=100.0 * place)
    return folder


def listed(app: EsperApp) -> list[str]:
    """The names of the runs on the screen, from the top, without the frame."""
    lines = [line.strip(" │|") for line in screen(app)]
    return [line.split()[0] for line in lines if "finished" in line and line.split()[0] in NAMES]


NAMES = ("sweep/slow", "sweep/fast", "alone")


@pytest.mark.parametrize("size", [(60, 20), (100, 30), (200, 60)])
def test_the_chooser_has_the_columns_of_runs_and_fits(root: Path, size: tuple[int, int]) -> None:
    """All runs below the root, the newest first; return and verdict follow once they are read."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("o")
        await until(pilot, lambda: "100.0" in "\n".join(screen(app)) and "unknown" in "\n".join(screen(app)))
        text = screen(app)
        heading = next(line for line in text if "verdict" in line)
        assert {"run", "status", "return"} <= set(heading.split())
        assert listed(app) == ["alone", "sweep/fast", "sweep/slow"]
        assert max(map(len, text)) <= size[0]

    show(root / "sweep" / "slow", steps, size, root=root)


def test_a_filter_is_typed_as_runs_takes_it(root: Path) -> None:
    """A condition leaves the runs that it is true of, any other text those whose lines contain it."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("o")
        await until(pilot, lambda: "100.0" in "\n".join(screen(app)))
        for text, names in (
            ("return > 50", ["alone", "sweep/fast"]),
            ("config.lr >= 1e-1 and return > 50", ["sweep/fast"]),
            ("sweep", ["sweep/fast", "sweep/slow"]),
            ("return >", []),
            ("name == sweep/fast", ["sweep/fast"]),
        ):
            app.screen.query_one(Input).value = text
            await pilot.pause()
            await settle(app, pilot)
            assert listed(app) == names, text
        await pilot.press("enter")
        await until(pilot, lambda: app.scene.run.path == root / "sweep" / "fast")

    show(root / "sweep" / "slow", steps, root=root)


def test_without_its_root_a_run_is_chosen_from_its_own_folder(root: Path) -> None:
    """As for a path outside the folder of runs."""

    async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
        await pilot.press("o")
        await until(pilot, lambda: "verdict" in "\n".join(screen(app)))
        lines = "\n".join(screen(app))
        assert "slow" in lines
        assert "alone" not in lines

    show(root / "sweep" / "slow", steps, root=root / "elsewhere")
