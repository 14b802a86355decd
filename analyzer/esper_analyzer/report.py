"""The report: everything that can be said about a run, as one object whose fields are the keys of its JSON."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from esper_analyzer.alerts import MAX_ALERTS, Alert, gap_alerts, newest
from esper_analyzer.current_view import rises
from esper_analyzer.health import LOSS_RATIO, loss_ratio
from esper_analyzer.judge import Judge
from esper_analyzer.run import Run, Status
from esper_analyzer.segment_index import SegmentIndex
from esper_analyzer.snapshot import MetricState, metric_names, take_snapshot
from esper_analyzer.summary import Summary, Value, summarise
from esper_analyzer.trends import Trend
from esper_analyzer.verdict import RunFacts, Verdict, conclude, worst_first
from esper_schemas.faults import Fault
from esper_schemas.metrics import Level

MAIN_METRICS = {
    "value_loss": "Value loss",
    "policy_loss": "Policy loss",
    LOSS_RATIO: "Lv/Lp",
    "explained_variance": "Explained variance",
    "entropy": "Entropy",
    "kl_divergence": "KL divergence",
    "clip_fraction": "Clip fraction",
    "pre_clip_grad_norm": "Gradient norm before clipping",
    "episode_return_mean": "Episode return",
    "return_mean": "Return G",
}
"""The metrics that a page shows first, in their order, and what it calls them."""

FORMAT = "esper-report/1"

Range = tuple[int, int]
"""First and last update of a range, both inclusive."""


@dataclass(frozen=True, slots=True)
class RunSection:
    """Who and what: from the run's header and attempts."""

    run_id: str
    path: str
    status: Status
    trainer: str | None
    env: str | None
    device: str | None
    value_loss_definition: Mapping[str, Any]
    world_size: int
    attempts: int


@dataclass(frozen=True, slots=True)
class UpdatesSection:
    """Which updates there are.

    Attributes:
        rows: updates in the view, that is without superseded rows.
        first, last: first and last update; None if there is none.
        missing: inclusive ranges of updates between those that are not there.
        skipped: updates that the trainer skipped.
        dropped: rows that the recorder had to drop.
        superseded: rows that a later attempt, or a later row of the same update, replaced.
    """

    rows: int
    first: int | None
    last: int | None
    missing: list[Range]
    skipped: int
    dropped: int
    superseded: int


@dataclass(frozen=True, slots=True)
class Share:
    """Share of the measured values in each level; None where no level is known."""

    healthy: float | None = None
    warning: float | None = None
    critical: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Level of the last value, the most extreme value of the worst level and where it was, share of each level."""

    level: Level
    worst: Value
    worst_update: int | None
    share: Share


@dataclass(frozen=True, slots=True)
class MetricSection:
    """One metric over the run, and now. Extremes and averages are over finite values; `nonfinite` counts the rest."""

    last: Value
    min: Value
    max: Value
    mean: float | None
    median: float | None
    nonfinite: int | None
    history: list[Value]
    trend: Trend
    long_trend: Trend
    health: Health


@dataclass(frozen=True, slots=True)
class RatioSection:
    """Lv/Lp = abs(value_loss) / abs(policy_loss)."""

    last: Value
    median: float | None
    health: Health


@dataclass(frozen=True, slots=True)
class IntegritySection:
    """The run's files: segments, bytes, and whatever is not as promised."""

    segments_sealed: int
    segments_active: int
    bytes: int
    faults: list[Fault]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that can be said about a run; `to_json` gives the stable document `esper-report/1`.

    `signals` are those of `esper_analyzer.signals` after the last update, of several ranks those of the worst.
    """

    run: RunSection
    updates: UpdatesSection
    metrics: dict[str, MetricSection]
    ratio: RatioSection
    signals: dict[str, float | None]
    alerts: list[Alert]
    verdict: Verdict
    integrity: IntegritySection
    format: str = field(default=FORMAT)

    @property
    def is_damaged(self) -> bool:
        """Whether a fault of the files is damage; a torn end is not."""
        return any(fault.is_damage for fault in self.integrity.faults)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dictionaries and lists, `format` first; NaN and infinities still are floats."""
        return {"format": self.format, **asdict(self)}

    def to_json(self, *, ascii_only: bool = False) -> str:
        """The report as strict JSON: NaN and infinities are strings, times are ISO 8601."""
        return json.dumps(strict(self.to_dict()), indent=2, ensure_ascii=ascii_only, allow_nan=False)


def build_report(run: Run, rank: int | None = 0) -> Report:
    """Report on one rank of a run, or on all ranks together (`rank=None`).

    Raises:
        NotARunError: the run has no such rank.
        FormatVersionError: a segment was written by a newer Esper.
    """
    status = run.status(rank)
    indices = {number: run.index(number, verify=True) for number in run.selected_ranks(rank)}
    faults = [fault for number, index in indices.items() for fault in run.faults_of(number, index)]
    rows = run.updates_of(list(indices.values())).with_columns(loss_ratio())
    if len(indices) > 1:
        rows = rows.sort("update", "rank")
    names = metric_names(rows.collect_schema())
    thresholds = run.settings.thresholds
    summaries = summarise(rows, names, thresholds)
    snapshot = take_snapshot(rows, thresholds=thresholds)
    sections = {name: _metric(snapshot[name], summaries[name]) for name in names}
    ratio = sections.pop(LOSS_RATIO)
    missing = {number: missing_updates(run.updates_of([index]), index) for number, index in indices.items()}
    updates = _updates(run, indices, missing, rows, summaries)
    alerts, verdict, signals = _judgement(run, indices, missing, faults)
    return Report(
        run=_run(run, rank, status),
        updates=updates,
        metrics=sections,
        ratio=RatioSection(ratio.last, ratio.median, ratio.health),
        signals=signals,
        alerts=alerts,
        verdict=verdict,
        integrity=IntegritySection(
            segments_sealed=sum(index.sealed for index in indices.values()),
            segments_active=sum(index.active for index in indices.values()),
            bytes=sum(index.bytes for index in indices.values()),
            faults=faults,
        ),
    )


def _judgement(
    run: Run, indices: Mapping[int, SegmentIndex], missing: Mapping[int, Sequence[Range]], faults: Sequence[Fault]
) -> tuple[list[Alert], Verdict, dict[str, float | None]]:
    """Alerts, the newest last, the verdict and the signals; of several ranks the worst, with all reasons by rank."""
    alerts: list[Alert] = []
    verdicts: dict[int, Verdict] = {}
    judges: dict[int, Judge] = {}
    for number, index in indices.items():
        judge = judges[number] = Judge(run.settings.rules)
        episodes = list(deque(judge.advance_all(run.updates_of([index])), maxlen=MAX_ALERTS))
        if len(episodes) == MAX_ALERTS:  # some may have been left out that still last
            episodes += [episode for episode in judge.in_force.values() if episode.update < episodes[0].update]
        alerts += [*gap_alerts(missing[number]), *(episode.alert() for episode in episodes)]
        damage = sum(fault.is_damage for fault in faults if fault.rank == number)
        facts = RunFacts(missing[number], run.dropped_rows(number, index), damage, run.remarks)
        verdicts[number] = conclude(judge, facts)
    if not verdicts:
        nobody = Judge()
        return [], conclude(nobody, RunFacts()), nobody.signals()
    ordered = sorted(verdicts, key=lambda number: worst_first(verdicts[number].level))
    verdict = verdicts[ordered[0]]
    if len(verdicts) > 1:
        told = [number for number in ordered if verdicts[number].level != "healthy" or verdict.level == "healthy"]
        own = {number: [one for one in verdicts[number].reasons if one not in run.remarks] for number in told}
        reasons = [f"Rank {number}: {reason}" for number in told for reason in own[number]]
        reasons += [f"Rank {number}: healthy." for number in ordered if number not in told] + run.remarks
        verdict = Verdict(verdict.level, reasons)
    return newest(alerts), verdict, judges[ordered[0]].signals()


def _run(run: Run, rank: int | None, status: Status) -> RunSection:
    header = run.header
    return RunSection(
        run_id=header.run_id,
        path=str(run.path),
        status=status,
        trainer=header.trainer,
        env=header.env,
        device=header.device,
        value_loss_definition=dict(header.value_loss_definition),
        world_size=header.world_size,
        attempts=max((run.attempt_count(number) for number in run.selected_ranks(rank)), default=0),
    )


def _updates(
    run: Run,
    indices: Mapping[int, SegmentIndex],
    missing: Mapping[int, Sequence[Range]],
    rows: pl.LazyFrame,
    summaries: Mapping[str, Summary],
) -> UpdatesSection:
    update = summaries["update"]
    return UpdatesSection(
        rows=update.measured,
        first=_integer(update.min),
        last=_integer(update.max),
        missing=sorted({gap for gaps in missing.values() for gap in gaps}),
        skipped=rows.select(pl.col("skipped").sum()).collect().item() or 0,
        dropped=sum(run.dropped_rows(number, index) for number, index in indices.items()),
        superseded=sum(index.rows for index in indices.values()) - update.measured,
    )


def missing_updates(rows: pl.LazyFrame, index: SegmentIndex) -> list[Range]:
    """Inclusive ranges of updates between the first and the last that are not in these rows of one rank."""
    pieces = index.pieces
    if not pieces or (rises(pieces) and pieces[-1].last_update - pieces[0].first_update + 1 == index.rows):
        return []
    before = pl.col("update").shift(1)
    gaps = rows.select(first=before + 1, last=pl.col("update") - 1).filter(pl.col("last") >= pl.col("first"))
    return [(first, last) for first, last in gaps.collect().iter_rows()]


def _metric(state: MetricState, summary: Summary) -> MetricSection:
    share = Share(summary.healthy, summary.warning, summary.critical)
    return MetricSection(
        last=state.last,
        min=summary.min,
        max=summary.max,
        mean=summary.mean,
        median=summary.median,
        nonfinite=summary.nonfinite if summary.measured else None,
        history=state.history,
        trend=state.trend,
        long_trend=state.long_trend,
        health=Health(state.level, summary.worst, summary.worst_update, share),
    )


def _integer(value: Value) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None


def strict(value: Any) -> Any:
    """A value that strict JSON can hold: floats that are not finite become strings, times ISO 8601."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value
