"""The confidence of a trend holds its rate of false alarms on noise with a memory, and still finds slow drifts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from esper_analyzer.measuring.drift import (
    CONFIDENT,
    LONG,
    P_VALUES,
    QUANTILES,
    SHORT,
    Floats,
    Window,
    autoregressive,
    clipped,
    confidence,
    null_quantiles,
    statistic,
)

SERIES = 5000
SETTLED = 40
ALLOWED = 0.05 + 2.576 * math.sqrt(0.05 * 0.95 / SERIES)
"""What a true rate of 5 % stays below in 99.5 % of draws: 5.79 %."""

KINDS = ["Gaussian", "log-normal", "narrow log-normal", "Student t3", "exp of Student t3", "uniform"]


def noise(kind: str, memory: float, count: int, source: np.random.Generator) -> Floats:
    """`SERIES` independent stretches of stationary AR(1) noise without a trend."""
    size = (SERIES, SETTLED + count)
    if "Student" in kind:
        innovations = source.standard_t(3, size)
    elif kind == "uniform":
        innovations = source.uniform(-1.0, 1.0, size)
    else:
        innovations = source.standard_normal(size)
    values = autoregressive(innovations, memory)[:, SETTLED:]
    scale = {"log-normal": 1.0, "narrow log-normal": 0.2, "exp of Student t3": 0.2}.get(kind)
    return values if scale is None else np.exp(scale * values)


def confident(values: Floats, window: Window) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which series, [n, values], are confident as of their last value."""
    last = values[:, -window.length :]
    count = last.shape[1]
    filled = np.hstack([np.repeat(last[:, :1], window.length - count, axis=1), last])
    return confidence(filled, np.full(len(filled), count), window) >= CONFIDENT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_noise_without_a_trend_is_rarely_confident(kind: str, memory: float) -> None:
    """Short, long or either: in at most 5 % of windows, at every memory and kind of noise, full windows or not."""
    source = np.random.default_rng([KINDS.index(kind), round(10 * memory)])
    for count in (6, 10, 15, 30):
        values = noise(kind, memory, count, source)
        short, long = confident(values, SHORT), confident(values, LONG)
        assert short.mean() <= ALLOWED
        assert long.mean() <= ALLOWED
        assert (short | long).mean() <= ALLOWED


@pytest.mark.parametrize("window", [SHORT, LONG])
def test_the_worst_noise_comes_near_to_what_is_allowed(window: Window) -> None:
    """Confidence is not bought by never being sure: the window's share of the 5 % is used up at a memory of 0.8."""
    rate = confident(noise("Student t3", 0.8, window.length, np.random.default_rng(1)), window).mean()
    assert 0.7 * 0.05 * window.share < rate < 1.4 * 0.05 * window.share


@pytest.mark.parametrize("direction", [1, -1])
def test_a_drift_of_three_percent_is_found_within_thirty_updates(direction: int) -> None:
    """±3 % per update under log-normal noise of σ = 0.2, φ = 0.5, looked at after each update: found in 80 %."""
    logs = direction * 0.03 * np.arange(30) + 0.2 * noise("Gaussian", 0.5, 30, np.random.default_rng(2))
    found = np.zeros(SERIES, np.bool_)
    for count in range(SHORT.smallest, 31):
        found |= confident(np.exp(logs[:, :count]), SHORT) | confident(np.exp(logs[:, :count]), LONG)
    assert found.mean() >= 0.80 + 1.645 * math.sqrt(0.8 * 0.2 / SERIES)  # a true rate above 80 %, at 95 %


@pytest.mark.parametrize("sigma", [0.2, 0.2 / math.sqrt(0.75)])
def test_a_drift_under_additive_noise_is_found_at_thirty_values(sigma: float) -> None:
    """Where the noise does not grow with the values, one look at the long window is enough."""
    values = np.exp(0.03 * np.arange(30)) + sigma * noise("Gaussian", 0.5, 30, np.random.default_rng(3))
    assert confident(values, LONG).mean() >= 0.85


def test_single_outliers_are_no_trend() -> None:
    """A spike of twenty standard deviations anywhere in the window makes nothing confident."""
    source = np.random.default_rng(4)
    for place in (0, 1, 10, 20, 28, 29):
        values = 1.0 + 0.1 * noise("Gaussian", 0.0, 30, source)
        values[:, place] += 2.0
        assert confident(values, LONG).mean() <= 0.01
        assert confident(values, SHORT).mean() <= 0.01


def test_a_spike_does_not_hide_a_drift() -> None:
    """With one value eight times too large the drift is still found in most series."""
    source = np.random.default_rng(5)
    values = np.exp(0.05 * np.arange(30) + 0.2 * noise("Gaussian", 0.0, 30, source))
    spiked = values.copy()
    spiked[np.arange(SERIES), source.integers(0, 30, SERIES)] *= 8.0
    assert confident(values, LONG).mean() >= 0.98
    assert confident(spiked, LONG).mean() >= 0.75


def test_a_clean_step_is_a_trend_of_the_short_window() -> None:
    """A step of eight standard deviations in the midst of ten values is mostly found; equal values are nothing."""
    values = 1.0 + 0.1 * noise("Gaussian", 0.0, 10, np.random.default_rng(6)) + 0.8 * (np.arange(10) >= 5)
    assert confident(values, SHORT).mean() >= 0.7
    assert confidence(np.full((1, 10), 0.1), np.array([10]), SHORT)[0] == 0.0
    assert confidence(np.full((1, 30), -0.1), np.array([30]), LONG)[0] == 0.0


@pytest.mark.parametrize("window", [SHORT, LONG])
@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1e300])
def test_the_unit_does_not_matter(window: Window, scale: float) -> None:
    """Values of either sign and positive ones are as sure in any unit."""
    for values in (noise("Gaussian", 0.5, window.length, np.random.default_rng(7))[:200] * 0.1, np.full((1, 1), 0.0)):
        if values.shape[1] == 1:
            values = noise("log-normal", 0.5, window.length, np.random.default_rng(8))[:200]
        counts = np.full(200, window.length)
        assert statistic(values * scale, counts, window) == pytest.approx(statistic(values, counts, window), rel=1e-6)


def test_too_few_values_and_broken_ones_have_no_confidence() -> None:
    """Fewer values than the window needs, NaN and infinities give NaN, without a warning."""
    windows = np.arange(30.0)[None].repeat(4, axis=0)
    windows[1, 3], windows[2, 29] = math.nan, math.inf
    found = confidence(windows, np.array([30, 30, 30, 14]), LONG)
    assert np.isnan(found).tolist() == [False, True, True, True]
    assert len(confidence(np.empty((0, 30)), np.empty(0, np.int64), LONG)) == 0


@pytest.mark.parametrize("count", [5, 6, 9, 10])
def test_windows_that_are_not_full_are_clipped_like_full_ones(count: int) -> None:
    """Padding counts for no median: a window of `count` values is clipped as one that is just so long."""
    values = np.random.default_rng(9).standard_t(1, (50, 30))
    counts = np.full(50, count)
    expected = clipped(values[:, -count:], counts)
    assert (expected != values[:, -count:]).any()
    counts[0] = 30  # else the windows would all be of one length
    assert clipped(values, counts)[1:, -count:].tolist() == expected[1:].tolist()


@pytest.mark.parametrize(("window", "count"), [(SHORT, 6), (SHORT, 10), (LONG, 15), (LONG, 30)])
def test_the_table_is_what_the_simulation_gives(window: Window, count: int) -> None:
    """The quantiles stand as simulated: from a smaller draw the same ones come out, where it is large enough."""
    again = null_quantiles(window, count, series=8000, seed=1)
    enough = (P_VALUES >= 0.015) & (P_VALUES < 1.0)
    assert np.array(QUANTILES[window.name][count])[enough] == pytest.approx(again[enough], abs=0.35)
