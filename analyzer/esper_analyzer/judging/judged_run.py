"""A run with the settings that it is judged by; every report and every screen takes one."""

from __future__ import annotations

from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.reading.run_reader import RunReader
from esper_schemas.run.directory import StoredRun


class JudgedRun(RunReader):
    """A run with the settings that it is judged by.

    Attributes:
        settings: thresholds and rules.
    """

    def __init__(self, directory: StoredRun, settings: Settings = DEFAULT_SETTINGS, *, verifies: bool = False) -> None:
        super().__init__(directory, verifies=verifies)
        self.settings = settings
