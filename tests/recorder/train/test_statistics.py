"""Rollout statistics against numpy, and what is null instead of a number that means nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from esper_recorder.train.rollout import Rollout
from esper_recorder.train.statistics import measured_rollout, to_host

RNG = np.random.default_rng(11)


def rollout_of(values: np.ndarray, returns: np.ndarray, **others: np.ndarray) -> Rollout:
    """A rollout of these values and returns, all rows valid, nothing else in it unless given."""
    size = len(values)
    arrays = {field.name: np.zeros(size) for field in dataclasses.fields(Rollout)}
    arrays |= {"valid": np.ones(size, dtype=bool), "episode_ends": np.zeros(size, dtype=bool)}
    arrays |= {"values": values, "returns": returns, "advantages": returns - values} | others
    return Rollout(**{name: torch.tensor(array) for name, array in arrays.items()})


def test_statistics_equal_numpy_over_the_valid_rows() -> None:
    """Means, deviations, percentiles, skewness, explained variance and correlation are numpy's."""
    size = 301
    values, noise = RNG.normal(3, 2, size), RNG.gamma(1.0, 2.0, size)
    returns = 0.5 * values + noise
    td_errors, valid = RNG.normal(size=size), RNG.random(size) < 0.8
    ends = (RNG.random(size) < 0.1) & valid
    episode_returns, lengths = RNG.normal(20, 3, size), RNG.integers(5, 30, size)
    rollout = rollout_of(
        values,
        returns,
        td_errors=td_errors,
        valid=valid,
        episode_ends=ends,
        episode_returns=episode_returns,
        episode_lengths=lengths,
    )
    v, g, td = values[valid], returns[valid], td_errors[valid]
    a = g - v
    expected = {
        "samples": valid.sum(),
        "value_mean": v.mean(),
        "value_std": v.std(),
        "value_min": v.min(),
        "value_max": v.max(),
        "return_mean": g.mean(),
        "return_std": g.std(),
        "return_p10": np.percentile(g, 10),
        "return_p50": np.percentile(g, 50),
        "return_p90": np.percentile(g, 90),
        "advantage_mean": a.mean(),
        "advantage_std": a.std(),
        "advantage_skewness": ((a - a.mean()) ** 3).mean() / a.std() ** 3,
        "advantage_positive_ratio": (a > 0).mean(),
        "td_error_mean": td.mean(),
        "td_error_std": td.std(),
        "bellman_error": np.abs(td).mean(),
        "explained_variance": 1 - np.var(g - v) / np.var(g),
        "value_nrmse": np.sqrt(((g - v) ** 2).mean()) / g.std(),
        "v_return_correlation": np.corrcoef(v, g)[0, 1],
        "episodes": ends.sum(),
        "episode_return_mean": episode_returns[ends].mean(),
        "episode_length_mean": lengths[ends].mean(),
    }
    found = to_host(measured_rollout(rollout))
    for flag in ("returns_defined", "correlation_defined", "advantages_defined"):
        assert found.pop(flag) == 1.0
    assert found == pytest.approx(expected, rel=1e-9)


def test_constant_returns_leave_what_divides_by_their_variance_undefined() -> None:
    """With returns that do not vary, explained variance means nothing; rounding noise is no variance."""
    noise = RNG.normal(scale=1e-6, size=100)
    found = to_host(measured_rollout(rollout_of(RNG.normal(size=100), 100.0 + noise)))
    assert found["returns_defined"] == 0.0
    assert found["correlation_defined"] == 0.0
    found = to_host(measured_rollout(rollout_of(np.full(100, 2.0), RNG.normal(size=100))))
    assert found["returns_defined"] == 1.0
    assert found["correlation_defined"] == 0.0


def test_a_nan_is_shown_and_not_hidden_as_undefined() -> None:
    """One NaN return makes the statistics NaN, and they are not taken for undefined."""
    returns = RNG.normal(size=50)
    returns[7] = np.nan
    found = to_host(measured_rollout(rollout_of(RNG.normal(size=50), returns)))
    for name in ("return_mean", "return_p50", "explained_variance", "v_return_correlation"):
        assert np.isnan(found[name])
    assert found["returns_defined"] == found["correlation_defined"] == 1.0
    assert np.isfinite(found["value_mean"])
