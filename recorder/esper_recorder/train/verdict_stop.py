"""`--stop-on`: ends a training as soon as the analyzer's verdict on it is bad enough."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from esper_schemas.errors import UsageError

StopLevel = Literal["warning", "critical"]


class StoppedByVerdict(Exception):
    """The verdict reached the level that ends the training; the message is its first reason."""


class VerdictStop:
    """Watches a run that is being trained, by the thresholds of the nearest pyproject.toml, as `esper-analyze` does.

    Attributes:
        level: the level that ends the training.
        monitor: is to be the recorder's `on_update`.

    Raises:
        UsageError: polars, which the analyzer judges with, is not installed.
    """

    def __init__(self, level: StopLevel) -> None:
        if find_spec("polars") is None:
            raise UsageError(f"--stop-on {level} needs polars, which is not installed: pip install polars")
        from esper_analyzer import find_settings, live_monitor

        self.level = level
        self.monitor = live_monitor(settings=find_settings(Path()))

    def check(self) -> None:
        """Raise `StoppedByVerdict` if the verdict has reached the level; to be called after each row."""
        if self.monitor.level in ("critical", self.level):
            raise StoppedByVerdict(f"--stop-on {self.level}: {self.monitor.verdict().reasons[0]}")
