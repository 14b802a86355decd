"""Judges each rank of a run once, from one look at the run, for everything that reports on it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from esper_analyzer.judging.alert_log import AlertLog, in_order
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judge import Judge, judge_each, signals_of
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.trouble import FEWEST_BEFORE, Trouble, TroubleLog
from esper_analyzer.judging.verdict import (
    REMARK,
    Reason,
    RunFacts,
    Verdict,
    conclude,
    healthy_rank,
    remarks,
    worst_first,
)
from esper_analyzer.reading.gaps import Range, numbering_of_index, update_at
from esper_analyzer.reading.run_index import RunIndex, dropped_rows, every_row_of
from esper_analyzer.reading.segment_index import SegmentIndex
from esper_schemas.metric.catalogue import EPISODE_RETURN


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging the rows of one rank.

    Attributes:
        rows: number of rows that count.
        first, last: their first and last update; None without rows.
        has_returns: whether any of them measured an episode return.
        goal_reached: the first update after which the smoothed return was at the goal; None before, or without a goal.
        missing: ranges of missing updates between the first and the last.
        stride: the step from one update to the next.
        dropped: number of rows that the recorder dropped.
        alerts: one alert for each rule that was raised, in the order of a list.
        trouble: the alert to explain, if a rule was raised.
        verdict: the verdict.
        signals: the signals after the last row.
    """

    rows: int
    first: int | None
    last: int | None
    has_returns: bool
    goal_reached: int | None
    missing: list[Range]
    stride: int
    dropped: int
    alerts: list[Alert]
    trouble: Trouble | None
    verdict: Verdict
    signals: dict[str, float | None]


def judge_ranks(run: JudgedRun, found: RunIndex, frames: Mapping[int, pl.LazyFrame]) -> dict[int, Judgement]:
    """Judge each rank.

    Args:
        run: the run.
        found: the index of the run.
        frames: the rows of each rank that count, as `found.frames()` returns them.
    """
    return {rank: judge_rank(run, index, frames[rank], found.damage_of(rank)) for rank, index in found.ranks.items()}


def judge_rank(run: JudgedRun, index: SegmentIndex, rows: pl.LazyFrame, damage: int) -> Judgement:
    """Judge one rank, whose files have so many faults that are damage."""
    steps = judge_in_steps(run, index, rows, damage)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            made: Judgement = stop.value
            return made


def judge_in_steps(
    run: JudgedRun, index: SegmentIndex, rows: pl.LazyFrame, damage: int
) -> Generator[int, None, Judgement]:
    """As `judge_rank`, for a screen that must not stand still: yields the number of rows judged so far."""
    judge = run.judge()
    log, troubles = AlertLog(), TroubleLog(update_at(FEWEST_BEFORE + 1, rows, index))
    for begun in judge.advance_all(rows):
        log.add(begun)
        troubles.add(begun)
        yield judge.rows
    return _judgement(judge, judge.signals(), log, troubles, _facts(run, index, rows, damage), (rows, index))


def judge_side_by_side(asked: Sequence[tuple[JudgedRun, SegmentIndex, pl.DataFrame, int]]) -> list[Judgement]:
    """As `judge_rank` of several ranks, which takes a fraction of the time for short runs.

    Args:
        asked: of each rank the arguments of `judge_rank`, but with rows that were read: those of a `Judge` and
            `dropped_before`. The settings of all runs have the same rules, which can travel.
    """
    judges = [run.judge() for run, _, _, _ in asked]
    begun = judge_each([(judge, rows) for judge, (_, _, rows, _) in zip(judges, asked, strict=True)], side_by_side=True)
    made = []
    of_each = zip(judges, signals_of(judges), begun, asked, strict=True)
    for judge, signals, episodes, (run, index, held, damage) in of_each:
        rows = held.lazy()
        log, troubles = AlertLog(), TroubleLog(update_at(FEWEST_BEFORE + 1, rows, index))
        log.add(episodes)
        troubles.add(episodes)
        made.append(_judgement(judge, signals, log, troubles, _facts(run, index, rows, damage), (rows, index)))
    return made


def _judgement(
    judge: Judge,
    signals: dict[str, float | None],
    log: AlertLog,
    troubles: TroubleLog,
    facts: RunFacts,
    of: tuple[pl.LazyFrame, SegmentIndex],
) -> Judgement:
    in_force = judge.in_force.values()
    return Judgement(
        rows=judge.rows,
        first=update_at(0, *of),
        last=judge.last_update if judge.rows else None,
        has_returns=EPISODE_RETURN in judge.measured,
        goal_reached=judge.goal_reached,
        missing=list(facts.missing),
        stride=facts.stride,
        dropped=facts.dropped,
        alerts=log.alerts(in_force, facts.missing, facts.stride),
        trouble=troubles.trouble(in_force),
        verdict=conclude(judge, facts),
        signals=signals,
    )


def verdict_on_rank(run: JudgedRun, index: SegmentIndex, rows: pl.DataFrame, damage: int, judge: Judge) -> Verdict:
    """Return the verdict of `judge_rank` alone, which on a short run takes a fraction of the time.

    Args:
        run, index, damage: as for `judge_rank`.
        rows: all rows of the rank that count, with `update` and `dropped_before`.
        judge: a judge that has seen these rows.
    """
    return conclude(judge, _facts(run, index, rows.lazy(), damage))


def _facts(run: JudgedRun, index: SegmentIndex, rows: pl.LazyFrame, damage: int) -> RunFacts:
    numbering = numbering_of_index(rows, index)
    dropped = dropped_rows(index, every_row_of(index, rows))
    said = [*run.remarks, *numbering.remarks]
    known = (numbering.stride, run.value_clip, run.is_goal_published)
    return RunFacts(numbering.missing, dropped, damage, said, *known)


def together(run: JudgedRun, judged: Mapping[int, Judgement]) -> tuple[list[Alert], Verdict, dict[str, float | None]]:
    """Combine the judgements of all ranks: alerts, verdict, and the signals of the worst rank."""
    if not judged:
        nobody = Judge()
        return [], conclude(nobody, RunFacts()), nobody.signals()
    alerts = in_order(replace(alert, rank=rank) for rank, one in judged.items() for alert in one.alerts)
    verdicts = {rank: one.verdict for rank, one in judged.items()}
    return alerts, verdict_of_ranks(verdicts), judged[_worst_first(verdicts)[0]].signals


def verdict_of_ranks(verdicts: Mapping[int, Verdict]) -> Verdict:
    """Combine the verdicts on all ranks of a run: the level of the worst one, and the findings of all.

    Args:
        verdicts: at least one verdict, by rank; the verdict on a run of only one rank stays as it is.
    """
    ordered = _worst_first(verdicts)
    verdict = verdicts[ordered[0]]
    if len(verdicts) == 1:
        return verdict
    detailed = [rank for rank in ordered if verdicts[rank].level != "healthy" or verdict.level == "healthy"]
    findings = [one for rank in detailed for one in _of_rank(verdicts[rank], rank)]
    findings += [healthy_rank(rank) for rank in ordered if rank not in detailed]
    said = dict.fromkeys(one.text for each in verdicts.values() for one in each.findings if one.rule == REMARK)
    return replace(verdict, findings=findings + remarks(said))


def level_and_rank(verdict: Verdict) -> str:
    """Return the level of a verdict and, of several ranks, the one that gives it, for example "critical (rank 1)"."""
    rank = verdict.findings[0].rank
    return verdict.level if rank is None or verdict.level == "healthy" else f"{verdict.level} (rank {rank})"


def _worst_first(verdicts: Mapping[int, Verdict]) -> list[int]:
    return sorted(verdicts, key=lambda rank: worst_first(verdicts[rank].level))


def _of_rank(verdict: Verdict, rank: int) -> list[Reason]:
    """Return the findings of one rank among several, without remarks, which belong to the run."""
    return [replace(finding, rank=rank) for finding in verdict.findings if finding.rule != REMARK]
