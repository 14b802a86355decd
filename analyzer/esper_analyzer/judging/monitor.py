"""The live monitor: judges a run while it is recorded, update by update, inside the trainer's process.

monitor = live_monitor(on_alert=lambda alert: print(alert.message))
with Recorder.open("runs", run_id="mine", on_update=monitor) as recorder:
    ...
    if monitor.level == "critical":
        break
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from esper_analyzer.judging.alerts import MAX_ALERTS, Alert, gap_alerts
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.judging.verdict import RunFacts, Verdict, conclude, level_in_force
from esper_analyzer.reading.gaps import Numbering
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas.metric.metrics import Level

OnAlert = Callable[[Alert], object]

_READERS: dict[pl.DataType, Callable[[Any], Any]] = {
    pl.Float64(): float,
    pl.Int64(): np.int64,
    pl.Int32(): np.int32,
    pl.Boolean(): bool,
}
"""Converters from a trainer's values to numbers of a column's type; integers that are too large raise."""


def live_monitor(on_alert: OnAlert | None = None, *, settings: Settings = DEFAULT_SETTINGS) -> LiveMonitor:
    """Make a callable for `Recorder.open(on_update=...)` that judges each update by the rules of the report.

    Args:
        on_alert: called with each alert, in the thread that recorded the row, before `record` returns.
        settings: thresholds and rules; see `read_settings`.
    """
    return LiveMonitor(on_alert, settings)


class LiveMonitor:
    """Judges the updates of one attempt as they arrive, in about a millisecond each, however long the run.

    It knows only the rows that it was called with, and nothing on disk: a resumed run starts again with its warm-up,
    and an update that is recorded again counts again. Level and verdict may be read from any thread.

    Attributes:
        alerts: the newest 100 alerts, as they were raised.
    """

    def __init__(self, on_alert: OnAlert | None = None, settings: Settings = DEFAULT_SETTINGS) -> None:
        self.alerts: deque[Alert] = deque(maxlen=MAX_ALERTS)
        self._on_alert = on_alert
        self._judge = Judge(settings.rules)
        self._types = {name: SCHEMA[name] for name in self._judge.columns}
        self._readers = {name: _READERS[dtype] for name, dtype in self._types.items()}
        self._numbering = Numbering()
        self._lock = threading.RLock()  # a signal handler may ask for the level

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Judge one update, given as column → number (a NumPy number and a tensor of one number are valid too).

        A value that is absent, None or not a number counts as not measured, so one odd value does not affect others.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: `update` is missing or not a whole number; the row is not
                judged. An error from `on_alert` is raised after the row was judged.
        """
        update = int(np.int64(row["update"]))
        numbers = {name: _read(reader, row.get(name)) for name, reader in self._readers.items()}
        with self._lock:
            raised = self._judged(update, pl.from_dicts([numbers], schema=self._types))
        if self._on_alert is not None:
            for alert in raised:
                self._on_alert(alert)

    @property
    def level(self) -> Level:
        """Level of the verdict now; cheap enough to read after every update."""
        with self._lock:
            return level_in_force(self._judge, RunFacts(self._numbering.missing, remarks=self._numbering.remarks))

    def verdict(self) -> Verdict:
        """Return the verdict now, with its reasons."""
        with self._lock:
            return conclude(self._judge, RunFacts(self._numbering.missing, remarks=self._numbering.remarks))

    def _judged(self, update: int, rows: pl.DataFrame) -> list[Alert]:
        """Judge one row; return the alerts that it raises."""
        last = self._judge.last_update
        raised: list[Alert] = []
        if self._judge.rows and update > last:
            jump = (last + 1, update - 1)
            self._numbering.extend(Numbering(1, [jump] if update > last + 1 else []))
            raised += gap_alerts([one for one in self._numbering.missing if one == jump])
        raised += [episode.alert() for episode in self._judge.advance(rows)]
        self.alerts.extend(raised)
        return raised


def _read(reader: Callable[[Any], Any], value: Any) -> Any:
    """Convert a value to a number of its column's type; None if it is not a number."""
    try:
        return None if value is None else reader(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return None
