"""The command `esper-rec train` after option parsing: trains or resumes, records, and describes the outcome."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from esper_recorder import Recorder
from esper_recorder.train.checkpoint import CHECKPOINT_NAME, Checkpoint, unusable
from esper_recorder.train.checkpointing import CheckpointWriter
from esper_recorder.train.config import PPOConfig, spell_option
from esper_recorder.train.envs import RestorableEnv
from esper_recorder.train.gym_envs import make_env, published_goal
from esper_recorder.train.progress import ProgressDisplay, format_number
from esper_recorder.train.rollout import EPISODE_WINDOW
from esper_recorder.train.signals import Signals
from esper_recorder.train.trainer import Progress, Trainer, resolve_device
from esper_recorder.train.verdict_stop import TRAINER_NAME, StopLevel, StoppedByVerdict, VerdictStop
from esper_recorder.writing.foreign import describe
from esper_schemas import ValueLossDefinition
from esper_schemas.cleaning import printable
from esper_schemas.console import TRACEBACK
from esper_schemas.errors import EsperError, NotARunError, UsageError
from esper_schemas.run.directory import RunDirectory
from esper_schemas.run.finding import find_runs
from esper_schemas.run.records import check_run_id

RESUME_SEED_STEP = 1_000_003
"""A resume adds this to the environments' seed for each earlier update: a prime, far from the seeds people use."""


Ending = Literal["complete", "interrupted", "stopped"]
"""How a training ended: as planned, by a signal, or by `--stop-on`."""


class TrainingFailedError(EsperError):
    """Training ended with an error from outside Esper, for example from the environment."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a run was recorded and how far it got; `progress` is None if no update was made."""

    path: Path
    progress: Progress | None
    ending: Ending = "complete"
    resumed_at: int | None = None

    def describe(self) -> str:
        """Return a short summary and the commands to type next."""
        run = shlex.quote(str(self.path))
        lines = [f"run         {self.path}"]
        if self.progress is not None:
            resumed = f", resumed after {self.resumed_at}" if self.resumed_at is not None else ""
            lines += [
                f"updates     {self.progress.update + 1} of {self.progress.num_updates}{resumed}"
                f" ({self.progress.env_steps:,} steps, {self.progress.elapsed_secs:.1f} s)",
                f"return      {format_number(self.progress.mean_return, 1)}"
                f" (mean of the last {EPISODE_WINDOW} episodes)",
                f"value loss  {format_number(self.progress.value_loss, 3)}",
            ]
        following = [f"esper-analyze report --run {run}", f"esper-analyze tail --run {run}"]
        if self.ending != "complete" and _has_checkpoint(self.path):
            root, name = shlex.quote(str(self.path.parent)), shlex.quote(self.path.name)
            following.insert(0, f"esper-rec train --resume --out {root} --run-id {name}")
        return "\n".join([*lines, "", "Next: " + "\n      ".join(following)])


def _has_checkpoint(path: Path) -> bool:
    with RunDirectory(path).open() as run:
        return run.exists(CHECKPOINT_NAME)


def run_training(
    config: PPOConfig,
    *,
    device_name: str,
    root: Path,
    run_id: str | None,
    signals: Signals,
    console: Console,
    return_goal: float | None = None,
    stop_on: StopLevel | None = None,
    references: Sequence[str] = (),
    upload: str | None = None,
    redact: Sequence[str] = (),
) -> Outcome:
    """Train with `config` and record the run under `root`; messages go to `console`.

    Without a `return_goal`, the goal is the one that Gymnasium publishes for the environment.

    A signal, or a verdict as bad as `stop_on`, beside `references` if there are any, ends the run properly: it is
    sealed, with the status `interrupted` and a checkpoint.

    Raises:
        UsageError: the environment, the device or `root` cannot be used; no run was created.
        TrainingFailedError: training failed for another reason; the run is sealed as `failed`.
    """
    device = resolve_device(device_name)
    with closing(make_env(config.env, config.num_envs, seed=config.seed, device=device)) as env:
        trainer = Trainer(config, env, device)
        goal = published_goal(config.env) if return_goal is None else return_goal
        stop = VerdictStop(stop_on, goal, config.env, references, root) if stop_on else None
        episodes = "continue" if isinstance(env, RestorableEnv) else "restart"
        try:
            recorder = Recorder.open(
                root,
                run_id=run_id,
                config=config.to_dict() | {"env_implementation": env.name, "episodes_on_resume": episodes},
                trainer=TRAINER_NAME,
                env=config.env,
                device=str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
                return_goal=goal,
                value_loss_definition=value_loss_definition(config),
                on_update=stop.monitor if stop else None,
                upload=upload,
                redact=redact,
            )
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"--out {root}: cannot create a run there: {reason}") from None
        path = root / recorder.run_id  # as the user named it: relative paths stay relative
        ending = _train(trainer, recorder, signals, console, f"recording to {path}", stop)
    return Outcome(path, trainer.progress, ending)


def resume_training(
    given: Mapping[str, Any],
    *,
    device_name: str,
    root: Path,
    run_id: str | None,
    signals: Signals,
    console: Console,
    stop_on: StopLevel | None = None,
    references: Sequence[str] = (),
    upload: str | None = None,
    redact: Sequence[str] = (),
) -> Outcome:
    """Resume the run `run_id` under `root`, or the latest run there, from its checkpoint, as a new attempt.

    `given` has the hyper-parameters from the command line; see `PPOConfig.resumed_with` for those that may differ.
    A complete run is left as it is.

    Raises:
        UsageError: there is no usable checkpoint, or an option contradicts it; the run is left as it is.
        NotARunError: there is no such run.
        RunLockedError: another process is writing the run.
        RunDamagedError: the run's records are damaged.
        TrainingFailedError: as `run_training`.
    """
    run = _find_run(root, run_id)
    path = run.path / CHECKPOINT_NAME
    with run.open() as folder:
        header = run.header()
        checkpoint = Checkpoint.read(folder)
    if checkpoint.run_uuid != header.run_uuid:
        raise unusable(path, "it belongs to another run")
    config = checkpoint.config.resumed_with(given)
    if ":" in config.env.removeprefix("gym:") and "env" not in given:
        raise UsageError(
            f"resuming {run.path} would import the module of its environment; if you trust the module,"
            f" add {spell_option('env', config.env)}"
        )
    device = _same_device(checkpoint, device_name)
    trainer = _set_up(checkpoint, config, device, path)
    with closing(trainer.collector.env) as env:
        done = trainer.next_update
        if config.num_updates < done:
            raise UsageError(f"{run.path} has {done} updates already, more than the {config.num_updates} asked for")
        attempts = run.rank(0).attempts()
        if config.num_updates == done and attempts and attempts[-1].status == "finished":
            _say(console, f"{run.path} is complete with {done} updates; --updates N trains it for longer")
            return Outcome(run.path, None)
        stop = None
        if stop_on:
            stop = VerdictStop(stop_on, header.return_goal, config.env, references, root, header.run_uuid)
        monitor = stop.monitor if stop else None
        try:
            recorder = Recorder.open(
                root, run_id=run.path.name, resume="must", on_update=monitor, upload=upload, redact=redact
            )
        except OSError as error:
            raise UsageError(f"cannot write to {run.path}: {error.strerror or error}") from None
        restart = "" if isinstance(env, RestorableEnv) else "; unfinished episodes start again"
        greeting = f"resuming {run.path} after {done} of {config.num_updates} updates{restart}"
        ending = _train(trainer, recorder, signals, console, greeting, stop)
    return Outcome(run.path, trainer.progress, ending, resumed_at=done)


def _set_up(checkpoint: Checkpoint, config: PPOConfig, device: torch.device, path: Path) -> Trainer:
    """Make a trainer and its environments that continue from `checkpoint`, which was read from `path`.

    Raises:
        UsageError: the environment cannot be made, or the checkpoint does not fit its own configuration.
    """
    done = checkpoint.state.get("next_update")
    # An environment that cannot be restored must not repeat the episodes from the beginning of the run.
    seed = (config.seed + RESUME_SEED_STEP * done) % 2**31 if isinstance(done, int) else config.seed
    env = None
    try:
        env = make_env(config.env, config.num_envs, seed=seed, device=device)
        trainer = Trainer(config, env, device)
        trainer.load_state_dict(checkpoint.state)
    except Exception as error:  # a malicious file may ask for networks of any size
        if env is not None:
            env.close()
        elif isinstance(error, UsageError):
            raise
        reason = str(error) if isinstance(error, UsageError) else f"setting it up failed with {type(error).__name__}"
        raise unusable(path, reason) from None
    return trainer


def _find_run(root: Path, run_id: str | None) -> RunDirectory:
    if run_id is not None:
        return RunDirectory(root / check_run_id(run_id))
    runs = list(find_runs(root)) if root.is_dir() else []
    if not runs:
        raise NotARunError(f"there is no run to resume under {root}; name the folder of runs with --out")
    return runs[-1]


def _same_device(checkpoint: Checkpoint, device_name: str) -> torch.device:
    """Return the device that the run was trained on; random generators cannot continue on another one.

    Raises:
        UsageError: the device is not available here, or `device_name` is another one.
    """
    if device_name not in ("auto", checkpoint.device):
        raise UsageError(f"--device {device_name}: the run was started with --device {ascii(checkpoint.device)[1:-1]}")
    if checkpoint.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("the run was trained on CUDA, but torch finds no usable CUDA device here")
    return resolve_device("cuda" if checkpoint.device == "cuda" else "cpu")


def _train(
    trainer: Trainer, recorder: Recorder, signals: Signals, console: Console, greeting: str, stop: VerdictStop | None
) -> Ending:
    """Print `greeting`, train until the end, a signal or a stop, and close the recorder."""
    run = RunDirectory(recorder.path)
    display = ProgressDisplay(console, trainer.config.num_updates, done=trainer.next_update)
    say = partial(_say, console)
    with recorder, closing(CheckpointWriter(trainer, run, recorder.rank, say)) as checkpoints:
        say(greeting)

        def after_row(is_safe: bool) -> None:
            checkpoints.after_row(is_safe)
            if stop is not None:
                stop.check()

        try:
            with signals.deferred(), display:
                checkpoints.write(trainer.resumable)
                trainer.train(recorder, on_progress=display, heartbeat=signals.check, on_row=after_row)
                checkpoints.write(trainer.resumable)
        except KeyboardInterrupt:
            signals.ignore()
            checkpoints.write(trainer.resumable)
            recorder.close(status="interrupted", reason=signals.name)
            say(f"interrupted by {signals.name}; the run is sealed")
            return "interrupted"
        except StoppedByVerdict as verdict:
            signals.ignore()
            checkpoints.write(trainer.state_dict())
            recorder.close(status="interrupted", reason=str(verdict))
            say(f"stopped by {verdict}")
            return "stopped"
        except Exception as error:
            recorder.close(status="failed", reason=describe(type(error), error))
            raise TrainingFailedError(
                f"training failed with {describe(type(error), error)}; the updates so far are sealed in"
                f" {recorder.path}; {TRACEBACK}=1 shows the traceback"
            ) from error
        signals.ignore()
        recorder.close()
    return "complete"


def _say(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def value_loss_definition(config: PPOConfig) -> ValueLossDefinition:
    """Describe this trainer's value loss for the run's header."""
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
