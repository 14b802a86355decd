"""Levels of whole columns as NumPy arrays, without a query engine: what the recorder counts at sealing.

The analyzer has the same thresholds as polars expressions (`esper_analyzer.measuring.levels`); a test holds the two
against each other.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from esper_schemas.metric.catalogue import DECLARED, MIN_POLICY_LOSS
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import COMPARISONS, Bands, Limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Integers: TypeAlias = "NDArray[np.int64]"

Thresholds = Mapping[str, Bands]
"""Bands by the name of a metric, or `loss_ratio`."""

DEFAULT_THRESHOLDS: Thresholds = {name: metric.bands for name, metric in DECLARED.items() if metric.bands is not None}
"""The thresholds of the metrics table and of Lv/Lp."""

_NOT_FINITE = 2.0


@cache
def fingerprint() -> int:
    """CRC-32 of the thresholds of the metrics table."""
    return zlib.crc32(repr(sorted(DEFAULT_THRESHOLDS.items())).encode())


def loss_ratios(value_loss: Floats, policy_loss: Floats) -> Floats:
    """Lv/Lp of each row; NaN where either loss is not finite or abs(policy_loss) < 1e-10, or a loss is NaN (null)."""
    with np.errstate(all="ignore"):
        sizes = np.abs(policy_loss)
        defined = np.isfinite(value_loss) & np.isfinite(policy_loss) & (sizes >= MIN_POLICY_LOSS)
        return np.where(defined, np.abs(value_loss) / sizes, np.nan)


def severities(bands: Bands, values: Floats, spread: Floats | None = None) -> NDArray[np.int8]:
    """Return 0 for healthy, 1 for warning, 2 for critical and −1 for unknown. Critical is checked first.

    Args:
        bands: the thresholds.
        values: measured values [rows].
        spread: `high` minus `low` of `bands.only_if` in the same rows, NaN where either was not measured; needed if
            there is one.
    """
    found = np.zeros(len(values), np.int8)
    with np.errstate(invalid="ignore"):
        counts = np.ones(len(values), np.bool_)
        if bands.only_if is not None:
            assert spread is not None
            counts = spread < bands.only_if.bound
        for severity, limits in ((1, bands.warning), (2, bands.critical)):
            for limit in limits:
                found[COMPARISONS[limit.comparison](values, limit.bound) & counts] = severity
    found[~np.isfinite(values)] = severity_of(bands.nonfinite)
    return found


def badness(bands: Bands, values: Floats, severity: NDArray[np.int8], updates: Integers) -> Floats:
    """Return how bad each value is: it grows with the level, and within a level towards its extreme.

    The result is between −1 and 1 within a level, plus 4 for each level. Critical values that are not finite are the
    worst, and the earliest of them is worst of all. The excess over a bound is relative to the bound, so that bounds
    of one metric can be compared. −∞ where the level is unknown.

    Args:
        bands: the thresholds.
        values, severity, updates: of the same rows.
    """
    by_level = (bands.warning or bands.critical, bands.warning, bands.critical)
    found = np.full(len(values), -np.inf)
    is_finite = np.isfinite(values)
    for level, limits in enumerate(by_level):
        rows = np.flatnonzero((severity == level) & is_finite)
        if len(rows):
            found[rows] = 4.0 * level + _squashed(_excess(values[rows], limits))
    rows = np.flatnonzero((severity >= 0) & ~is_finite)
    found[rows] = 4.0 * _NOT_FINITE + 2.0 + (1.0 - np.clip(updates[rows], 0, 10**9) / 1e9)
    return found


def badness_of(bands: Bands, value: float, severity: int, update: int) -> float:
    """As `badness`, for one value, with the same bits at a tenth of the cost."""
    if severity < 0:
        return -math.inf
    if not math.isfinite(value):
        return 4.0 * _NOT_FINITE + 2.0 + (1.0 - min(max(update, 0), 10**9) / 1e9)
    limits = (bands.warning or bands.critical, bands.warning, bands.critical)[severity]
    excess = max((_excess_of(value, limit) for limit in limits), default=0.0)
    return 4.0 * severity + (math.copysign(1.0, excess) if math.isinf(excess) else excess / (1.0 + abs(excess)))


def _excess_of(value: float, limit: Limit) -> float:
    beyond = value - limit.bound if limit.comparison in (">", ">=") else limit.bound - value
    return beyond / (abs(limit.bound) or 1.0)


def _squashed(excess: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(excess), np.sign(excess), excess / (1.0 + np.abs(excess)))


def _excess(values: Floats, limits: tuple[Limit, ...]) -> Floats:
    """Return how far each value is beyond the nearest bound, relative to the bound; negative on the good side."""
    found = np.full(len(values), -np.inf if limits else 0.0)
    with np.errstate(over="ignore"):
        for limit in limits:
            beyond = values - limit.bound if limit.comparison in (">", ">=") else limit.bound - values
            np.maximum(found, beyond / (abs(limit.bound) or 1.0), out=found)
    return found
