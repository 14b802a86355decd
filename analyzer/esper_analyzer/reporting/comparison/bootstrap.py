"""Statistics over a group of seeds: interquartile mean, share of pairs, and the interval of a stratified bootstrap.

They are those of SciPy (`trim_mean`, `rankdata`, `bootstrap`), but for the rounding of a mean, on NumPy alone. To
import `scipy.stats` takes longer than to read and judge sixty runs. A test holds them against SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Statistic: TypeAlias = "Callable[..., Floats]"
"""Takes one array [..., scores] for each sample, and returns the statistic [...]."""

RESAMPLES = 50_000
CONFIDENCE = 0.95
RANDOM_SEED = 0
"""The bootstrap always uses this seed, so that the same runs have the same intervals."""

_AT_ONCE = 2000


def interquartile_mean(*samples: Floats) -> Floats:
    """Return the mean without a quarter of the scores at each end, rounded down; samples [..., scores] are joined."""
    scores = np.concatenate(samples, axis=-1)
    cut = scores.shape[-1] // 4
    end = scores.shape[-1] - cut
    return np.asarray(np.sort(scores, axis=-1)[..., cut:end].mean(axis=-1))  # faster than to partition


def share_of_pairs(one: Floats, other: Floats) -> Floats:
    """Return in which share of all pairs the score of `one` is greater; ties count half.

    It is the Mann–Whitney statistic over the number of pairs. Ranks take n log n, all pairs would take n².

    Args:
        one, other: [..., scores] without NaN.
    """
    n, pairs = one.shape[-1], one.shape[-1] * other.shape[-1]
    ranks = _ranks(np.concatenate([one, other], axis=-1))
    return np.asarray((ranks[..., :n].sum(axis=-1) - n * (n + 1) / 2) / pairs)


def _ranks(values: Floats) -> Floats:
    """Return the ranks from 1 on along the last axis; equal values have the mean of theirs."""
    order = values.argsort(axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    differs, edge = ordered[..., 1:] != ordered[..., :-1], np.ones((*values.shape[:-1], 1), bool)
    place, count = np.arange(values.shape[-1]), values.shape[-1]
    first = np.maximum.accumulate(np.where(np.concatenate([edge, differs], -1), place, 0), axis=-1)
    last = np.where(np.concatenate([differs, edge], -1), place, count)[..., ::-1]
    ranks = np.empty(values.shape)
    mean = (first + np.minimum.accumulate(last, axis=-1)[..., ::-1]) / 2 + 1
    np.put_along_axis(ranks, order, mean, axis=-1)
    return ranks


def interval(samples: Sequence[Floats], statistic: Statistic) -> tuple[float, float]:
    """Return the percentile interval of a statistic, whose samples are resampled each by itself.

    Args:
        samples: [scores] each, without NaN.
        statistic: computes it of many resamples at once.
    """
    rng = np.random.default_rng(RANDOM_SEED)
    found = []
    with np.errstate(invalid="ignore"):  # inf − inf, if scores are not finite
        for start in range(0, RESAMPLES, _AT_ONCE):
            rows = min(_AT_ONCE, RESAMPLES - start)
            found.append(statistic(*(one.take(rng.integers(0, len(one), (rows, len(one)))) for one in samples)))
    tail = (1.0 - CONFIDENCE) / 2.0
    # the closest resampled value: interpolating between two infinities would make NaN
    low, high = np.quantile(np.concatenate(found), [tail, 1.0 - tail], method="closest_observation")
    return float(low), float(high)
