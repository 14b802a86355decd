"""The episodes that begin in many rows at once, as arrays: objects are made only of those that somebody asks for.

A long run may raise an alert a hundred thousand times, while a list of alerts keeps three episodes of each rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, overload

import numpy as np

from esper_analyzer.judging.alerts import Episode, badness
from esper_analyzer.judging.hysteresis import Turns
from esper_analyzer.judging.rules.rule import Rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Updates: TypeAlias = "NDArray[np.int64]"
Places: TypeAlias = "NDArray[np.intp]"


@dataclass(slots=True, kw_only=True)
class Stretches:
    """The episodes of one rule and severity that begin in some rows; arrays [episodes], in order of their updates.

    Attributes:
        rule, severity, since, update, value, worst, worst_update, badness: as in `Episode`.
        until: as in `Episode`; the last episode lasts if there is one fewer.
        details: as in `Episode.detail`, of each; None if all are empty.
        told: places of those that are told of; a warning that is critical at once is not one of them.
    """

    rule: Rule
    severity: int
    since: Updates
    update: Updates
    value: Floats
    until: Updates
    worst: Floats
    worst_update: Updates
    badness: Floats
    details: list[str] | None
    told: Places
    _made: dict[int, Episode] = field(default_factory=dict)

    def episode(self, place: int) -> Episode:
        """Return the episode at a place; each time the same object."""
        if place not in self._made:
            self._made[place] = self._make(place)
        return self._made[place]

    @property
    def lasting(self) -> Episode | None:
        """The episode that lasts, if there is one."""
        return self.episode(len(self.update) - 1) if len(self.until) < len(self.update) else None

    def leave_out(self, critical: Stretches) -> None:
        """Do not tell of those that begin together with one of the critical ones of the same rule."""
        self.told = np.flatnonzero(~np.isin(self.update, critical.update))

    @property
    def worst_place(self) -> int:
        """Place of the worst of those that are told of; of equal ones the first."""
        return int(self.told[np.argmax(self.badness[self.told])])

    def _make(self, place: int) -> Episode:
        detail = "" if self.details is None else self.details[place]
        since, update = int(self.since[place]), int(self.update[place])
        made = Episode(self.rule, self.severity, since, update, float(self.value[place]), detail)
        made.follow(int(self.worst_update[place]), float(self.worst[place]), float(self.badness[place]))
        made.until = int(self.until[place]) if place < len(self.until) else None
        return made


class Begun(Sequence[Episode]):
    """The episodes that begin in some rows, in the order of their updates.

    Attributes:
        stretches: the same, by rule and severity.
    """

    def __init__(self, stretches: Iterable[Stretches]) -> None:
        self.stretches = [one for one in stretches if len(one.told)]
        self._order: list[tuple[int, int]] | None = None  # of each episode the position of its stretches, and its place

    def __len__(self) -> int:
        return sum(len(one.told) for one in self.stretches)

    @overload
    def __getitem__(self, at: int) -> Episode: ...
    @overload
    def __getitem__(self, at: slice) -> list[Episode]: ...
    def __getitem__(self, at: int | slice) -> Episode | list[Episode]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if self._order is None:
            self._order = self._in_order()
        position, place = self._order[at]
        return self.stretches[position].episode(place)

    def _in_order(self) -> list[tuple[int, int]]:
        if not self.stretches:
            return []
        positions = np.repeat(np.arange(len(self.stretches)), [len(one.told) for one in self.stretches])
        places = np.concatenate([one.told for one in self.stretches])
        order = np.argsort(np.concatenate([one.update[one.told] for one in self.stretches]), kind="stable")
        return list(zip(positions[order].tolist(), places[order].tolist(), strict=True))


def stretches_of(
    turns: Turns, rule: Rule, before: Episode | None, updates: Updates, values: Floats, details: list[str] | None
) -> Stretches:
    """Make the episodes of one rule and severity that begin in some rows, and note what comes of the one before.

    Args:
        turns: where episodes begin and end.
        rule: the rule.
        before: the episode that was in force before the rows, if there was one.
        updates: of the rows, and of as many rows before them as `turns.since` reaches back.
        values: [rows] the number of the rule.
        details: as in `Stretches`.
    """
    earlier = len(updates) - len(values)
    at = updates[earlier:]
    starts, stops = turns.begun, turns.ended
    if before is not None:
        starts = np.concatenate([[0], starts])
    if len(stops) < len(starts):
        stops = np.append(stops, len(values))
    rows, how_bad = _worst(rule, values, turns.beyond, starts, stops)
    until = at[turns.ended]
    if before is not None:
        before.follow(int(at[rows[0]]), float(values[rows[0]]), float(how_bad[0]))
        before.until = int(until[0]) if len(until) else None
        rows, how_bad, until = rows[1:], how_bad[1:], until[1:]
    return Stretches(
        rule=rule,
        severity=turns.severity,
        since=updates[earlier + turns.since],
        update=at[turns.begun],
        value=values[turns.begun],
        until=until,
        worst=values[rows],
        worst_update=at[rows],
        badness=how_bad,
        details=details,
        told=np.arange(len(turns.begun)),
    )


def _worst(rule: Rule, values: Floats, beyond: Places, starts: Places, stops: Places) -> tuple[Places, Floats]:
    """Return of each stretch from a start to a stop the first of its worst rows, and how bad that is.

    Only rows `beyond` the bound can be the worst of a stretch. One without any, which began before, gets −inf.
    """
    found, how_bad = starts.copy(), np.full(len(starts), -np.inf)
    first, end = np.searchsorted(beyond, starts), np.searchsorted(beyond, stops)
    some = np.flatnonzero(first < end)
    if not len(some):
        return found, how_bad
    bad = np.append(badness(rule.bands, values[beyond]), -np.inf)
    bounds = np.column_stack([first[some], end[some]]).ravel()  # of the stretches, and of what is between them
    worst = np.maximum.reduceat(bad, bounds)
    is_worst = bad[bounds[0] :] == np.repeat(worst, np.diff(np.append(bounds, len(bad))))
    places = bounds[0] + np.flatnonzero(is_worst)
    found[some] = beyond[places[np.searchsorted(places, bounds[::2])]]
    how_bad[some] = worst[::2]
    return found, how_bad
