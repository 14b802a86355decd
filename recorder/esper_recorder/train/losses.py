"""The formulas of PPO as pure functions of tensors: differentiable, on any device, without host transfers.

Per-sample tensors have shape [B] and a float dtype; `valid` is bool [B] and False on rows that only reset
an environment. Masked rows may have any finite value and do not change a result.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` where `valid`; 0 if nothing is valid. Shapes [B], [B] -> []."""
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)


def value_loss_per_sample(values: Tensor, old_values: Tensor, targets: Tensor, value_clip: float | None) -> Tensor:
    """Value loss of each sample, ≥ 0, on the scale of the value targets: [B].

    Unclipped (`value_clip` None) it is ½(V − G)². Clipped it is ½·max((V − G)², (V_clipped − G)²) with
    V_clipped = V_old + clamp(V − V_old, −clip, +clip). The maximum is taken per sample before any mean, as in
    Schulman's baselines and CleanRL.
    """
    squared_error = (values - targets) ** 2
    if value_clip is None:
        return 0.5 * squared_error
    clipped_values = old_values + (values - old_values).clamp(-value_clip, value_clip)
    return 0.5 * torch.maximum(squared_error, (clipped_values - targets) ** 2)


def policy_loss_per_sample(log_ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Clipped surrogate loss of each sample, sign as minimised: [B].

    −min(r·A, clamp(r, 1 − clip, 1 + clip)·A), r = exp(log_ratio) (Schulman et al. 2017, eq. 7).
    """
    ratio = log_ratio.exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1.0 - clip_range, 1.0 + clip_range))


def kl_k3(log_ratio: Tensor) -> Tensor:
    """Estimate of KL(old ‖ new) from each sample of the old policy, nats, ≥ 0: [B].

    (r − 1) − log r, unbiased and never negative (Schulman, "Approximating KL divergence", estimator k3);
    rounding errors below zero are clamped to 0.
    """
    return (torch.expm1(log_ratio) - log_ratio).clamp(min=0.0)


def clip_fractions(log_ratio: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """Whether each sample's ratio is above 1 + clip, and whether below 1 − clip, as 0 or 1: [B], [B]."""
    ratio = log_ratio.exp()
    return (ratio > 1.0 + clip_range).to(ratio.dtype), (ratio < 1.0 - clip_range).to(ratio.dtype)


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    valid: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Advantages and one-step TD errors of a rollout (Schulman et al. 2016, "GAE", eq. 16).

    The row after an episode's last step has that episode's final observation (next-step reset), so
    `values[t + 1]` is the value to bootstrap from at every t; only a termination replaces it with 0.
    Both results are 0 on rows that are not valid, and no advantage extends across the end of an episode.

    Args:
        rewards: [T, N] float.
        values: [T + 1, N] float, V of each observation and of the one after the last step.
        terminated: [T, N] bool, the episode ended in a terminal state.
        truncated: [T, N] bool, the episode was cut off.
        valid: [T, N] bool, False on rows that only reset an environment.
        gamma: Discount factor.
        gae_lambda: λ.

    Returns:
        Advantages [T, N] and TD errors [T, N], on the scale of rewards and values.
    """
    td_errors = rewards + gamma * values[1:] * ~terminated - values[:-1]
    td_errors = torch.where(valid, td_errors, 0.0)
    decay = gamma * gae_lambda * ~(terminated | truncated)
    advantages = torch.empty_like(td_errors)
    following = torch.zeros_like(td_errors[0])
    for t in reversed(range(rewards.shape[0])):
        following = torch.addcmul(td_errors[t], decay[t], following)
        advantages[t] = following
    return torch.where(valid, advantages, 0.0), td_errors
