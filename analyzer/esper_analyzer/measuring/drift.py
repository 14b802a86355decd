"""A test for a moving mean whose rate of false alarms is correct even on autocorrelated noise.

Successive values of a training metric are correlated. A test that assumes independent values therefore mistakes noise
for a trend: at an AR(1) coefficient φ = 0.8 the textbook regression test at 5 % does so in about half of all windows.
Here the noise is AR(1) with unknown φ, scale and level. With L(φ) the Gaussian likelihood of the window (Prais and
Winsten 1954 for the exact treatment of the first value), the statistic is

    log Σ_φ L(φ | level and movement) − log Σ_φ L(φ | level only),    φ in 0, 0.25, 0.5, 0.7, 0.85,

a likelihood ratio averaged over φ (Andrews and Ploberger 1994). Averaging costs less power than estimating φ from ten
or thirty values, because that estimate is poor and too small. If all values are positive, their logarithms are used,
because losses and norms move by factors. The statistic depends on neither the unit nor the level of the values.

    short  6 to 10 values; the movement is a line or a step between the halves, and its size is integrated out
           (restricted likelihood, Harville 1974), which is the more powerful form for few values
    long   15 to 30 values, clipped to the median ± 5 robust standard deviations, so that a spike costs little; the
           movement is a line, and its size is estimated: the form for movements that are slow relative to the noise

p is the largest share of windows without a trend that reach the statistic, over φ from 0 to 0.8 and over Gaussian and
heavy-tailed noise. `QUANTILES` has that distribution, simulated by `null_quantiles`. Because there are two windows, p
is divided by the window's share of the error (weighted Bonferroni: short 0.2, long 0.8). At least one of them is
confident by mistake in at most 5 % of rows. The price is power at small φ, where errors are far rarer.

Measured shares, in %, of 40,000 windows of noise without a trend in which the short / long / either window is
confident, at 30 values:

    AR(1) noise with φ =    0                 0.2               0.4               0.6               0.8
    Gaussian                0.0 / 0.2 / 0.2   0.0 / 0.4 / 0.4   0.0 / 0.8 / 0.8   0.1 / 1.4 / 1.5   0.3 / 3.7 / 3.9
    exp of it, σ = 1        0.0 / 0.1 / 0.1   0.0 / 0.4 / 0.4   0.0 / 0.8 / 0.9   0.1 / 1.5 / 1.5   0.2 / 3.9 / 4.1
    Student t, 3 degrees    0.0 / 0.1 / 0.1   0.0 / 0.4 / 0.4   0.0 / 0.7 / 0.7   0.2 / 1.4 / 1.6   1.0 / 3.9 / 4.8

Fewer values have the same rates. Outside the assumptions there are more errors: in 9.5 % of Gaussian windows at
φ = 0.9, in 7.1 % at φ = 0.8 with log-normal *innovations* (rare large jumps that then fade), and in 29 % on a random
walk. The long window reports a step of five standard deviations as a drift in 51 % of cases if the step is in the
middle of the window, and in 3 % if it is five values from the end.

A drift of 3 % per update, up or down, under log-normal AR(1) noise of σ = 0.2 and φ = 0.5 is detected by the 30th
update in 82 % of series, if the run is tested after each update: in 81 % by the long window alone, and in 75 % by a
single test of 30 values. No test does much better: even the most powerful test for exactly this drift and φ detects
79 % in a single test with the same rate of errors. Under additive noise of the same σ a single test detects 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float64]"
Counts: TypeAlias = "npt.NDArray[np.int64]"

CONFIDENT = 0.95
"""A trend counts as real from this confidence on."""

_MEMORY = np.array([0.0, 0.25, 0.5, 0.7, 0.85])
_CLIP = 5.0 * 1.4826  # standard deviations of a Gaussian, by its median absolute deviation
_SETTLED = 40  # values after which AR(1) noise no longer depends on its start
_EXACT = 1e-10  # a residual below this share of the variance is rounding


@dataclass(frozen=True, slots=True)
class Window:
    """A window of values to test, and the movement to test for.

    Attributes:
        name: `short` or `long`.
        smallest, length: smallest and largest number of values.
        step: whether the movement may also be a step between the halves, with its size integrated out.
        share: the window's share of the 5 % of errors.
    """

    name: str
    smallest: int
    length: int
    step: bool
    share: float


SHORT = Window("short", 6, 10, step=True, share=0.2)
LONG = Window("long", 15, 30, step=False, share=0.8)

P_VALUES = np.array([1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.035, 0.025, 0.015, 0.0075, 0.003, 0.001])
"""The p values of the columns of `QUANTILES`; confidence does not rise beyond the last one."""

_LOG_P = np.log(P_VALUES)

QUANTILES: dict[str, dict[int, Sequence[float]]] = {
    "short": {
        6: (1.19, 1.64, 1.92, 2.45, 2.91, 3.71, 4.48, 4.87, 5.25, 5.84, 6.63, 7.59, 8.71),
        7: (1.16, 1.72, 2.02, 2.55, 3.02, 3.84, 4.66, 5.08, 5.48, 6.12, 6.94, 7.94, 9.16),
        8: (1.16, 1.79, 2.10, 2.65, 3.11, 3.93, 4.76, 5.20, 5.63, 6.28, 7.18, 8.24, 9.40),
        9: (1.15, 1.86, 2.17, 2.72, 3.18, 3.99, 4.83, 5.30, 5.75, 6.44, 7.36, 8.53, 9.80),
        10: (1.12, 1.91, 2.24, 2.79, 3.26, 4.07, 4.93, 5.40, 5.85, 6.54, 7.54, 8.74, 10.03),
    },
    "long": {
        15: (0.01, 0.34, 0.92, 1.87, 2.63, 3.82, 4.93, 5.45, 5.95, 6.71, 7.67, 8.96, 10.44),
        18: (0.01, 0.31, 0.83, 1.73, 2.45, 3.63, 4.72, 5.26, 5.74, 6.49, 7.42, 8.69, 10.07),
        21: (0.01, 0.28, 0.76, 1.61, 2.30, 3.44, 4.50, 5.04, 5.54, 6.26, 7.18, 8.44, 9.89),
        24: (0.01, 0.25, 0.70, 1.51, 2.16, 3.27, 4.33, 4.86, 5.36, 6.06, 7.00, 8.25, 9.53),
        27: (0.01, 0.23, 0.65, 1.40, 2.03, 3.11, 4.13, 4.64, 5.11, 5.81, 6.71, 7.94, 9.36),
        30: (0.01, 0.22, 0.61, 1.33, 1.93, 2.96, 3.98, 4.47, 4.93, 5.64, 6.55, 7.72, 9.21),
    },
}
"""By window and number of values: noise without a trend reaches each statistic in at most this share, `P_VALUES`."""


def confidence(windows: Floats, counts: Counts, window: Window) -> Floats:
    """Return the confidence that the mean moves with time, 1 − p, for many windows at once.

    Args:
        windows: shape [n, window.length], oldest value first. If there are fewer values, they are at the end, and the
            front is padded with the oldest one.
        counts: shape [n], the number of values in each window.
        window: `SHORT` or `LONG`.

    Returns:
        Shape [n], from 0 to below 1; NaN where there are too few values or one of them is not finite.
    """
    sure = np.full(len(windows), np.nan)
    usable = (counts >= window.smallest) & np.isfinite(windows).all(axis=1)
    if usable.any():
        windows, counts = windows[usable], counts[usable]
        p = _p_value(statistic(windows, counts, window), counts, window)
        sure[usable] = 1.0 - np.minimum(p / window.share, 1.0)
    return sure


def statistic(windows: Floats, counts: Counts, window: Window) -> Floats:
    """Return the likelihood ratio (see the module) of finite windows of sufficient length; −inf if constant."""
    values = logarithms(windows)
    if not window.step:
        values = clipped(values, counts)
    values = _standing(values, counts)
    model = _model(window)
    if (counts == window.length).all():
        counts = counts[:1]  # one model for all
        loads = values @ model.loads[window.length]
    else:
        loads = np.einsum("nw,nwk->nk", values, model.loads[counts])
    explained = np.square(loads).reshape(len(values), -1, len(_MEMORY))  # by the level and by each movement
    level = np.maximum(_innovations(values, counts) - explained[:, 0], _EXACT)
    moving = np.maximum(level[:, None] - explained[:, 1:], _EXACT * level[:, None])
    without = model.level[counts] - model.level_freedom[counts, None] * np.log(level)
    moved = model.moving[counts] - model.moving_freedom[counts, None, None] * np.log(moving)
    ratio = _log_sum(moved.reshape(len(values), -1)) - _log_sum(without)
    return np.where(values.any(axis=1), ratio, -np.inf)


def logarithms(windows: Floats) -> Floats:
    """Convert windows of positive values to logarithms and scale all others below 1, so that nothing can overflow."""
    positive = windows.min(axis=1) > 0.0
    if positive.all():
        return np.log(windows)
    values = np.ldexp(windows, -powers_of_two(windows))
    values[positive] = np.log(windows[positive])
    return values


def powers_of_two(windows: Floats) -> npt.NDArray[np.int32]:
    """Return the exponents of two above the largest size in each window, shape [n, 1]; scaling by them is exact."""
    exponents: npt.NDArray[np.int32] = np.frexp(np.abs(windows).max(axis=1, keepdims=True))[1]
    return exponents


def clipped(values: Floats, counts: Counts) -> Floats:
    """Clip values to the median ± 5 robust standard deviations of their window, unless half of them are equal."""
    middle = _median(values, counts)
    reach = _CLIP * _median(np.abs(values - middle), counts)
    reach[reach == 0.0] = np.inf
    return np.clip(values, middle - reach, middle + reach)


def inside(counts: Counts, length: int) -> npt.NDArray[np.bool_]:
    """Return which places of windows have values rather than padding: shape [len(counts), length]."""
    return np.arange(length) >= length - counts[:, None]


def autoregressive(innovations: Floats, memory: float) -> Floats:
    """Make AR(1) noise with coefficient `memory` and the variance of `innovations`, along the last axis."""
    noise = innovations.copy()
    for t in range(1, noise.shape[-1]):
        noise[..., t] = memory * noise[..., t - 1] + np.sqrt(1.0 - memory * memory) * innovations[..., t]
    return noise


def null_quantiles(window: Window, count: int, *, series: int, seed: int = 0) -> Floats:
    """Simulate a row of `QUANTILES`: in the order of `P_VALUES`, the largest value over several noises without a trend.

    The noises are AR(1) with φ from 0 to 0.8 and Gaussian or Student t innovations (3 degrees of freedom). The table
    was made with series=200_000 and rounded up to two decimals; a row takes about half a minute.
    """
    source = np.random.default_rng(seed)
    found = []
    for memory in (0.0, 0.2, 0.4, 0.6, 0.7, 0.8):
        size = (series, count + _SETTLED)
        for innovations in (source.standard_normal(size), source.standard_t(3, size)):
            noise = np.exp(0.1 * autoregressive(innovations, memory)[:, _SETTLED:])
            filled = np.hstack([np.repeat(noise[:, :1], window.length - count, axis=1), noise])
            found.append(np.quantile(statistic(filled, np.full(series, count), window), 1.0 - P_VALUES))
    worst: Floats = np.max(found, axis=0)
    return worst


@dataclass(frozen=True, slots=True)
class _Model:
    """The parts of the test that do not depend on the values, by number of values and by φ in the order of `_MEMORY`.

    Attributes:
        loads: [counts, length, (1 + movements) · φ], the directions of the level and of each movement (orthogonal to
            the level), in the metric of the noise.
        level, moving: [counts, φ] and [counts, movements, φ], the terms of the log likelihoods without values.
        level_freedom, moving_freedom: [counts], the factors of the logarithms of the squared residuals.
    """

    loads: Floats
    level: Floats
    moving: Floats
    level_freedom: Floats
    moving_freedom: Floats


@cache
def _model(window: Window) -> _Model:
    movements = 2 if window.step else 1
    size = window.length + 1
    loads = np.zeros((size, window.length, 1 + movements, len(_MEMORY)))
    level = np.zeros((size, len(_MEMORY)))
    moving = np.zeros((size, movements, len(_MEMORY)))
    for count in range(window.smallest, size):
        line = np.arange(count) - (count - 1) / 2
        step = np.where(np.arange(count) < count - count // 2, -1.0, 1.0)
        contrasts = [line, step - step.mean()][:movements]
        for k, memory in enumerate(_MEMORY):
            whiten = np.eye(count) - memory * np.eye(count, k=-1)
            whiten[0, 0] = np.sqrt(1.0 - memory * memory)
            constant = whiten @ np.ones(count)
            level[count, k] = np.log(whiten[0, 0])
            if window.step:  # integrating a size out leaves the logarithm of its precision
                level[count, k] -= np.log(np.linalg.norm(constant))
            constant /= np.linalg.norm(constant)
            loads[count, -count:, 0, k] = whiten.T @ constant
            for m, contrast in enumerate(contrasts):
                direction = whiten @ (contrast / np.linalg.norm(contrast))
                direction -= constant * (constant @ direction)
                moving[count, m, k] = level[count, k]
                if window.step:
                    moving[count, m, k] -= np.log(np.linalg.norm(direction))
                loads[count, -count:, 1 + m, k] = whiten.T @ (direction / np.linalg.norm(direction))
    counts = np.arange(size, dtype=np.float64)
    lost = 1 if window.step else 0
    return _Model(
        loads.reshape(size, window.length, -1), level, moving, (counts - lost) / 2.0, (counts - 2.0 * lost) / 2.0
    )


def _standing(values: Floats, counts: Counts) -> Floats:
    """Centre values on their mean and scale them to at most 1; padding and windows of equal values become exactly 0."""
    constant = values.max(axis=1) == values.min(axis=1)
    if (counts == values.shape[1]).all():
        values = values - values.mean(axis=1, keepdims=True)
    else:
        there = inside(counts, values.shape[1])
        values = np.where(there, values - (values * there).sum(axis=1, keepdims=True) / counts[:, None], 0.0)
    size = np.abs(values).max(axis=1, keepdims=True)
    values[constant] = 0.0
    size[constant] = 1.0
    standing: Floats = values / size
    return standing


def _innovations(values: Floats, counts: Counts) -> Floats:
    """Return the sum of the squared innovations of AR(1) noise, with the first value treated exactly: shape [n, φ]."""
    squares = np.square(values)
    total = squares.sum(axis=1)
    ends = squares[:, -1] + np.take_along_axis(squares, (values.shape[1] - counts)[:, None], axis=1)[:, 0]
    lagged = np.einsum("nw,nw->n", values[:, 1:], values[:, :-1])
    sums: Floats = total[:, None] + np.square(_MEMORY) * (total - ends)[:, None] - 2.0 * _MEMORY * lagged[:, None]
    return sums


def _median(values: Floats, counts: Counts) -> Floats:
    """Return the median of each window, without padding: shape [n, 1]."""
    length = values.shape[1]
    if (counts == length).all():
        ordered = np.sort(values, axis=1)
        return (ordered[:, (length - 1) // 2, None] + ordered[:, length // 2, None]) / 2.0
    ordered = np.sort(np.where(inside(counts, length), values, np.inf), axis=1)
    places = np.stack([(counts - 1) // 2, counts // 2], axis=1)
    return np.asarray(np.take_along_axis(ordered, places, axis=1).mean(axis=1, keepdims=True))


def _log_sum(terms: Floats) -> Floats:
    """Compute log Σ exp over the last axis."""
    largest = terms.max(axis=-1)
    return np.asarray(largest + np.log(np.exp(terms - largest[..., None]).sum(axis=-1)))


@cache
def _quantiles(window: Window) -> Floats:
    """Return `QUANTILES` by number of values, [length + 1, p], with missing numbers interpolated linearly."""
    table = QUANTILES[window.name]
    counts = np.arange(window.length + 1)
    return np.stack([np.interp(counts, list(table), column) for column in zip(*table.values(), strict=True)], axis=1)


def _p_value(ratios: Floats, counts: Counts, window: Window) -> Floats:
    """Return p of each statistic; log p is linear between the quantiles, and constant beyond them."""
    knots, p = _quantiles(window), np.empty_like(ratios)
    for count in sorted(set(counts.ravel().tolist())):  # `np.unique` would load masked arrays first
        same = counts == count
        p[same] = np.interp(ratios[same], knots[count], _LOG_P)
    return np.exp(p)
