"""The list of alerts of a run: one for each rule, however often it was raised and however long the run is.

Report, check, page, notebook, screens and live monitor all list what an `AlertLog` has, so that they agree on what
broke first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from esper_analyzer.judging.alerts import MISSING_UPDATES, Alert, Episode, ends_a_run
from esper_analyzer.judging.stretches import Begun, Stretches
from esper_analyzer.reading.gaps import Range, missing_count
from esper_analyzer.wording import missing as name_missing
from esper_schemas.metric.levels import severity_of

_NAMED_GAPS = 3


@dataclass(slots=True)
class _Raised:
    """All times that one rule was raised, in bounded memory.

    Attributes:
        count: how many times.
        first, last: the updates at which it was first and last raised.
        shown: the first episode of the worst level.
        worst: the episode with the worst value, of those that are over.
        newest: the newest episode of each severity, which may still get worse.
    """

    first: int
    shown: Episode
    worst: Episode
    count: int = 0
    last: int = 0
    newest: dict[int, Episode] = field(default_factory=dict)

    def add(self, episode: Episode) -> None:
        before = self.newest.get(episode.severity)
        self.worst = _worse([self.worst] if before is None else [self.worst, before])
        self.newest[episode.severity] = episode
        self.count += 1
        self.last = episode.update
        if episode.severity > self.shown.severity:
            self.shown = episode

    def add_all(self, found: Stretches) -> None:
        """As `add` for each of these episodes, of which all are of one severity."""
        first, newest = found.episode(int(found.told[0])), found.episode(int(found.told[-1]))
        before = self.newest.get(found.severity, self.worst)
        self.worst = _worse([self.worst, before, found.episode(found.worst_place)])
        self.newest[found.severity] = newest
        self.count += len(found.told)
        self.first, self.last = min(self.first, first.update), max(self.last, newest.update)
        if found.severity > self.shown.severity:
            self.shown = first

    def alert(self, in_force: Collection[Episode]) -> Alert:
        shown, worst = self.shown, _worse([self.worst, self.shown, *self.newest.values()])
        lasting = max((one for one in in_force if one.rule.name == shown.rule.name), key=_severity, default=None)
        return Alert(
            update=shown.update,
            metric=shown.rule.metric,
            level=shown.level,
            value=shown.value,
            message=shown.message,
            since=shown.since,
            until=shown.until,
            rule=shown.rule.name,
            count=self.count,
            first=self.first,
            last=self.last,
            worst=worst.worst,
            worst_update=worst.worst_update,
            lasts=lasting is not None,
            in_force=None if lasting is None else lasting.level,
        )


class AlertLog:
    """What each rule has found in the rows of one rank so far; its size does not depend on how many those are.

    The first time that each rule was raised is never forgotten, and all further times are counted.
    """

    def __init__(self) -> None:
        self._raised: dict[str, _Raised] = {}

    def add(self, episodes: Iterable[Episode]) -> None:
        """Add episodes that a judge has just begun."""
        if isinstance(episodes, Begun):
            for found in episodes.stretches:
                self._raised_by(found.episode(int(found.told[0]))).add_all(found)
            return
        for episode in episodes:
            self._add(episode)

    def tell(self, episodes: Iterable[Episode]) -> list[Alert]:
        """Add episodes that a judge has just begun, and return an alert for each, for those who are told at once."""
        return [_as_raised(episode, self._add(episode)) for episode in episodes]

    def alerts(self, in_force: Iterable[Episode] = (), missing: Sequence[Range] = (), stride: int = 1) -> list[Alert]:
        """Return one alert for each rule that was raised, and one for all missing updates, in the order of a list.

        Args:
            in_force: the episodes in force now, `Judge.in_force.values()`.
            missing: the ranges of missing updates, in order.
            stride: the step from one update to the next.
        """
        now = list(in_force)
        found = [raised.alert(now) for raised in self._raised.values()]
        return in_order([*found, *([gaps_alert(missing, stride)] if missing else [])])

    def _add(self, episode: Episode) -> _Raised:
        raised = self._raised_by(episode)
        raised.add(episode)
        return raised

    def _raised_by(self, first: Episode) -> _Raised:
        """What the rule of an episode has found; nothing yet, if this is its first one."""
        return self._raised.setdefault(first.rule.name, _Raised(first.update, first, first))


def _as_raised(episode: Episode, raised: _Raised) -> Alert:
    """Return the alert that an episode is at the update at which it was raised."""
    return Alert(
        update=episode.update,
        metric=episode.rule.metric,
        level=episode.level,
        value=episode.value,
        message=episode.message,
        since=episode.since,
        until=None,
        rule=episode.rule.name,
        count=raised.count,
        first=raised.first,
        last=episode.update,
        worst=episode.value,
        worst_update=episode.update,
        lasts=True,
        in_force=episode.level,
    )


def in_order(alerts: Iterable[Alert]) -> list[Alert]:
    """Return alerts in the order of a list: what ends a run, then the worst level, then what was raised first."""

    def place(alert: Alert) -> tuple[bool, int, int, str, int]:
        return not ends_a_run(alert.rule), -severity_of(alert.level), alert.first, alert.rule, alert.rank or 0

    return sorted(alerts, key=place)


def gaps_alert(missing: Sequence[Range], stride: int) -> Alert:
    """Return the one alert about all missing updates, of which there is at least one range."""
    first = gap_alert(missing, 0, stride)
    if len(missing) == 1:
        return first
    count, more = missing_count(missing, stride), len(missing) - _NAMED_GAPS
    named = name_missing(missing[:_NAMED_GAPS], stride, _NAMED_GAPS)
    named += f" and {more:,} more range{'s' * (more != 1)}" if more > 0 else ""
    worst = max(missing, key=lambda gap: missing_count([gap], stride))
    return _gaps(
        first.update,
        first.value,
        f"{count:,} updates are missing: {named}.",
        missing[0],
        count=len(missing),
        first=first.update,
        last=missing[-1][1] + 1,
        worst=missing_count([worst], stride),
        worst_update=worst[1] + 1,
    )


def gap_alert(missing: Sequence[Range], at: int, stride: int) -> Alert:
    """Return the alert about one of the ranges, for those who are told at once."""
    gap = missing[at]
    count, update = missing_count([gap], stride), gap[1] + 1
    named = name_missing([gap], stride, 1)
    text = f"Update {named} is missing." if count == 1 else f"Updates {named} are missing."
    return _gaps(
        update,
        count,
        text,
        gap,
        count=at + 1,
        first=missing[0][1] + 1,
        last=update,
        worst=count,
        worst_update=update,
    )


def _gaps(
    update: int,
    value: float,
    text: str,
    gap: Range,
    *,
    count: int,
    first: int,
    last: int,
    worst: float,
    worst_update: int,
) -> Alert:
    return Alert(
        update=update,
        metric="update",
        level="warning",
        value=float(value),
        message=f"{text} Usually the trainer or its log lost them, or numbers its updates with gaps.",
        since=gap[0],
        until=gap[1] + 1,
        rule=MISSING_UPDATES,
        count=count,
        first=first,
        last=last,
        worst=float(worst),
        worst_update=worst_update,
        lasts=False,
        in_force=None,
    )


def _worse(episodes: Iterable[Episode]) -> Episode:
    """Return the episode with the worst value; of equal ones, the earliest."""
    return min(episodes, key=lambda one: (-one.badness, one.worst_update))


def _severity(episode: Episode) -> int:
    return episode.severity
