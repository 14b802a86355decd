"""The band of a metric and the excursion out of it: robust, causal, and about changes, not about drift."""

from __future__ import annotations

import numpy as np
import pytest

from esper_analyzer.explaining.band import (
    SLIGHT,
    WIDTH,
    Floats,
    band_before,
    distances,
    find_excursion,
    has_past,
    noise_around,
    robust,
)
from esper_analyzer.judging.trouble import FEWEST_BEFORE

RNG = np.random.default_rng(0)


def noise(count: int, level: float = 1.0, size: float = 0.1) -> Floats:
    """Normal noise around a level; no value of it leaves its band."""
    return level + size * np.clip(np.random.default_rng(1).standard_normal(count), -2.0, 2.0)


def test_the_robust_deviation_of_normal_noise_is_its_standard_deviation() -> None:
    """Both estimates agree on normal noise, and one value in twenty may be arbitrary."""
    samples = RNG.normal(3.0, 2.0, (200, 400))
    centre, unit = robust(samples)
    assert centre.mean() == pytest.approx(3.0, abs=0.05)
    assert unit.mean() == pytest.approx(2.0, rel=0.06)
    samples[:, ::20] = 1e6
    spoilt_centre, spoilt_unit = robust(samples)
    assert spoilt_centre.mean() == pytest.approx(3.0, abs=0.3)
    assert 2.0 < spoilt_unit.mean() < 3.0


def test_heavy_tails_make_a_wider_band() -> None:
    """Where one value in eight is far off, the 90th percentile counts and not the MAD."""
    samples = RNG.normal(0.0, 1.0, (50, 400))
    samples[:, ::8] *= 20.0
    assert robust(samples)[1].mean() > 2.0


def test_a_band_is_made_of_what_came_before() -> None:
    """Whatever comes later changes no band: bit for bit."""
    values = noise(80)
    changed = values.copy()
    changed[60:] = 1e9
    for before, after in zip(band_before(values), band_before(changed), strict=True):
        np.testing.assert_array_equal(before[:61], after[:61])
    assert find_excursion(values[:60]) == find_excursion(changed[:60])


@pytest.mark.parametrize("height", [3.0, -3.0])
def test_a_step_is_found_where_it_is(height: float) -> None:
    """The first value after a step is where the metric left; the direction, the distance and the band are right."""
    values = noise(80)
    values[60:] += height
    found = find_excursion(values)
    assert found is not None
    assert (found.start, found.lasts) == (60, True)
    assert found.direction == ("up" if height > 0 else "down")
    assert found.usual == pytest.approx(1.0, abs=0.15)
    assert found.low < 1.0 < found.high
    assert found.deviations == pytest.approx(30.0, rel=0.5)


def test_a_spike_has_come_back() -> None:
    """A single value outside is found, and does not last."""
    values = noise(80)
    values[60] = 5.0
    found = find_excursion(values)
    assert found is not None
    assert (found.start, found.peak, found.lasts) == (60, 60, False)


def test_noise_seldom_leaves_its_band_and_drift_never_does() -> None:
    """Of normal noise less than one value in 1,000 is outside once the past is long; on a straight line none is."""
    samples = np.random.default_rng(3).standard_normal((100, 200))
    line = np.linspace(0.0, 50.0, 200)
    for rows in (samples, line + samples):
        far = np.array([distances(row, *band_before(row)) for row in rows])
        assert (np.abs(far[:, 60:]) > WIDTH).mean() < 1 / 1000
    assert find_excursion(line) is None


def test_a_change_of_pace_is_found() -> None:
    """A metric that suddenly falls many times as fast as before has left its band, within two values of the change."""
    values = np.concatenate((np.linspace(1.0, 0.9, 60), 0.9 - 0.1 * np.arange(1, 7))) + noise(66, 0.0, 0.005)
    found = find_excursion(values)
    assert found is not None
    assert found.direction == "down"
    assert 60 <= found.start <= 61


def test_a_constant_that_changes_went_infinitely_far() -> None:
    """Any other value leaves a constant; a rounding error does not."""
    values = np.full(40, 3e-4)
    values[30:] = 3e-3
    found = find_excursion(values)
    assert found is not None
    assert (found.start, found.deviations, found.low, found.high) == (30, np.inf, 3e-4, 3e-4)
    values[30:] = 3e-4 * (1 + 1e-12)
    assert find_excursion(values) is None


def test_a_measurement_that_changes_by_a_sample_of_many_has_not_moved() -> None:
    """A share of 1 that is 0.9998 for once is no excursion, and one of 0.9 is; noise keeps its own band."""
    values = np.full(60, 1.0)
    values[40] = 0.9998
    assert find_excursion(values, slight=SLIGHT) is None
    values[50:] = 0.9
    found = find_excursion(values, slight=SLIGHT)
    assert found is not None
    assert (found.start, found.deviations) == (50, np.inf)
    values[10:50:4] = 0.9998
    values[45] = 0.999
    values[50:] = 1.0
    assert find_excursion(values) is not None
    assert find_excursion(values, slight=SLIGHT) is None
    quiet = 1.0 + noise(60, 0.0, 1e-5)
    quiet[50:] += 1e-3
    assert find_excursion(quiet, slight=SLIGHT) is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_leaves_the_band(bad: float) -> None:
    """It went infinitely far, and is no past for the values after it."""
    values = noise(60)
    values[50] = bad
    found = find_excursion(values)
    assert found is not None
    assert (found.start, found.direction, found.deviations) == (50, "not finite", np.inf)
    assert np.isfinite(band_before(values)[1][51:]).all()


def test_a_metric_that_is_often_nan_does_not_leave_by_a_nan() -> None:
    """One NaN in five is what this metric is like."""
    values = noise(100)
    values[::5] = np.nan
    found = find_excursion(values, since=60)
    assert found is None


def test_an_excursion_begins_before_its_peak() -> None:
    """Of a metric that climbs out over several values, the first one outside is the beginning."""
    values = noise(70)
    values[60:] += np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    found = find_excursion(values)
    assert found is not None
    assert (found.start, found.peak) == (60, 69)


def test_only_recent_values_are_looked_at() -> None:
    """An excursion before `since` is not found."""
    values = noise(80)
    values[40] = 9.0
    assert find_excursion(values) is not None
    assert find_excursion(values, since=41) is None


def test_a_short_past_is_no_past() -> None:
    """Without enough values before it, nothing is outside; the first value with a band is the one documented."""
    assert find_excursion(np.array([])) is None
    values = noise(FEWEST_BEFORE + 2)
    assert not has_past(values[:-1])
    assert has_past(values)
    values[FEWEST_BEFORE] = 1e9
    assert find_excursion(values[: FEWEST_BEFORE + 1]) is None
    assert abs((values[FEWEST_BEFORE] - 1.0) / 0.1) > WIDTH


def test_noise_around_is_about_the_noise_and_not_about_a_step() -> None:
    """A step in the middle does not change what the noise is."""
    values = noise(200)
    values[100:] += 50.0
    assert np.nanmedian(noise_around(values)) == pytest.approx(0.1, rel=0.4)
    assert noise_around(values)[100] < 0.3


def test_the_largest_numbers_make_no_warning() -> None:
    """Near the end of float64 differences overflow: what cannot be computed counts as inside, without a warning."""
    values = np.where(np.arange(60) % 2, 1.7e308, -1.7e308)
    assert find_excursion(values) is None
    assert noise_around(values).shape == values.shape
