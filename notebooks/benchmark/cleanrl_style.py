"""A PPO in one file, in the style of CleanRL's `ppo.py`: its defaults and definitions, in words of our own.

What is CleanRL's: rewards unscaled unless the run says so, a truncation counts as a termination, the value loss is
½·mean(max(e², e_clipped²)) with a clip of 0.2 on the scale of the returns, advantages are normalised per minibatch,
the rate is annealed, and losses, entropy and KL are those of the last minibatch of the update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from benchmark.running import ACTIVATIONS, Floats, Learner, Policy, Rollout, Training, to_env
from esper_recorder import Recorder, rollout_statistics
from esper_schemas.run.records import ValueLossDefinition


def train(training: Training) -> Policy:
    """Train and record one run; the policy that it ends with."""
    torch.manual_seed(training.seed)
    np.random.seed(training.seed)
    loop = Loop(training)
    hyper = training.hyper
    definition = ValueLossDefinition(
        source="0.5 * mean(max((V - G)^2, (V_old + clamp(V - V_old, -clip, clip) - G)^2))",
        factor=1.0,
        clipping="none" if hyper.value_clip is None else "max",
        clip_range=hyper.value_clip,
        reduction="last minibatch",
        coefficient_included=False,
        targets_normalised=hyper.scale_rewards,
    )
    with Recorder.open(
        training.root,
        run_id=training.run_id,
        config=training.config(),
        trainer="benchmark, CleanRL style",
        env=training.task.name,
        device="cpu",
        value_loss_definition=definition,
        strict=True,
        git_commit="",
    ) as recorder:
        for update in range(training.clock.updates):
            recorder.record(update=update, **loop.run_update(update))
    loop.close()
    return loop.policy


def _network(sizes: Sequence[int], last_gain: float, activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        is_last = index == len(sizes) - 2
        layer = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(layer.weight, last_gain if is_last else math.sqrt(2))
        nn.init.zeros_(layer.bias)
        layers += [layer] if is_last else [layer, activation()]
    return nn.Sequential(*layers)


@dataclass
class Running:
    """Running mean and variance of vectors."""

    mean: Floats
    variance: Floats
    count: float = 1e-4

    def update(self, rows: Floats) -> None:
        """Add `rows` [N, D]."""
        total = self.count + len(rows)
        shift = rows.mean(0) - self.mean
        between = shift**2 * self.count * len(rows) / total**2
        self.variance = (self.variance * self.count + rows.var(0) * len(rows)) / total + between
        self.mean = self.mean + shift * len(rows) / total
        self.count = total


class Loop:
    """Everything of one run: environments, networks, and the loop over rollouts and minibatches."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.hyper = hyper = training.hyper
        self.envs = training.make_envs()
        self.space = self.envs[0].action_space
        self.is_discrete = isinstance(self.space, spaces.Discrete)
        size = int(np.prod(self.envs[0].observation_space.shape or ()))
        outputs = int(self.space.n) if isinstance(self.space, spaces.Discrete) else int(np.prod(self.space.shape or ()))
        hidden = [hyper.hidden] * 2
        activation = ACTIVATIONS[hyper.activation]
        self.critic = _network([size, *hidden, 1], 1.0, activation)
        self.actor = _network([size, *hidden, outputs], 0.01, activation)
        self.log_std = None if self.is_discrete else nn.Parameter(torch.zeros(outputs))
        self.parameters = [*self.critic.parameters(), *self.actor.parameters()]
        self.parameters += [] if self.log_std is None else [self.log_std]
        self.optimizer = torch.optim.Adam(self.parameters, lr=hyper.learning_rate, eps=1e-5)
        self.learner = Learner(
            self.actor, self.critic, self.log_std, self.optimizer, lambda: float(self.optimizer.param_groups[0]["lr"])
        )
        training.fault.prepare(self.learner, training.clock)
        self.seen = Running(np.zeros(size, np.float32), np.ones(size, np.float32))
        self.discounted = Running(np.zeros(1, np.float32), np.ones(1, np.float32))
        self._gain = np.zeros(hyper.num_envs, np.float32)
        self._return = np.zeros(hyper.num_envs)
        self._length = np.zeros(hyper.num_envs, np.int64)
        self.env_steps = 0
        first = [env.reset(seed=1000 * training.seed + index)[0] for index, env in enumerate(self.envs)]
        self.observations = self._normalized(np.array(first, np.float32), is_new=True)

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    @torch.no_grad()
    def policy(self, observation: Floats) -> Any:
        """The policy without exploration."""
        output = self.actor(torch.as_tensor(self._normalized(observation[None], is_new=False)))[0]
        return int(output.argmax()) if self.is_discrete else to_env(output.numpy(), self.space)

    def distribution(self, observations: Tensor) -> Categorical | Normal:
        """The policy in `observations` [B, D]."""
        output = self.actor(observations)
        if self.log_std is None:
            return Categorical(logits=output, validate_args=False)
        return Normal(output, self.log_std.expand_as(output).exp(), validate_args=False)

    def run_update(self, update: int) -> dict[str, Any]:
        """Collect a rollout, train on it, and return the row to record."""
        training, hyper = self.training, self.hyper
        training.clock.tick()
        training.fault.before_update(self.learner, training.clock)
        remaining = 1.0 - update / training.clock.updates if hyper.anneal else 1.0
        rate = training.fault.learning_rate(hyper.learning_rate * remaining, training.clock)
        self.optimizer.param_groups[0]["lr"] = rate
        began = perf_counter()
        rollout, episodes = self._collect()
        if training.fault.changes_rollouts:
            training.fault.change_rollout(rollout, training.clock, hyper.gamma, hyper.gae_lambda)
        collected = perf_counter()
        measured = rollout_statistics(
            rollout.values, rollout.returns, rollout.advantages, td_errors=rollout.td_errors(hyper.gamma)
        )
        self.env_steps += hyper.samples
        trained = self._train(rollout)
        return {
            **measured,
            **trained,
            **episodes,
            "env_steps": self.env_steps,
            "samples": hyper.samples,
            "learning_rate": rate,
            "entropy_coef": hyper.entropy_coef,
            "vf_coef": hyper.vf_coef,
            "clip_range": hyper.clip_range,
            "value_target_scale": 1.0,
            "rollout_secs": collected - began,
            "update_secs": perf_counter() - collected,
        }

    @torch.no_grad()
    def _collect(self) -> tuple[Rollout, dict[str, Any]]:
        hyper = self.hyper
        shape = hyper.rollout_steps, hyper.num_envs
        observations = np.empty((*shape, self.observations.shape[1]), np.float32)
        rewards, values, log_probs = (np.empty(shape, np.float32) for _ in range(3))
        ends = np.empty(shape, np.bool_)
        actions: list[Any] = []
        finished: list[tuple[float, int]] = []
        for t in range(hyper.rollout_steps):
            observations[t] = self.observations
            state = torch.as_tensor(self.observations)
            distribution = self.distribution(state)
            action = distribution.sample()  # type: ignore[no-untyped-call]
            log_prob = distribution.log_prob(action)  # type: ignore[no-untyped-call]
            actions.append(action.numpy())
            log_probs[t] = log_prob if self.is_discrete else log_prob.sum(-1)
            values[t] = self.critic(state).flatten()
            rewards[t], ends[t] = self._step(actions[-1], finished)
        last = self.critic(torch.as_tensor(self.observations)).flatten().numpy()
        rollout = Rollout(
            observations=observations,
            actions=np.array(actions),
            log_probs=log_probs,
            values=values,
            rewards=rewards,
            following=np.concatenate((values[1:], last[None])),
            terminal=ends.copy(),
            ends=ends,
            valid=np.ones(shape, np.bool_),
            advantages=np.empty(shape, np.float32),
            returns=np.empty(shape, np.float32),
        )
        rollout.estimate(hyper.gamma, hyper.gae_lambda)
        episodes: dict[str, Any] = {"episodes": len(finished)}
        if finished:
            returns, lengths = zip(*finished, strict=True)
            episodes |= {"episode_return_mean": float(np.mean(returns)), "episode_length_mean": float(np.mean(lengths))}
        return rollout, episodes

    def _step(self, actions: Any, finished: list[tuple[float, int]]) -> tuple[Floats, Any]:
        """Take one action in each environment, reset those that ended; rewards and ends, [N] each."""
        rows = np.empty_like(self.observations)
        rewards = np.empty(len(self.envs), np.float32)
        ends = np.empty(len(self.envs), np.bool_)
        for index, env in enumerate(self.envs):
            rows[index], reward, terminated, truncated, _ = env.step(to_env(actions[index], self.space))
            rewards[index], ends[index] = reward, terminated or truncated
            self._return[index] += float(reward)
            self._length[index] += 1
            if ends[index]:
                finished.append((self._return[index], int(self._length[index])))
                self._return[index], self._length[index] = 0.0, 0
                rows[index], _ = env.reset()
        self.observations = self._normalized(rows, is_new=True)
        if self.hyper.scale_rewards:
            self._gain = self._gain * self.hyper.gamma + rewards
            self.discounted.update(self._gain[:, None])
            self._gain[ends] = 0
            rewards = np.clip(rewards / np.sqrt(self.discounted.variance + 1e-8), -10, 10)
        return rewards, ends

    def _normalized(self, rows: Floats, *, is_new: bool) -> Floats:
        if not self.hyper.normalize_observations:
            return rows
        if is_new:
            self.seen.update(rows)
        standardised = (rows - self.seen.mean) / np.sqrt(self.seen.variance + 1e-8)
        return np.asarray(np.clip(standardised, -10, 10), np.float32)

    def _train(self, rollout: Rollout) -> dict[str, Any]:
        """Epochs of minibatches; the numbers of the update by the names of the metrics table."""
        hyper = self.hyper
        observations = torch.as_tensor(rollout.observations).flatten(0, 1)
        actions = torch.as_tensor(rollout.actions).flatten(0, 1)
        old_log_probs, old_values, advantages, returns = (
            torch.as_tensor(array).flatten()
            for array in (rollout.log_probs, rollout.values, rollout.advantages, rollout.returns)
        )
        order = np.arange(hyper.samples)
        size = math.ceil(hyper.samples / hyper.minibatches)
        steps: list[dict[str, float]] = []
        epochs_run = 0
        for _ in range(hyper.epochs):
            epochs_run += 1
            np.random.shuffle(order)
            for start in range(0, hyper.samples, size):
                rows = torch.as_tensor(order[start : start + size])
                steps.append(
                    self._minibatch(
                        observations[rows],
                        actions[rows],
                        old_log_probs[rows],
                        old_values[rows],
                        advantages[rows],
                        returns[rows],
                    )
                )
            if hyper.target_kl is not None and steps[-1]["kl_divergence"] > hyper.target_kl:
                break
        of_last = ("policy_loss", "value_loss", "value_loss_unclipped", "entropy", "kl_divergence")
        row: dict[str, Any] = {name: steps[-1][name] for name in of_last}
        with np.errstate(all="ignore"):
            for name, reduce in REDUCTIONS.items():
                row[name] = float(reduce([step[name] for step in steps]))
        is_stopped = epochs_run < hyper.epochs
        row |= {
            "epochs_run": epochs_run,
            "minibatches": len(steps),
            "early_stop_epoch": epochs_run if is_stopped else None,
        }
        return row | {"nan_grad_count": int(row["nan_grad_count"]), "inf_grad_count": int(row["inf_grad_count"])}

    def _minibatch(
        self,
        observations: Tensor,
        actions: Tensor,
        old_log_probs: Tensor,
        old_values: Tensor,
        advantages: Tensor,
        returns: Tensor,
    ) -> dict[str, float]:
        """One step of the optimiser; the numbers of this minibatch."""
        hyper = self.hyper
        distribution = self.distribution(observations)
        log_probs, entropy = distribution.log_prob(actions), distribution.entropy()  # type: ignore[no-untyped-call]
        if not self.is_discrete:
            log_probs, entropy = log_probs.sum(-1), entropy.sum(-1)
        log_ratio = log_probs - old_log_probs
        ratio = log_ratio.exp()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped_ratio = ratio.clamp(1 - hyper.clip_range, 1 + hyper.clip_range)
        policy_factor, value_factor = self.training.fault.loss_factors(self.training.clock)
        policy_loss = policy_factor * torch.max(-advantages * ratio, -advantages * clipped_ratio).mean()
        values = self.critic(observations).flatten()
        square = value_factor * (values - returns) ** 2
        value_loss = unclipped = 0.5 * square.mean()
        if hyper.value_clip is not None:
            near = old_values + (values - old_values).clamp(-hyper.value_clip, hyper.value_clip)
            value_loss = 0.5 * torch.max(square, value_factor * (near - returns) ** 2).mean()
        mean_entropy = entropy.mean()
        loss = policy_loss - hyper.entropy_coef * mean_entropy + hyper.vf_coef * value_loss
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, hyper.max_grad_norm)
        gradients = torch.cat([p.grad.flatten() for p in self.parameters if p.grad is not None])
        self.optimizer.step()
        with torch.no_grad():
            above = (ratio > 1 + hyper.clip_range).float().mean()
            below = (ratio < 1 - hyper.clip_range).float().mean()
            numbers = {
                "policy_loss": policy_loss,
                "value_loss": value_loss,
                "value_loss_unclipped": unclipped,
                "entropy": mean_entropy,
                "kl_divergence": (ratio - 1 - log_ratio).mean(),
                "clip_fraction": above + below,
                "clip_fraction_positive": above,
                "clip_fraction_negative": below,
                "ratio_mean": ratio.mean(),
                "ratio_std": ratio.std(correction=0),
                "ratio_min": ratio.min(),
                "ratio_max": ratio.max(),
                "log_prob_min": log_probs.min(),
                "log_prob_max": log_probs.max(),
                "pre_clip_grad_norm": norm,
                "grad_norm": norm * (hyper.max_grad_norm / (norm + 1e-6)).clamp(max=1.0),
                "nan_grad_count": gradients.isnan().sum(),
                "inf_grad_count": gradients.isinf().sum(),
            }
            names, tensors = zip(*numbers.items(), strict=True)
            return dict(zip(names, torch.stack([tensor.float() for tensor in tensors]).tolist(), strict=True))


REDUCTIONS: dict[str, Callable[[list[float]], Any]] = {
    "clip_fraction": np.mean,
    "clip_fraction_positive": np.mean,
    "clip_fraction_negative": np.mean,
    "ratio_mean": np.mean,
    "ratio_std": np.mean,
    "ratio_min": np.min,
    "ratio_max": np.max,
    "log_prob_min": np.min,
    "log_prob_max": np.max,
    "pre_clip_grad_norm": np.mean,
    "grad_norm": np.mean,
    "nan_grad_count": np.sum,
    "inf_grad_count": np.sum,
}
"""What is not of the last minibatch is taken over all minibatches of the update."""
