"""`--stop-on`: ends a training as soon as the analyzer's verdict on it is bad enough."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

StopLevel = Literal["warning", "critical"]


class StoppedByVerdict(Exception):
    """The verdict reached the level that ends the training; the message is its first reason."""


class VerdictStop:
    """Watches a run that is being trained, by the thresholds of the nearest pyproject.toml, as `esper-analyze` does.

    Attributes:
        level: the level that ends the training.
        monitor: is to be the recorder's `on_update`.
    """

    def __init__(self, level: StopLevel) -> None:
        from esper_analyzer import find_settings, live_monitor

        self.level = level
        self.monitor = live_monitor(settings=find_settings(Path()))

    def check(self) -> None:
        """Raise `StoppedByVerdict` if the verdict has reached the level; to be called after each row."""
        if self.monitor.level in ("critical", self.level):
            raise StoppedByVerdict(f"--stop-on {self.level}: {self.monitor.verdict().reasons[0]}")
