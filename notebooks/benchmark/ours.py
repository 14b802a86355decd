"""The built-in trainer of Esper Recorder, recorded as `esper-rec train` records it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from benchmark.running import ACTIVATIONS, Floats, Learner, Policy, Rollout, Training, to_env
from esper_recorder import Recorder
from esper_recorder.train import losses
from esper_recorder.train.command import value_loss_definition
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import ActionSpace, Box, Discrete, Step
from esper_recorder.train.ppo import Minibatch, OnStep
from esper_recorder.train.rollout import Rollout as TrainerRollout
from esper_recorder.train.rollout import RolloutCollector
from esper_recorder.train.trainer import Trainer

CPU = torch.device("cpu")


def train(training: Training) -> Policy:
    """Train and record one run; the policy that it ends with."""
    config = ppo_config(training)
    env = TaskVector(training)
    with closing(env):
        trainer = FaultyTrainer(config, env, training)
        with (
            Recorder.open(
                training.root,
                run_id=training.run_id,
                config=config.to_dict() | training.config(),
                trainer="benchmark, built-in trainer",
                env=training.task.name,
                device="cpu",
                value_loss_definition=value_loss_definition(config),
                strict=True,
                git_commit="",
            ) as recorder,
            faulty_losses(training),
        ):
            trainer.train(recorder)
    return policy_of(trainer)


def ppo_config(training: Training) -> PPOConfig:
    """The hyper-parameters in the trainer's own names. A value clip acts on the scale of the value targets."""
    hyper = training.hyper
    return PPOConfig(
        env=training.task.name,
        num_envs=hyper.num_envs,
        updates=training.clock.updates,
        seed=training.seed,
        checkpoint_updates=0,
        rollout_steps=hyper.rollout_steps,
        epochs=hyper.epochs,
        minibatches=hyper.minibatches,
        gamma=hyper.gamma,
        gae_lambda=hyper.gae_lambda,
        learning_rate=hyper.learning_rate,
        anneal_lr=hyper.anneal,
        clip_range=hyper.clip_range,
        value_clip=hyper.value_clip,
        vf_coef=hyper.vf_coef,
        entropy_coef=hyper.entropy_coef,
        max_grad_norm=hyper.max_grad_norm,
        target_kl=hyper.target_kl,
        scale_value_targets=hyper.scale_rewards,
        normalize_observations=hyper.normalize_observations,
        hidden_size=hyper.hidden,
    )


@contextmanager
def faulty_losses(training: Training) -> Iterator[None]:
    """Inside, the losses of the trainer are multiplied by the factors of the fault."""
    sound_policy_loss, sound_value_loss = losses.policy_loss_per_sample, losses.value_loss_per_sample

    def policy_loss(*arguments: Any) -> Tensor:
        return training.fault.loss_factors(training.clock)[0] * sound_policy_loss(*arguments)

    def value_loss(*arguments: Any) -> Tensor:
        return training.fault.loss_factors(training.clock)[1] * sound_value_loss(*arguments)

    with (
        patch.object(losses, "policy_loss_per_sample", policy_loss),
        patch.object(losses, "value_loss_per_sample", value_loss),
    ):
        yield


def policy_of(trainer: Trainer) -> Policy:
    """The policy without exploration."""
    model = trainer.model

    @torch.no_grad()
    def policy(observation: Floats) -> Any:
        output = model.policy(model.normalize(torch.as_tensor(observation).unsqueeze(0)))[0]
        return int(output.argmax()) if model.discrete else output.numpy()

    return policy


class FaultyTrainer(Trainer):
    """The trainer, with the places where a fault takes hold."""

    def __init__(self, config: PPOConfig, env: TaskVector, training: Training) -> None:
        super().__init__(config, env, CPU)
        self.training = training
        self.collector = FaultyCollector(env, self.model, config, self.ppo.generator)
        self.collector.training = training
        if training.hyper.activation != "tanh":
            for network in (self.model.policy, self.model.value):
                for index, module in enumerate(network):
                    if isinstance(module, nn.Tanh):
                        network[index] = ACTIVATIONS[training.hyper.activation]()
        self.learner = Learner(
            actor=self.model.policy,
            critic=self.model.value,
            log_std=self.model.log_std,
            optimizer=self.ppo.optimizer,
            learning_rate=lambda: float(self.ppo.optimizer.param_groups[0]["lr"]),
        )
        training.fault.prepare(self.learner, training.clock)

    def run_update(
        self,
        update: int,
        *,
        heartbeat: Callable[[], None] | None = None,
        on_minibatch: Callable[[Minibatch], None] | None = None,
        on_step: OnStep | None = None,
    ) -> dict[str, Any]:
        """As the trainer, after the fault has had its turn."""
        self.training.clock.tick()
        self.training.fault.before_update(self.learner, self.training.clock)
        return super().run_update(update, heartbeat=heartbeat, on_minibatch=on_minibatch, on_step=on_step)

    def _learning_rate(self, update: int) -> float:
        return self.training.fault.learning_rate(super()._learning_rate(update), self.training.clock)


class FaultyCollector(RolloutCollector):
    """The collector, with a rollout that a fault may change."""

    training: Training

    def _finish(self, raw: Tensor, actions: Tensor, steps: list[Step]) -> TrainerRollout:
        rollout = super()._finish(raw, actions, steps)
        fault = self.training.fault
        if not fault.changes_rollouts:
            return rollout
        shape = raw.shape[0] - 1, raw.shape[1]
        last = self.model.predict_values(self.model.normalize(raw[-1])) * self.model.return_scale.scale.float()
        values = rollout.values.view(shape).numpy()
        terminated = torch.stack([step.terminated for step in steps]).numpy()
        changed = Rollout(
            observations=rollout.observations.view(*shape, -1).numpy(),
            actions=actions.numpy(),
            log_probs=rollout.log_probs.view(shape).numpy(),
            values=values,
            rewards=torch.stack([step.rewards for step in steps]).numpy(),
            following=np.concatenate((values[1:], last.numpy()[None])),
            terminal=terminated,
            ends=rollout.episode_ends.view(shape).numpy(),
            valid=rollout.valid.view(shape).numpy(),
            advantages=rollout.advantages.view(shape).numpy(),
            returns=rollout.returns.view(shape).numpy(),
        ).copy()
        fault.change_rollout(changed, self.training.clock, self.config.gamma, self.config.gae_lambda)
        return replace(
            rollout,
            observations=torch.as_tensor(changed.observations).flatten(0, 1),
            actions=torch.as_tensor(changed.actions).flatten(0, 1),
            log_probs=torch.as_tensor(changed.log_probs).flatten(),
            values=torch.as_tensor(changed.values).flatten(),
            advantages=torch.as_tensor(changed.advantages).flatten(),
            returns=torch.as_tensor(changed.returns).flatten(),
            td_errors=torch.as_tensor(changed.td_errors(self.config.gamma)).flatten(),
            valid=torch.as_tensor(changed.valid).flatten(),
        )


class TaskVector:
    """The environments of a run as the trainer steps them: reset on the next step."""

    def __init__(self, training: Training) -> None:
        self.envs = training.make_envs()
        self.num_envs = len(self.envs)
        self.name = training.task.name
        self.seed = training.seed
        space = self.envs[0].observation_space
        self.space = self.envs[0].action_space
        assert isinstance(space, spaces.Box)
        self.observation_size = int(np.prod(space.shape))
        self.action_space: ActionSpace = (
            Discrete(int(self.space.n))
            if isinstance(self.space, spaces.Discrete)
            else Box(int(np.prod(self.space.shape or ())))
        )
        self._resetting = np.zeros(self.num_envs, np.bool_)

    def reset(self) -> Tensor:
        """Start a new, seeded episode in every environment; return observations [N, D] float32."""
        self._resetting[:] = False
        rows = [env.reset(seed=1000 * self.seed + index)[0] for index, env in enumerate(self.envs)]
        return torch.as_tensor(np.array(rows, np.float32))

    def step(self, actions: Tensor) -> Step:
        """Take one action in each environment."""
        rows = np.empty((self.num_envs, self.observation_size), np.float32)
        rewards = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        valid = ~self._resetting
        for index, (env, action) in enumerate(zip(self.envs, actions.numpy(), strict=True)):
            if valid[index]:
                rows[index], rewards[index], terminated[index], truncated[index], _ = env.step(
                    to_env(action, self.space)
                )
            else:
                rows[index], _ = env.reset()
        self._resetting = terminated | truncated
        return Step(*map(torch.as_tensor, (rows, rewards, terminated, truncated, valid)))

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()
