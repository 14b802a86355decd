"""A metric that falls silent, or that is measured for the first time: no band tells, as there is no value to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from esper_analyzer.judging.trouble import FEWEST_BEFORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

Presence = Literal["silent", "new"]

SURE = 3
"""A metric is silent, or new, if it is so for so many updates, and silent for so many times its longest pause."""


@dataclass(frozen=True, slots=True)
class Turn:
    """From when on a metric is silent, or is measured.

    Attributes:
        presence: which of both.
        start: index of the first update without it, or with it.
    """

    presence: Presence
    start: int


def find_turn(measured: NDArray[np.bool_], since: int = 0) -> Turn | None:
    """Return where a metric fell silent or became new, if it still is so in the newest update; else None.

    It is silent if `FEWEST_BEFORE` updates had measured it, and none of the newest `SURE`, nor of `SURE` times as many
    as its longest pause had. It is new if no update had measured it before, of at least `FEWEST_BEFORE`, and since then
    at least `SURE` of them, and half of all.

    Args:
        measured: [T], whether each update that was not skipped measured it, the newest last.
        since: index of the first update in which it may have turned.
    """
    at = np.flatnonzero(measured)
    if not len(at):
        return None
    first, end = int(at[0]), int(at[-1]) + 1
    pause = int(np.diff(at).max(initial=1)) - 1
    if len(at) >= FEWEST_BEFORE and end >= since and len(measured) - end >= SURE * max(1, pause):
        return Turn("silent", end)
    is_new = first >= max(since, FEWEST_BEFORE) and len(at) >= SURE and 2 * len(at) >= len(measured) - first
    return Turn("new", first) if is_new else None
