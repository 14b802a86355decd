"""`Run` and `open_run`: everything that a script or a notebook can ask of a recorded run.

A method imports what only it needs, because charts, plots and explanations load slowly.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.reading.run_index import looked_at
from esper_analyzer.reading.run_reader import locate_run
from esper_schemas.errors import UsageError
from esper_schemas.metric.metrics import HISTORY_LENGTH

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from esper_analyzer.explaining.explanation import Explanation
    from esper_analyzer.explaining.pair import Parting
    from esper_analyzer.measuring.snapshot import Snapshot
    from esper_analyzer.measuring.summary import Value
    from esper_analyzer.reading.run_index import Ranks, RunIndex
    from esper_analyzer.reporting.report import Report
    from esper_schemas.examining.run import RunExamination
    from esper_schemas.examining.segment import Depth


def open_run(
    run: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] = "runs",
    *,
    settings: Settings = DEFAULT_SETTINGS,
    verify: bool = False,
) -> Run:
    """Open a run for reading. It may be finished, live or damaged.

    Args:
        run: path or URL of the run, or its name under `root`; the latest run under `root` if None.
        root: folder of runs, or the URL of one in an object store, such as `s3://bucket/runs`.
        settings: thresholds and rules to judge by; see `read_settings`.
        verify: whether to compare every sealed file of a run in an object store with its checksum, for which each byte
            is fetched. On a disk they are compared always.

    Raises:
        NotARunError: there is no such run.
        RunDamagedError: its header is missing or unreadable.
        FormatVersionError: it was written by a newer Esper.
        StoreError: the object store does not answer, or refuses.
        UsageError: a URL names no place in an object store, or obstore is not installed.
    """
    return Run(locate_run(run, root), settings, verifies=verify)


class Run(JudgedRun):
    """A recorded run. Each call reads the disk again, so you may keep the object while the run goes on.

    Attributes:
        path: the run's folder, or its place in an object store.
        header: what `run.json` records about who wrote the run, and how.
        settings: thresholds and rules to judge the run by.
    """

    def look(self, rank: int | None = None, depth: Depth | None = None) -> RunIndex:
        """Examine the run as it is now; see `RunReader.look`.

        What follows from the bytes of a sealed file alone is kept in the cache folder, for files with this checksum,
        or at depth `records` in this state.
        """
        if depth == "records":
            return super().look(rank, depth)
        from esper_analyzer.caching.footers import kept_footers

        with kept_footers(self):
            return super().look(rank, depth)

    def _index(self, found: RunExamination) -> RunIndex:
        from esper_analyzer.caching.footers import index_with_kept_bounds

        return index_with_kept_bounds(self, found)

    def snapshot(self, rank: int = 0) -> Snapshot:
        """Return the current state: last value, the last 10 values, trend and level of each metric.

        `last` is the value of the last update, None where that did not measure it.
        """
        from esper_analyzer.measuring.snapshot import take_snapshot

        return take_snapshot(self.updates(rank), thresholds=self.settings.thresholds)

    def report(self, rank: Ranks = "first") -> Report:
        """Return the object behind every report format.

        Args:
            rank: by default all ranks are judged, the worst gives the verdict, and the numbers are those of the first
                rank; a number reports on this rank alone, and None on all ranks together, numbers included.

        Raises:
            NotARunError: the run has no such rank.
        """
        from esper_analyzer.reporting.report import build_report

        return self.read(looked_at(rank), lambda found: build_report(self, rank, found))

    def explain(self, update: int | None = None, *, rank: int | None = None) -> Explanation:
        """Return what moved first before an update: which metrics left their own bands, in order.

        Args:
            update: the update to explain; by default that of the trouble that the run is in: an alert in force before
                one that is over, what the verdict rests on first, and critical before warning.
            rank: the rank; by default the one that raised this alert, or the first one if an update is given.

        Raises:
            UsageError: the run has no rows, or no such update.
            NotARunError: the run has no such rank.
        """
        from esper_analyzer.explaining.explain import explain_run

        return self.read(rank, lambda found: explain_run(self, found, update, rank))

    def explain_against(self, other: Run, *, rank: int = 0) -> Parting:
        """Return where this run left another one: the first metrics whose difference is more than the other's noise.

        Args:
            other: the run that is kept to.
            rank: the rank to read of both.

        Raises:
            UsageError: `other` is this run, or nothing of them can be aligned.
            NotARunError: one of the runs has no such rank.
        """
        from esper_analyzer.explaining.pair import explain_pair

        return other.read(
            rank, lambda kept: self.read(rank, lambda found: explain_pair((other, self), (kept, found), rank))
        )

    def _repr_html_(self) -> str:
        from esper_analyzer.notebook.jupyter import run_html

        return run_html(self)

    def histories(self, length: int = HISTORY_LENGTH, *, rank: int = 0) -> dict[str, list[Value]]:
        """Return the last `length` measured values of every metric, newest last. The report shows 10."""
        from esper_analyzer.measuring.snapshot import metric_names
        from esper_analyzer.measuring.summary import histories

        if length < 1:
            raise UsageError(f"length must be at least 1, found {length!r}")
        rows = self.updates(rank)
        return histories(rows, metric_names(rows.collect_schema()), length)

    def alerts(self, rank: Ranks = "first") -> pl.DataFrame:
        """Return the report's alerts, one row for each rule and rank: what ends a run and the worst first.

        Args:
            rank: as in `report`.

        Returns:
            Columns `update`, `metric`, `level` (an Enum), `value`, `message`, `since`, `until`, `rule`, `count`,
            `first`, `last`, `worst`, `worst_update`, `lasts`, `in_force` (an Enum) and `rank`, as `Alert` describes
            them. Without alerts the frame has the same columns and no rows.
        """
        from esper_analyzer.notebook.jupyter import alert_frame

        return alert_frame(self.report(rank).alerts)

    def export(self, path: str | os.PathLike[str], *, rank: int | None = None, force: bool = False) -> Path:
        """Write the updates that count into one file, by its name Parquet, CSV or an event file of TensorBoard.

        Args:
            path: ends in `.parquet` or `.csv`, which have the rows and columns of `updates`; or contains `tfevents`,
                which has the values of one rank as float32. Missing folders are made.
            rank: only this rank. By default all ranks; the first one in an event file.
            force: replace an existing file.

        Returns:
            The path.

        Raises:
            UsageError: the name says no format, or the file exists.
            NotARunError: the run has no such rank.
            OSError: the file cannot be written.
        """
        from esper_analyzer.exporting.export import export_run

        return export_run(self, path, rank=rank, force=force).path

    def plot(self, *metrics: str, log: bool | None = None, rank: int = 0) -> Figure:
        """Plot metrics over updates, one panel each, with thresholds, alerts and marks at values that are not finite.

        The line of a long run keeps both extremes of each stretch. Needs matplotlib (extra `notebook`).

        Args:
            metrics: metrics of the table, your own, or `loss_ratio`. By default value loss, explained variance and
                episode return, as far as the run measured them.
            log: whether the scale is logarithmic (linear around zero if a value is not positive). If None, it is
                logarithmic if positive values span more than two powers of ten.
            rank: the rank to plot.

        Returns:
            A figure that is not registered with pyplot: a notebook shows it once, as the value of a cell.

        Raises:
            UsageError: matplotlib is not installed, or there is no such metric.
            NotARunError: the run has no such rank.
        """
        from esper_analyzer.notebook.plots import plot_run

        return plot_run(self, metrics, log=log, rank=rank)

    def watch(self, interval: float = 1.0, updates: int | None = None, *, rank: int | None = None) -> None:
        """Show the run in the output of a cell, and redraw it there until it ends or the cell is interrupted.

        Outside a notebook, this prints a line for each update. A redraw reads only the new rows.

        Args:
            interval: seconds between looks at the run.
            updates: return after this many new updates, even if the run goes on.
            rank: the rank to show and judge; by default the first is shown and all are judged.
        """
        from esper_analyzer.notebook.jupyter import watch_run

        watch_run(self, interval=interval, updates=updates, rank=rank)
