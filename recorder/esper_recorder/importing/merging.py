"""Points that were logged into several files at once, in the order of their times."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import chain, compress, pairwise

from esper_recorder.importing import following
from esper_recorder.importing.points import Points

_Place = tuple[float, int]
"""Time and step of a point, by which points are put in order."""

_BEFORE_ALL, _BEHIND_ALL = (-math.inf, 0), (math.inf, 0)


def in_time_order(parts: Sequence[Points]) -> Points:
    """Return all points in the order of their times; those of one time by their steps, then as they come."""
    keys, steps, times, values = joined(parts)[:4]
    order = sorted(range(len(keys)), key=lambda place: (times[place] or 0.0, steps[place] or 0))
    return Points(
        [keys[place] for place in order],
        [steps[place] for place in order],
        [times[place] for place in order],
        [values[place] for place in order],
    )


def in_log_order(parts: Sequence[Points]) -> Points:
    """Return the points of several series in the order of their times; without times, in that of their steps.

    Where the steps of a series begin anew, all series are taken to have begun anew: what comes behind is a further
    training, and is not mixed with what was before.
    """
    if all(time is not None for part in parts for time in part.times):
        return in_time_order(parts)
    laps: list[list[Points]] = []
    for part in parts:
        falls = [place for place, (one, other) in enumerate(pairwise(part.steps), 1) if (other or 0) < (one or 0)]
        for lap, (begin, end) in enumerate(pairwise([0, *falls, len(part.keys)])):
            if lap == len(laps):
                laps.append([])
            one_lap = slice(begin, end)
            laps[lap].append(
                Points(part.keys[one_lap], part.steps[one_lap], [None] * (end - begin), part.values[one_lap])
            )
    return joined([in_time_order(lap) for lap in laps])


def joined(parts: Sequence[Points]) -> Points:
    """Return the points of several series one after another."""
    return Points(
        list(chain.from_iterable(part.keys for part in parts)),
        list(chain.from_iterable(part.steps for part in parts)),
        list(chain.from_iterable(part.times for part in parts)),
        list(chain.from_iterable(part.values for part in parts)),
    )


class Gathering:
    """Points of files that grow side by side, kept until all files have got as far.

    Whoever logs flushes one file after another. A look in between finds the newest updates in some files only, and
    what the others say of them would come too late. So a point is kept until no file is behind it, or for
    `QUIET_SECS`, since a file may have ended, or get points seldom. The first points come all at once, as their keys
    tell whose log it is.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[float, Points]] = []  # and when they came
        self._newest: dict[str, tuple[_Place, int | None]] = {}  # of each file, and its step
        self._has_begun = False

    @property
    def is_beginning(self) -> bool:
        """Whether the first points are there, and are kept."""
        return bool(self._kept) and not self._has_begun

    def add(self, file: str, points: Points) -> None:
        """Add what is new in a file, which may be nothing."""
        place, step = self._newest.get(file, (_BEFORE_ALL, None))
        if points.keys:
            self._kept.append((time.monotonic(), points))
            place, step = max(place, *_places(points)), points.steps[-1]
        self._newest[file] = (place, step)

    def due(self, *, is_over: bool) -> Iterator[Points]:
        """Yield the points that need not be kept any longer, in order; all of them if nothing more will come."""
        until = _BEHIND_ALL if is_over else self._until()
        ready, kept = [], []
        for came, points in self._kept:
            is_ready = [place <= until for place in _places(points)]
            ready.append(_chosen(points, is_ready))
            kept.append((came, _chosen(points, [not one for one in is_ready])))
        self._kept = [(came, points) for came, points in kept if points.keys]
        if any(points.keys for points in ready):
            self._has_begun = True
            yield in_time_order(ready)

    def _until(self) -> _Place:
        """How far all files have got, or the newest point that was kept long enough."""
        steps = {step for _, step in self._newest.values()}
        if len(steps) == 1 and None not in steps:  # all have the newest update, whose points have times of their own
            return _BEHIND_ALL
        now = time.monotonic()
        long_kept = [points for came, points in self._kept if now - came >= following.QUIET_SECS]
        if not self._has_begun:
            return _BEHIND_ALL if long_kept else _BEFORE_ALL
        reached = min(place for place, _ in self._newest.values())
        return max(chain([reached], *(_places(points) for points in long_kept)))


def _places(points: Points) -> list[_Place]:
    return [(at or 0.0, step or 0) for at, step in zip(points.times, points.steps, strict=True)]


def _chosen(points: Points, chosen: Sequence[bool]) -> Points:
    keys, steps, times, values = points[:4]
    return Points(
        list(compress(keys, chosen)),
        list(compress(steps, chosen)),
        list(compress(times, chosen)),
        list(compress(values, chosen)),
    )
