"""Computes the statistics of one update on the training device, and copies them to the host once.

Names are those of the metrics table. Every result is a 0-d tensor; `to_host` moves them all in one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from esper_recorder.rollout import measure
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


def measured_rollout(rollout: Rollout) -> dict[str, Tensor]:
    """Return the statistics of a rollout before the update, on the raw return scale, over the valid rows.

    They are those of `esper_recorder.rollout_statistics`, and those of the episodes that ended. The entries
    `…_defined` say (as 1 or 0) whether the statistics that divide by a variance are meaningful.
    """
    found = measure(
        torch,
        rollout.values.double(),
        rollout.returns.double(),
        rollout.advantages.double(),
        rollout.td_errors.double(),
        rollout.valid,
    )
    return {name: statistic.number for name, statistic in found.items()} | {
        "returns_defined": found["explained_variance"].is_defined,
        "correlation_defined": found["v_return_correlation"].is_defined,
        "advantages_defined": found["advantage_skewness"].is_defined,
        "episodes": rollout.episode_ends.sum(),
        "episode_return_mean": _mean(rollout.episode_returns, rollout.episode_ends),
        "episode_length_mean": _mean(rollout.episode_lengths.double(), rollout.episode_ends),
    }


def to_host(statistics: Mapping[str, Tensor]) -> dict[str, float]:
    """Copy all statistics to the host at once: the only copy from the device in an update."""
    packed = torch.stack([value.double() for value in statistics.values()])
    return dict(zip(statistics, packed.tolist(), strict=True))


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, 0.0).sum() / valid.sum()
