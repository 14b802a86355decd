"""Runs of the real Stable-Baselines3 PPO, recorded by the project's `RecorderCallback`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from stable_baselines3.ppo import ppo as ppo_module
from torch import nn

from benchmark.running import ACTIVATIONS, Floats, Learner, Policy, Rollout, Training
from esper_recorder.adapters.sb3 import RecorderCallback


def train(training: Training) -> Policy:
    """Train and record one run; the policy that it ends with."""
    hyper = training.hyper
    with closing(vector_of(training)) as env:
        model = PPO(
            "MlpPolicy",
            env,
            n_steps=hyper.rollout_steps,
            batch_size=math.ceil(hyper.samples / hyper.minibatches),
            n_epochs=hyper.epochs,
            learning_rate=schedule_of(training),
            gamma=hyper.gamma,
            gae_lambda=hyper.gae_lambda,
            clip_range=hyper.clip_range,
            clip_range_vf=hyper.value_clip,
            ent_coef=hyper.entropy_coef,
            vf_coef=hyper.vf_coef,
            max_grad_norm=hyper.max_grad_norm,
            target_kl=hyper.target_kl,
            policy_kwargs={
                "net_arch": {"pi": [hyper.hidden] * 2, "vf": [hyper.hidden] * 2},
                "activation_fn": ACTIVATIONS[hyper.activation],
            },
            seed=training.seed,
            device="cpu",
        )
        with (
            RecorderCallback(
                training.root, run_id=training.run_id, config=training.config(), env=training.task.name, strict=True
            ) as recorder,
            faulty_losses(training),
        ):
            faults = FaultCallback(training)
            model.learn(hyper.samples * training.clock.updates, callback=CallbackList([faults, recorder]))
        return policy_of(model)


def vector_of(training: Training) -> VecEnv:
    """The environments, monitored as SB3 wants them, and normalised where the run says so."""
    envs = training.make_envs()
    env: VecEnv = DummyVecEnv([functools.partial(Monitor, each) for each in envs])
    hyper = training.hyper
    if hyper.scale_rewards or hyper.normalize_observations:
        env = VecNormalize(
            env, norm_obs=hyper.normalize_observations, norm_reward=hyper.scale_rewards, gamma=hyper.gamma
        )
    return env


def schedule_of(training: Training) -> Callable[[float], float]:
    """The learning rate as a function of the share of the run that remains."""
    hyper = training.hyper

    def rate(remaining: float) -> float:
        return training.fault.learning_rate(hyper.learning_rate * (remaining if hyper.anneal else 1.0), training.clock)

    return rate


def policy_of(model: PPO) -> Policy:
    """The policy without exploration."""

    def policy(observation: Floats) -> Any:
        normalizer = model.get_vec_normalize_env()
        if normalizer is not None:
            observation = np.asarray(normalizer.normalize_obs(observation), np.float32)
        action, _ = model.predict(observation, deterministic=True)
        return action

    return policy


@contextmanager
def faulty_losses(training: Training) -> Iterator[None]:
    """Inside, the losses of `PPO.train` are multiplied by the factors of the fault.

    That method calls `th.min` and `F.mse_loss` once each, for the clipped policy loss and for the value loss. Only the
    names in its module are replaced.
    """

    class Torch:
        """The module `torch`, but for `min`."""

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        @staticmethod
        def min(*arguments: Any) -> Any:
            return training.fault.loss_factors(training.clock)[0] * torch.min(*arguments)

    class Functional:
        """The module `torch.nn.functional`, but for `mse_loss`."""

        def __getattr__(self, name: str) -> Any:
            return getattr(nn.functional, name)

        @staticmethod
        def mse_loss(*arguments: Any) -> Any:
            return training.fault.loss_factors(training.clock)[1] * nn.functional.mse_loss(*arguments)

    with patch.object(ppo_module, "th", Torch()), patch.object(ppo_module, "F", Functional()):
        yield


class FaultCallback(BaseCallback):
    """Lets the fault of the run take hold. It stands before the recorder, which measures what the trainer works on."""

    model: PPO

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.training = training

    def _on_training_start(self) -> None:
        policy = self.model.policy
        actor = nn.Sequential(*policy.mlp_extractor.policy_net, policy.action_net)
        critic = nn.Sequential(*policy.mlp_extractor.value_net, policy.value_net)
        log_std = getattr(policy, "log_std", None)
        optimizer = policy.optimizer
        self.learner = Learner(
            actor=actor,
            critic=critic,
            log_std=log_std,
            optimizer=optimizer,
            learning_rate=lambda: float(optimizer.param_groups[0]["lr"]),
        )
        self.training.fault.prepare(self.learner, self.training.clock)

    def _on_rollout_start(self) -> None:
        self.training.clock.tick()
        self.training.fault.before_update(self.learner, self.training.clock)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        fault, model = self.training.fault, self.model
        if not fault.changes_rollouts:
            return
        buffer = model.rollout_buffer
        last = self.locals["values"].numpy().reshape(1, -1)
        ends = np.concatenate((buffer.episode_starts[1:], self.locals["dones"][None])).astype(np.bool_)
        changed = Rollout(
            observations=buffer.observations,
            actions=buffer.actions,
            log_probs=buffer.log_probs,
            values=buffer.values,
            rewards=buffer.rewards,
            following=np.concatenate((buffer.values[1:], last)).astype(np.float32),
            terminal=ends,
            ends=ends.copy(),
            valid=np.ones_like(ends),
            advantages=buffer.advantages,
            returns=buffer.returns,
        )
        fault.change_rollout(changed, self.training.clock, model.gamma, model.gae_lambda)
        for name in ("observations", "actions", "log_probs", "values", "advantages", "returns"):
            getattr(buffer, name)[:] = getattr(changed, name)
