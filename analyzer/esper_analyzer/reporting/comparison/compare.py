"""`compare`: align runs, score each over the span they have in common, and group them by seed."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import polars as pl

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.settings import DEFAULT_SETTINGS
from esper_analyzer.judging.settings import Settings as JudgedBy
from esper_analyzer.judging.verdict import Reason
from esper_analyzer.reading.run_reader import Status
from esper_analyzer.reporting.comparison.axis import Axis, By, MeasuredRows, common_span, default_axis, mean_over
from esper_analyzer.reporting.comparison.groups import (
    Bootstrap,
    Chance,
    Group,
    Improvement,
    Settings,
    chance,
    describe_group,
    differing,
    estimate,
    group_name,
    is_seed,
    seed_groups,
    settings_of,
)
from esper_analyzer.reporting.comparison.reading import read_all
from esper_analyzer.strict_json import strict
from esper_schemas.errors import RunDamagedError, UsageError
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.metrics import Direction, Level
from esper_schemas.metric.payload import METRICS

FORMAT = "esper-compare/1"

FINAL_WINDOW = 10
"""The final value is the median of this many values before the end of the span."""

_VALUE_LOSSES = ("value_loss", "value_loss_unclipped", LOSS_RATIO)
_SCORES = ("final", "best", "area")


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a run within the span.

    Attributes:
        measured: updates within the span that measured the metric.
        nonfinite: how many of those are NaN or infinite.
        final: median of the finite values among the last 10 measured ones up to the end of the span; NaN if at
            least half of them are not finite, which means that the run has diverged.
        best: best finite value; NaN if there are none, None for a metric without a direction.
        best_update, best_at: update of the best value, and its position on the axis.
        area: mean over the span by the trapezoidal rule, through the finite values; NaN if the run has diverged.
        area_covered: share of the span between the first and the last finite value.
    """

    measured: int = 0
    nonfinite: int = 0
    final: float | None = None
    best: float | None = None
    best_update: int | None = None
    best_at: float | None = None
    area: float | None = None
    area_covered: float | None = None


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        label: its name, or its path if its name is not unique.
        updates: all updates of the run.
        first, last: positions on the axis of the first and last measured value; None if it was never measured.
        is_cut_off: whether the run goes on beyond the end of the span.
        unplaced: updates left out because they have no position on the axis.
        scores: its scores within the span.
        verdict, reason: verdict on the whole run, as in its report, and the first reason.
        is_damaged: whether files are damaged; the comparison uses the rows that can be read.
        findings: all reasons of the verdict, as data.
    """

    label: str
    run_id: str
    path: str
    status: Status
    updates: int
    first: float | None
    last: float | None
    is_cut_off: bool
    unplaced: int
    scores: Scores
    verdict: Level
    reason: str | None
    is_damaged: bool
    findings: list[Reason]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; `to_json` returns the stable document `esper-compare/1`.

    Attributes:
        metric, better: the compared metric, and the direction of improvement, if it has one.
        rank: the rank compared in each run.
        axis: the axis that aligns the runs.
        runs: the runs, in the order in which they were given.
        differences: hyper-parameters whose values differ, with the value of each run that has them.
        groups: groups of seeds; empty if no two runs belong together.
        improvement: improvement of the first group over the second, if there are exactly two.
        bootstrap: how the intervals were computed; None without groups.
        warnings: reasons to read the comparison with care, one sentence each.
        set_aside: runs that cannot be read at all, each with the reason; the others are compared.
    """

    metric: str
    better: Direction | None
    rank: int
    axis: Axis
    runs: list[ComparedRun]
    differences: dict[str, dict[str, Any]]
    groups: list[Group]
    improvement: Improvement | None
    bootstrap: Bootstrap | None
    warnings: list[str]
    set_aside: dict[str, str] = field(default_factory=dict)
    format: str = field(default=FORMAT)

    @property
    def is_damaged(self) -> bool:
        """Whether files of any run are damaged, or a run cannot be read at all."""
        return bool(self.set_aside) or any(run.is_damaged for run in self.runs)

    def to_json(self) -> str:
        """Return the comparison as strict JSON in ASCII, `format` first; NaN and infinities are strings."""
        return json.dumps(strict({"format": self.format, **asdict(self)}), indent=2, allow_nan=False)


def compare(
    runs: Sequence[JudgedRun | str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] = "runs",
    settings: JudgedBy = DEFAULT_SETTINGS,
    by: By | None = None,
    metric: str = "value_loss",
    better: Direction | None = None,
    rank: int | Literal["first"] = "first",
    group: bool = True,
    group_by: Sequence[str] | None = None,
) -> Comparison:
    """Compare runs over the span that all of them have in common.

    Args:
        runs: at least two opened runs, paths or names. They may be live or damaged.
        root: folder of the runs given by name.
        settings: thresholds and rules to judge the runs that are not opened yet.
        by: axis to align them by. If None, environment steps if every run has them, else updates.
        metric: any metric of the table, any that the user added, or `loss_ratio`.
        better: direction of improvement; if None, from the metrics table.
        rank: rank of each run to compare and to judge; by default the first is compared and all are judged.
        group: whether to group runs that differ only in the seed.
        group_by: group runs with equal values of these hyper-parameters instead.

    Raises:
        UsageError: there are fewer than two runs, one is given twice, the runs lack the metric or the axis or have
            no common span, a hyper-parameter is unknown, or groups need SciPy and it is not installed.
        NotARunError: there is no such run, or it has no such rank.
        RunDamagedError: fewer than two of the runs can be read.
    """
    readings, set_aside = read_all(runs, root, settings, rank)
    opened = [reading.run for reading in readings]
    labels = _labels(opened)
    known = METRICS.get(metric)
    better = better or (known.better if known else None)
    reports = [reading.report for reading in readings]
    sources = [MeasuredRows(reading.found, metric) for reading in readings]
    _check_metric(metric, sources)
    try:
        if all(source.is_empty() for source in sources):
            raise UsageError(f"no run has measured {metric} yet")
        by = by or default_axis(sources)
        extents = [source.extent(by) for source in sources]
        axis = common_span(by, labels, extents)
    except UsageError as error:
        if set_aside or any(report.is_damaged for report in reports):
            raise RunDamagedError(f"{error}, as far as the damaged files can be read") from None
        raise
    compared = [
        ComparedRun(
            label=label,
            run_id=report.run.run_id,
            path=report.run.path,
            status=report.run.status,
            updates=report.updates.rows,
            first=extent.first,
            last=extent.last,
            is_cut_off=extent.last is not None and extent.last > axis.end,
            unplaced=extent.unplaced,
            scores=score(source.rows(by), axis, better),
            verdict=report.verdict.level,
            reason=next(iter(report.verdict.reasons), None),
            is_damaged=report.is_damaged,
            findings=report.verdict.findings,
        )
        for label, report, source, extent in zip(labels, reports, sources, extents, strict=True)
    ]
    made_with = {label: _settings(run) for label, run in zip(labels, opened, strict=True)}
    groups = _groups(compared, made_with, better, group_by) if group or group_by is not None else []
    return Comparison(
        metric=metric,
        better=better,
        rank=next((report.run.rank for report in reports if report.run.rank is not None), 0),
        axis=axis,
        runs=compared,
        differences=differing(made_with),
        groups=groups,
        improvement=_improvement(groups, compared, made_with, better) if len(groups) == 2 else None,
        bootstrap=Bootstrap() if groups else None,
        warnings=_warnings(metric, compared, made_with, groups, set_aside),
        set_aside=set_aside,
    )


def score(rows: pl.DataFrame, axis: Axis, better: Direction | None) -> Scores:
    """Score a run within the span.

    Args:
        rows: columns `update` (Int64), `at` (Float64, position on the axis, ascending) and `value` (Float64, no nulls).
        axis: the axis with the span.
        better: direction of the best value; None for no best value.
    """
    inside = rows.filter(pl.col("at").is_between(axis.start, axis.end))
    recent = rows.filter(pl.col("at") <= axis.end)["value"].tail(FINAL_WINDOW)
    if not len(recent):
        return Scores()
    finite = recent.filter(recent.is_finite())
    has_diverged = 2 * len(finite) <= len(recent)
    middle = finite.median()
    scores = Scores(
        measured=inside.height,
        nonfinite=int((~inside["value"].is_finite()).sum()),
        final=math.nan if has_diverged or not isinstance(middle, float) else middle,
    )
    sane = rows.filter(pl.col("value").is_finite())
    area, covered = mean_over(sane["at"].to_numpy(), sane["value"].to_numpy(), axis.start, axis.end)
    scores = replace(scores, area=math.nan if has_diverged else area, area_covered=covered)
    if better is None:
        return scores
    candidates = inside.filter(pl.col("value").is_finite())
    if not candidates.height:
        return replace(scores, best=math.nan if inside.height else None)
    values = candidates["value"]
    row = candidates.row(int((values.arg_min() if better == "lower" else values.arg_max()) or 0), named=True)
    return replace(scores, best=row["value"], best_update=row["update"], best_at=row["at"])


def _check_metric(metric: str, sources: Sequence[MeasuredRows]) -> None:
    if not any(source.is_measurable for source in sources):
        names = list(dict.fromkeys(name for source in sources for name in source.names))
        near = difflib.get_close_matches(metric, [*names, LOSS_RATIO], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"no run has a metric {metric!r}{hint}")
    if metric in METRICS and METRICS[metric].dtype == "timestamp":
        raise UsageError(f"{metric} is a time, and compare needs numbers; to align runs by time, use --by time")


def _labels(runs: Sequence[JudgedRun]) -> list[str]:
    names = Counter(run.header.run_id for run in runs)
    return [run.header.run_id if names[run.header.run_id] == 1 else str(run.path) for run in runs]


def _settings(run: JudgedRun) -> Settings:
    header = run.header
    made = {"trainer": header.trainer, "env": header.env, "device": header.device}
    return settings_of(header.config, made, header.value_loss_definition)


def _groups(
    runs: Sequence[ComparedRun],
    settings: Mapping[str, Settings],
    better: Direction | None,
    by: Sequence[str] | None,
) -> list[Group]:
    """Return the groups with their estimates; an empty list if every run is alone."""
    found = seed_groups(settings, by)
    if len(found) == len(runs):
        return []
    keys = by if by is not None else [key for key in differing(settings) if not is_seed(key)]
    made = []
    for number, members in enumerate(found):
        described = describe_group(members, settings, keys) if len(found) > 1 else {}
        estimates = {name: estimate(*_scored(members, runs, settings, name), better) for name in _SCORES}
        made.append(Group(group_name(number), members, described, **estimates))
    return made


def _improvement(
    groups: Sequence[Group],
    runs: Sequence[ComparedRun],
    settings: Mapping[str, Settings],
    better: Direction | None,
) -> Improvement:
    first, second = groups
    chances: dict[str, Chance] = {}
    for name in _SCORES:
        one, other = (_scored(group.runs, runs, settings, name) for group in (first, second))
        chances[name] = chance((one[0], other[0]), (one[1], other[1]), better)
    return Improvement(first.name, second.name, **chances)


def _scored(
    members: Sequence[str], runs: Sequence[ComparedRun], settings: Mapping[str, Settings], name: str
) -> tuple[list[float | None], list[str | None]]:
    """Return one score of each member, and its environment."""
    scores = {run.label: getattr(run.scores, name) for run in runs}
    return [scores[member] for member in members], [settings[member].get("env") for member in members]


def _warnings(
    metric: str,
    runs: Sequence[ComparedRun],
    settings: Mapping[str, Settings],
    groups: Sequence[Group],
    set_aside: Mapping[str, str],
) -> list[str]:
    prefix = "value_loss_definition."
    found = []
    if metric in _VALUE_LOSSES:
        apart = [key.removeprefix(prefix) for key in differing(settings) if key.startswith(prefix)]
        assumed = [run for run, of_run in settings.items() if of_run.get(f"{prefix}assumed")]
        parts = [f"its definition differs between these runs ({', '.join(apart)})"] if apart else []
        parts += [f"it is assumed, not declared, in {_named(assumed)}"] if assumed else []
        found += [f"Compare {metric} with care: {' and '.join(parts)}."] if parts else []
    for run in runs:
        if run.unplaced:
            found.append(f"{run.unplaced} updates of {run.label} have no position on the axis and are left out.")
    unmeasured = [run.label for run in runs if run.first is None]
    found += [f"{metric} was never measured in {_named(unmeasured)}."] if unmeasured else []
    damaged = [run.label for run in runs if run.is_damaged]
    found += [f"Files are damaged in {_named(damaged)}; only what can be read of them is compared."] if damaged else []
    found += [f"{name} cannot be read and is left out: {cause}" for name, cause in set_aside.items()]
    for group in groups:
        envs = {str(settings[run].get("env")) for run in group.runs}
        if len(envs) > 1:
            found.append(
                f"Group {group.name} mixes environments ({', '.join(sorted(envs))}), whose scores differ in scale."
            )
    return found


def _named(labels: Sequence[str], most: int = 4) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
