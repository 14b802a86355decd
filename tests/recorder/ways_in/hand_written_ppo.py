"""A PPO as people write it, on CartPole; it has no line of Esper, and remembers what it computed."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

SIZE, GAMMA, LAMBDA, CLIP = 64, 0.99, 0.95, 0.2


class Agent:
    """One environment, two small networks, and a rollout of 64 steps.

    Attributes:
        rollouts, minibatch_numbers: what was collected and computed, for the test to compare.
        break_at: the optimiser step whose policy loss is made NaN; None for none.
    """

    def __init__(self, updates: int, break_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.config = {"updates": updates, "epochs": 2, "learning_rate": 1e-2, "clip_range": CLIP}
        self.actor = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
        self.critic = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        self.parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-2)
        self.env = gym.make("CartPole-v1")
        self.observation = self.env.reset(seed=0)[0]
        self.steps = 0
        self.rollouts: list[Any] = []
        self.minibatch_numbers: list[dict[str, float]] = []
        self.break_at = break_at

    def collect(self) -> Any:
        """64 steps, with GAE."""
        names = ("seen", "actions", "log_probs", "values", "rewards", "ends")
        found: dict[str, list[Any]] = {name: [] for name in names}
        lengths, length = [], 0
        with torch.no_grad():
            for _ in range(SIZE):
                seen = torch.tensor(self.observation)
                # Stable-Baselines3 turns the validation off for the whole process, where another test imports it.
                policy: Any = Categorical(logits=self.actor(seen), validate_args=True)
                action = policy.sample()
                self.observation, reward, terminated, truncated, _ = self.env.step(int(action))
                length += 1
                is_end = terminated or truncated
                row = (seen, action, policy.log_prob(action), self.critic(seen)[0], float(reward), is_end)
                for name, value in zip(found, row, strict=True):
                    found[name].append(value)
                if is_end:
                    self.observation = self.env.reset()[0]
                    lengths.append(length)
                    length = 0
            following = self.critic(torch.tensor(self.observation))[0]
        self.steps += SIZE
        values = torch.stack(found["values"])
        advantages, running = torch.zeros(SIZE), torch.tensor(0.0)
        for t in reversed(range(SIZE)):
            alive = 0.0 if found["ends"][t] else 1.0
            after = following if t == SIZE - 1 else values[t + 1]
            error = found["rewards"][t] + GAMMA * after * alive - values[t]
            running = error + GAMMA * LAMBDA * alive * running
            advantages[t] = running
        rollout = SimpleNamespace(
            observations=torch.stack(found["seen"]),
            actions=torch.stack(found["actions"]),
            log_probs=torch.stack(found["log_probs"]),
            values=values,
            advantages=advantages,
            returns=advantages + values,
            episode_return_mean=float(np.mean(lengths)) if lengths else None,
            reward_for_posture=float(np.mean(found["rewards"])),
        )
        self.rollouts.append(rollout)
        return rollout

    def minibatches(self, rollout: Any) -> Iterator[Tensor]:
        """The indices of two halves."""
        self.rollout = rollout
        order = torch.randperm(SIZE)
        yield from (order[: SIZE // 2], order[SIZE // 2 :])

    def learn(self, rows: Tensor) -> dict[str, float]:
        """One optimiser step; returns its numbers, the value loss as a plain mean of squares."""
        rollout = self.rollout
        policy: Any = Categorical(logits=self.actor(rollout.observations[rows]), validate_args=True)
        log_ratio = policy.log_prob(rollout.actions[rows]) - rollout.log_probs[rows]
        ratio, advantages = log_ratio.exp(), rollout.advantages[rows]
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy_loss = -torch.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages).mean()
        if len(self.minibatch_numbers) == self.break_at:
            policy_loss = policy_loss * torch.nan
        value_loss = ((self.critic(rollout.observations[rows])[:, 0] - rollout.returns[rows]) ** 2).mean()
        entropy = policy.entropy().mean()
        self.optimizer.zero_grad()
        (policy_loss + 0.25 * value_loss - 0.01 * entropy).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 0.5)
        self.optimizer.step()
        numbers = {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy": entropy.item(),
            "kl_divergence": ((ratio - 1) - log_ratio).mean().item(),
            "clip_fraction": ((ratio - 1).abs() > CLIP).float().mean().item(),
            "grad_norm": norm.item(),
        }
        self.minibatch_numbers.append(dict(numbers))
        return numbers
