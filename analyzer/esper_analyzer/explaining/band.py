"""The band of a metric, from its own past alone, and the excursion in which it left that band.

A value is expected near the values just before it: at their median (of the last `NEAR`), plus the usual drift. Its band
is `WIDTH` robust deviations around that. The robust deviation is that of the past `PAST` values from what was expected
of each. It is the larger of two estimates of a standard deviation that agree on normal noise: 1.4826 times the median
absolute deviation from the median (MAD), and the 90th percentile of the absolute deviations divided by 1.645. The
second is larger where noise has heavy tails. One value in ten may be arbitrary without moving either much (Rousseeuw
and Croux, "Alternatives to the median absolute deviation", 1993, on the MAD).

Everything is causal: a band is made of the values before it. A metric that drifts steadily does not leave its band.
What leaves a band is a jump, or a change of pace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from esper_analyzer.judging.trouble import FEWEST_BEFORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Direction = Literal["up", "down", "not finite"]

PAST = 50
"""A band is made of up to so many measured values."""

NEAR = 3
"""A value is expected near the median of so many values before it."""

WIDTH = 5.0
"""Robust deviations from what is expected to either end of a band."""

MAX_GAP = 2
"""So many values inside the band may interrupt an excursion."""

RECENT = 5
"""An excursion lasts if at least half of the newest values, of so many, are outside the band that was left."""

_EQUAL = 1e-6
"""Values that differ by less than this share of what is expected do not count as different."""

SLIGHT = 0.01
"""A measurement that was the same in most updates has not moved by less than this share, as by one sample of many."""


QUIET = np.errstate(all="ignore")
"""Numbers near the end of float64 overflow without a warning: a distance that cannot be computed is 0."""


@dataclass(frozen=True, slots=True)
class Excursion:
    """A metric leaves its band: of all times that it did, the one with the most surprising value.

    Attributes:
        start: index of its first value outside the band.
        peak: index of the value that is farthest from `usual` from then on, or of the first one that is not finite.
        direction: where the value at `peak` is.
        deviations: robust deviations from `usual` to the value at `peak`, > `WIDTH`. Infinite if that value is not
            finite, or if the past was constant.
        usual: what was expected at `start`.
        low, high: ends of the band at `start`.
        lasts: whether the newest values are still outside this band.
    """

    start: int
    peak: int
    direction: Direction
    deviations: float
    usual: float
    low: float
    high: float
    lasts: bool


@QUIET
def band_before(values: Floats, past: int = PAST, slight: float = 0.0) -> tuple[Floats, Floats]:
    """Return what each value is expected to be from those before it, and the robust deviation from that.

    A value is expected to be the median of the `NEAR` finite values before it, plus the median of how far the values
    before it were from theirs.

    Args:
        values: [T], in order.
        past: values that a band is made of, at most.
        slight: as for `find_excursion`.

    Returns:
        Expected values [T] and robust deviations [T] ≥ 0, on the scale of the values; both NaN where fewer than
        `FEWEST_BEFORE` of the values before are known. The deviation is 0 where the past was constant.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    level = _level_before(finite)
    drift, unit = robust(_windows(finite - level, past), slight * np.abs(level) / WIDTH)
    centre = level + drift
    return centre, np.where(unit <= _EQUAL * np.abs(centre), 0.0, unit)


@QUIET
def noise_around(values: Floats, past: int = PAST) -> Floats:
    """Return the robust deviation of the values around each value, half of them before it and half after: [T] ≥ 0.

    It is NaN where fewer than `FEWEST_BEFORE` of them are known. Where the noise of a run is asked, not what it will do
    next.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    padding = np.full(past // 2, np.nan)
    padded = np.concatenate((padding, finite - _level_before(finite), padding))
    _, unit = robust(np.lib.stride_tricks.sliding_window_view(padded, 2 * (past // 2) + 1))
    return unit


def _level_before(finite: Floats) -> Floats:
    """Return the median of the last `NEAR` numbers before each value; NaN before there is one."""
    known = np.flatnonzero(~np.isnan(finite))
    numbers = finite[known]
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate((np.full(NEAR, np.nan), numbers)), NEAR)
    ordered = np.sort(windows, axis=1)  # after so many numbers; NaN are last
    rows = np.arange(len(numbers) + 1)
    count = np.minimum(rows, NEAR)
    low, high = ordered[rows, (count - 1) // 2], ordered[rows, count // 2]
    levels = low + 0.5 * (high - low)
    found: Floats = levels[np.searchsorted(known, np.arange(len(finite)))]
    return found


def _windows(values: Floats, past: int) -> Floats:
    """Return the values before each value: [T, past], NaN where there are none."""
    padded = np.concatenate((np.full(past, np.nan), values))
    return np.lib.stride_tricks.sliding_window_view(padded, past)[: len(values)]


@QUIET
def robust(samples: Floats, least: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """Return the median and the robust deviation of each row of samples [T, N], whose NaN are left out.

    Both are NaN in rows with fewer than `FEWEST_BEFORE` numbers. The deviation is at least `least` [T] where more than
    half of the samples are the same and not all: then it is made of the others alone.
    """
    if not samples.size:
        return np.full(len(samples), np.nan), np.full(len(samples), np.nan)
    centre = _quantile(samples, 0.5)
    deviations = np.abs(samples - centre[:, None])
    usual, tail = _quantile(deviations, 0.5), _quantile(deviations, 0.9) / 1.645
    return centre, np.where((usual == 0.0) & (tail > 0.0), np.maximum(tail, least), np.maximum(1.4826 * usual, tail))


def _quantile(samples: Floats, share: float) -> Floats:
    """Return a quantile of each row, by linear interpolation; NaN in rows with fewer than `FEWEST_BEFORE` numbers."""
    ordered = np.sort(samples, axis=1)  # NaN are last
    count = np.sum(~np.isnan(ordered), axis=1)
    at = share * np.maximum(count - 1, 0)
    low, rows = at.astype(np.int64), np.arange(len(ordered))
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below, above = ordered[rows, low], ordered[rows, high]
    found = below + (at - low) * (above - below)
    return np.where(count < FEWEST_BEFORE, np.nan, found)


@QUIET
def distances(values: Floats, centre: Floats | float, unit: Floats | float, slight: float = 0.0) -> Floats:
    """Return how many robust deviations each value is from what was expected, with sign; 0 where that is not known.

    It is infinite for a value that differs from a constant past by more than the share `slight`. A NaN is +∞.
    """
    gap = values - centre
    equal = np.where(unit == 0.0, max(slight, _EQUAL), _EQUAL)
    gap = np.where(np.abs(gap) <= equal * np.abs(centre), 0.0, gap)
    far = np.where(gap == 0.0, 0.0, gap / unit)
    far = np.where(np.isfinite(values), far, np.where(np.isneginf(values), -np.inf, np.inf))
    return np.where(np.isnan(centre) | np.isnan(far), 0.0, far)


@QUIET
def find_excursion(values: Floats, since: int = 0, *, past: int = PAST, slight: float = 0.0) -> Excursion | None:
    """Return the excursion that begins with the greatest surprise; None if no value from `since` on leaves its band.

    Args:
        values: [T], measured values in order, the newest last.
        since: index of the first value that may leave its band.
        past: values that a band is made of, at most.
        slight: where the past, or more than half of it, was the same, no smaller share of it counts as a move.
    """
    if not len(values):
        return None
    centre, unit = band_before(values, past, slight)
    far = distances(values, centre, unit, slight)
    far[_often_not_finite(values, past)] = 0.0
    far[:since] = 0.0
    outside = np.abs(far) > WIDTH
    if not outside.any():
        return None
    top = int(np.abs(far).argmax())
    start = _beginning(outside & (np.sign(far) == np.sign(far[top])), top)
    low, high = centre[start] - WIDTH * unit[start], centre[start] + WIDTH * unit[start]
    after = distances(values[start:], centre[start], unit[start], slight)
    peak = start + int((after * np.sign(far[top])).argmax())
    newest = after[-RECENT:]
    direction: Direction = "not finite" if not np.isfinite(values[peak]) else "up" if far[top] > 0 else "down"
    return Excursion(
        start,
        peak,
        direction,
        abs(float(after[peak - start])),
        float(centre[start]),
        float(low),
        float(high),
        bool(2 * np.sum(np.abs(newest) > WIDTH) >= len(newest)),
    )


@QUIET
def has_past(values: Floats, past: int = PAST) -> bool:
    """Whether there are enough finite values before the newest one to judge it by."""
    return len(values) > FEWEST_BEFORE and not bool(np.isnan(band_before(values, past)[1][-1]))


def _often_not_finite(values: Floats, past: int) -> NDArray[np.bool_]:
    """Values that are not finite, where more than one in ten before them was not finite either."""
    bad = ~np.isfinite(values)
    before = np.concatenate((np.zeros(past + 1), np.cumsum(bad)))
    shares = (before[past:-1] - before[: len(values)]) / np.clip(np.arange(len(values)), 1, past)
    found: NDArray[np.bool_] = bad & (shares > 0.1)
    return found


def _beginning(outside: NDArray[np.bool_], peak: int) -> int:
    """Go back from the peak of an excursion to its first value."""
    start = peak
    for at in range(peak - 1, -1, -1):
        if outside[at]:
            start = at
        elif start - at > MAX_GAP:
            break
    return start
