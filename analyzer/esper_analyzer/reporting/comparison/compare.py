"""`compare`: align runs, score each over the span they have in common, and group them by seed."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.settings import DEFAULT_SETTINGS
from esper_analyzer.judging.settings import Settings as JudgedBy
from esper_analyzer.judging.task import Task
from esper_analyzer.options import By
from esper_analyzer.reporting.comparison.axis import (
    Axis,
    Extent,
    MeasuredRows,
    common_span,
    default_axis,
    short_ends,
)
from esper_analyzer.reporting.comparison.comparison import ComparedRun, Comparison, ShortRun
from esper_analyzer.reporting.comparison.groups import (
    SCORES,
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
from esper_analyzer.reporting.comparison.reading import Reading, read_all
from esper_analyzer.reporting.comparison.scores import Scores, best_first, score
from esper_analyzer.wording import listed
from esper_schemas.errors import RunDamagedError, UsageError
from esper_schemas.metric.catalogue import EPISODE_RETURN, LOSS_RATIO, RETURNS
from esper_schemas.metric.metrics import Direction
from esper_schemas.metric.payload import METRICS

_MOST_NAMED = 4
_VALUE_LOSSES = ("value_loss", "value_loss_unclipped", LOSS_RATIO)


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison with what was read of its runs, by their labels, short ones last."""

    comparison: Comparison
    readings: dict[str, Reading]
    sources: dict[str, MeasuredRows]

    @property
    def judged(self) -> set[tuple[Task, str]]:
        """Task and `run_uuid` of each run."""
        return {(reading.run.task, reading.run.header.run_uuid) for reading in self.readings.values()}

    @property
    def measured(self) -> dict[str, None]:
        """The metrics that some run has measured, as an ordered set; empty if they were not asked for."""
        return {name: None for reading in self.readings.values() for name in reading.measured}


def compare(
    runs: Sequence[JudgedRun | str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] = "runs",
    settings: JudgedBy = DEFAULT_SETTINGS,
    by: By | None = None,
    metric: str | None = None,
    better: Direction | None = None,
    rank: int | Literal["first"] = "first",
    group: bool = True,
    group_by: Sequence[str] | None = None,
    verify: bool = False,
) -> Comparison:
    """Compare runs over the span that all of them have in common.

    Of three or more runs, those that end before half the median span are set aside and named (`short`).

    Args:
        runs: at least two opened runs, paths or names. They may be live or damaged.
        root: folder of the runs given by name.
        settings: thresholds and rules to judge the runs that are not opened yet.
        by: axis to align them by. If None, environment steps if every run has them, else updates.
        metric: any metric of the table, any that the user added, or `loss_ratio`. If None, `episode_return_mean` if
            every run that is long enough has measured it, or its sliding mean, else `value_loss`.
        better: direction of improvement; if None, from the metrics table.
        rank: rank of each run to compare and to judge; by default the first is compared and all are judged.
        group: whether to group runs that differ only in the seed.
        group_by: group runs with equal values of these hyper-parameters instead.

    Raises:
        UsageError: there are fewer than two runs, one is given twice, the runs lack the metric or the axis or have
            no common span, or a hyper-parameter is unknown.
        NotARunError: there is no such run, or it has no such rank.
        RunDamagedError: fewer than two of the runs can be read.
    """
    return compared(
        runs, root=root, settings=settings, by=by, metric=metric, better=better, rank=rank, group=group,
        group_by=group_by, with_metrics=False,
    ).comparison  # fmt: skip


def compared(
    runs: Sequence[JudgedRun | str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str],
    settings: JudgedBy,
    by: By | None,
    metric: str | None,
    better: Direction | None,
    rank: int | Literal["first"],
    group: bool,
    group_by: Sequence[str] | None,
    with_metrics: bool,
    verify: bool = False,
) -> Compared:
    """Compare runs as `compare` does, and keep what was read of them.

    Args:
        with_metrics: whether to find out which metrics each run has measured, too.
        runs, root, settings, by, metric, better, rank, group, group_by: as for `compare`.
    """
    readings, set_aside = read_all(runs, root, settings, rank, with_metrics=with_metrics, verifies=verify)
    labels = _labels([reading.run for reading in readings])
    metric = metric or _default_metric(readings)
    known = METRICS.get(EPISODE_RETURN if metric in RETURNS else metric)
    better = better or (known.better if known else None)
    every = [MeasuredRows(reading.found, metric) for reading in readings]
    check_metric(metric, every)
    try:
        if all(source.is_empty() for source in every):
            raise UsageError(f"no run has measured {metric} yet")
        by = by or default_axis(every)
        measured, whole = zip(*(source.extents(by) for source in every), strict=True)
        set_apart, limit = short_ends(whole)
        places = {at: whole[at].last or 0.0 for at in set_apart}
        short = [_short_run(labels[at], readings[at], last, limit) for at, last in places.items()]
        full = {labels[at]: reading for at, reading in enumerate(readings) if at not in places}
        sources = [source for at, source in enumerate(every) if at not in places]
        extents = [extent for at, extent in enumerate(measured) if at not in places]
        if places and all(source.is_empty() for source in sources):
            raise UsageError(f"only runs that end before half the median span have measured {metric}")
        axis = common_span(by, list(full), extents)
    except UsageError as error:
        if set_aside or any(reading.is_damaged for reading in readings):
            raise RunDamagedError(f"{error}, as far as the damaged files can be read") from None
        raise
    of_runs = [
        _compared_run(label, reading, extent, axis, score(source.rows(by), axis, better))
        for (label, reading), source, extent in zip(full.items(), sources, extents, strict=True)
    ]
    made_with = {label: _settings(reading.run) for label, reading in full.items()}
    groups = _groups(of_runs, made_with, better, group_by) if group or group_by is not None else []
    ranks = (reading.rank for reading in full.values())
    comparison = Comparison(
        metric=metric,
        better=better,
        rank=next((number for number in ranks if number is not None), 0),
        axis=axis,
        runs=of_runs,
        differences=differing(made_with),
        groups=groups,
        improvement=_improvement(groups, of_runs, made_with, better) if len(groups) == 2 else None,
        bootstrap=Bootstrap() if groups else None,
        warnings=_warnings(metric, of_runs, short, made_with, groups, set_aside),
        set_aside=set_aside,
        short=short,
        best_first=best_first({run.label: run.scores for run in of_runs}, better),
    )
    order = [*full, *(labels[at] for at in places)]
    sources_of = dict(zip(labels, every, strict=True))
    return Compared(
        comparison, full | {labels[at]: readings[at] for at in places}, {label: sources_of[label] for label in order}
    )


def _default_metric(readings: Sequence[Reading]) -> str:
    """Return the episode return if every run has measured it that is not short in updates; else the value loss.

    It is a sliding mean where no other form is in all of them.
    """
    short, _ = short_ends([Extent(*reading.ends, 0) for reading in readings])
    for returns in RETURNS:
        lacking = [at for at, reading in enumerate(readings) if not reading.has(returns)]
        if len(lacking) < len(readings) and set(lacking) <= set(short):
            return returns
    return "value_loss"


def _short_run(label: str, reading: Reading, last: float, limit: float) -> ShortRun:
    return ShortRun(
        label=label,
        run_id=reading.run.header.run_id,
        path=str(reading.run.path),
        status=reading.ending.status,
        end_reason=reading.ending.reason,
        updates=reading.updates,
        last=last,
        limit=limit,
        is_damaged=reading.is_damaged,
    )


def _compared_run(label: str, reading: Reading, extent: Extent, axis: Axis, scores: Scores) -> ComparedRun:
    return ComparedRun(
        label=label,
        run_id=reading.run.header.run_id,
        path=str(reading.run.path),
        status=reading.ending.status,
        end_reason=reading.ending.reason,
        updates=reading.updates,
        first=extent.first,
        last=extent.last,
        is_cut_off=extent.last is not None and extent.last > axis.end,
        unplaced=extent.unplaced,
        scores=scores,
        verdict=reading.verdict.level,
        reason=next(iter(reading.verdict.reasons), None),
        is_damaged=reading.is_damaged,
        findings=reading.verdict.findings,
        references=[one.name for one in reading.run.references],
    )


def check_metric(metric: str, sources: Sequence[MeasuredRows]) -> None:
    """Raise UsageError for a metric that no run has, or that is no number."""
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
        estimates = {name: estimate(*_scored(members, runs, settings, name), better) for name in SCORES}
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
    for name in SCORES:
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
    short: Sequence[ShortRun],
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
        parts += [f"it is assumed, not declared, in {listed(assumed, _MOST_NAMED)}"] if assumed else []
        found += [f"Compare {metric} with care: {' and '.join(parts)}."] if parts else []
    for run in runs:
        if run.unplaced:
            found.append(f"{run.unplaced} updates of {run.label} have no position on the axis and are left out.")
    unmeasured = [run.label for run in runs if run.first is None]
    found += [f"{metric} was never measured in {listed(unmeasured, _MOST_NAMED)}."] if unmeasured else []
    every: list[ComparedRun | ShortRun] = [*runs, *short]
    damaged = [run.label for run in every if run.is_damaged]
    if damaged:
        named = listed(damaged, _MOST_NAMED)
        found.append(f"Files are damaged in {named}; only what can be read of them is compared.")
    found += [f"{name} cannot be read and is left out: {cause}" for name, cause in set_aside.items()]
    for group in groups:
        envs = {str(settings[run].get("env")) for run in group.runs}
        if len(envs) > 1:
            found.append(
                f"Group {group.name} mixes environments ({', '.join(sorted(envs))}), whose scores differ in scale."
            )
    return found
