"""Computes the statistics of one update on the training device, and copies them to the host once.

Names are those of the metrics table. Every result is a 0-d tensor; `to_host` moves them all in one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from esper_recorder.train.rollout import Rollout

MEANS = (
    "policy_loss",
    "value_loss",
    "value_loss_unclipped",
    "entropy",
    "kl_divergence",
    "clip_fraction_positive",
    "clip_fraction_negative",
    "ratio_deviation",
    "ratio_deviation_square",
    "pre_clip_grad_norm",
    "grad_norm",
)
"""Means that a minibatch reports, in the order that `UpdateStatistics.add` expects."""

NEARLY_CONSTANT = 1e-8
"""A variance below this share of max(1, mean²) is rounding noise of float32: it cannot be explained."""


class UpdateStatistics:
    """Sample-weighted sums, minima and maxima over all minibatches of an update, in float64 buffers."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(MEANS), dtype=torch.float64, device=device)
        self._weight = torch.zeros((), dtype=torch.float64, device=device)
        self._minima = torch.zeros(4, dtype=torch.float64, device=device)
        self._bad_gradients = torch.zeros(2, dtype=torch.float64, device=device)
        self.reset()

    def reset(self) -> None:
        """Start a new update in the same buffers."""
        self._sums.zero_()
        self._weight.zero_()
        self._minima.fill_(torch.inf)
        self._bad_gradients.zero_()

    def add(
        self, means: Sequence[Tensor], valid: Tensor, ratio: Tensor, log_probs: Tensor, bad_gradients: Tensor
    ) -> None:
        """Add one minibatch.

        Args:
            means: Means over its valid samples, 0-d, in the order of `MEANS`.
            valid: [B] bool; the number of valid samples is the minibatch's weight.
            ratio: [B] importance ratios.
            log_probs: [B] log-probabilities of the actions, nats.
            bad_gradients: [2], the number of NaN and of infinite elements of the gradient.
        """
        count = valid.sum()
        # An empty minibatch has no means, and 0 times a gradient norm that is not finite must still be 0.
        self._sums += torch.where(count > 0, torch.stack(list(means)).double() * count, 0.0)
        self._weight += count
        signed = torch.stack((ratio, -ratio, log_probs, -log_probs))
        self._minima.copy_(torch.minimum(self._minima, torch.where(valid, signed, torch.inf).amin(1)))
        self._bad_gradients += bad_gradients

    def kl_sum(self) -> tuple[Tensor, Tensor]:
        """Return the sum of the KL divergence over all samples so far, and the number of samples."""
        return self._sums[MEANS.index("kl_divergence")].clone(), self._weight.clone()

    def results(self) -> dict[str, Tensor]:
        """Return every mean, minimum, maximum and count of the update."""
        means = dict(zip(MEANS, (self._sums / self._weight).unbind(), strict=True))
        deviation = means.pop("ratio_deviation")
        square = means.pop("ratio_deviation_square")
        return means | {
            "clip_fraction": means["clip_fraction_positive"] + means["clip_fraction_negative"],
            "ratio_mean": 1.0 + deviation,
            "ratio_std": (square - deviation**2).clamp(min=0.0).sqrt(),
            "ratio_min": self._minima[0],
            "ratio_max": -self._minima[1],
            "log_prob_min": self._minima[2],
            "log_prob_max": -self._minima[3],
            "nan_grad_count": self._bad_gradients[0],
            "inf_grad_count": self._bad_gradients[1],
        }


def rollout_statistics(rollout: Rollout) -> dict[str, Tensor]:
    """Return statistics of the rollout before the update, on the raw return scale, over the valid rows.

    Variances are population variances. The entries `…_defined` say (as 1 or 0) whether the statistics that divide by
    a variance are meaningful.
    """
    valid = rollout.valid
    values, returns = rollout.values.double(), rollout.returns.double()
    value_mean, value_var, _ = _moments(values, valid)
    return_mean, return_var, _ = _moments(returns, valid)
    advantage_mean, advantage_var, advantage_skewness = _moments(rollout.advantages.double(), valid)
    td_errors = rollout.td_errors.double()
    td_mean, td_var, _ = _moments(td_errors, valid)
    error = returns - values
    _, error_var, _ = _moments(error, valid)
    covariance = _mean((values - value_mean) * (returns - return_mean), valid)
    low, middle, high = _percentiles(returns, valid, (0.1, 0.5, 0.9))
    are_returns_varied = return_var > NEARLY_CONSTANT * (return_mean**2).clamp(min=1.0)
    are_values_varied = value_var > NEARLY_CONSTANT * (value_mean**2).clamp(min=1.0)
    episodes = rollout.episode_ends.sum()
    return {
        "samples": valid.sum(),
        "value_mean": value_mean,
        "value_std": value_var.sqrt(),
        "value_min": torch.where(valid, values, torch.inf).amin(),
        "value_max": torch.where(valid, values, -torch.inf).amax(),
        "return_mean": return_mean,
        "return_std": return_var.sqrt(),
        "return_p10": low,
        "return_p50": middle,
        "return_p90": high,
        "advantage_mean": advantage_mean,
        "advantage_std": advantage_var.sqrt(),
        "advantage_skewness": advantage_skewness,
        "advantage_positive_ratio": _mean((rollout.advantages > 0).double(), valid),
        "td_error_mean": td_mean,
        "td_error_std": td_var.sqrt(),
        "bellman_error": _mean(td_errors.abs(), valid),
        "explained_variance": 1.0 - error_var / return_var,
        "value_nrmse": (_mean(error**2, valid) / return_var).sqrt(),
        "v_return_correlation": covariance / (value_var * return_var).sqrt(),
        "returns_defined": ~(return_var.isfinite() & ~are_returns_varied),
        "correlation_defined": ~(
            return_var.isfinite() & value_var.isfinite() & ~(are_returns_varied & are_values_varied)
        ),
        "advantages_defined": ~(advantage_var <= NEARLY_CONSTANT * return_var),
        "episodes": episodes,
        "episode_return_mean": _mean(rollout.episode_returns, rollout.episode_ends),
        "episode_length_mean": _mean(rollout.episode_lengths.double(), rollout.episode_ends),
    }


def to_host(statistics: Mapping[str, Tensor]) -> dict[str, float]:
    """Copy all statistics to the host at once: the only copy from the device in an update."""
    packed = torch.stack([value.double() for value in statistics.values()])
    return dict(zip(statistics, packed.tolist(), strict=True))


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, 0.0).sum() / valid.sum()


def _moments(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, population variance and skewness of the valid entries."""
    mean = _mean(values, valid)
    centred = values - mean
    variance = _mean(centred**2, valid)
    return mean, variance, _mean(centred**3, valid) / variance**1.5


def _percentiles(values: Tensor, valid: Tensor, shares: Sequence[float]) -> list[Tensor]:
    """Percentiles of the valid entries, linear between neighbours; NaN if one of them is NaN."""
    ordered = torch.where(valid, values, torch.inf).sort().values
    has_nan = (values.isnan() & valid).any()
    last = (valid.sum() - 1).clamp(min=0).double()
    percentiles = []
    for share in shares:
        position = last * share
        # take, because indexing with a 0-d tensor would copy its value to the host
        below = ordered.take(position.floor().long())
        above = ordered.take(position.ceil().long())
        between = torch.where(below == above, below, below + (above - below) * position.frac())
        percentiles.append(torch.where(has_nan, torch.nan, between))
    return percentiles
