"""Collects a rollout: steps the environments with the policy, then computes advantages and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import RestorableEnv, Step, VectorEnv
from esper_recorder.train.losses import generalized_advantages
from esper_recorder.train.networks import ActorCritic

EPISODE_WINDOW = 100
"""Number of episodes in the running mean return."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout of T steps of N environments, flattened to B = T·N rows, on the training device.

    Values, returns, advantages and TD errors are on the raw return scale. Rows where `valid` is False
    only reset an environment: they are in the tensors, but in no loss and no statistic.

    Attributes:
        observations: [B, D] float32, as the networks take them.
        raw_observations: [B, D] float32, as the environment returned them.
        actions: int64 [B] or float32 [B, A], as sampled from the policy.
        log_probs: [B] float32, of the actions under the policy that sampled them, nats.
        values: [B] float32, V(s) before the update.
        advantages: [B] float32, before normalisation.
        returns: [B] float32, G = advantage + V.
        td_errors: [B] float32.
        valid: [B] bool.
        episode_returns: [B] float64, undiscounted return of the episode so far.
        episode_lengths: [B] int64, length of the episode so far.
        episode_ends: [B] bool, the episode ended with this row.
    """

    observations: Tensor
    raw_observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    td_errors: Tensor
    valid: Tensor
    episode_returns: Tensor
    episode_lengths: Tensor
    episode_ends: Tensor


class RolloutCollector:
    """Steps the environments; episodes continue from one rollout into the next."""

    def __init__(self, env: VectorEnv, model: ActorCritic, config: PPOConfig, generator: torch.Generator) -> None:
        self.env = env
        self.model = model
        self.config = config
        self.generator = generator
        self._observations = env.reset()
        device = self._observations.device
        self._return = torch.zeros(env.num_envs, dtype=torch.float64, device=device)
        self._length = torch.zeros(env.num_envs, dtype=torch.int64, device=device)

    @torch.no_grad()
    def collect(self, heartbeat: Callable[[], None] | None = None) -> Rollout:
        """Collect one rollout with the current policy; `heartbeat` is called before each step and may raise."""
        raw, actions, steps = [self._observations], [], list[Step]()
        for _ in range(self.config.rollout_steps):
            if heartbeat is not None:
                heartbeat()
            action = self.model.sample(self.model.normalize(raw[-1]), self.generator)
            step = self.env.step(action)
            raw.append(step.observations)
            actions.append(action)
            steps.append(step)
        self._observations = raw[-1]
        return self._finish(torch.stack(raw), torch.stack(actions), steps)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the state of environments and running episodes; empty if it cannot be restored."""
        if not isinstance(self.env, RestorableEnv):
            return {}
        return {
            "observations": self._observations.clone(),
            "returns": self._return.clone(),
            "lengths": self._length.clone(),
            "env": self.env.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; if it is empty, new episodes start and unfinished ones are never counted."""
        if not isinstance(self.env, RestorableEnv):
            return
        self.env.load_state_dict(state["env"])
        self._observations = _copy_to(self._observations, state["observations"])
        self._return = _copy_to(self._return, state["returns"])
        self._length = _copy_to(self._length, state["lengths"])

    def _finish(self, raw: Tensor, actions: Tensor, steps: list[Step]) -> Rollout:
        rewards = torch.stack([step.rewards for step in steps])
        terminated = torch.stack([step.terminated for step in steps])
        truncated = torch.stack([step.truncated for step in steps])
        valid = torch.stack([step.valid for step in steps])

        observations = self.model.normalize(raw)
        scale = self.model.return_scale.scale.float()
        values = (self.model.predict_values(observations.flatten(0, 1)) * scale).view(raw.shape[:2])
        advantages, td_errors = generalized_advantages(
            rewards,
            values,
            terminated,
            truncated,
            valid,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
        )
        flat_observations = observations[:-1].flatten(0, 1)
        flat_actions = actions.flatten(0, 1)
        log_probs, _ = self.model.evaluate(flat_observations, flat_actions)
        ends = terminated | truncated
        episode_returns, episode_lengths = self._track_episodes(rewards, ends, valid)
        return Rollout(
            observations=flat_observations,
            raw_observations=raw[:-1].flatten(0, 1),
            actions=flat_actions,
            log_probs=log_probs,
            values=values[:-1].flatten(),
            advantages=advantages.flatten(),
            returns=(advantages + values[:-1]).flatten(),
            td_errors=td_errors.flatten(),
            valid=valid.flatten(),
            episode_returns=episode_returns.flatten(),
            episode_lengths=episode_lengths.flatten(),
            episode_ends=ends.flatten(),
        )

    def _track_episodes(self, rewards: Tensor, ends: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Compute return and length of each running episode after each row: [T, N], [T, N]."""
        returns, lengths = [], []
        for reward, end, counts in zip(torch.where(valid, rewards, 0.0), ends, valid, strict=True):
            returns.append(self._return + reward)
            lengths.append(self._length + counts)
            self._return = torch.where(end, 0.0, returns[-1])
            self._length = torch.where(end, 0, lengths[-1])
        return torch.stack(returns), torch.stack(lengths)


class EpisodeWindow:
    """Returns of the last 100 episodes, kept on the device."""

    def __init__(self, device: torch.device) -> None:
        self._returns = torch.zeros(EPISODE_WINDOW, dtype=torch.float64, device=device)
        self.count = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, rollout: Rollout) -> Tensor:
        """Add the episodes that ended in `rollout`; return the mean of the last 100, NaN before the first."""
        ends = rollout.episode_ends
        number = self.count + ends.cumsum(0)  # of the episode that ends here, counting from 1
        total = number[-1]
        is_kept = ends & (number > total - EPISODE_WINDOW)
        # Rows that end no kept episode write to a spare slot behind the window.
        slot = torch.where(is_kept, (number - 1) % EPISODE_WINDOW, EPISODE_WINDOW)
        spare = torch.zeros(1, dtype=torch.float64, device=ends.device)
        extended = torch.cat((self._returns, spare))
        self._returns = extended.scatter(0, slot, rollout.episode_returns)[:EPISODE_WINDOW]
        self.count = total
        return self._returns.sum() / total.clamp(max=EPISODE_WINDOW)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the window."""
        return {"returns": self._returns.clone(), "count": self.count.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`."""
        self._returns = _copy_to(self._returns, state["returns"])
        self.count = _copy_to(self.count, state["count"])


def _copy_to(place: Tensor, value: Tensor) -> Tensor:
    """Copy `value` to the device of `place`."""
    return value.to(place.device, copy=True)
