"""The scores of a run over the span that runs share, and the order of runs by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from esper_analyzer.reporting.comparison.axis import Axis, Rows, mean_over
from esper_schemas.metric.metrics import Direction

FINAL_WINDOW = 10
"""The final value is the median of this many values before the end of the span."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a run within the span.

    Attributes:
        measured: updates within the span that measured the metric.
        nonfinite: how many of those are NaN or infinite.
        final: median of the finite values among the last 10 measured ones up to the end of the span; NaN if at
            least half of them are not finite, which means that the run has diverged.
        best: best finite value; NaN if there are none, None for a metric without a direction.
        best_update, best_at: update of the best value, and its position on the axis.
        area: mean over the span by the trapezoidal rule, through the finite values; NaN if the run has diverged.
        area_covered: share of the span between the first and the last finite value.
    """

    measured: int = 0
    nonfinite: int = 0
    final: float | None = None
    best: float | None = None
    best_update: int | None = None
    best_at: float | None = None
    area: float | None = None
    area_covered: float | None = None


def score(rows: Rows, axis: Axis, better: Direction | None) -> Scores:
    """Score a run within the span.

    Args:
        rows: what a run measured, as `MeasuredRows.rows` returns it.
        axis: the axis with the span.
        better: direction of the best value; None for no best value.
    """
    updates, at, values = rows
    first, end = np.searchsorted(at, axis.start), np.searchsorted(at, axis.end, side="right")
    recent = values[:end][-FINAL_WINDOW:]
    if not len(recent):
        return Scores()
    is_finite = np.isfinite(values)
    finite = recent[np.isfinite(recent)]
    has_diverged = 2 * len(finite) <= len(recent)
    inside = slice(first, end)
    scores = Scores(
        measured=len(values[inside]),
        nonfinite=int((~is_finite[inside]).sum()),
        final=math.nan if has_diverged else float(np.median(finite)),
    )
    area, covered = mean_over(at[is_finite], values[is_finite], axis.start, axis.end)
    scores = replace(scores, area=math.nan if has_diverged else area, area_covered=covered)
    if better is None:
        return scores
    candidates = first + np.flatnonzero(is_finite[inside])
    if not len(candidates):
        return replace(scores, best=math.nan if scores.measured else None)
    found = candidates[values[candidates].argmin() if better == "lower" else values[candidates].argmax()]
    return replace(scores, best=float(values[found]), best_update=int(updates[found]), best_at=float(at[found]))


def best_first(scores: Mapping[str, Scores], better: Direction | None) -> list[str]:
    """Return the names of runs by their final score, the best first; equal ones stay in their order.

    A run that has diverged comes after all that have not, and a run without a score comes last. For a metric without
    direction the order stays.
    """
    if better is None:
        return list(scores)
    sign = 1.0 if better == "lower" else -1.0

    def rank(name: str) -> tuple[int, float]:
        final = scores[name].final
        if final is None:
            return 2, 0.0
        return (1, 0.0) if math.isnan(final) else (0, sign * final)

    return sorted(scores, key=rank)
