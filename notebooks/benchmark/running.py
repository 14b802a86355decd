"""What every trainer of the benchmark offers to faults: a clock, the rollout as arrays, and the networks.

A trainer calls, in each update: `Clock.tick`, `Fault.before_update`, then it collects a rollout, then
`Fault.change_rollout` if the fault has one. `Fault.prepare` is called once, before the first update.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.environments import Task
from benchmark.hyper import Hyper

if TYPE_CHECKING:
    from benchmark.faults import Fault

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass
class Clock:
    """Which update is being made, and whether the fault of the run has begun.

    Attributes:
        begins: First broken update; 0 where all are.
        updates: Length of the run.
        update: The update in progress; −1 before the first.
    """

    begins: int
    updates: int
    update: int = -1

    def tick(self) -> None:
        """Begin the next update."""
        self.update += 1

    @property
    def is_broken(self) -> bool:
        """Whether the update in progress is broken. Resets before the first update count as part of it."""
        return max(self.update, 0) >= self.begins

    @property
    def since(self) -> int:
        """Broken updates before the one in progress."""
        return max(0, self.update - self.begins)


@dataclass
class Rollout:
    """One rollout as [T, N] arrays, T steps of N environments, for a fault to change in place or replace.

    A row's value of what follows is `following`, which counts as 0 where `terminal`, and no advantage reaches across
    `ends`. Trainers that add the value of a truncated episode's last state to its reward call that row terminal.

    Attributes:
        observations: [T, N, D], as the networks take them.
        actions: [T, N] or [T, N, A].
        valid: False on rows that only reset an environment.
    """

    observations: Floats
    actions: NDArray[Any]
    log_probs: Floats
    values: Floats
    rewards: Floats
    following: Floats
    terminal: Flags
    ends: Flags
    valid: Flags
    advantages: Floats
    returns: Floats

    def copy(self) -> Rollout:
        """A copy that shares nothing."""
        return Rollout(**{name: array.copy() for name, array in vars(self).items()})

    def td_errors(self, gamma: float) -> Floats:
        """One-step TD errors [T, N]; 0 on rows that are not valid."""
        errors = self.rewards + gamma * np.where(self.terminal, 0, self.following) - self.values
        return np.where(self.valid, errors, 0).astype(np.float32)

    def estimate(self, gamma: float, gae_lambda: float, *, forwards: bool = False) -> None:
        """Compute advantages and returns anew from the other arrays (GAE; Schulman et al. 2016, eq. 16).

        Args:
            gamma, gae_lambda: Discount and λ.
            forwards: Accumulate from the first step to the last, which is wrong.
        """
        errors = self.td_errors(gamma)
        running = np.zeros_like(errors[0])
        steps = range(len(errors))
        for t in steps if forwards else reversed(steps):
            running = errors[t] + gamma * gae_lambda * ~self.ends[t] * running
            self.advantages[t] = np.where(self.valid[t], running, 0)
        self.returns[:] = self.advantages + self.values


@dataclass
class Learner:
    """The networks of a trainer.

    Attributes:
        actor, critic: Separate networks; the last module of each is its linear output.
        log_std: Log standard deviation of continuous actions, or None.
        optimizer: Steps all parameters.
        learning_rate: The rate in force.
    """

    actor: nn.Sequential
    critic: nn.Sequential
    log_std: nn.Parameter | None
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[], float]

    def actor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the policy."""
        return [*self.actor.parameters(), *([] if self.log_std is None else [self.log_std])]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters of the value function."""
        return list(self.critic.parameters())

    def actor_output(self) -> nn.Linear:
        """The linear layer that gives logits or means."""
        last = self.actor[-1]
        assert isinstance(last, nn.Linear)
        return last

    def critic_output(self) -> nn.Linear:
        """The linear layer that gives the value."""
        last = self.critic[-1]
        assert isinstance(last, nn.Linear)
        return last

    def scale_steps(self, parameters: list[nn.Parameter], factor: Callable[[], float]) -> None:
        """Multiply every step of the optimiser on `parameters` by `factor()`: a learning rate of their own."""
        before: list[Tensor] = []

        def note(*_: Any) -> None:
            before[:] = [parameter.detach().clone() for parameter in parameters] if factor() != 1 else []

        @torch.no_grad()
        def scale(*_: Any) -> None:
            if before:
                for parameter, old in zip(parameters, before, strict=True):
                    parameter.copy_(old + factor() * (parameter - old) if factor() else old)

        self.optimizer.register_step_pre_hook(note)
        self.optimizer.register_step_post_hook(scale)

    def step_plainly(self) -> None:
        """Let every step be that of stochastic gradient descent: minus the rate times the gradient."""
        parameters = [*self.actor_parameters(), *self.critic_parameters()]
        before: list[Tensor] = []

        def note(*_: Any) -> None:
            before[:] = [parameter.detach().clone() for parameter in parameters]

        @torch.no_grad()
        def step(*_: Any) -> None:
            for parameter, old in zip(parameters, before, strict=True):
                gradient = torch.zeros_like(old) if parameter.grad is None else parameter.grad
                parameter.copy_(old - self.learning_rate() * gradient)

        self.optimizer.register_step_pre_hook(note)
        self.optimizer.register_step_post_hook(step)


ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


@dataclass
class Ledger:
    """What the environments really paid, whatever the trainer was told: return and length of each episode by update."""

    clock: Clock
    episodes: list[tuple[int, float, int]] = field(default_factory=list)


class Truth(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The innermost wrapper of every environment: writes each episode into the ledger."""

    def __init__(self, env: gymnasium.Env[Any, Any], ledger: Ledger) -> None:
        super().__init__(env)
        self._ledger = ledger

    def reset(self, **options: Any) -> Any:
        self._return, self._length = 0.0, 0
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        step = self.env.step(action)
        self._return += float(step[1])
        self._length += 1
        if step[2] or step[3]:
            self._ledger.episodes.append((self._ledger.clock.update, self._return, self._length))
        return step


@dataclass
class Training:
    """One run, as a trainer gets it.

    Attributes:
        task, hyper: What is trained, and how.
        fault: What is broken on purpose; `faults.Fault()` breaks nothing.
        clock, ledger: Of this run alone.
        seed: Of all random generators.
        root, run_id: Where the run is recorded.
    """

    task: Task
    hyper: Hyper
    fault: Fault
    clock: Clock
    ledger: Ledger
    seed: int
    root: Path
    run_id: str

    def make_envs(self) -> list[gymnasium.Env[Any, Any]]:
        """The environments, with what the fault does to them and the ledger inside."""
        shared: dict[str, Any] = {}
        envs: list[gymnasium.Env[Any, Any]] = []
        for index in range(self.hyper.num_envs):
            env = self.fault.wrap(Truth(self.task.make(), self.ledger), self.clock, index, shared)
            envs.append(env if self.hyper.reward_factor == 1 else ScaledRewards(env, self.hyper.reward_factor))
        return envs

    def config(self) -> dict[str, Any]:
        """What the header of the run says."""
        return {"fault": self.fault.name, "begins": self.clock.begins, "seed": self.seed, **self.hyper.to_dict()}


class ScaledRewards(gymnasium.RewardWrapper[Any, Any]):
    """Rewards multiplied by `factor`."""

    def __init__(self, env: gymnasium.Env[Any, Any], factor: float) -> None:
        super().__init__(env)
        self._factor = factor

    def reward(self, reward: Any) -> float:
        return float(reward) * self._factor


Policy = Callable[[Floats], Any]
"""An observation [D] as the environment gives it → the action that the policy holds for the best."""


def evaluate(task: Task, policy: Policy, *, episodes: int, seed: int) -> float:
    """Mean return of `episodes` episodes of the sound environment, without exploration."""
    env = task.make()
    total = 0.0
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        ended = False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            total += float(reward)
            ended = terminated or truncated
    env.close()
    return total / episodes


def to_env(action: NDArray[Any], space: gymnasium.Space[Any]) -> Any:
    """An action of the policy as the environment takes it: a whole number, or clipped to the bounds."""
    if isinstance(space, gymnasium.spaces.Box):
        return np.clip(action.reshape(space.shape), space.low, space.high)
    return int(action)
