"""Runs that earn given returns, and whose mechanics and critic work: what is judged beside references."""

from __future__ import annotations

from collections.abc import Sequence

RISES = [20.0 + 5.0 * i + i % 7 for i in range(100)]
STUCK = [20.0 + i % 7 for i in range(160)]


def rows_earning(returns: Sequence[float]) -> list[dict[str, float]]:
    """Rows for `Recorder.record`, one for each return."""
    return [
        {
            "update": i,
            "env_steps": 256 * (i + 1),
            "episode_return_mean": value,
            "value_loss": 1.0,
            "policy_loss": 0.01,
            "kl_divergence": 0.01,
            "explained_variance": 0.9,
            "entropy": 0.6 + 0.01 * (i % 2),
        }
        for i, value in enumerate(returns)
    ]
