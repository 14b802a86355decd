"""What a judge who is given all rows at once says of them: what every picture of a run is held against."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from esper_analyzer.judging.alert_log import AlertLog
from esper_analyzer.judging.alerts import Alert, Episode
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.verdict import RunFacts, Verdict, conclude
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.history import history_of
from esper_analyzer.reading.gaps import Numbering


@dataclass(frozen=True)
class Judged:
    """The verdict on rows, the episodes that begin in them, their alerts, and the course of their value loss."""

    verdict: Verdict
    episodes: list[Episode]
    alerts: list[Alert]
    course: Buckets


def judged(run: JudgedRun, rows: pl.LazyFrame) -> Judged:
    """Judge rows of a run, which must be in the order of their updates."""
    judge = run.judge()
    episodes = [one for begun in judge.advance_all(rows) for one in begun]
    dropped = int(rows.select(pl.col("dropped_before").sum()).collect().item() or 0)
    numbering = Numbering.of(rows)
    remarks, missing, stride = [*run.remarks, *numbering.remarks], numbering.missing, numbering.stride
    facts = RunFacts(missing, dropped, 0, remarks, stride, run.value_clip, run.is_goal_published)
    verdict = conclude(judge, facts)
    log = AlertLog()
    log.add(episodes)
    alerts = log.alerts(judge.in_force.values(), missing, stride)
    return Judged(verdict, episodes, alerts, history_of(rows, ("value_loss",)).of("value_loss"))
