"""The statistics of one rollout: how well the critic knew its returns before the update."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from esper_recorder.writing.device_capture import defined_if
from esper_schemas.errors import UsageError

NEARLY_CONSTANT = 1e-8
"""A variance below this share of max(1, mean²) is rounding noise of float32: it cannot be explained."""


class Statistic(NamedTuple):
    """A 0-d number, and whether it is meaningful (0-d bool); both of the array type that was measured."""

    number: Any
    is_defined: Any


def rollout_statistics(
    values: Any, returns: Any, advantages: Any = None, *, td_errors: Any = None, valid: Any = None
) -> dict[str, Any]:
    """Measure a rollout before the update; the result goes to `Recorder.record` by keyword.

    Every number is a metric of the metrics table, computed in float64 over the samples. V, G and A are values, returns
    and advantages; Var is the population variance (the mean of the squared deviations).

    - `samples`: how many samples are valid
    - `value_mean`, `value_std`, `value_min`, `value_max`: of V; std is √Var(V)
    - `return_mean`, `return_std`, `return_p10`, `return_p50`, `return_p90`: of G; percentiles are linear between
      neighbours
    - `explained_variance`: 1 − Var(G − V) / Var(G)
    - `value_nrmse`: √(mean((G − V)²) / Var(G))
    - `v_return_correlation`: Cov(V, G) / √(Var(V)·Var(G)), Pearson
    - `advantage_mean`, `advantage_std`: of A
    - `advantage_skewness`: mean((A − mean A)³) / Var(A)^1.5
    - `advantage_positive_ratio`: the share of A > 0
    - `td_error_mean`, `td_error_std`, `bellman_error`: of the TD errors δ; the last is mean(|δ|)

    What divides by a variance is None where there is none: explained variance and NRMSE where
    Var(G) ≤ 1e-8·max(1, mean(G)²), the correlation also where that is true of V, and the skewness where
    Var(A) ≤ 1e-8·Var(G). Without a valid sample everything but `samples` is None. NaN and infinities of the rollout
    come out as NaN or infinities. Numbers as large as 1e300 do not overflow.

    CUDA tensors are measured on their device, and nobody waits for it: the result has 0-d tensors, for `record` to
    fetch in the background. A statistic that is not defined is a NaN there, which `record` stores as null.

    Args:
        values: V(s) of each sample as predicted before the update, any shape; on the scale of the returns.
        returns: the targets of the value function, of the same shape.
        advantages: before normalisation, of the same shape; None leaves their statistics out.
        td_errors: one-step TD errors, of the same shape; None leaves their statistics out.
        valid: bool of the same shape, False for what is no sample, such as padding; None for all valid.

    Returns:
        Name of the metrics table → number. Python numbers or None for NumPy arrays, lists and tensors on the CPU; 0-d
        tensors for tensors on CUDA.

    Raises:
        UsageError: shapes differ, or a value is no array of real numbers, or has a mask of its own.
    """
    given = {"values": values, "returns": returns, "advantages": advantages, "td_errors": td_errors, "valid": valid}
    given = {name: value for name, value in given.items() if value is not None or name in ("values", "returns")}
    torch: Any = sys.modules.get("torch")  # whoever has a tensor has loaded it
    on_cuda = torch is not None and any(getattr(value, "is_cuda", False) for value in given.values())
    arrays = {
        name: _on_device(torch, name, value, values) if on_cuda else _on_host(name, value)
        for name, value in given.items()
    }
    shape = tuple(arrays["values"].shape)
    for name, array in arrays.items():
        if tuple(array.shape) != shape:
            raise UsageError(
                f"rollout_statistics: {name} must have the shape of values, {shape}, found {tuple(array.shape)}"
            )
    flat = {name: array.reshape(-1) for name, array in arrays.items()}
    if on_cuda:
        with torch.no_grad():
            measured = measure(torch, **flat)
            samples = measured.pop("samples").number
            numbers = torch.stack([found.number for found in measured.values()]).unbind()
            flags = torch.stack([found.is_defined for found in measured.values()]).double().unbind()
            return {"samples": samples} | {
                name: defined_if(number, flag) for name, number, flag in zip(measured, numbers, flags, strict=True)
            }
    with np.errstate(all="ignore"):  # NaN in a rollout is recorded, and must not raise or warn
        measured = measure(np, **flat)
    samples = int(measured.pop("samples").number)
    return {"samples": samples} | {
        name: float(found.number) if found.is_defined else None for name, found in measured.items()
    }


def _on_host(name: str, value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = value.bool() if name == "valid" else value if value.is_complex() else value.double()
            value = value.numpy()
        found = np.asarray(value)
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError("a masked array: give its mask as valid")
        if found.dtype.kind in "cmMSU" or value is None:
            raise TypeError(f"of {found.dtype}")  # NumPy would make numbers of texts, dates and complex numbers
        return found.astype(np.bool_ if name == "valid" else np.float64, copy=False)
    except (TypeError, ValueError, RuntimeError) as error:
        kind, why = type(value).__name__, " ".join(str(error).split())
        raise UsageError(f"rollout_statistics: {name} must be an array of numbers, found {kind} ({why})") from None


def _on_device(torch: Any, name: str, value: Any, values: Any) -> Any:
    dtype = torch.bool if name == "valid" else torch.float64
    device = values.device if getattr(values, "is_cuda", False) else torch.device("cuda")
    return torch.as_tensor(value).detach().to(device=device, dtype=dtype)


# ------------------------------------------------------------------ the formulas


def measure(
    xp: Any, values: Any, returns: Any, advantages: Any = None, td_errors: Any = None, valid: Any = None
) -> dict[str, Statistic]:
    """The statistics of `rollout_statistics` as 0-d arrays, without a look at any of them.

    Args:
        xp: the library of the arrays, numpy or torch.
        values, returns, advantages, td_errors: [B] float64.
        valid: [B] bool.
    """
    is_valid = xp.ones_like(values, dtype=bool if xp is np else xp.bool) if valid is None else valid
    count = is_valid.sum()
    if not values.shape[0]:  # a minimum needs a number; nothing is defined without a sample
        is_valid = xp.zeros(1, dtype=is_valid.dtype) if xp is np else is_valid.new_zeros(1)
        values = returns = xp.zeros(1) if xp is np else values.new_zeros(1)
        advantages, td_errors = (None if array is None else values for array in (advantages, td_errors))
    has_samples = count > 0
    value, target = _Moments(xp, values, is_valid), _Moments(xp, returns, is_valid)
    error = _Moments(xp, returns - values, is_valid)
    low, middle, high = target.percentiles((0.1, 0.5, 0.9))
    returns_varied, values_varied = target.is_varied, value.is_varied
    correlation = _mean(xp, value.centred * target.centred, is_valid) / xp.sqrt(value.variance * target.variance)
    # A variance that is not finite is shown, and not hidden as undefined.
    are_finite = xp.isfinite(target.variance) & xp.isfinite(value.variance)
    can_explain = has_samples & ~(xp.isfinite(target.variance) & ~returns_varied)
    relative = error.scale / target.scale
    found = {
        "samples": Statistic(count, xp.ones_like(has_samples)),
        "value_mean": value.mean,
        "value_std": value.std,
        "value_min": xp.where(is_valid, values, xp.inf).min(),
        "value_max": xp.where(is_valid, values, -xp.inf).max(),
        "return_mean": target.mean,
        "return_std": target.std,
        "return_p10": low,
        "return_p50": middle,
        "return_p90": high,
        "explained_variance": Statistic(1.0 - error.variance / target.variance * relative**2, can_explain),
        "value_nrmse": Statistic(xp.sqrt(error.mean_square / target.variance) * relative, can_explain),
        "v_return_correlation": Statistic(
            xp.clip(correlation, -1.0, 1.0), has_samples & ~(are_finite & ~(returns_varied & values_varied))
        ),
    }
    if advantages is not None:
        advantage = _Moments(xp, advantages, is_valid)
        skewness = _mean(xp, advantage.centred**3, is_valid) / advantage.variance**1.5
        found |= {
            "advantage_mean": advantage.mean,
            "advantage_std": advantage.std,
            "advantage_skewness": Statistic(
                skewness, has_samples & ~(advantage.std <= NEARLY_CONSTANT**0.5 * target.std)
            ),
            "advantage_positive_ratio": _mean(xp, xp.where(advantages > 0, 1.0, xp.zeros_like(advantages)), is_valid),
        }
    if td_errors is not None:
        td_error = _Moments(xp, td_errors, is_valid)
        found |= {
            "td_error_mean": td_error.mean,
            "td_error_std": td_error.std,
            "bellman_error": _mean(xp, abs(td_error.scaled), is_valid) * td_error.scale,
        }
    return {
        name: number if isinstance(number, Statistic) else Statistic(number, has_samples)
        for name, number in found.items()
    }


class _Moments:
    """Mean and population variance of the valid entries, computed on a scale on which no square overflows.

    The scale is a power of two, so that it changes no bit of a result.
    """

    def __init__(self, xp: Any, entries: Any, valid: Any) -> None:
        self._xp, self._valid = xp, valid
        largest = xp.where(valid, abs(entries), 0.0).max()
        mantissa, _ = xp.frexp(largest)  # largest = mantissa · 2^n
        has_scale = xp.isfinite(largest) & (largest > 0)
        self.scale = xp.where(has_scale, largest / (2.0 * mantissa), 1.0)
        self.scaled = entries / self.scale
        self.scaled_mean = _mean(xp, self.scaled, valid)
        self.centred = self.scaled - self.scaled_mean
        self.variance = _mean(xp, self.centred**2, valid)
        self.mean = self.scaled_mean * self.scale
        self.std = xp.sqrt(self.variance) * self.scale

    @property
    def mean_square(self) -> Any:
        """Mean of the squares on the scale."""
        return _mean(self._xp, self.scaled**2, self._valid)

    @property
    def is_varied(self) -> Any:
        """Whether the variance is more than rounding noise; False where it is NaN."""
        square, least = self.scaled_mean**2, 1.0 / self.scale**2
        return self.variance > NEARLY_CONSTANT * self._xp.where(square > least, square, least)

    def percentiles(self, shares: Sequence[float]) -> list[Any]:
        """Linear between neighbours; NaN if an entry is NaN."""
        xp = self._xp
        infinite = xp.where(self._valid, self.scaled, xp.inf)
        ordered = np.sort(infinite) if xp is np else infinite.sort().values
        has_nan = (xp.isnan(self.scaled) & self._valid).any()
        last = xp.clip(xp.asarray(self._valid.sum() - 1, dtype=xp.float64), 0.0, None)
        percentiles = []
        for share in shares:
            position = last * share
            whole = xp.floor(position)
            # take, because indexing with a 0-d tensor would copy its value to the host
            below = xp.take(ordered, xp.asarray(whole, dtype=xp.int64))
            above = xp.take(ordered, xp.asarray(xp.ceil(position), dtype=xp.int64))
            between = xp.where(below == above, below, below + (above - below) * (position - whole))
            percentiles.append(xp.where(has_nan, xp.nan, between) * self.scale)
        return percentiles


def _mean(xp: Any, entries: Any, valid: Any) -> Any:
    return xp.where(valid, entries, 0.0).sum() / valid.sum()
