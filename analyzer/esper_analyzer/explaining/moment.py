"""The order in which metrics moved, from the moment on at which most of them did.

Of sixty noisy metrics, some leave their bands now and then for no reason that matters. They do so alone. A cause moves
several metrics within a few updates of each other, so the order begins with the moment that has most evidence; what
left its band before it is listed last, as apart from the rest. The evidence at a moment is the sum over the stages of
an update of the strongest excursion that begins within `SPAN` updates. That of an excursion is 1 at the end of the
band, and 1 more for each e-fold beyond, up to `MOST`. It counts half as much for each `HALF_LIFE` updates that it is
older than the update that is explained. From this moment the order goes back to what may have caused it: as long as an
excursion of strength `STRONG` began at most `REACH` updates earlier, it begins there.

Within one update, metrics are in the order in which the update computes them; see `stages`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from esper_analyzer.explaining.band import WIDTH
from esper_analyzer.explaining.explanation import Moved
from esper_analyzer.explaining.stages import COST, is_of_minibatches, stage

SPAN = 3
"""Excursions that begin within so many updates are taken to be of one moment."""

MOST = 4.0
"""The most evidence that one excursion is."""

STRONG, REACH = 2.0, 6
"""An excursion so strong that began so many updates before the others may be their cause."""

HALF_LIFE = 20
"""An excursion that is older by so many updates is half the evidence."""


def in_order(moved: Iterable[Moved], update: int) -> list[Moved]:
    """Put metrics in the order in which they moved, and mark those that moved before the moment of most evidence.

    Args:
        moved: the metrics that left their bands.
        update: the update that is explained.
    """
    every = list(moved)
    moment = _moment([one for one in every if stage(one.metric) != COST], update)
    return sorted((replace(one, is_apart=one.update < moment) for one in every), key=_key)


def _moment(moved: Sequence[Moved], update: int) -> int:
    """Return the update at which the moment of most evidence begins, with what may have caused it."""
    updates = sorted({one.update for one in moved})
    moment = max(updates, key=lambda at: _evidence_at(moved, at, update), default=0)
    for at in sorted({one.update for one in moved if _strength(one) >= STRONG}, reverse=True):
        if moment - REACH <= at < moment:
            moment = at
    return moment


def _evidence_at(moved: Sequence[Moved], at: int, update: int) -> float:
    """Add up the evidence of the excursions that begin at an update and shortly after, the strongest of each stage."""
    strongest: dict[int, float] = {}
    for one in moved:
        if at <= one.update < at + SPAN:
            place = stage(one.metric)
            strongest[place] = max(strongest.get(place, 0.0), _evidence(one, update))
    return sum(strongest.values())


def _evidence(one: Moved, update: int) -> float:
    return float(_strength(one) * 0.5 ** ((update - one.update) / HALF_LIFE))


def _strength(one: Moved) -> float:
    if one.direction in ("silent", "new"):  # often only a matter of what is logged
        return STRONG
    return min(MOST, 1.0 + math.log(one.deviations / WIDTH)) if math.isfinite(one.deviations) else MOST


def _key(one: Moved) -> tuple[bool, bool, int, bool, float, int, float]:
    place = stage(one.metric)
    of_minibatches = is_of_minibatches(one.metric) or one.minibatch is not None
    minibatch = float(one.minibatch) if one.minibatch is not None else math.inf if of_minibatches else -1.0
    return place == COST, one.is_apart, one.update, of_minibatches, minibatch, place, -one.deviations
