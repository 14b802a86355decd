"""The command line `esper-rec`: parses options, calls one function per command and prints the result."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esper_recorder.train.config import DEFAULT_ENV, ENV_PRESETS, GYMNASIUM_PRESET, PPOConfig, option_name
from esper_recorder.train.signals import Signals
from esper_schemas.console import command_group, progress, say, talk_console, tell, write
from esper_schemas.errors import EsperError, UsageError, describe_error
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_recorder.train.command import Outcome
    from esper_recorder.train.verdict_stop import StopLevel
    from esper_schemas.examining.faults import Fault
    from esper_schemas.examining.run import Verification

_Command = TypeVar("_Command", bound=Callable[..., Any])


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
    return f"Defaults by environment: {'; '.join(described)}. The run's header records every value in use."


_RUN_PARAMETERS, _HYPERPARAMETERS = fields(PPOConfig)[:6], fields(PPOConfig)[6:]


MIN_SEGMENTS = 50
"""A run with fewer segments is examined too fast for a progress bar to be read."""


@command_group("esper-rec")
def main() -> None:
    """Record PPO training runs, import, verify and repair them.

    Example: esper-rec train
    """


@main.command(epilog=describe_presets())
@parameter_options(_RUN_PARAMETERS)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Device to train on; auto uses CUDA if it is available.  [default: auto]",
)
@click.option("--out", "root", default="runs", help="Folder to create the run in.  [default: runs]")
@click.option("--run-id", default=None, help="Name of the run; by default it is made from the time.")
@click.option(
    "--resume",
    is_flag=True,
    help="Resume the run --run-id, or the latest run under --out, from its checkpoint, as a new attempt. The run keeps"
    " its options. Only its length (--updates or --total-steps, over which the learning rate is then annealed) and"
    " --checkpoint-updates can change. A complete run is left as it is.",
)
@click.option(
    "--stop-on",
    type=click.Choice(["warning", "critical"]),
    help="Stop the training when its verdict reaches this level. The run is sealed, and the exit code is 1.",
)
@parameter_options(_HYPERPARAMETERS)
@click.option("--no-value-clip", is_flag=True, help="Use the unclipped value loss, ½·MSE.")
def train(
    resume: bool,
    no_value_clip: bool,
    device: str,
    root: str,
    run_id: str | None,
    stop_on: StopLevel | None,
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
            f"esper-rec train needs {error.name}, which is not installed: pip install 'esper-recorder[train]'"
        ) from None
    console = talk_console()
    if config is None:
        return resume_training(given, console=console, **where)
    return run_training(config, console=console, **where)


def run_argument(command: _Command) -> _Command:
    """Add `RUN` and `--root`, which name the run, to a command."""
    root = click.option("--root", default="runs", help="Folder to look for RUN in.  [default: runs]")
    return click.argument("run")(root(command))


@main.command()
@run_argument
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="[default: text]")
def verify(run: str, root: str, form: str) -> ExitCode:
    """Check a run for damage, down to every row.

    RUN is a path, or a name under --root; the run may still be recording. The exit code is 3 if the run is damaged. A
    torn end, leftovers of a crash and losses that a repair has recorded are listed but do not count as damage.

    Example: esper-rec verify mine
    """
    from esper_schemas.examining.run import count_all_segments, find_run, verify_run

    found = find_run(run, Path(root))
    with progress("verifying segments", count_all_segments(found), at_least=MIN_SEGMENTS) as advance:
        made = verify_run(found, lambda: advance(1))
    if form == "json":
        write(json.dumps(made.to_dict(), indent=2) + "\n")
    else:
        tell(*_fault_lines(made))
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


@main.command()
@run_argument
def repair(run: str, root: str) -> ExitCode:
    """Make a damaged run readable again.

    RUN is a path, or a name under --root. Repair leaves sound data alone, moves what it cannot use to
    repairs/*.broken, and records what is lost. The exit code is 3 if damage remains.

    Example: esper-rec repair mine
    """
    from esper_recorder.keeping.repair import repair_run
    from esper_schemas.examining.run import count_all_segments, find_run

    found = find_run(run, Path(root))
    with progress("repairing segments", count_all_segments(found), at_least=MIN_SEGMENTS) as advance:
        made = repair_run(found, lambda: advance(1))
    tell(*(made.done or ["nothing to repair"]), *_fault_lines(made.verification))
    return ExitCode.DAMAGED if made.verification.is_damaged else ExitCode.FINE


@main.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, path_type=Path))
@click.option("--out", "root", default="runs", help="Folder to create the runs in.  [default: runs]")
@click.option(
    "--run-id", default=None, help="Name of the run, for one FILE; by default it is made from the file's name."
)
def import_(files: tuple[Path, ...], root: str, run_id: str | None) -> ExitCode:
    """Import events.jsonl of esper-lite, each FILE as its own run.

    The run keeps the source's numbering and times. The command prints what became of each key, and what it did not
    import. The exit code is 2 if a FILE could not be imported; the other files are still imported.

    Example: esper-rec import events.jsonl --run-id mine
    """
    from esper_recorder.importing.command import describe, import_file, name_runs

    names = name_runs(files, Path(root), run_id)
    signals, failed = Signals(), False
    for file, name in zip(files, names, strict=True):
        try:
            with signals.installed():
                imported, account = import_file(file, Path(root), name, signals)
        except EsperError as error:
            say(f"esper-rec: {describe_error(error)}")
            failed = True
            continue
        tell(*describe(file, imported, account).splitlines())
        if signals.signum is not None:
            return ExitCode(128 + signals.signum)
    return ExitCode.USAGE if failed else ExitCode.FINE


def _fault_lines(made: Verification) -> list[str]:
    """Return one line per fault, and a summary line."""
    of_run = made.run_id or made.path
    lines = [f"{of_run} {_place(fault)}{fault.kind}: {fault.message}" for fault in made.faults]
    damage = sum(fault.is_damage for fault in made.faults)
    losses = sum(fault.kind == "repaired" for fault in made.faults)
    named = (
        (damage, "fault"),
        (losses, "recorded loss"),
        (len(made.faults) - damage - losses, "note"),
        (made.ranks, "rank"),
        (made.segments, "segment"),
        (made.rows, "row"),
    )
    counts = [
        f"{number:,} {name}{'' if number == 1 else 'es' if name.endswith('s') else 's'}" for number, name in named
    ]
    state = "damaged; esper-rec repair recovers what is left" if damage else "no damage"
    return [*lines, f"{made.path}: {state} ({', '.join(counts)})"]


def _place(fault: Fault) -> str:
    parts = [("rank", fault.rank), ("segment", fault.segment), ("offset", fault.offset)]
    return "".join(f"{name} {number} " for name, number in parts if number is not None)
