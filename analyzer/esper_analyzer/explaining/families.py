"""Metrics that say the same: one is listed, and the others of its family are named beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from esper_analyzer.explaining.explanation import Moved

FAMILIES = (
    ("value_loss", "value_loss_unclipped"),
    ("pre_clip_grad_norm", "grad_norm"),
    ("nan_grad_count", "inf_grad_count"),
    ("value_mean", "value_min", "value_max"),
    ("return_mean", "return_p10", "return_p50", "return_p90"),
    ("td_error_std", "bellman_error"),
    ("explained_variance", "value_nrmse"),
    ("ratio_mean", "ratio_min", "ratio_max", "ratio_std"),
    ("clip_fraction", "clip_fraction_positive", "clip_fraction_negative"),
)
"""Two metrics of a family are two measures of one quantity, so that the second tells nothing new beside the first."""

TOGETHER = 3
"""Metrics of a family are listed together if the others left their bands within so many updates of the first."""

_FAMILY = {metric: number for number, family in enumerate(FAMILIES) for metric in family}


def together(moved: Sequence[Moved]) -> list[Moved]:
    """Return the first of each family, with the others that left their bands shortly after it in `beside`.

    Args:
        moved: the metrics in the order in which they moved.
    """
    found: list[Moved] = []
    newest: dict[tuple[int, bool], int] = {}  # family, is_apart → place in `found` of its first
    for one in moved:
        family = _FAMILY.get(one.metric)
        at = None if family is None else newest.get((family, one.is_apart))
        if at is not None and one.update - found[at].update < TOGETHER:
            found[at] = replace(found[at], beside=(*found[at].beside, one))
            continue
        if family is not None:
            newest[family, one.is_apart] = len(found)
        found.append(one)
    return found
