"""The command `esper-rec import`."""

from __future__ import annotations

from pathlib import Path

import click

from esper_recorder.commands.options import definition_option, mapping_option
from esper_recorder.train.signals import Signals, end_with_input
from esper_schemas.console import say, tell
from esper_schemas.errors import EsperError, UsageError, describe_error
from esper_schemas.exit_codes import ExitCode


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.option("--out", "root", default="runs", show_default=True, help="Folder to create the runs in.")
@click.option(
    "--run-id", default=None, help="Name of the run, for one PATH; by default it is made from the name of PATH."
)
@mapping_option("Import the key KEY of the log as FIELD, a metric or a name of your own.")
@definition_option
@click.option(
    "--source-run",
    default=None,
    help="Which run of a log that has several: its name in Trackio, MLflow or a chart of W&B, or its run or seed in a"
    " table.",
)
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
    Lightning, JSON lines of verl, offline runs of W&B, runs of MLflow, Sacred and Trackio, events.jsonl of esper-lite,
    tables exported from a tracker's page, and any CSV, JSON or Parquet that has both losses. All may be in gzip, and
    text in UTF-16.

    Console output that was kept in a file is read, too: the tables of Stable-Baselines3, Baselines, Spinning Up and
    OmniSafe, the blocks of rsl_rl and Isaac Lab, the lines of verl, Stoix, Mava and Acme, and what a loop of your own
    printed, such as "value_loss: 0.5 | policy_loss: -0.01", "value_loss=0.5" or a dict, on one line or several.

    Where the trainer is not known and its losses have other names, --map names them. The command prints what became of
    each key, and what it did not import. Import a log that has grown again to add what is new, or follow it: each
    update is then imported as soon as it is complete. The exit code is 2 if a PATH could not be imported; the others
    are still imported.

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
