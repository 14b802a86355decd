"""The option `--stop-on`: ends a training when the analyzer's verdict on it reaches a level."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from esper_schemas.errors import UsageError

StopLevel = Literal["warning", "critical"]


class StoppedByVerdict(Exception):
    """The verdict reached the level that ends the training; the message is the verdict's first reason."""


class VerdictStop:
    """Judges a run while it is trained, by the thresholds of the nearest pyproject.toml, as `esper-analyze` does.

    Attributes:
        level: the level that ends the training.
        monitor: pass this to the recorder as `on_update`.

    Raises:
        UsageError: polars, which the analyzer needs, is not installed.
    """

    def __init__(self, level: StopLevel, return_goal: float | None) -> None:
        if find_spec("polars") is None:
            raise UsageError(f"--stop-on {level} needs polars, which is not installed: pip install polars")
        from esper_analyzer import find_settings, live_monitor

        self.level = level
        self.monitor = live_monitor(settings=find_settings(Path()), return_goal=return_goal)

    def check(self) -> None:
        """Raise `StoppedByVerdict` if the verdict has reached the level; call this after each row."""
        if self.monitor.level in ("critical", self.level):
            raise StoppedByVerdict(f"--stop-on {self.level}: {self.monitor.verdict().reasons[0]}")
