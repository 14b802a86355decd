"""The application of `tail` and `replay` driven by Textual's pilot, and a run for it to show."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.waiting import HANG_SECS
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.replay_app import ReplayApp

Steps = Callable[[EsperApp, "Pilot[None]"], Awaitable[None]]
START = 1_700_000_000_000_000


def demo_row(update: int, rng: random.Random) -> dict[str, Any]:
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


def show(
    path: Path, steps: Steps | None = None, size: tuple[int, int] = (100, 30), *, unicode: bool = True, **options: Any
) -> list[str]:
    """The application on a terminal of this size, driven by `steps` once all rows are judged; its last screen.

    With `replay=True` it is that of a replay, which is driven from its beginning.
    """
    is_replay = options.pop("replay", False)

    async def drive() -> list[str]:
        run, style = open_run(path), Style(color=True, unicode=unicode)
        app = (ReplayApp if is_replay else partial(EsperApp, interval=0.02))(run, 0, style=style, **options)
        async with app.run_test(size=size) as pilot:
            if not is_replay:
                await until(pilot, lambda: app.scene.picture.verdict is not None)
            if steps is not None:
                await steps(app, pilot)
            await settle(app, pilot)
            found = screen(app)
        if app.error is not None:
            raise app.error
        return found

    return asyncio.run(drive())


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + HANG_SECS
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
