"""The rows of a sound run, of which metrics can be changed from an update on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any


def rows(count: int, *, seed: int = 0, change: int = 10**9, **changed: Any) -> Iterator[dict[str, Any]]:
    """A sound run with two metrics of the user's; from update `change` on these values are what they are given as."""
    rng = random.Random(seed)
    for update in range(count):
        row = {
            "update": update,
            "env_steps": 128 * (update + 1),
            "policy_loss": rng.gauss(-0.02, 0.002),
            "value_loss": rng.gauss(0.5, 0.02),
            "entropy": rng.gauss(1.2, 0.01),
            "kl_divergence": abs(rng.gauss(0.005, 0.0004)),
            "learning_rate": 3e-4,
            "td_error_mean": rng.gauss(0.0, 0.1),
            "return_mean": rng.gauss(10.0, 0.3),
            "update_secs": abs(rng.gauss(0.1, 0.002)),
            "my_reward": rng.gauss(1.0, 0.05),
        }
        yield row | (changed if update >= change else {})
