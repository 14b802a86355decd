"""The live monitor: judges a run while it is recorded, update by update, inside the trainer's process.

monitor = live_monitor(on_alert=lambda alert: print(alert.message))
with Recorder.open("runs", run_id="mine", on_update=monitor) as recorder:
    ...
    if monitor.level == "critical":
        break
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from esper_analyzer.judging.alert_log import AlertLog, gap_alert
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.published_goals import published_goal
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.judging.task import NO_TASK, Task
from esper_analyzer.judging.verdict import RunFacts, Verdict, conclude, level_in_force
from esper_analyzer.reading.gaps import MIN_STEPS, Numbering, Range
from esper_schemas.metric.metrics import Level
from esper_schemas.run.records import check_return_goal

OnAlert = Callable[[Alert], object]


def _whole(bits: int) -> Callable[[Any], int]:
    """A converter to whole numbers of so many bits; larger ones raise."""
    of_numpy: Callable[[Any], Any] = {32: np.int32, 64: np.int64}[bits]
    end = 2 ** (bits - 1)

    def convert(value: Any) -> int:
        return value if type(value) is int and -end <= value < end else int(of_numpy(value))

    return convert


_READERS: dict[pl.DataType, tuple[type | None, Callable[[Any], Any]]] = {
    pl.Float64(): (float, float),
    pl.Int64(): (None, _whole(64)),
    pl.Int32(): (None, _whole(32)),
    pl.Boolean(): (bool, bool),
}
"""Of each type of column, what a value is that needs no converter, and the converter of a trainer's other values."""

_update_of = _whole(64)


def live_monitor(
    on_alert: OnAlert | None = None,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    return_goal: float | None = None,
    env: str | None = None,
    trainer: str | None = None,
    config: Mapping[str, Any] | None = None,
    run_uuid: str | None = None,
) -> LiveMonitor:
    """Make a callable for `Recorder.open(on_update=...)` that judges each update by the rules of the report.

    Args:
        on_alert: called each time a rule is raised, in the thread that recorded the row, before `record` returns.
        settings: thresholds and rules, see `read_settings`, and the runs to judge beside, see `with_references`.
        return_goal: the mean episode return that the task is solved from, as in `Recorder.open`; by default what is
            published for `env`, as in a report.
        env, trainer, config: as in `Recorder.open`; references of another environment are left out, and those that
            were found in a folder also if they are of another trainer, or of other settings of the environment.
        run_uuid: of the run, if it is resumed; it is no reference of itself.

    Raises:
        UsageError: `return_goal` is not a finite number.
    """
    task = Task.of(env, trainer, config or {})
    return LiveMonitor(on_alert, settings, return_goal, task, run_uuid)


class LiveMonitor:
    """Judges the updates of one attempt as they arrive, in some fifty microseconds each, however long the run.

    It knows only the rows that it was called with, and nothing on disk: a resumed run starts again with its warm-up,
    and an update that is recorded again counts again. Level, verdict and alerts may be read from any thread.
    """

    def __init__(
        self,
        on_alert: OnAlert | None = None,
        settings: Settings = DEFAULT_SETTINGS,
        return_goal: float | None = None,
        task: Task = NO_TASK,
        run_uuid: str | None = None,
    ) -> None:
        self._log = AlertLog()
        self._on_alert = on_alert
        beside = settings.references_of(task, run_uuid)
        declared = check_return_goal(return_goal)
        goal = published_goal(task) if declared is None else declared
        self._is_goal_published = declared is None and goal is not None
        self._judge = Judge(settings.rules, goal, beside)
        self._readers = [(name, *_READERS[READ_TYPES[name]]) for name in self._judge.columns]
        self._numbering = Numbering()
        self._untold: list[Range] = []  # gaps before it is known whether they are the stride
        self._lock = threading.RLock()  # a signal handler may ask for the level

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Judge one update, given as column → number (a NumPy number and a tensor of one number are valid too).

        A value that is absent, None or not a number counts as not measured, so one odd value does not affect others.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: `update` is missing or not a whole number; the row is not
                judged. An error from `on_alert` is raised after the row was judged.
        """
        update = _update_of(row["update"])
        get = row.get
        numbers = {
            name: value if (value := get(name)) is None or type(value) is exact else _read(reader, value)
            for name, exact, reader in self._readers
        }
        with self._lock:
            raised = self._judged(update, numbers)
        if self._on_alert is not None:
            for alert in raised:
                self._on_alert(alert)

    @property
    def level(self) -> Level:
        """Level of the verdict now; cheap enough to read after every update."""
        with self._lock:
            return level_in_force(self._judge, self._facts())

    def verdict(self) -> Verdict:
        """Return the verdict now, with its reasons."""
        with self._lock:
            return conclude(self._judge, self._facts())

    @property
    def alerts(self) -> list[Alert]:
        """What has been found so far: one alert for each rule, as in the report."""
        with self._lock:
            numbering = self._numbering
            return self._log.alerts(self._judge.in_force.values(), numbering.missing, numbering.stride)

    def _facts(self) -> RunFacts:
        numbering = self._numbering
        return RunFacts(
            numbering.missing,
            remarks=numbering.remarks,
            stride=numbering.stride,
            is_goal_published=self._is_goal_published,
        )

    def _judged(self, update: int, row: Mapping[str, Any]) -> list[Alert]:
        """Judge one row; return the alerts that it raises."""
        last = self._judge.last_update
        if self._judge.rows and update > last:
            self._numbering.steps += 1
            if update > last + 1:
                gap = (last + 1, update - 1)
                self._numbering.extend(Numbering(0, [gap]))
                self._untold.append(gap)
        return [*self._gaps_to_tell(), *self._log.tell(self._judge.step(row))]

    def _gaps_to_tell(self) -> list[Alert]:
        """Return an alert for each gap that has not been told, once there are steps enough to tell it from a stride."""
        numbering = self._numbering
        if not self._untold or numbering.steps < MIN_STEPS:
            return []
        missing, untold, self._untold = numbering.missing, self._untold, []
        places = {gap: at for at, gap in enumerate(missing)}
        return [gap_alert(missing, places[gap], numbering.stride) for gap in untold if gap in places]


def _read(reader: Callable[[Any], Any], value: Any) -> Any:
    """Convert a value to a number of its column's type; None if it is not a number."""
    try:
        return reader(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return None
