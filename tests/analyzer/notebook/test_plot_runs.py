from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esper_analyzer import plot_runs
from esper_recorder import Recorder
from esper_schemas.errors import UsageError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of one method, one run of another, and one that is too short."""
    root = tmp_path_factory.mktemp("runs")
    for name, gain, length in (
        ("a-1", 1.0, 20),
        ("a-2", 2.0, 20),
        ("a-3", 6.0, 20),
        ("b-1", 4.0, 20),
        ("stub", 9.0, 4),
    ):
        config = {"method": name[0], "seed": int(name[-1]) if name[-1].isdigit() else 0}
        with Recorder.open(root, run_id=name, config=config, strict=True) as recorder:
            for update in range(length):
                rest: dict[str, Any] = {"policy_loss": 0.1, "value_loss": 1.0, "env_steps": 10 * (update + 1)}
                recorder.record(update=update, episode_return_mean=gain * update, **rest)
    return sorted(root.iterdir())


def points(line: Any) -> np.ndarray:
    """Places and values of a line, as two rows."""
    return np.asarray(line.get_xydata(), dtype=float).T


def test_the_return_comes_first_with_a_band_for_the_seeds(runs: list[Path]) -> None:
    """The centre is the mean between the smallest and the largest seed; the short run is left out."""
    figure = plot_runs(runs)
    panels = figure.axes
    assert [panel.get_ylabel() for panel in panels] == ["episode_return_mean", "value_loss"]
    assert panels[-1].get_xlabel() == "environment steps"
    lines = {str(line.get_label()): line for line in panels[0].get_lines()}
    assert {"b-1", "A: 3 runs"} < set(lines)
    assert points(lines["A: 3 runs"])[:, -1] == pytest.approx([200.0, 19 * 3.0])
    box = np.asarray(panels[0].collections[0].get_paths()[0].vertices)
    at_end = box[np.isclose(box[:, 0], 200.0), 1]
    assert (at_end.min(), at_end.max()) == (19.0, 19 * 6.0)
    assert max(points(line)[1].max() for line in panels[0].get_lines()) == 19 * 6.0
    buffer = io.BytesIO()
    figure.savefig(buffer)
    assert buffer.getvalue()[:4] == b"\x89PNG"


def test_median_no_groups_and_a_wrong_metric(runs: list[Path]) -> None:
    """The median is that of the seeds; without a band every run has a line of its own; a wrong name is an error."""
    panel = plot_runs(runs, "episode_return_mean", band="median", by="updates").axes[0]
    centre = next(line for line in panel.get_lines() if line.get_label() == "A: 3 runs")
    assert points(centre)[:, -1].tolist() == [19.0, 38.0]
    panel = plot_runs(runs, "episode_return_mean", band=None).axes[0]
    assert [line.get_label() for line in panel.get_lines()] == ["a-3", "b-1", "a-2", "a-1"]
    with pytest.raises(UsageError, match="did you mean value_loss"):
        plot_runs(runs, "episode_return_mean", "valueloss")
