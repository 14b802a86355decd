"""Judges each rank of a run once, from one look at the run, for everything that reports on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from esper_analyzer.judging.alerts import MAX_ALERTS, Alert, gap_alerts, newest
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.judged_run import JudgedRun
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
from esper_analyzer.reading.gaps import Range, numbering_of_index
from esper_analyzer.reading.run_index import RunIndex, dropped_rows, every_row_of
from esper_analyzer.reading.segment_index import SegmentIndex


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging the rows of one rank.

    Attributes:
        missing: ranges of missing updates between the first and the last.
        dropped: number of rows that the recorder dropped.
        alerts: the newest alerts, and older ones that still last.
        verdict: the verdict.
        signals: the signals after the last row.
        remarks: remarks on the numbering of its updates, which are in the verdict, too.
    """

    missing: list[Range]
    dropped: int
    alerts: list[Alert]
    verdict: Verdict
    signals: dict[str, float | None]
    remarks: list[str]


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
    numbering = numbering_of_index(rows, index)
    missing = numbering.missing
    dropped = dropped_rows(index, every_row_of(index, rows))
    judge = Judge(run.settings.rules)
    episodes = list(deque(judge.advance_all(rows), maxlen=MAX_ALERTS))
    if len(episodes) == MAX_ALERTS:  # some that still last may have been left out
        episodes += [episode for episode in judge.in_force.values() if episode.update < episodes[0].update]
    alerts = [*gap_alerts(missing), *(episode.alert() for episode in episodes)]
    verdict = conclude(judge, RunFacts(missing, dropped, damage, [*run.remarks, *numbering.remarks]))
    return Judgement(missing, dropped, alerts, verdict, judge.signals(), numbering.remarks)


def together(run: JudgedRun, judged: Mapping[int, Judgement]) -> tuple[list[Alert], Verdict, dict[str, float | None]]:
    """Combine the judgements of all ranks: alerts (newest last), verdict and signals.

    Verdict and signals are those of the worst rank; the verdict has the findings of all ranks.
    """
    if not judged:
        nobody = Judge()
        return [], conclude(nobody, RunFacts()), nobody.signals()
    alerts = newest(replace(alert, rank=rank) for rank, one in judged.items() for alert in one.alerts)
    verdicts = {rank: one.verdict for rank, one in judged.items()}
    ordered = sorted(verdicts, key=lambda rank: worst_first(verdicts[rank].level))
    verdict = verdicts[ordered[0]]
    if len(verdicts) > 1:
        detailed = [rank for rank in ordered if verdicts[rank].level != "healthy" or verdict.level == "healthy"]
        findings = [one for rank in detailed for one in _of_rank(verdicts[rank], rank)]
        findings += [healthy_rank(rank) for rank in ordered if rank not in detailed]
        texts = dict.fromkeys([*run.remarks, *(text for one in judged.values() for text in one.remarks)])
        verdict = Verdict(verdict.level, findings + remarks(texts))
    return alerts, verdict, judged[ordered[0]].signals


def _of_rank(verdict: Verdict, rank: int) -> list[Reason]:
    """Return the findings of one rank among several, without remarks, which belong to the run."""
    return [replace(finding, rank=rank) for finding in verdict.findings if finding.rule != REMARK]
