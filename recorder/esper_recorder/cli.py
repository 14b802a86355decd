"""The command line `esper-rec`: parses options, calls one function per command and prints the result."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import Field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esper_recorder.train.config import DEFAULT_ENV, ENV_PRESETS, GYMNASIUM_PRESET, PPOConfig, option_name
from esper_recorder.train.signals import Signals, end_with_input
from esper_schemas.arguments import run_argument, runs_argument
from esper_schemas.console import command_group, output_width, progress, say, talk_console, tell, write
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
    return "\n\n".join(["Defaults that differ by environment:", *described])


redact_option = click.option(
    "--redact",
    multiple=True,
    metavar="KEY",
    help="Leave KEY out of what is uploaded: host, commit, config, or config.KEY with a dot for each level. Repeat it"
    " for each key. The run on this machine keeps it.",
)

_RUN_PARAMETERS, _HYPERPARAMETERS = fields_of(PPOConfig)[:6], fields_of(PPOConfig)[6:]


MIN_SEGMENTS = 50
"""A run with fewer segments is examined too fast for a progress bar to be read."""


@command_group("esper-rec")
def main() -> None:
    """Record PPO training runs; import, verify, repair and upload them.

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
@click.option(
    "--upload",
    metavar="URL",
    help="Upload the run below URL while it is recorded, as `esper-rec upload` does, in a process of its own.",
)
@redact_option
@parameter_options(_HYPERPARAMETERS)
@click.option("--no-value-clip", is_flag=True, help="Use the unclipped value loss, ½·MSE.")
def train(
    resume: bool,
    no_value_clip: bool,
    device: str,
    root: str,
    run_id: str | None,
    stop_on: StopLevel | None,
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
    where |= {"upload": upload, "redact": redact}
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


def which_run(command: _Command) -> _Command:
    """Add RUN, `--run` and `--root`, which name the run, to a command."""
    root = click.option("--root", default="runs", help="Folder to look for RUN in.  [default: runs]")
    return run_argument(required=True)(root(command))


@main.command()
@which_run
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="[default: text]")
def verify(run: str, root: str, form: str) -> ExitCode:
    """Check a run for damage, down to every row.

    RUN is a path, a URL, or a name under --root; the run may still be recording. The exit code is 3 if it is damaged. A
    torn end, leftovers of a crash and losses that a repair has recorded are listed but do not count as damage.

    Example: esper-rec verify mine
    """
    from esper_schemas.examining.run import count_all_segments, find_run, verify_run
    from esper_schemas.run.store import parse_place

    found = find_run(run, parse_place(root))
    with progress("verifying segments", count_all_segments(found), at_least=MIN_SEGMENTS) as advance:
        made = verify_run(found, lambda: advance(1))
    if form == "json":
        write(json.dumps(made.to_dict(), indent=2) + "\n")
    else:
        tell(*_fault_lines(made))
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


@main.command()
@which_run
def repair(run: str, root: str) -> ExitCode:
    """Make a damaged run readable again.

    RUN is a path, or a name under --root. Repair leaves sound data alone, moves what it cannot use to
    repairs/*.broken, and records what is lost. The exit code is 3 if damage remains.

    Example: esper-rec repair mine
    """
    from esper_recorder.keeping.repair import repair_run
    from esper_schemas.examining.run import count_all_segments, find_run
    from esper_schemas.run.store import parse_place

    found = find_run(run, parse_place(root))
    with progress("repairing segments", count_all_segments(found), at_least=MIN_SEGMENTS) as advance:
        made = repair_run(found, lambda: advance(1))
    tell(*(made.done or ["nothing to repair"]), *_fault_lines(made.verification))
    return ExitCode.DAMAGED if made.verification.is_damaged else ExitCode.FINE


@main.command()
@runs_argument(metavar="RUN…")
@click.argument("url")
@click.option("--root", default="runs", help="Folder to look for RUN in.  [default: runs]")
@click.option("--follow", is_flag=True, help="Go on while the run is recorded, until it ends. For one RUN.")
@redact_option
@click.option("--rank", type=click.IntRange(min=0), help="Upload only this rank.  [default: all]")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="[default: text]")
def upload(
    names: tuple[str, ...], url: str, root: str, follow: bool, redact: tuple[str, ...], rank: int | None, form: str
) -> ExitCode:
    """Upload runs to an object store.

    RUN is a path, or a name under --root; URL is s3://BUCKET/PATH, gs://BUCKET/PATH or az://ACCOUNT/CONTAINER/PATH.
    The run mine becomes URL/mine, with the same files in it. Only finished files are uploaded, each at most once: an
    object that is there with the same bytes is left as it is, and one with other bytes is an error. So a command that
    was interrupted is simply given again. Credentials come from the environment, such as AWS_ACCESS_KEY_ID. The exit
    code is 2 if a RUN could not be uploaded, 3 if it is damaged; the others are still uploaded.

    Example: esper-rec upload mine s3://bucket/runs
    """
    from esper_recorder.uploading.command import upload_runs

    uploads, code = upload_runs(names, url, Path(root), redact, rank=rank, follow=follow)
    if form == "json":
        write(json.dumps({"format": "esper-upload/1", "runs": [entry.to_dict() for entry in uploads]}, indent=2) + "\n")
    else:
        tell(*(entry.describe() for entry in uploads if entry.uploaded is not None))
    return code


def mapping_option(what: str) -> Callable[[_Command], _Command]:
    """Add `--map KEY=FIELD` to a command; `what` is the first sentence of its help."""
    return click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="KEY=FIELD",
        help=f"{what} The KEY `step` is the step that the log gives to each point. Repeat it for each key; both losses"
        " are needed where the trainer is not known.",
    )


definition_option = click.option(
    "--value-loss-definition",
    "definition",
    multiple=True,
    metavar="FIELD=VALUE",
    help="What the value loss of the log is: factor, clipping, clip_range, reduction, coefficient_included,"
    " targets_normalised or source, as in run.json. Repeat it, or separate several with commas.",
)


@main.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.option("--out", "root", default="runs", help="Folder to create the runs in.  [default: runs]")
@click.option(
    "--run-id", default=None, help="Name of the run, for one PATH; by default it is made from the name of PATH."
)
@mapping_option("Import the key KEY of the log as FIELD, a metric or a name of your own.")
@definition_option
@click.option("--source-run", default=None, help="Which run to import from a database of Trackio that has several.")
@click.option(
    "--follow",
    is_flag=True,
    help="Go on importing while the log of one PATH is written, until Ctrl-C or SIGTERM, which seals the run. A PATH in"
    " which nothing is yet is waited for.",
)
@click.option(
    "--until-idle",
    type=click.FloatRange(0.0, min_open=True),
    metavar="SECONDS",
    help="With --follow: end when nothing new has come for so long; the run is then finished.",
)
@click.option(
    "--until-eof",
    is_flag=True,
    help="Also end, as by SIGTERM, when standard input ends: for a program that starts this one.",
)
def import_(
    paths: tuple[Path, ...],
    root: str,
    run_id: str | None,
    mapping: tuple[str, ...],
    definition: tuple[str, ...],
    source_run: str | None,
    follow: bool,
    until_idle: float | None,
    until_eof: bool,
) -> ExitCode:
    """Make a run of each log of another trainer.

    Each file or folder PATH becomes a run. What it is follows from its content: event files of TensorBoard (those of
    a folder are joined), progress.csv and progress.json of Stable-Baselines3, result.json of RLlib, metrics.csv of
    Lightning, JSON lines and console output of verl, offline runs of W&B, databases of Trackio, events.jsonl of
    esper-lite, and with --map any CSV, JSON lines or Parquet. The command prints what became of each key, and what it
    did not import. Import a log that has grown again to add what is new, or follow it: each update is then imported
    as soon as it is complete. The exit code is 2 if a PATH could not be imported; the others are still imported.

    Example: esper-rec import runs/CartPole-v1__ppo__1 --out esper_runs
    """
    from esper_recorder.importing.command import describe, follow_log, import_log, name_runs, parse_given

    if follow and len(paths) > 1:
        raise UsageError(f"--follow follows one PATH, found {len(paths)}; follow each with a command of its own")
    if until_idle is not None and not follow:
        raise UsageError("--until-idle says when to stop following a log; give --follow too")
    given = parse_given(mapping, definition, source_run)
    names = name_runs(paths, Path(root), run_id)
    signals, failed = Signals(), False
    for path, name in zip(paths, names, strict=True):
        try:
            with signals.installed():
                if until_eof:
                    end_with_input()
                if follow:
                    imported, source = follow_log(path, Path(root), name, given, signals, until_idle)
                else:
                    imported, source = import_log(path, Path(root), name, given, signals)
        except EsperError as error:
            say(f"esper-rec: {describe_error(error)}")
            failed = True
            continue
        tell(*describe(path, imported, source).splitlines())
        if signals.signum is not None:
            return ExitCode(128 + signals.signum)
    return ExitCode.USAGE if failed else ExitCode.FINE


@main.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("script")
@click.argument("arguments", nargs=-1, metavar="[ARG]...", type=click.UNPROCESSED)
@click.option("-m", "--module", "is_module", is_flag=True, help="SCRIPT is the name of a module, as for python -m.")
@click.option("--out", "root", default=None, help="Folder to create runs in.  [default: that of the event files]")
@mapping_option("Record the tag KEY as FIELD, a metric or a name of your own.")
@definition_option
def run_(
    script: str,
    arguments: tuple[str, ...],
    is_module: bool,
    root: str | None,
    mapping: tuple[str, ...],
    definition: tuple[str, ...],
) -> int:
    """Run a training script unchanged, and record what it logs.

    What it writes to a SummaryWriter is recorded beside its event files. The script runs as `python SCRIPT ARG...`
    runs it, and its exit code is kept. Each folder of event files with the losses of a PPO becomes a run in that
    folder. The run is sealed when its writer is closed or the script ends, also by Ctrl-C. Options of esper-rec come
    before SCRIPT.

    Example: esper-rec run ppo.py --env-id CartPole-v1
    """
    from esper_recorder.adapters.run_command import run_program
    from esper_recorder.importing.command import parse_given

    given = parse_given(mapping, definition, None)
    where = None if root is None else Path(root)
    return run_program(script, arguments, is_module=is_module, root=where, given=given)


@main.command()
@click.argument("word", required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="[default: text]")
def fields(word: str | None, form: str) -> None:
    """Show which key of which trainer becomes which column.

    Each trainer is listed with what it calls its value loss and what that is multiplied by. With WORD, only trainers,
    keys and columns are shown that contain it. `esper-rec import` reads logs by this table.

    Example: esper-rec fields kl
    """
    from esper_recorder.dialects.fields import as_json, lines, select

    selected = select(word)
    if not selected:
        raise UsageError(f"no trainer, key or column has {word!a} in its name; esper-rec fields lists them all")
    if form == "json":
        write(json.dumps(as_json(selected), indent=2) + "\n")
    else:
        tell(*lines(selected, output_width()))


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
