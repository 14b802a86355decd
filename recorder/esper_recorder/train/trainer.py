"""The training loop: a rollout, an update, one copy of all statistics to the host, one row for the recorder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from esper_recorder.train.checkpoint import check_alike
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import VectorEnv
from esper_recorder.train.networks import ActorCritic
from esper_recorder.train.ppo import PPO, Minibatch, OnStep, UpdateResult
from esper_recorder.train.rollout import EpisodeWindow, RolloutCollector
from esper_recorder.train.statistics import measured_rollout, to_host
from esper_schemas.errors import UsageError

_COUNTS = ("samples", "episodes", "nan_grad_count", "inf_grad_count")
_DEFINED_IF = {
    "returns_defined": ("explained_variance", "value_nrmse"),
    "correlation_defined": ("v_return_correlation",),
    "advantages_defined": ("advantage_skewness",),
}


class RecorderLike(Protocol):
    """What the trainer needs of `esper_recorder.Recorder`."""

    def record(self, **values: Any) -> bool:
        """Record one update by keyword."""

    def minibatch(self, **numbers: Any) -> None:
        """Keep the numbers of one minibatch for the black box."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of training after an update; values not measured yet are None.

    `mean_return` is the mean return of the last 100 episodes. `elapsed_secs` and `steps_per_sec` cover this call of
    `train` and exclude training before a resume.
    """

    update: int
    num_updates: int
    env_steps: int
    elapsed_secs: float
    steps_per_sec: float
    value_loss: float | None
    mean_return: float | None
    skipped: bool


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`; `auto` uses CUDA if it is available.

    Raises:
        UsageError: `name` is `cuda`, which is not available.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise UsageError("--device cuda: torch finds no usable CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


class Trainer:
    """One training run: the model, the environments and the progress so far.

    All randomness comes from generators seeded with `config.seed`, so two runs of the same configuration on the CPU
    produce identical numbers. The constructor sets torch's number of CPU threads for the whole process.

    Attributes:
        next_update: The next update, or the one in progress.
        resumable: `state_dict()` from the last moment between two updates; never from within an update.
    """

    def __init__(self, config: PPOConfig, env: VectorEnv, device: torch.device) -> None:
        if device.type == "cpu":
            torch.set_num_threads(config.threads)
        self.config = config
        self.device = device
        initial = torch.Generator().manual_seed(config.seed)
        self.model = ActorCritic(env.observation_size, env.action_space, config, initial).to(device)
        generator = torch.Generator(device).manual_seed(config.seed)
        self.ppo = PPO(self.model, config, generator)
        self.collector = RolloutCollector(env, self.model, config, generator)
        self.episodes = EpisodeWindow(device)
        self.next_update = 0
        self.env_steps = 0
        self.mean_return: float | None = None
        self.progress: Progress | None = None
        self.resumable = self.state_dict()

    def train(
        self,
        recorder: RecorderLike,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        heartbeat: Callable[[], None] | None = None,
        on_row: Callable[[bool], None] | None = None,
    ) -> None:
        """Train from `next_update` to the end of the run, one row per update; `progress` says how far it got.

        Args:
            recorder: Records each update.
            on_row: Called between updates, after each row, with what `recorder.record` returned.
            on_progress: Called after each update.
            heartbeat: Called between environment steps and between minibatches; if it raises, the training ends
                without a row for the update in progress.
        """
        started, steps_before = time.monotonic(), self.env_steps
        for update in range(self.next_update, self.config.num_updates):
            values = self.run_update(
                update,
                heartbeat=heartbeat,
                on_step=lambda epoch, numbers: recorder.minibatch(epoch=epoch, **numbers),
            )
            is_safe = recorder.record(**values)
            elapsed = time.monotonic() - started
            self.progress = Progress(
                update=update,
                num_updates=self.config.num_updates,
                env_steps=self.env_steps,
                elapsed_secs=elapsed,
                steps_per_sec=(self.env_steps - steps_before) / max(elapsed, 1e-9),
                value_loss=values.get("value_loss"),
                mean_return=self.mean_return,
                skipped=values["skipped"],
            )
            if on_row is not None:
                on_row(is_safe)
            if on_progress is not None:
                on_progress(self.progress)
        self.resumable = self.state_dict()

    def run_update(
        self,
        update: int,
        *,
        heartbeat: Callable[[], None] | None = None,
        on_minibatch: Callable[[Minibatch], None] | None = None,
        on_step: OnStep | None = None,
    ) -> dict[str, Any]:
        """Collect a rollout, train on it, and return the row to record, by the metrics table's names.

        An update with a loss or gradient that is not finite is rolled back: parameters, optimiser and running
        statistics return to their state before it. Its row is marked as skipped and keeps what was measured.
        """
        learning_rate = self._learning_rate(update)
        self.next_update = update
        before = self.resumable = self.state_dict()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        clock = _Clock(self.device)
        rollout = self.collector.collect(heartbeat)
        clock.lap()
        measured = measured_rollout(rollout)
        measured["mean_return"] = self.episodes.update(rollout)
        if self.model.normalizer is not None:
            self.model.normalizer.update(rollout.raw_observations, rollout.valid)
        result = self.ppo.update(
            rollout, learning_rate=learning_rate, on_minibatch=on_minibatch, on_step=on_step, heartbeat=heartbeat
        )
        clock.lap()
        measured |= self.ppo.statistics.results()
        measured |= {
            "episodes_total": self.episodes.count,
            "value_target_scale": self.model.return_scale.scale,
        }
        values = to_host(measured)
        has_episodes = values.pop("episodes_total") > 0
        window_mean = values.pop("mean_return")
        self.mean_return = window_mean if has_episodes else None
        self.env_steps += int(values["samples"])
        skip_reason = _skip_reason(values)
        if skip_reason is not None:
            self.model.load_state_dict(before["model"])
            self.ppo.load_optimizer_state(before["optimizer"])
        self.next_update = update + 1
        rollout_secs, update_secs = clock.lap_secs()
        return {
            "update": update,
            "env_steps": self.env_steps,
            "learning_rate": learning_rate,
            "entropy_coef": self.config.entropy_coef,
            "vf_coef": self.config.vf_coef,
            "clip_range": self.config.clip_range,
            "rollout_secs": rollout_secs,
            "update_secs": update_secs,
            "skipped": skip_reason is not None,
            "skip_reason": skip_reason,
            **_row(values, result),
            **_gpu_memory(self.device),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that determines the next updates: nested dicts of tensors and whole numbers.

        It includes the running statistics (buffers of the model) and all generators. It includes the environment and
        the running episodes if the environment is a `RestorableEnv`.
        """
        return {
            "next_update": self.next_update,
            "env_steps": self.env_steps,
            "model": {name: tensor.clone() for name, tensor in self.model.state_dict().items()},
            "optimizer": self.ppo.optimizer_state(),
            "generator": self.ppo.generator.get_state(),
            "episodes": self.episodes.state_dict(),
            "collector": self.collector.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, which comes from a trainer of the same configuration and kind of device.

        Raises:
            UsageError: `state` has another shape, or a value in it is not valid.
        """
        check_alike(state, self.state_dict(), "state")
        try:
            self.ppo.generator.set_state(state["generator"])
            self.collector.load_state_dict(state["collector"])
        except RuntimeError as error:
            raise UsageError(f"the state of a random generator is not usable ({type(error).__name__})") from None
        self.model.load_state_dict(state["model"])
        self.ppo.load_optimizer_state(state["optimizer"])
        self.episodes.load_state_dict(state["episodes"])
        self.next_update, self.env_steps = state["next_update"], state["env_steps"]
        self.resumable = self.state_dict()

    def _learning_rate(self, update: int) -> float:
        remaining = 1.0 - update / self.config.num_updates if self.config.anneal_lr else 1.0
        return self.config.learning_rate * remaining


def _skip_reason(values: dict[str, float]) -> int | None:
    """Return the code of `esper_schemas.metric.metrics.SKIP_REASONS` for an update to roll back, or None."""
    if values["samples"] == 0:
        return 5
    if not (math.isfinite(values["policy_loss"]) and math.isfinite(values["value_loss"])):
        return 1
    if values["nan_grad_count"] or values["inf_grad_count"]:
        return 2
    return None


def _row(values: dict[str, float], result: UpdateResult) -> dict[str, Any]:
    """Return the measurements as fields of the metrics table, None where a number would be meaningless."""
    row: dict[str, Any] = dict(values)
    for flag, names in _DEFINED_IF.items():
        if not row.pop(flag):
            row.update(dict.fromkeys(names))
    for name in _COUNTS:
        row[name] = int(row[name])
    if not row["samples"]:
        row = {name: row[name] for name in _COUNTS}
    if not row["episodes"]:
        row |= {"episode_return_mean": None, "episode_length_mean": None}
    return row | {
        "epochs_run": result.epochs_run,
        "minibatches": result.minibatches,
        "early_stop_epoch": result.early_stop_epoch,
    }


def _gpu_memory(device: torch.device) -> dict[str, int]:
    if device.type != "cuda":
        return {}
    return {
        "gpu_memory_allocated_bytes": torch.cuda.memory_allocated(device),
        "gpu_memory_reserved_bytes": torch.cuda.memory_reserved(device),
        "gpu_memory_peak_bytes": torch.cuda.max_memory_allocated(device),
    }


class _Clock:
    """Lap times on the device's own clock; reading them does not wait once the results are on the host."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._marks: list[Any] = []
        self.lap()

    def lap(self) -> None:
        """End a lap now."""
        if self._is_cuda:
            self._marks.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self._marks[-1].record()
        else:
            self._marks.append(time.perf_counter())

    def lap_secs(self) -> list[float]:
        """Return the seconds of each lap."""
        laps = zip(self._marks, self._marks[1:], strict=False)
        if self._is_cuda:
            return [start.elapsed_time(end) / 1000.0 for start, end in laps]
        return [end - start for start, end in laps]
