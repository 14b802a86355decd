"""A recorded run as people hold it: everything that can be asked of it, in a script or a notebook."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import polars as pl

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.measuring.snapshot import Snapshot, metric_names, take_snapshot
from esper_analyzer.measuring.summary import Value, histories
from esper_analyzer.notebook.jupyter import alert_frame, run_html, watch_run
from esper_analyzer.notebook.plots import plot_run
from esper_analyzer.reading.run_reader import locate_run
from esper_analyzer.reporting.report import Report, build_report
from esper_schemas.errors import UsageError
from esper_schemas.metric.metrics import HISTORY_LENGTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def open_run(
    run: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] = "runs",
    *,
    settings: Settings = DEFAULT_SETTINGS,
) -> Run:
    """Open a run for reading, whether it is finished, live or broken.

    Args:
        run: path of the run's folder, or its name under `root`; the latest run under `root` if None.
        root: folder of runs.
        settings: thresholds and rules to judge by; see `read_settings`.

    Raises:
        NotARunError: there is no such run.
        RunDamagedError: its header is gone, or cannot be read.
        FormatVersionError: it was written by a newer Esper.
    """
    return Run(locate_run(run, root), settings)


class Run(JudgedRun):
    """A recorded run. Each call looks at the disk anew, so the object may be kept while the run goes on.

    Attributes:
        path: the run's folder.
        header: who wrote the run, and how (`run.json`).
        settings: thresholds and rules that it is judged by.
    """

    def snapshot(self, rank: int = 0) -> Snapshot:
        """Current state: last value, history of 10, trend and level of each metric."""
        return take_snapshot(self.updates(rank), thresholds=self.settings.thresholds)

    def report(self, rank: int | None = 0) -> Report:
        """The object behind every report format; `rank=None` reports on all ranks together."""
        return self.read(rank, lambda found: build_report(self, rank, found))

    def _repr_html_(self) -> str:
        return run_html(self)

    def histories(self, length: int = HISTORY_LENGTH, *, rank: int = 0) -> dict[str, list[Value]]:
        """The last `length` measured values of every metric, newest last, as the report has them with 10."""
        if length < 1:
            raise UsageError(f"length must be at least 1, found {length!r}")
        rows = self.updates(rank)
        return histories(rows, metric_names(rows.collect_schema()), length)

    def alerts(self, rank: int | None = 0) -> pl.DataFrame:
        """The report's alerts, one row each, the newest last.

        Returns:
            Columns `update`, `metric`, `level` (an Enum), `value`, `message`, `since`, `until` (null while it lasts),
            `rule` and `rank`, as `Alert` describes them; the same columns where there is no alert.
        """
        return alert_frame(self.report(rank).alerts)

    def plot(self, *metrics: str, log: bool | None = None, rank: int = 0) -> Figure:
        """Metrics over updates, one panel each, with thresholds, alerts, and whatever is not finite at its place.

        Both extremes of each stretch of a long run are in the line. Needs matplotlib (extra `notebook`).

        Args:
            metrics: metrics of the table, of your own, or `loss_ratio`; without any, value loss, explained variance and
                episode return, as far as they were measured.
            log: whether the scale is logarithmic (linear around zero where a value is not positive); if None, where
                positive values span more than two powers of ten.
            rank: the rank to plot.

        Returns:
            A figure that pyplot knows nothing of: a notebook shows it where it is the value of a cell.

        Raises:
            UsageError: no matplotlib, or no such metric.
            NotARunError: the run has no such rank.
        """
        return plot_run(self, metrics, log=log, rank=rank)

    def watch(self, interval: float = 1.0, updates: int | None = None, *, rank: int = 0) -> None:
        """Show the run in the output of a cell, and redraw it there until it ends or the cell is interrupted.

        Outside a notebook a line is printed for each update. A redraw costs the new rows only.

        Args:
            interval: seconds between looks at the run.
            updates: return after so many new updates, although the run goes on.
            rank: the rank to watch.
        """
        watch_run(self, interval=interval, updates=updates, rank=rank)
