"""What is explained where no update is given: how a run broke off, the trouble that it is in, or else was in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from esper_analyzer.explaining.band import LEAST
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.reading.black_boxes import BlackBox
from esper_analyzer.reading.run_reader import GOING_ON
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


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """An update in which something broke and that was never recorded, behind all rows of its rank.

    Attributes:
        box: the black box that was written in it.
        after: the last recorded update.
        update: the number that it would have had: `after` and the usual step.
    """

    box: BlackBox
    after: int
    update: int


def broken_off(run: JudgedRun, boxes: Iterable[BlackBox], frames: Mapping[int, pl.LazyFrame]) -> BrokenOff | None:
    """Return how a run broke off: in a failure, or with a number that is not finite; None if it did not.

    An attempt that goes on, was interrupted, or was continued by another one, did not break off. Of several ranks, this
    is the one that broke first, by the time at which the black box was written.

    Args:
        run: the run, for its status.
        boxes: the black boxes of the run.
        frames: the rows of each rank that count.
    """
    found = []
    for box in boxes:
        if box.update is not None or box.trigger not in ("failed", "not_finite") or box.rank not in frames:
            continue
        last = frames[box.rank].select("attempt", "seq", "update").tail(2).collect()
        if last.is_empty() or last["attempt"][-1] != box.attempt or last["seq"][-1] >= box.seq:
            continue
        if run.status(box.rank) in GOING_ON:
            continue
        step = int(last["update"][-1] - last["update"][0]) if last.height == 2 else 1
        found.append(BrokenOff(box, int(last["update"][-1]), int(last["update"][-1]) + max(1, step)))
    return min(found, key=lambda one: one.box.written, default=None)


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
