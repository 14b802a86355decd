"""The public statistics of a rollout, against NumPy and on input that no formula likes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esper_recorder import Recorder, rollout_statistics
from esper_recorder.rollout import measure
from esper_recorder.writing.device_capture import DeviceCapture, defined_if
from esper_schemas import METRICS
from esper_schemas.errors import UsageError

ReadRows = Callable[..., list[dict[str, Any]]]

RNG = np.random.default_rng(5)
SHAPE = (16, 4)
VALUES = RNG.normal(3.0, 2.0, SHAPE)
RETURNS = 0.5 * VALUES + RNG.gamma(1.0, 2.0, SHAPE)
ADVANTAGES = RETURNS - VALUES
TD_ERRORS = RNG.normal(size=SHAPE)

ON = pytest.mark.parametrize("to", [np.asarray, torch.tensor, np.ndarray.tolist], ids=["numpy", "torch", "lists"])


def expected(v: Any, g: Any, a: Any, td: Any) -> dict[str, float]:
    """Every statistic by NumPy's own functions."""
    return {
        "samples": v.size,
        "value_mean": v.mean(),
        "value_std": v.std(),
        "value_min": v.min(),
        "value_max": v.max(),
        "return_mean": g.mean(),
        "return_std": g.std(),
        "return_p10": np.percentile(g, 10),
        "return_p50": np.percentile(g, 50),
        "return_p90": np.percentile(g, 90),
        "explained_variance": 1 - np.var(g - v) / np.var(g),
        "value_nrmse": np.sqrt(((g - v) ** 2).mean()) / g.std(),
        "v_return_correlation": np.corrcoef(v.ravel(), g.ravel())[0, 1],
        "advantage_mean": a.mean(),
        "advantage_std": a.std(),
        "advantage_skewness": ((a - a.mean()) ** 3).mean() / a.std() ** 3,
        "advantage_positive_ratio": (a > 0).mean(),
        "td_error_mean": td.mean(),
        "td_error_std": td.std(),
        "bellman_error": np.abs(td).mean(),
    }


@ON
def test_statistics_are_those_of_numpy(to: Callable[[Any], Any]) -> None:
    """Arrays, tensors and lists give the same plain numbers, and each is a metric of the table."""
    found = rollout_statistics(to(VALUES), to(RETURNS), to(ADVANTAGES), td_errors=to(TD_ERRORS))
    assert found == pytest.approx(expected(VALUES, RETURNS, ADVANTAGES, TD_ERRORS), rel=1e-12)
    assert {type(number) for number in found.values()} == {int, float}
    assert found.keys() <= METRICS.keys()


@ON
def test_what_is_no_sample_does_not_count(to: Callable[[Any], Any]) -> None:
    """Rows that are not valid may hold anything: the statistics are those of the others."""
    valid = RNG.random(SHAPE) < 0.7
    arrays = [np.where(valid, array, np.nan) for array in (VALUES, RETURNS, ADVANTAGES, TD_ERRORS)]
    v, g, a, td = map(to, arrays)
    found = rollout_statistics(v, g, a, td_errors=td, valid=to(valid))
    chosen = (array[valid] for array in (VALUES, RETURNS, ADVANTAGES, TD_ERRORS))
    assert found == pytest.approx(expected(*chosen), rel=1e-12)


def test_what_is_not_given_is_left_out() -> None:
    """Without advantages and TD errors their statistics are absent, and the others the same."""
    whole = rollout_statistics(VALUES, RETURNS, ADVANTAGES)
    assert not any(name.startswith(("td_", "bellman")) for name in whole)
    found = rollout_statistics(VALUES, RETURNS)
    assert found == {name: number for name, number in whole.items() if not name.startswith("advantage")}


def test_whatever_the_trainer_of_a_framework_hands_over() -> None:
    """Tensors with gradients, of half precision and of whole numbers are measured as the numbers that they hold."""
    values = torch.tensor(VALUES, dtype=torch.bfloat16, requires_grad=True)
    found = rollout_statistics(values, torch.arange(64).reshape(SHAPE), torch.ones(SHAPE, dtype=torch.float16))
    assert found["value_mean"] == pytest.approx(float(values.detach().double().mean()), rel=1e-12)
    assert (found["return_mean"], found["advantage_mean"]) == (31.5, 1.0)


# ---------------------------------------------------------------------- what no formula likes


def test_numbers_that_do_not_vary_leave_what_divides_by_their_variance_null() -> None:
    """Rounding noise of float32 is no variance, and what divides by it is None; the rest is measured."""
    same, ramp = np.full((4, 2), 7.0, np.float32), np.arange(8, dtype=np.float32).reshape(4, 2)
    constant = rollout_statistics(ramp, same, ramp)
    undefined = {"explained_variance", "value_nrmse", "v_return_correlation"}
    assert {name for name, value in constant.items() if value is None} == undefined
    assert (constant["return_std"], constant["return_p90"]) == (0.0, 7.0)
    noisy = rollout_statistics(ramp, 100.0 + RNG.normal(scale=1e-6, size=(4, 2)))
    assert {name for name, value in noisy.items() if value is None} == undefined
    assert rollout_statistics(same, ramp)["v_return_correlation"] is None
    assert rollout_statistics(same, ramp)["explained_variance"] == 0.0
    assert rollout_statistics(same, ramp, same)["advantage_skewness"] is None
    zeros = np.zeros(5)
    assert rollout_statistics(zeros, zeros, zeros)["value_mean"] == 0.0


@pytest.mark.parametrize("factor", [1e300, 1e160, 1e-3])
def test_the_size_of_the_numbers_does_not_matter(factor: float) -> None:
    """Returns of 1e300 give the same shape of numbers as those of 1: no square overflows."""
    found = rollout_statistics(*(factor * array for array in (VALUES, RETURNS, ADVANTAGES)), td_errors=TD_ERRORS)
    plain = expected(VALUES, RETURNS, ADVANTAGES, TD_ERRORS)
    scaled = ("value_m", "value_std", "return_", "advantage_mean", "advantage_std")
    expected_now = {name: factor * number if name.startswith(scaled) else number for name, number in plain.items()}
    assert found == pytest.approx(expected_now, rel=1e-9)


def test_returns_that_are_tiny_beside_the_values_are_still_seen() -> None:
    """A critic that is far off shows in its numbers, however far: nothing underflows to 'constant'."""
    found = rollout_statistics(1e200 * VALUES, RETURNS)
    assert found["return_std"] == pytest.approx(RETURNS.std())
    assert found["value_nrmse"] == pytest.approx(1e200 * np.sqrt((VALUES**2).mean()) / RETURNS.std())
    assert found["explained_variance"] == -math.inf


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_shown(broken: float) -> None:
    """One NaN or infinity comes out in what depends on it, raises no warning, and is not hidden as undefined."""
    returns = RETURNS.copy()
    returns[3, 1] = broken
    with np.errstate(all="raise"):
        found = rollout_statistics(VALUES, returns, ADVANTAGES)
    for name in ("return_mean", "return_std", "explained_variance", "value_nrmse", "v_return_correlation"):
        assert found[name] is not None, name
        assert not math.isfinite(found[name]), name
    assert found["value_mean"] == pytest.approx(VALUES.mean())
    assert found["advantage_skewness"] is not None
    assert math.isnan(found["return_p50"]) == math.isnan(broken)


@ON
@pytest.mark.parametrize("size", [0, 6])
def test_a_rollout_without_samples_has_no_numbers(to: Callable[[Any], Any], size: int) -> None:
    """Nothing valid, or nothing at all: zero samples, and every statistic is None."""
    nothing = to(np.zeros(size))
    valid = to(np.zeros(size, dtype=bool))
    found = rollout_statistics(nothing, nothing, nothing, td_errors=nothing, valid=valid)
    assert found.pop("samples") == 0
    assert set(found.values()) == {None}
    assert len(found) == 19


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (None, "found NoneType"),
        (VALUES + 1j, "of complex128"),
        (torch.ones(16, 4, dtype=torch.complex64), "of complex64"),
        (VALUES.astype(str).tolist(), "found list"),
        (np.full(VALUES.shape, "2026-11-27", dtype="datetime64[s]"), "of datetime64"),
        (np.ma.masked_array(VALUES, VALUES > 0.0), "give its mask as valid"),
        ([torch.ones(4, requires_grad=True)] * 16, "found list"),
        (torch.ones(16, 4).to_sparse(), "found Tensor"),
        (torch.ones(16, 4, device="meta"), "found Tensor"),
    ],
    ids=["None", "complex", "complex tensor", "texts", "dates", "masked", "gradients", "sparse", "meta"],
)
def test_what_is_no_array_of_real_numbers_is_refused(values: Any, why: str) -> None:
    """One line, and never a number made of something else: neither the real part nor a value behind a mask."""
    with pytest.raises(UsageError, match="values must be an array of numbers") as refused:
        rollout_statistics(values, RETURNS)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_shapes_that_would_broadcast_are_refused() -> None:
    """[T, N] against [T, N, 1] is the classic mistake of a critic: one line names both shapes."""
    with pytest.raises(UsageError, match=r"returns must have the shape of values, \(16, 4\), found \(16, 4, 1\)"):
        rollout_statistics(VALUES, RETURNS[..., None])
    with pytest.raises(UsageError, match="valid must have the shape"):
        rollout_statistics(VALUES, RETURNS, valid=[True])
    with pytest.raises(UsageError, match="advantages must be an array of numbers, found str"):
        rollout_statistics(VALUES, RETURNS, "high")


# ---------------------------------------------------------------------- on a device


def test_both_libraries_compute_the_same() -> None:
    """The formulas are one source: NumPy's arrays and tensors give the same numbers and flags."""
    valid = RNG.random(64) < 0.8
    arrays = [array.ravel() for array in (VALUES, RETURNS, ADVANTAGES, TD_ERRORS)]
    given = dict(zip(("values", "returns", "advantages", "td_errors", "valid"), (*arrays, valid), strict=True))
    ours = measure(np, **given)
    theirs = measure(torch, **{name: torch.tensor(array) for name, array in given.items()})
    assert {name: float(found.number) for name, found in theirs.items()} == pytest.approx(
        {name: float(found.number) for name, found in ours.items()}, rel=1e-12
    )
    assert {name: bool(found.is_defined) for name, found in theirs.items()} == dict.fromkeys(ours, True)


def test_no_number_is_looked_at() -> None:
    """Tensors without any data, of which no number can reach the host, go through all formulas."""
    empty = torch.empty(32, dtype=torch.float64, device="meta")
    found = measure(torch, empty, empty, empty, empty, torch.ones(32, dtype=torch.bool, device="meta"))
    assert {statistic.number.shape for statistic in found.values()} == {torch.Size([])}


def test_a_number_that_turns_out_undefined_arrives_as_null() -> None:
    """The flag travels with the number: False makes it null, and a NaN that is defined stays NaN."""
    flags = [torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0)]
    names = ("explained_variance", "value_nrmse", "v_return_correlation")
    tensors = {
        name: defined_if(torch.tensor(number, dtype=torch.float64), flag)
        for name, number, flag in zip(names, (3.0, math.nan, 0.5), flags, strict=True)
    }
    row = DeviceCapture(pinned=False).begin({"update": 1}, {**tensors, "mine": torch.tensor(2.0)}).resolve()
    assert row.keys() == {"update", "value_nrmse", "v_return_correlation", "mine"}
    assert math.isnan(row["value_nrmse"])
    assert (row["v_return_correlation"], row["mine"]) == (0.5, 2.0)


def test_a_row_takes_them_by_keyword(tmp_path: Path, read_rows: ReadRows) -> None:
    """What is measured is recorded as it is, None as null."""
    measured = rollout_statistics(VALUES, np.ones(SHAPE), ADVANTAGES)
    with Recorder.open(tmp_path, run_id="run", strict=True) as recorder:
        recorder.record(update=0, policy_loss=0.0, value_loss=0.0, **measured)
    (row,) = read_rows(tmp_path / "run")
    assert {name: row[name] for name in measured} == measured
    assert row["explained_variance"] is None
