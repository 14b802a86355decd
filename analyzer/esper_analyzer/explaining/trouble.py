"""Which alert is explained where no update is given: the trouble that a run is in, or else was in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from esper_analyzer.explaining.band import LEAST
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.judged_run import JudgedRun
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import Level


@dataclass(frozen=True, slots=True)
class Trouble:
    """One time that an alert was raised.

    Attributes:
        rank: the rank that it is about.
        episode: the alert, from when to when.
        is_too_early: whether it began before any metric could have a band.
    """

    rank: int
    episode: Episode
    is_too_early: bool

    @property
    def gives(self) -> Level:
        """What it contributes to the verdict while it is in force; healthy is nothing."""
        return self.episode.rule.gives[self.episode.severity - 1]

    @property
    def lasts(self) -> bool:
        """Whether it is in force after the newest row."""
        return self.episode.until is None


def trouble_of(run: JudgedRun, frames: Mapping[int, pl.LazyFrame]) -> Trouble | None:
    """Return the alert to explain, of all ranks; None if no rule has raised any.

    This is the one rule by which command, Python, agents and pages choose, first things first:

    1. An alert that began after `LEAST` + 1 updates, as no metric has a band before. One that began earlier is returned
       only if there is no other, and is marked.
    2. An alert in force after the newest row, before one that is over. Each rule in force counts by its worst level now
       and from the last time that this was raised.
    3. The worst level that it gives the verdict, then its own worst level.
    4. The one that was raised first. Of a rule that is over this is the first time at each level.
    5. The lowest rank.

    Missing updates, dropped rows and damage are no such alert: nothing in the numbers moves before them.

    Args:
        run: the run, for its rules.
        frames: the rows of each rank that count.
    """
    return min((one for rank, rows in frames.items() for one in _raised(run, rank, rows)), key=_order, default=None)


def _order(one: Trouble) -> tuple[bool, bool, int, int, int, int]:
    weight = severity_of(one.gives)
    return one.is_too_early, not one.lasts, -weight, -one.episode.severity, one.episode.update, one.rank


def _raised(run: JudgedRun, rank: int, rows: pl.LazyFrame) -> Iterator[Trouble]:
    """Yield what is in force of each rule of a rank, and of each level the first time, if that is over.

    Memory does not grow with the number of times that a rule was raised.
    """
    judge = Judge(run.settings.rules)
    judged = rows.select("update").slice(LEAST + 1, 1).collect()["update"]
    start = judged[0] if len(judged) else None
    first: dict[tuple[str, int, bool], Episode] = {}
    for begun in judge.advance_all(rows):
        for episode in begun:
            is_too_early = start is None or episode.since < start
            first.setdefault((episode.rule.name, episode.severity, is_too_early), episode)
    for (_, _, is_too_early), episode in first.items():
        if episode.until is not None:
            yield Trouble(rank, episode, is_too_early)
    worst: dict[str, Episode] = {}
    for episode in sorted(judge.in_force.values(), key=lambda one: one.severity):
        worst[episode.rule.name] = episode
    for episode in worst.values():
        yield Trouble(rank, episode, start is None or episode.since < start)
