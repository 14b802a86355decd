"""The command line of the recorder: `esper-rec`. It parses, calls one function and prints."""

from __future__ import annotations

import json
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esper_recorder.train.config import DEFAULT_ENV, ENV_PRESETS, GYMNASIUM_PRESET, PPOConfig, option_name
from esper_recorder.train.signals import Signals
from esper_schemas.cleaning import printable
from esper_schemas.errors import EsperError, RunDamagedError, UsageError

if TYPE_CHECKING:
    from esper_recorder.train.command import Outcome
    from esper_recorder.train.verdict_stop import StopLevel
    from esper_schemas.examining.faults import Fault
    from esper_schemas.examining.run import Verification

EXIT_VERDICT = 1
EXIT_USAGE = 2
EXIT_DAMAGED = 3
EXIT_CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}

_Command = TypeVar("_Command", bound=Callable[..., Any])


class OneLineErrors(click.Group):
    """A command group that reports every error of usage in one line on stderr, with exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command and end the process with its exit code."""
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(EXIT_USAGE)
        except click.ClickException as error:
            _fail(error.format_message())
        except RunDamagedError as error:
            _say(str(error))
            sys.exit(EXIT_DAMAGED)
        except EsperError as error:
            _fail(str(error))
        except OSError as error:  # a folder that may not be opened, a disk that refuses
            if error.errno is None:
                raise
            _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror))
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_CODES[signal.SIGINT])
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> typing.NoReturn:
    _say(message)
    sys.exit(EXIT_USAGE)


def _say(message: str) -> None:
    click.echo(f"esper-rec: {printable(' '.join(message.split()))}", err=True)


def parameter_options(parameters: Sequence[Field[Any]]) -> Callable[[_Command], _Command]:
    """Give a command one option per field of `PPOConfig`; an option not given is None."""
    kinds = typing.get_type_hints(PPOConfig)

    def decorate(command: _Command) -> _Command:
        for parameter in reversed(parameters):
            # An optional field, such as `float | None`, is an option of the type that is not None.
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
    """The defaults that differ by environment, as options."""
    presets = {**ENV_PRESETS, "any other Gymnasium id": GYMNASIUM_PRESET}
    described = []
    for env, preset in presets.items():
        options = [
            option_name(name) if value is True else f"{option_name(name)} {value}" for name, value in preset.items()
        ]
        if options:
            described.append(f"{env}: {' '.join(options)}")
    return f"Defaults by environment: {'; '.join(described)}. The run's header keeps every value in force."


_RUN_PARAMETERS, _HYPERPARAMETERS = fields(PPOConfig)[:6], fields(PPOConfig)[6:]


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="esper-recorder", prog_name="esper-rec")
def main() -> None:
    """Record PPO training runs.

    Example: esper-rec train
    """


@main.command(epilog=describe_presets())
@parameter_options(_RUN_PARAMETERS)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where to train; auto takes CUDA where it is usable.  [default: auto]",
)
@click.option("--out", "root", default="runs", help="Folder that the run is created in.  [default: runs]")
@click.option("--run-id", default=None, help="Name of the run; made from the time if absent.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the checkpoint of the run --run-id, or of the latest under --out, as a new attempt of it. It keeps"
    " its options; --updates or --total-steps give it another length, over which the learning rate is then"
    " annealed, and --checkpoint-updates may change too. A run that is complete is left as it is.",
)
@click.option(
    "--stop-on",
    type=click.Choice(["warning", "critical"]),
    help="End the training, sealed and with exit code 1, when the verdict on it is as bad as this.",
)
@parameter_options(_HYPERPARAMETERS)
@click.option("--no-value-clip", is_flag=True, help="Value loss ½·MSE, without a value clip.")
def train(
    resume: bool,
    no_value_clip: bool,
    device: str,
    root: str,
    run_id: str | None,
    stop_on: StopLevel | None,
    **given: Any,
) -> None:
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
        for line in outcome.describe().splitlines():
            click.echo(printable(line))
    if signals.signum is not None:
        click.get_current_context().exit(EXIT_CODES[signals.signum])
    if outcome is not None and outcome.ending == "stopped":
        click.get_current_context().exit(EXIT_VERDICT)


def _train(config: PPOConfig | None, given: dict[str, Any], **where: Any) -> Outcome:
    """Import what only training needs, and train with `config`; without one, resume with what was `given`.

    Raises:
        EsperError: torch or gymnasium is missing, or as `run_training` and `resume_training`.
    """
    try:
        from rich.console import Console

        from esper_recorder.train.command import resume_training, run_training
    except ImportError as error:
        if error.name not in ("torch", "gymnasium"):
            raise
        raise UsageError(
            f"esper-rec train needs {error.name}, which is not installed: pip install 'esper-recorder[train]'"
        ) from None
    console = Console(stderr=True)
    if config is None:
        return resume_training(given, console=console, **where)
    return run_training(config, console=console, **where)


def run_argument(command: _Command) -> _Command:
    """`RUN` and `--root`: which run is meant."""
    root = click.option("--root", default="runs", help="Folder that RUN is looked for in.  [default: runs]")
    return click.argument("run")(root(command))


@main.command()
@run_argument
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="[default: text]")
def verify(run: str, root: str, form: str) -> None:
    """Check every promise of a run on disk: path, or name under --root.

    Exit code 3 if it is damaged. Torn ends, leftovers and what a repair has recorded as lost are listed, and are no
    damage. The run may be being recorded.

    Example: esper-rec verify mine
    """
    from esper_schemas.examining.run import count_all_segments, find_run, verify_run

    found = find_run(run, Path(root))
    with _progress("verifying", count_all_segments(found)) as step, _os_errors():
        made = verify_run(found, step)
    if form == "json":
        click.echo(json.dumps(made.to_dict(), indent=2))
    else:
        _print_faults(made)
    click.get_current_context().exit(EXIT_DAMAGED if made.is_damaged else 0)


@main.command()
@run_argument
def repair(run: str, root: str) -> None:
    """Bring a damaged run back to readable; path, or name under --root.

    What is whole is not touched, what cannot stay is moved to repairs/*.broken, what is lost is written down. Exit code
    3 if damage is left all the same.

    Example: esper-rec repair mine
    """
    from esper_recorder.keeping.repair import repair_run
    from esper_schemas.examining.run import count_all_segments, find_run

    found = find_run(run, Path(root))
    with _progress("repairing", count_all_segments(found)) as step, _os_errors():
        made = repair_run(found, step)
    for line in made.done or ["nothing to repair"]:
        click.echo(printable(line))
    _print_faults(made.verification)
    click.get_current_context().exit(EXIT_DAMAGED if made.verification.is_damaged else 0)


@main.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, path_type=Path))
@click.option("--out", "root", default="runs", help="Folder that the runs are created in.  [default: runs]")
@click.option("--run-id", default=None, help="Name of the run, for one FILE; made from the file's name if absent.")
def import_(files: tuple[Path, ...], root: str, run_id: str | None) -> None:
    """Import events.jsonl of esper-lite, each FILE as a run of its own.

    The source's numbering and times are kept. Prints what became of each key, and everything that was not imported.
    Exit code 2 if a FILE could not be imported; the others are, all the same.

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
            _say(str(error))
            failed = True
            continue
        for line in describe(file, imported, account).splitlines():
            click.echo(printable(line))
        if signals.signum is not None:
            click.get_current_context().exit(EXIT_CODES[signals.signum])
    click.get_current_context().exit(EXIT_USAGE if failed else 0)


def _print_faults(made: Verification) -> None:
    for fault in made.faults:
        click.echo(printable(f"{made.run_id or made.path} {_place(fault)}{fault.kind}: {fault.message}"))
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
    state = "damaged; esper-rec repair brings back what is left" if damage else "no damage"
    click.echo(printable(f"{made.path}: {state} ({', '.join(counts)})"))


def _place(fault: Fault) -> str:
    parts = [("rank", fault.rank), ("segment", fault.segment), ("offset", fault.offset)]
    return "".join(f"{name} {number} " for name, number in parts if number is not None)


@contextmanager
def _os_errors() -> Iterator[None]:
    """A disk that refuses is an error in one line, too."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{error.strerror}: {error.filename}") from None


@contextmanager
def _progress(what: str, segments: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, if that is a terminal and there is enough to do; gives the step to call."""
    if segments < 50 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{what} segments", total=segments)
        yield lambda: progress.advance(task)
