"""Small trainings of rsl_rl on an environment of our own, and what rsl_rl itself reports of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from rsl_rl.utils.log_writer import LogWriter
from tensordict import TensorDict
from torch import Tensor

if TYPE_CHECKING:
    from esper_analyzer import Run

ENVS, STEPS, EPOCHS, PARTS, LENGTH = 4, 8, 2, 2, 9
ROLLOUT = ENVS * STEPS

WRITER = "esper_recorder.adapters.rsl_rl:Writer"


class Points(VecEnv):
    """The action should be the second number of the observation; episodes have 9 steps, and the reward two terms."""

    def __init__(self, envs: int = ENVS, device: str = "cpu") -> None:
        self.num_envs, self.num_actions, self.max_episode_length = envs, 1, LENGTH
        self.device, self.cfg = device, {"length": LENGTH}
        self.episode_length_buf = torch.zeros(envs, dtype=torch.long, device=device)
        self.random = torch.Generator(device).manual_seed(0)
        self.seen = torch.rand(envs, 2, generator=self.random, device=device)
        self.steps = 0
        self.raise_at: tuple[int, type[BaseException]] | None = None

    def get_observations(self) -> TensorDict:
        """What the policy sees: [envs, 2]."""
        return TensorDict({"policy": self.seen}, batch_size=[self.num_envs])

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """One step of each environment."""
        self.steps += 1
        if self.raise_at is not None and self.steps == self.raise_at[0]:
            raise self.raise_at[1]
        near = -((actions[:, 0] - self.seen[:, 1]) ** 2)
        rewards = near + self.seen[:, 0]
        self.episode_length_buf += 1
        is_over = self.episode_length_buf >= LENGTH
        self.episode_length_buf[is_over] = 0
        self.seen = torch.rand(self.num_envs, 2, generator=self.random, device=self.device)
        return self.get_observations(), rewards, is_over.long(), {"time_outs": is_over, "log": {"/reward/near": near}}


class Kept(LogWriter):
    """Keeps what rsl_rl logs, and what it calls; one list for all of a process, emptied by each test that reads it."""

    scalars: list[tuple[str, float, int]] = []  # noqa: RUF012 - rsl_rl makes the object, and the test needs to find it
    calls: list[str] = []  # noqa: RUF012

    def __init__(self, log_dir: str) -> None:
        self.scalars.clear()
        self.calls.clear()

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Keep a number."""
        self.scalars.append((tag, float(scalar_value), global_step))

    def store_config(self, env_cfg: Any, train_cfg: dict[str, Any]) -> None:
        """Keep the call."""
        self.calls.append("store_config")

    def save_model(self, model_path: str, it: int) -> None:
        """Keep the call."""
        self.calls.append(f"save_model {it}")

    def stop(self) -> None:
        """Keep the call."""
        self.calls.append("stop")


def make_runner(
    folder: Path, logger: Any = None, env: VecEnv | None = None, critic: str = "MLPModel", **algorithm: Any
) -> OnPolicyRunner:
    """A runner with 32 samples in a rollout, 2 epochs and 2 minibatches; `logger` are options of the Writer."""
    network: dict[str, Any] = {"class_name": critic, "hidden_dims": [8]}
    if critic == "RNNModel":
        network |= {"rnn_hidden_dim": 8}
    policy = network | {"distribution_cfg": {"class_name": "GaussianDistribution"}}
    sizes = {"num_learning_epochs": EPOCHS, "num_mini_batches": PARTS}
    cfg: dict[str, Any] = {
        "num_steps_per_env": STEPS,
        "save_interval": 2,
        "seed": 7,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "algorithm": {"class_name": "PPO", **sizes, **algorithm},
        "actor": policy,
        "critic": network,
    }
    if logger is not None:
        cfg["logger"] = {"class_name": WRITER, "root": str(folder / "runs"), "run_id": "mine", "also": None, **logger}
    torch.manual_seed(0)
    env = Points() if env is None else env
    return OnPolicyRunner(env, cfg, str(folder / "logs"), str(env.device))


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The updates of the default view."""
    return run.updates().collect().to_dicts()
