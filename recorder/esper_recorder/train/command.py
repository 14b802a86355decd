"""What `esper-rec train` does once its options are read: train, record, say what came of it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from esper_recorder import Recorder
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.progress import ProgressDisplay, format_number
from esper_recorder.train.rollout import EPISODE_WINDOW
from esper_recorder.train.signals import Signals
from esper_recorder.train.trainer import Progress, Trainer, resolve_device
from esper_schemas import ValueLossDefinition
from esper_schemas.errors import EsperError, UsageError


class TrainingFailedError(EsperError):
    """Training ended by an error that is not Esper's, for example of the environment."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a run was recorded and how far it came; `progress` is None before the first update."""

    path: Path
    progress: Progress | None
    interrupted: bool

    def describe(self) -> str:
        """A short summary, and what to type next."""
        run = shlex.quote(str(self.path))
        lines = [f"run         {self.path}"]
        if self.progress is not None:
            lines += [
                f"updates     {self.progress.update + 1} of {self.progress.num_updates}"
                f" ({self.progress.env_steps:,} steps, {self.progress.elapsed_secs:.1f} s)",
                f"return      {format_number(self.progress.mean_return, 1)}"
                f" (mean of the last {EPISODE_WINDOW} episodes)",
                f"value loss  {format_number(self.progress.value_loss, 3)}",
            ]
        lines += ["", f"Next: esper-analyze report --run {run}", f"      esper-analyze tail --run {run}"]
        return "\n".join(lines)


def run_training(
    config: PPOConfig, *, device_name: str, root: Path, run_id: str | None, signals: Signals, console: Console
) -> Outcome:
    """Train with `config` and record the run under `root`; talk goes to `console`.

    A signal ends the run properly: sealed, with the status `interrupted`.

    Raises:
        UsageError: the environment, the device or `root` cannot be used; no run was created then.
        TrainingFailedError: something else went wrong while training; the run is sealed as `failed`.
    """
    device = resolve_device(device_name)
    env = make_env(config.env, config.num_envs, seed=config.seed, device=device)
    try:
        trainer = Trainer(config, env, device)
        display = ProgressDisplay(console, config.num_updates)
        try:
            recorder = Recorder.open(
                root,
                run_id=run_id,
                config=config.to_dict() | {"env_implementation": env.name},
                trainer="esper-rec train",
                env=config.env,
                device=str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
                value_loss_definition=value_loss_definition(config),
            )
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"--out {root}: no run can be created there: {reason}") from None
        with recorder:
            console.print(f"recording to {recorder.path}", markup=False, highlight=False, soft_wrap=True)
            interrupted = _train(trainer, recorder, signals, display)
            if interrupted:
                console.print(f"interrupted by {signals.name}; the run is sealed", highlight=False)
    finally:
        env.close()
    return Outcome(recorder.path, trainer.progress, interrupted)


def _train(trainer: Trainer, recorder: Recorder, signals: Signals, display: ProgressDisplay) -> bool:
    """Train to the end or to a signal, and close the recorder; whether it was a signal."""
    try:
        with signals.deferred(), display:
            trainer.train(recorder, on_progress=display, heartbeat=signals.check)
    except KeyboardInterrupt:
        signals.ignore()
        recorder.close(status="interrupted", reason=signals.name)
        return True
    except Exception as error:
        recorder.close(status="failed", reason=f"{type(error).__name__}: {error}")
        if os.environ.get("ESPER_TRACEBACK"):
            raise
        raise TrainingFailedError(
            f"training failed with {type(error).__name__}: {error}; what was recorded is sealed in"
            f" {recorder.path}; ESPER_TRACEBACK=1 shows where it happened"
        ) from error
    signals.ignore()
    recorder.close()
    return False


def value_loss_definition(config: PPOConfig) -> ValueLossDefinition:
    """What this trainer's value loss is, for the run's header."""
    clipped = "0.5 * mean(max((V - G)^2, (V_old + clamp(V - V_old, -clip, clip) - G)^2))"
    return ValueLossDefinition(
        source="0.5 * mean((V - G)^2)" if config.value_clip is None else clipped,
        factor=1.0,
        clipping="none" if config.value_clip is None else "max",
        clip_range=config.value_clip,
        reduction="all minibatches",
        coefficient_included=False,
        targets_normalised=config.scale_value_targets,
    )
