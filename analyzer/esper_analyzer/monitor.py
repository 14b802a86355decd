"""The live monitor: judges a run while it is recorded, update by update, in the trainer's own process.

monitor = live_monitor(on_alert=lambda alert: print(alert.message))
with Recorder.open("runs", run_id="mine", on_update=monitor) as recorder:
    ...
    if monitor.level == "critical":
        break
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from esper_analyzer.alerts import MAX_ALERTS, Alert, gap_alerts
from esper_analyzer.judge import Judge
from esper_analyzer.segment_index import SCHEMA
from esper_analyzer.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.verdict import RunFacts, Verdict, conclude, level_in_force
from esper_schemas.metrics import Level

OnAlert = Callable[[Alert], object]


def live_monitor(on_alert: OnAlert | None = None, *, settings: Settings = DEFAULT_SETTINGS) -> LiveMonitor:
    """A callable for `Recorder.open(on_update=...)` that judges each update by the rules of the report.

    Args:
        on_alert: called with each alert, in the thread that recorded the row, before `record` returns.
        settings: thresholds and rules; see `read_settings`.
    """
    return LiveMonitor(on_alert, settings)


class LiveMonitor:
    """Judges the updates of one attempt as they come; costs well under a millisecond each, however long the run.

    It knows the rows that it was called with and nothing of the disk: a resumed run begins anew, with its warm-up.

    Attributes:
        alerts: the newest 100 alerts, as they were raised.
    """

    def __init__(self, on_alert: OnAlert | None = None, settings: Settings = DEFAULT_SETTINGS) -> None:
        self.alerts: deque[Alert] = deque(maxlen=MAX_ALERTS)
        self._on_alert = on_alert
        self._judge = Judge(settings.rules)
        self._types = {name: SCHEMA[name] for name in self._judge.columns}
        self._missing: deque[tuple[int, int]] = deque(maxlen=MAX_ALERTS)

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Judge one update, given as column → number; what is absent was not measured."""
        judge, update = self._judge, int(row["update"])
        raised: list[Alert] = []
        if judge.rows and update > judge.last_update + 1:
            self._missing.append((judge.last_update + 1, update - 1))
            raised += gap_alerts([self._missing[-1]])
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
        rows = pl.from_dicts([plain], schema=self._types, strict=False)
        raised += [episode.alert() for episode in judge.advance(rows)]
        self.alerts.extend(raised)
        if self._on_alert is not None:
            for alert in raised:
                self._on_alert(alert)

    @property
    def level(self) -> Level:
        """Level of the verdict now; cheap enough to be asked after every update."""
        return level_in_force(self._judge, RunFacts(self._missing))

    def verdict(self) -> Verdict:
        """The verdict now, with its reasons."""
        return conclude(self._judge, RunFacts(self._missing))
