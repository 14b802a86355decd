"""Points that were logged into several files at once, in the order of their times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from esper_recorder.importing.points import Points


def in_time_order(parts: Sequence[Points]) -> Points:
    """Return all points in the order of their times; those of one time by their steps, then as they come."""
    keys = list(chain.from_iterable(part.keys for part in parts))
    steps = list(chain.from_iterable(part.steps for part in parts))
    times = list(chain.from_iterable(part.times for part in parts))
    values = list(chain.from_iterable(part.values for part in parts))
    order = sorted(range(len(keys)), key=lambda place: (times[place] or 0.0, steps[place] or 0))
    return Points(
        [keys[place] for place in order],
        [steps[place] for place in order],
        [times[place] for place in order],
        [values[place] for place in order],
    )
