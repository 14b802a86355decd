"""The command `esper-rec train`: an option for each field of `PPOConfig`, and what starts the training."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esper_recorder.commands.options import redact_option, upload_option
from esper_recorder.train.config import DEFAULT_ENV, ENV_PRESETS, GYMNASIUM_PRESET, PPOConfig, option_name
from esper_recorder.train.signals import Signals
from esper_schemas.console import talk_console, tell
from esper_schemas.errors import UsageError
from esper_schemas.exit_codes import ExitCode
from esper_schemas.run.records import check_return_goal

if TYPE_CHECKING:
    from esper_recorder.train.command import Outcome
    from esper_recorder.train.verdict_stop import StopLevel

_Command = TypeVar("_Command", bound=Callable[..., Any])

_RUN_PARAMETERS, _HYPERPARAMETERS = fields(PPOConfig)[:6], fields(PPOConfig)[6:]


def parameter_options(parameters: Sequence[Field[Any]]) -> Callable[[_Command], _Command]:
    """Add one option per field of `PPOConfig` to a command; an option that is not given is None."""
    kinds = typing.get_type_hints(PPOConfig)

    def decorate(command: _Command) -> _Command:
        for parameter in reversed(parameters):
            # The option of an optional field, such as `float | None`, has the type that is not None.
            kind = kinds[parameter.name]
            plain = next((t for t in typing.get_args(kind) if t is not types.NoneType), kind)
            name, default = option_name(parameter.name), parameter.default
            shown = {True: "on", False: "off"}.get(default, default) if plain is bool else default
            suffix = "" if default is None else f"  [default: {shown}]"
            command = click.option(
                f"{name}/--no-{name.removeprefix('--')}" if plain is bool else name,
                parameter.name,
                type=plain,
                default=None,
                help=parameter.metadata["description"] + suffix,
            )(command)
        return command

    return decorate


def describe_presets() -> str:
    """Describe, as options, the defaults that differ by environment."""
    presets = {**ENV_PRESETS, "any other Gymnasium id": GYMNASIUM_PRESET}
    described = []
    for env, preset in presets.items():
        options = [
            option_name(name) if value is True else f"{option_name(name)} {value}" for name, value in preset.items()
        ]
        if options:
            described.append(f"{env}: {' '.join(options)}")
    return "\n\n".join(["Defaults that differ by environment:", *described])


@click.command(epilog=describe_presets())
@parameter_options(_RUN_PARAMETERS)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Device to train on; auto uses CUDA if it is available.",
)
@click.option("--out", "root", default="runs", show_default=True, help="Folder to create the run in.")
@click.option("--run-id", default=None, help="Name of the run; by default it is made from the time.")
@click.option(
    "--resume",
    is_flag=True,
    help="Resume the run --run-id, or the latest run under --out, from its checkpoint, as a new attempt. The run keeps"
    " its options. Only its length (--updates or --total-steps, over which the learning rate is then annealed) and"
    " --checkpoint-updates can change. A complete run is left as it is.",
)
@click.option(
    "--return-goal",
    type=float,
    metavar="RETURN",
    help="Mean episode return that the environment is solved from; stored in the run.  [default: that of Gymnasium's"
    " registry, if it names one]",
)
@click.option(
    "--stop-on",
    type=click.Choice(["warning", "critical"]),
    help="Stop the training when its verdict reaches this level. The run is sealed, and the exit code is 1.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="RUN",
    help="Sound run of the same task, beside which --stop-on judges return and critic: a path, a URL, or a name under"
    " --out; a folder of runs stands for those that are healthy. Repeat it: of three or more, the lowest third is left"
    " out.",
)
@upload_option
@redact_option
@parameter_options(_HYPERPARAMETERS)
@click.option("--no-value-clip", is_flag=True, help="Use the unclipped value loss, ½·MSE.")
def train(
    resume: bool,
    no_value_clip: bool,
    device: str,
    root: str,
    run_id: str | None,
    return_goal: float | None,
    stop_on: StopLevel | None,
    references: tuple[str, ...],
    upload: str | None,
    redact: tuple[str, ...],
    **given: Any,
) -> ExitCode:
    """Train PPO and record every update.

    Example: esper-rec train --env Pendulum-v1 --seed 1
    """
    overrides = {name: value for name, value in given.items() if value is not None}
    if no_value_clip:
        if "value_clip" in overrides:
            raise click.UsageError("give either --value-clip or --no-value-clip, not both")
        overrides["value_clip"] = None
    config = None if resume else PPOConfig.for_env(overrides.pop("env", DEFAULT_ENV), **overrides)
    signals = Signals()
    where = {"device_name": device, "root": Path(root), "run_id": run_id, "stop_on": stop_on}
    where |= {"references": references, "upload": upload, "redact": redact}
    if references and stop_on is None:
        raise click.UsageError("--reference is what --stop-on judges beside; give --stop-on as well")
    if resume and return_goal is not None:
        raise click.UsageError("--return-goal is for a new run; a run that is resumed keeps its goal")
    if not resume:
        where["return_goal"] = check_return_goal(return_goal)
    outcome = None
    with signals.installed():
        try:
            outcome = _train(config, overrides, signals=signals, **where)
        except KeyboardInterrupt:
            if signals.signum is None:
                raise
    if outcome is not None:
        tell(*outcome.describe().splitlines())
    if signals.signum is not None:
        return ExitCode(128 + signals.signum)
    is_stopped = outcome is not None and outcome.ending == "stopped"
    return ExitCode.VERDICT if is_stopped else ExitCode.FINE


def _train(config: PPOConfig | None, given: dict[str, Any], **where: Any) -> Outcome:
    """Import what only training needs, and train with `config`; if it is None, resume with the options `given`.

    Raises:
        EsperError: torch or gymnasium is missing, or as `run_training` and `resume_training`.
    """
    try:
        from esper_recorder.train.command import resume_training, run_training
    except ImportError as error:
        if error.name not in ("torch", "gymnasium"):
            raise
        raise UsageError(
            f"esper-rec train needs {error.name}, which is not installed: pip install {error.name}"
        ) from None
    console = talk_console()
    if config is None:
        return resume_training(given, console=console, **where)
    return run_training(config, console=console, **where)
