"""A recorded run as an object: its header, attempts, status, and its updates as one lazy frame."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from esper_analyzer import current_view
from esper_analyzer.segment_index import SegmentIndex, index_segments
from esper_analyzer.settings import DEFAULT_SETTINGS, Settings
from esper_schemas.errors import EsperError, FormatVersionError, NotARunError, UsageError
from esper_schemas.faults import Fault
from esper_schemas.metrics import HISTORY_LENGTH
from esper_schemas.run_directory import RankDirectory, RunDirectory, resolve_run
from esper_schemas.run_files import Attempt, RunHeader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from esper_analyzer.report import Report
    from esper_analyzer.snapshot import Snapshot
    from esper_analyzer.summary import Value

Status = Literal["live", "stale", "finished", "failed", "interrupted", "crashed"]

MIN_STALE_SECS = 60.0
STALE_GAPS = 10
"""A live run is stale after this many of its usual gaps between updates, but never before `MIN_STALE_SECS`."""

_WORST_FIRST: tuple[Status, ...] = ("crashed", "failed", "stale", "live", "interrupted", "finished")


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
        RunDamagedError: its header cannot be read.
        FormatVersionError: it was written by a newer Esper.
    """
    return Run(resolve_run(None if run is None else Path(run), Path(root)), settings)


class Run:
    """A recorded run. Each call looks at the disk anew, so the object may be kept while the run goes on.

    Attributes:
        path: the run's folder.
        header: who wrote the run, and how (`run.json`).
        settings: thresholds and rules that it is judged by.
    """

    def __init__(self, directory: RunDirectory, settings: Settings = DEFAULT_SETTINGS) -> None:
        if any("\udc80" <= char <= "\udcff" for char in str(directory.path)):  # bytes that are no UTF-8
            raise NotARunError(f"{str(directory.path)!a} is no UTF-8 path, which cannot be read; rename the folder")
        self.directory = directory
        self.settings = settings
        self.path = directory.path
        self.header: RunHeader = directory.header()
        self._damaged: dict[int, set[int | None]] = {}  # segments by rank

    def __repr__(self) -> str:
        ranks = ", ".join(map(str, self.ranks())) or "none"
        return f"<Run {self.path} {self.status()}, ranks: {ranks}>"

    def ranks(self) -> list[int]:
        """Ranks that have written anything, in order."""
        return [rank.rank for rank in self.directory.ranks()]

    def attempts(self, rank: int = 0) -> list[Attempt]:
        """Attempts of a rank, oldest first; RunDamagedError if the record of one cannot be read."""
        return self.directory.rank(rank).attempts()

    def status(self, rank: int | None = 0) -> Status:
        """State of a rank; None asks for the worst of all ranks.

        `live` and `stale` mean that a process holds the lock; `stale`, that nothing was written for longer than
        60 s and 10 times the usual gap between updates. `crashed` means that nobody holds the lock and the last
        attempt has no end.
        """
        if rank is None:
            found = {self.status(number) for number in self.ranks()} or {"crashed"}
            return next(status for status in _WORST_FIRST if status in found)
        directory = self.directory.rank(rank)
        if directory.has_writer():
            return "stale" if _is_stale(directory) else "live"
        try:
            attempts = directory.attempts()
        except EsperError:
            return "crashed"
        return (attempts[-1].status or "crashed") if attempts else "crashed"

    def updates(self, rank: int | None = None, *, all_attempts: bool = False) -> pl.LazyFrame:
        """The recorded updates, one row each, sealed and active segments alike.

        Args:
            rank: only this rank; all ranks if None.
            all_attempts: every row as recorded, ordered by (rank, seq), in place of the rows that no later
                row supersedes, ordered by (rank, update).

        Returns:
            Columns `run_id`, `rank`, `attempt`, `seq`, `dropped_before`, those of the metrics table, then
            every metric that the user added (Float64); all of them also for an empty run. A segment whose
            size or footer is wrong is left out; `faults` lists it, and checks every byte besides.

        Raises:
            NotARunError: the run has no such rank.
            FormatVersionError: a segment was written by a newer Esper.
        """
        return self.updates_of([self.index(number) for number in self.selected_ranks(rank)], all_attempts=all_attempts)

    def updates_of(self, indices: Sequence[SegmentIndex], *, all_attempts: bool = False) -> pl.LazyFrame:
        """As `updates`, of segments that have been looked at already; one index for each rank."""
        schema = current_view.schema_of(piece for index in indices for piece in index.pieces)
        view = current_view.all_attempts if all_attempts else current_view.current
        frames = [view(index.pieces, schema) for index in indices]
        return pl.concat(frames) if frames else pl.LazyFrame(schema=schema)

    def faults(self, rank: int | None = None) -> list[Fault]:
        """Everything about the run's files that is not as promised; empty if all is well."""
        ranks = self.selected_ranks(rank)
        return [fault for number in ranks for fault in self.faults_of(number, self.index(number, verify=True))]

    def snapshot(self, rank: int = 0) -> Snapshot:
        """Current state: last value, history of 10, trend and level of each metric."""
        from esper_analyzer.snapshot import take_snapshot

        return take_snapshot(self.updates(rank), thresholds=self.settings.thresholds)

    def report(self, rank: int | None = 0) -> Report:
        """The object behind every report format; `rank=None` reports on all ranks together."""
        from esper_analyzer.report import build_report

        return build_report(self, rank)

    # ------------------------------------------------------------------ in a notebook

    def _repr_html_(self) -> str:
        from esper_analyzer.jupyter import run_html

        return run_html(self)

    def histories(self, length: int = HISTORY_LENGTH, *, rank: int = 0) -> dict[str, list[Value]]:
        """The last `length` measured values of every metric, newest last, as the report has them with 10."""
        from esper_analyzer.snapshot import metric_names
        from esper_analyzer.summary import histories

        if length < 1:
            raise UsageError(f"length must be at least 1, found {length!r}")
        rows = self.updates(rank)
        return histories(rows, metric_names(rows.collect_schema()), length)

    def alerts(self, rank: int | None = 0) -> pl.DataFrame:
        """The report's alerts, one row each, the newest last.

        Returns:
            Columns `update`, `metric`, `level` (an Enum), `value`, `message`, `since`, `until` (null while it lasts),
            as `Alert` describes them; the same columns where there is no alert.
        """
        from esper_analyzer.jupyter import alert_frame

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
        from esper_analyzer.plots import plot_run

        return plot_run(self, metrics, log=log, rank=rank)

    def watch(self, interval: float = 1.0, updates: int | None = None, *, rank: int = 0) -> None:
        """Show the run in the output of a cell, and redraw it there until it ends or the cell is interrupted.

        Outside a notebook a line is printed for each update. A redraw costs the new rows only.

        Args:
            interval: seconds between looks at the run.
            updates: return after so many new updates, although the run goes on.
            rank: the rank to watch.
        """
        from esper_analyzer.jupyter import watch_run

        watch_run(self, interval=interval, updates=updates, rank=rank)

    # ------------------------------------------------------------------ for the other modules

    def selected_ranks(self, rank: int | None) -> list[int]:
        """The ranks that `rank` means; rank 0 may be asked for before it has written anything."""
        ranks = self.ranks()
        if rank is None:
            return ranks
        if rank not in ranks and (rank != 0 or ranks):
            known = ", ".join(map(str, ranks)) or "none"
            raise NotARunError(f"{self.path} has no rank {rank} (ranks there: {known}); choose one with --rank")
        return [rank] if ranks else []

    def attempt_count(self, rank: int) -> int:
        """Number of attempts of a rank, whether their records can be read or not."""
        return len(list(self.directory.rank(rank).attempts_folder.glob("*.json")))

    def dropped_rows(self, rank: int, index: SegmentIndex) -> int:
        """Rows that a rank dropped, by what its rows, superseded or not, and its attempts say."""
        rows = self.updates_of([index], all_attempts=True).select(pl.col("dropped_before").sum())
        return max(int(rows.collect().item() or 0), self.dropped_by_attempts(rank))

    def dropped_by_attempts(self, rank: int) -> int:
        """Rows dropped by all attempts of a rank, as their records say; behind the newest row only they know."""
        try:
            return sum(attempt.dropped_rows for attempt in self.attempts(rank))
        except EsperError:
            return 0

    def index(self, rank: int, *, verify: bool = False) -> SegmentIndex:
        """What the segments of a rank hold now; see `index_segments`.

        A segment that was once found to be damaged is verified each time, and left out until it is sound again.
        """
        index = index_segments(self.directory.rank(rank), verify=verify, suspects=self._damaged.get(rank, ()))
        self._damaged[rank] = {fault.segment for fault in index.faults if fault.kind in ("corrupt", "unreadable")}
        return index

    def faults_of(self, rank: int, index: SegmentIndex) -> list[Fault]:
        """Faults of a rank's segments and records; the end of the segment that a writer is at is none."""
        directory = self.directory.rank(rank)
        writing = directory.has_writer()
        last = index.next_active + index.active - 1
        faults = [fault for fault in index.faults if not (writing and fault.kind == "torn" and fault.segment == last)]
        try:
            directory.attempts()
        except FormatVersionError:
            raise
        except EsperError as error:
            faults.append(Fault(rank, None, "unreadable", None, str(error)))
        return faults

    @cached_property
    def remarks(self) -> list[str]:
        """What has to be said beside a verdict on this run: what its value loss is taken to be."""
        definition = self.header.value_loss_definition
        if definition.get("assumed", not definition):
            return ["The trainer did not declare its value loss; half the mean squared error is assumed."]
        if definition.get("clipping") == "clipped":
            return ["The value loss is that of clipped predictions alone, which cannot be converted to the true error."]
        return []


def _is_stale(rank: RankDirectory) -> bool:
    """Whether a rank that is being written has had no new row for unusually long."""
    written = [_modified(path) for path in rank.active_folder.glob("*.arrows")]
    written += [_modified(path) for path in sorted(rank.segments_folder.glob("*.parquet"))[-1:]]
    quiet = time.time() - max(written, default=_modified(rank.lock_path))
    return quiet > MIN_STALE_SECS and quiet > STALE_GAPS * _usual_gap(rank)


def _usual_gap(rank: RankDirectory) -> float:
    """Median time between the last recorded updates of a rank, in seconds; 0 where there are too few."""
    pieces = index_segments(rank, start=max(0, max(rank.segment_numbers(), default=0) - 1)).pieces
    if not pieces:
        return 0.0
    rows = current_view.all_attempts(pieces, current_view.schema_of(pieces)).select("wall_time").tail(100)
    try:
        times = rows.collect()["wall_time"]
    except pl.exceptions.PolarsError:  # a damaged segment
        return 0.0
    gap = times.diff().dt.total_microseconds().median()
    return float(gap) / 1e6 if isinstance(gap, (int, float)) else 0.0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
