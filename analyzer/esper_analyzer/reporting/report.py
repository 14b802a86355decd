"""The report: everything known about a run as one object, whose fields are the keys of the report's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from esper_analyzer.caching.judgements import judgements
from esper_analyzer.caching.kept import kept
from esper_analyzer.caching.keys import key_of_rows
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement, together
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.snapshot import MetricState, metric_names, take_snapshot
from esper_analyzer.measuring.summary import Summary, Value, summarise
from esper_analyzer.measuring.whole import Whole, column
from esper_analyzer.reading.black_boxes import BlackBox, black_boxes_of
from esper_analyzer.reading.run_index import Ranks, RunIndex, joined, looked_at, rows_of
from esper_analyzer.reporting.sections import (
    BlackBoxSection,
    Health,
    IntegritySection,
    MetricSection,
    RatioSection,
    RunSection,
    Share,
    UpdatesSection,
)
from esper_analyzer.strict_json import strict
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.run.store import path_below

FORMAT = "esper-report/1"

MAX_BLACK_BOXES = 20
"""A report has at most so many black boxes: the first one, as what broke first is often the cause, and the newest."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything known about a run; `to_json` returns the stable document `esper-report/1`.

    `alerts` has one alert for each rule and rank, as `AlertLog` orders them.
    `signals` are those of `esper_analyzer.judging.signals` after the last update of `run.rank`, or of the worst rank.
    `black_boxes` are the first and the newest ones, oldest first; `black_boxes_left_out` counts those between them.
    `approximate_medians` names the metrics, and `loss_ratio`, whose median is only right to about 2 % of the ranks: a
    long run does not keep all values in memory for it.
    `thresholds` is the file of the user's own thresholds; None for the default thresholds.
    """

    run: RunSection
    updates: UpdatesSection
    metrics: dict[str, MetricSection]
    ratio: RatioSection
    signals: dict[str, float | None]
    alerts: list[Alert]
    verdict: Verdict
    integrity: IntegritySection
    black_boxes: list[BlackBoxSection]
    black_boxes_left_out: int
    approximate_medians: list[str] = field(default_factory=list)
    thresholds: str | None = None
    format: str = field(default=FORMAT)

    def median_sign(self, name: str) -> str:
        """Return what is written before the median of a metric, or `loss_ratio`: "≈" if it is approximate."""
        return "≈" if name in self.approximate_medians else ""

    @property
    def is_damaged(self) -> bool:
        """Whether any fault of the files is damage; a torn end is not."""
        return any(fault.is_damage for fault in self.integrity.faults)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dictionaries and lists, `format` first; NaN and infinities are still floats."""
        return {"format": self.format, **asdict(self)}

    def to_json(self) -> str:
        """Return the report as strict JSON in ASCII: NaN and infinities are strings, times are ISO 8601."""
        return json.dumps(strict(self.to_dict()), indent=2, allow_nan=False)


def build_report(
    run: JudgedRun,
    rank: Ranks = "first",
    found: RunIndex | None = None,
    judged: Mapping[int, Judgement] | None = None,
    whole: Callable[[], Whole | None] = lambda: None,
) -> Report:
    """Report on the ranks of a run.

    Args:
        run: the run.
        rank: which ranks are judged, and which the numbers are of.
        found: the index that `run.look(looked_at(rank))` returned; by default the run is examined now.
        judged: what `judgements(run, found)` returned; by default it is asked for.
        whole: returns what `whole_of` would return of the numbers of the report, if that is known already.

    Raises:
        NotARunError: the run has no such rank.
        FormatVersionError: a segment was written by a newer Esper.
    """
    found = found or run.look(looked_at(rank))
    return _report(run, rank, found, found, judgements(run, found) if judged is None else judged, whole)


def build_reports(run: JudgedRun, found: RunIndex, rank: Ranks = None) -> tuple[Report, dict[int, Report]]:
    """Return the report on all ranks that were examined and the report on each of them, judging every row once."""
    judged = judgements(run, found)
    by_rank = {number: _report(run, number, found.only(number), found, judged) for number in found.ranks}
    return _report(run, rank, found, found, judged), by_rank


@dataclass(frozen=True, slots=True)
class _FromRows:
    """The sections of a report that come from the rows of the run: what the cache folder keeps of it."""

    updates: UpdatesSection
    metrics: dict[str, MetricSection]
    ratio: RatioSection
    black_boxes: list[BlackBoxSection]
    black_boxes_left_out: int
    approximate_medians: list[str]


def _report(
    run: JudgedRun,
    rank: Ranks,
    found: RunIndex,
    every: RunIndex,
    judged: Mapping[int, Judgement],
    whole: Callable[[], Whole | None] = lambda: None,
) -> Report:
    """Build the report on ranks that were examined.

    Args:
        run, rank: the run, and what is asked for.
        found: these ranks.
        every: at least these ranks; the columns of the rows are theirs.
        judged: the judgement on at least these ranks.
        whole: as for `build_report`.
    """
    indices, shown = found.ranks.values(), found.shown(rank)
    judged = {number: judged[number] for number in found.ranks}
    made = kept(
        "report",
        key_of_rows(run, found, every, rank),
        _FromRows,
        lambda: _from_rows(run, found, shown, every, judged, whole()),
    )
    alerts, verdict, signals = together(run, judged)
    return Report(
        run=_run(run, looked_at(rank), found, {number: judged[number] for number in shown}),
        updates=made.updates,
        metrics=made.metrics,
        ratio=made.ratio,
        signals=judged[shown[0]].signals if len(shown) == 1 else signals,
        alerts=alerts,
        verdict=verdict,
        integrity=IntegritySection(
            segments_sealed=sum(index.sealed for index in indices),
            segments_active=sum(index.active for index in indices),
            bytes=sum(index.bytes for index in indices),
            faults=found.faults,
        ),
        black_boxes=made.black_boxes,
        black_boxes_left_out=made.black_boxes_left_out,
        approximate_medians=made.approximate_medians,
        thresholds=None if run.settings.source is None else str(run.settings.source),
    )


def _from_rows(
    run: JudgedRun,
    found: RunIndex,
    shown: Sequence[int],
    every: RunIndex,
    judged: Mapping[int, Judgement],
    whole: Whole | None,
) -> _FromRows:
    schema = every.schema
    rows = joined(rows_of(found.ranks[number], schema) for number in shown).with_columns(loss_ratio())
    if len(shown) > 1:
        rows = rows.sort("update", "rank")
    names = metric_names(rows.collect_schema())
    thresholds = run.settings.thresholds
    asked = list(dict.fromkeys([*names, "skipped"]))
    summaries = summarise(found.stretches(shown), rows, asked, thresholds, whole)
    snapshot = take_snapshot(rows.select(map(column, names)), thresholds=thresholds, summaries=summaries)
    sections = {name: _metric(snapshot[name], summaries[name]) for name in names}
    ratio = sections.pop(LOSS_RATIO)
    boxes = black_boxes_of(run.directory, found)
    left_out = max(0, len(boxes) - MAX_BLACK_BOXES)
    return _FromRows(
        updates=_updates(found, {number: judged[number] for number in shown}, summaries),
        metrics=sections,
        ratio=RatioSection(ratio.last, ratio.median, ratio.health),
        black_boxes=[_black_box(run, box) for box in [*boxes[:1], *boxes[1 + left_out :]]],
        black_boxes_left_out=left_out,
        approximate_medians=[name for name in names if summaries[name].median_is_approximate],
    )


def _run(run: JudgedRun, rank: int | None, found: RunIndex, shown: Mapping[int, Judgement]) -> RunSection:
    header, reached = run.header, [one.goal_reached for one in shown.values() if one.goal_reached is not None]
    status, end_reason = run.ending(rank)
    return RunSection(
        run_id=header.run_id,
        path=str(run.path),
        status=status,
        end_reason=end_reason,
        is_imported=run.is_imported,
        trainer=header.trainer,
        env=header.env,
        device=header.device,
        value_loss_definition=dict(header.value_loss_definition),
        return_goal=run.return_goal,
        goal_reached=min(reached, default=None),
        references=[one.name for one in run.references],
        world_size=header.world_size,
        attempts=max((index.attempts for index in found.ranks.values()), default=0),
        ranks=list(found.ranks),
        rank=next(iter(shown)) if len(shown) == 1 else None,
    )


def _updates(found: RunIndex, judged: Mapping[int, Judgement], summaries: Mapping[str, Summary]) -> UpdatesSection:
    update = summaries["update"]
    return UpdatesSection(
        rows=update.measured,
        first=_integer(update.min),
        last=_integer(update.max),
        missing=sorted({gap for one in judged.values() for gap in one.missing}),
        stride=min((one.stride for one in judged.values()), default=1),
        skipped=summaries["skipped"].total or 0,
        dropped=sum(one.dropped for one in judged.values()),
        superseded=sum(found.ranks[rank].rows for rank in judged) - update.measured,
    )


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


def _black_box(run: JudgedRun, box: BlackBox) -> BlackBoxSection:
    return BlackBoxSection(
        rank=box.rank,
        file=path_below(box.path, run.path) or str(box.path),
        seq=box.seq,
        update=box.update,
        after_update=box.after_update,
        attempt=box.attempt,
        written=box.written,
        trigger=box.trigger,
        reason=box.reason,
        minibatches=box.minibatches,
        not_written=box.not_written,
        last=box.last.to_dicts(),
        last_updates=box.last_updates,
    )


def _integer(value: Value) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None
