from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer import open_run
from esper_analyzer.drawing.heading import heading
from esper_analyzer.drawing.panels import losses
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.progress import Progress
from esper_analyzer.terminal.choices import metric_entries
from esper_recorder import Recorder

ROWS: list[dict[str, Any]] = [{"update": n, "env_steps": 100 * (n + 1), "elapsed_secs": 0.5 * n} for n in range(47)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"num_updates": 2500}, Progress(47, 2500, False, 1226.5)),
        ({"num_updates": 47.0}, Progress(47, 47, False, 0.0)),
        ({"total_timesteps": "10000"}, Progress(4700, 10000, True, 26.5)),
        ({"num_updates": 46}, None),
        ({"total_steps": None, "num_updates": True}, None),
        ({"num_updates": "1" * 400}, None),
        ({}, None),
    ],
)
def test_progress_is_that_of_the_configuration(
    record: Callable[..., Path], config: dict[str, Any], expected: Progress | None
) -> None:
    """Updates or steps of those asked for, and the seconds left; nothing where no length is known or it is passed."""
    run = open_run(record(ROWS, config=config))
    feed = LiveFeed(run, 0)
    assert Progress.of(run.header.config, feed.picture()) == expected
    feed.close()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_heading_has_return_and_progress_at_every_width(tmp_path: Path, width: int) -> None:
    """A live run says its return, how far it is and when it ends, in whole parts; more where there is room."""
    with Recorder.open(tmp_path, run_id="run", config={"num_updates": 2500}, env="X" * 90) as recorder:
        for row in ROWS:
            recorder.record(policy_loss=-0.01, value_loss=0.5, episode_return_mean=348.3, **row)
        run = open_run(recorder.path)
        feed = LiveFeed(run, 0)
        line = heading(run, 0, feed.picture(), width)[1]
        feed.close()
    assert line.plain.startswith(" update 46 (47 of 2 500) · return 348.3 · ETA 0:20:26")
    assert line.cell_len < width
    assert ("200 steps/s" in line.plain) == (width >= 100)


def test_a_sliding_mean_is_the_return_where_there_is_no_other(record: Callable[..., Path]) -> None:
    """Logs of Stable-Baselines3 have no other: it is in the heading, in the panel of losses and first to choose."""
    run = open_run(record([{**row, "episode_return_sliding_mean": 21.5} for row in ROWS]))
    feed = LiveFeed(run, 0)
    picture = feed.finish()
    feed.close()
    assert "return 21.5" in heading(run, 0, picture, 80)[1].plain
    assert losses(picture, 80, head=False)[0].plain.split()[:2] == ["Return", "21.500"]
    assert metric_entries(picture)[0][0] == "episode_return_sliding_mean"
