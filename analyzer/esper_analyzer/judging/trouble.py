"""The trouble that a run is in, or was in: of all times that a rule was raised, the one to explain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.stretches import Begun
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import Level

FEWEST_BEFORE = 20
"""With fewer finite values than this before it, no value can be judged by its past."""


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """One time that a rule was raised.

    Attributes:
        rule, metric, level, message: those of `Alert`.
        update: the update at which it was raised.
        since: the first of the updates beyond the bound that raised it.
        until: first update at which it was over; None while it is in force.
        gives: what it contributes to the verdict while it is in force; `healthy` is nothing.
    """

    rule: str
    metric: str
    level: Level
    update: int
    since: int
    until: int | None
    gives: Level
    message: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """The alert of a rank that is to be explained.

    Attributes:
        alert: the alert.
        is_too_early: whether it began before any metric could have a band.
    """

    alert: RaisedAlert
    is_too_early: bool

    @property
    def lasts(self) -> bool:
        """Whether it is in force after the newest row."""
        return self.alert.until is None


class TroubleLog:
    """Every alert of one rank that may be the one to explain; its size does not depend on how many there were."""

    def __init__(self, start: int | None) -> None:
        """Begin with the update at which a metric may first have a band, that after `FEWEST_BEFORE` + 1 others."""
        self._start = start
        self._first: dict[tuple[str, int, bool], Episode] = {}

    def add(self, begun: Iterable[Episode]) -> None:
        """Add episodes that a judge has just begun."""
        for episode in self._first_of(begun):
            key = (episode.rule.name, episode.severity, self._is_too_early(episode.since))
            self._first.setdefault(key, episode)

    def _first_of(self, begun: Iterable[Episode]) -> Iterator[Episode]:
        """Yield of each rule and level the first episode, and the first that is not too early."""
        if not isinstance(begun, Begun):
            yield from begun
            return
        for one in begun.stretches:
            yield one.episode(int(one.told[0]))
            is_later = np.zeros(0, bool) if self._start is None else one.since[one.told] >= self._start
            if is_later.any():
                yield one.episode(int(one.told[np.argmax(is_later)]))

    def trouble(self, in_force: Iterable[Episode]) -> Trouble | None:
        """Return the alert to explain, of those so far; None if no rule was raised. See `trouble_of`.

        Args:
            in_force: the episodes in force now, `Judge.in_force.values()`.
        """
        worst: dict[str, Episode] = {}
        for episode in sorted(in_force, key=lambda one: one.severity):
            worst[episode.rule.name] = episode
        over = [episode for episode in self._first.values() if episode.until is not None]
        every = (Trouble(_raised(one), self._is_too_early(one.since)) for one in [*over, *worst.values()])
        return min(every, key=_order, default=None)

    def _is_too_early(self, since: int) -> bool:
        return self._start is None or since < self._start


def trouble_of(of_ranks: Mapping[int, Trouble | None]) -> tuple[int, Trouble] | None:
    """Return the alert to explain, of all ranks, and its rank; None if no rule has raised any.

    This is the one rule by which command, Python, agents and pages choose, first things first:

    1. An alert that began after `FEWEST_BEFORE` + 1 updates, as no metric has a band before. One that began earlier is
       returned only if there is no other, and is marked.
    2. An alert in force after the newest row, before one that is over. Each rule in force counts by its worst level now
       and from the last time that this was raised.
    3. The worst level that it gives the verdict, then its own worst level.
    4. The one that was raised first. Of a rule that is over this is the first time at each level.
    5. The lowest rank.

    Missing updates, dropped rows and damage are no such alert: nothing in the numbers moves before them.

    Args:
        of_ranks: the alert that each rank would explain.
    """
    known = [(rank, one) for rank, one in of_ranks.items() if one is not None]
    return min(known, key=lambda found: (*_order(found[1]), found[0]), default=None)


def _order(one: Trouble) -> tuple[int, ...]:
    alert = one.alert
    return one.is_too_early, not one.lasts, -severity_of(alert.gives), -severity_of(alert.level), alert.update


def _raised(episode: Episode) -> RaisedAlert:
    return RaisedAlert(
        rule=episode.rule.name,
        metric=episode.rule.metric,
        level=episode.level,
        update=episode.update,
        since=episode.since,
        until=episode.until,
        gives=episode.rule.gives[episode.severity - 1],
        message=episode.message,
    )
