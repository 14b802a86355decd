"""The hyper-parameters that the three trainers have in common, under one name each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Hyper:
    """Hyper-parameters of one run; a trainer's module says how it understands each of them.

    Attributes:
        num_envs, rollout_steps: A rollout has num_envs × rollout_steps samples.
        anneal: Lower the learning rate linearly to zero over the run.
        value_clip: None for no clipping of the value loss.
        target_kl: None for no early stop.
        scale_rewards: Rewards (CleanRL style, SB3) or value targets (ours) are divided by a running deviation.
        normalize_observations: By running mean and deviation.
        reward_factor: What rewards are multiplied by before the trainer sees them; 1 in every sound run.
        activation: "tanh", or "relu" and "sigmoid" where a fault says so.
    """

    num_envs: int = 8
    rollout_steps: int = 32
    epochs: int = 4
    minibatches: int = 2
    learning_rate: float = 1e-3
    anneal: bool = True
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy_coef: float = 0.0
    vf_coef: float = 0.5
    value_clip: float | None = None
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    scale_rewards: bool = False
    normalize_observations: bool = False
    hidden: int = 32
    reward_factor: float = 1.0
    activation: str = "tanh"

    @property
    def samples(self) -> int:
        """Number of samples of a rollout."""
        return self.num_envs * self.rollout_steps

    def to_dict(self) -> dict[str, Any]:
        """Every hyper-parameter by name."""
        return asdict(self)
