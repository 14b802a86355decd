"""By how much the critic's error has outgrown what episodes bring; part of `course`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from esper_analyzer.judging.signals import DIGITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Row = Mapping[str, float | None]
_SQRT_2 = math.sqrt(2.0)

FIRST_ERRORS = 20
"""The usual error of a run is the largest of so many, its first ones."""


class ErrorGrowth:
    """Decades by which the critic's error is beyond the largest episode return so far, and beyond its usual size.

    The error is √(2·Lv), on the scale of the returns. Value targets are bootstrapped, so a critic that diverges takes
    their spread along, and explains them all the same; what episodes bring it does not move. The error relative to
    the largest return counts as usual up to 1, or up to its highest in the first `FIRST_ERRORS` rows where both are
    known, since the trainer may scale its rewards, and a return may be a sum of many that cancel.

    0 where the error is not beyond that. Null in those first rows, where one of the two is not finite, and while all
    returns were 0.
    """

    READS = ("value_loss", "value_target_scale", "episode_return_mean")

    def __init__(self) -> None:
        self._largest, self._known, self._usual = 0.0, 0, 1.0

    def step(self, row: Row) -> float | None:
        """Take in one row with `READS`; return the number."""
        loss, scale, earned = row["value_loss"], row["value_target_scale"], row["episode_return_mean"]
        if earned is not None and math.isfinite(earned) and abs(earned) > self._largest:
            self._largest = abs(earned)
        if loss is None or not 0.0 <= loss < math.inf or self._largest == 0.0:
            return None
        scale = 1.0 if scale is None or not math.isfinite(scale) else scale
        share = math.sqrt(loss) * _SQRT_2 * scale / self._largest
        if not math.isfinite(share):
            return None
        if self._known < FIRST_ERRORS:
            self._known += 1
            self._usual = max(self._usual, share)
            return None
        return round(math.log10(share / self._usual), DIGITS) if share > self._usual else 0.0

    def extend(self, columns: Mapping[str, Floats]) -> Floats:
        """As `step`, for rows; NaN where there is no number."""
        loss, scale, earned = (columns[name] for name in self.READS)
        sizes = np.where(np.isfinite(earned), np.abs(earned), 0.0)
        largest = np.maximum.accumulate(np.append(self._largest, sizes))[1:]
        self._largest = float(largest[-1])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = np.sqrt(loss) * _SQRT_2 * np.where(np.isfinite(scale), scale, 1.0) / largest
            share[~(np.isfinite(share) & (loss < np.inf) & (largest > 0.0))] = np.nan
            first = np.flatnonzero(~np.isnan(share))[: FIRST_ERRORS - self._known]
            self._known += len(first)
            self._usual = max([self._usual, *share[first].tolist()])
            share[: first[-1] + 1 if len(first) else 0] = np.nan
            decades = np.log10(share / self._usual).round(DIGITS)
        return np.where(share > self._usual, decades, np.where(np.isnan(share), np.nan, 0.0))
