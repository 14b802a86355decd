"""The command `esper-analyze export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from esper_analyzer.commands.choosing import chosen_rank, chosen_run, root_option, verify_option
from esper_schemas.arguments import run_argument
from esper_schemas.console import say
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_schemas.run.store import Place


@click.command()
@run_argument()
@root_option
@verify_option
@click.option(
    "--rank",
    help="Rank to export: a number.  [default: all, with a column `rank`; an event file has the first]",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: NAME.parquet, NAME.csv, or a name that contains tfevents. Missing folders are made.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export(run: str | None, root: Place, verify: bool, rank: str | None, output: Path, force: bool) -> int:
    """Write a run into one file: Parquet, CSV, or for TensorBoard.

    RUN is a path, a URL, or a name under --root.

    The updates that count are exported: rows that a later attempt superseded, and black boxes, are not. Parquet and CSV
    have every column, and null is an empty cell in CSV. An event file has one rank, values as float32, the update as
    step, tags such as losses/value_loss, and the hyper-parameters. The exit code is 3 if the run is damaged; what can
    be read is exported all the same.

    Example: esper-analyze export --run my-run -o my-run.parquet
    """
    from esper_analyzer.exporting.export import export_run
    from esper_analyzer.reading.errors import quiet_panics

    number = chosen_rank(rank, "the number of one rank")
    opened = chosen_run(run, root, verify=verify)
    with quiet_panics():
        made = export_run(opened, output, rank=number, force=force)
    ranks = f" of rank {made.ranks[0]}" if len(made.ranks) == 1 else f" of {len(made.ranks):,} ranks"
    say(f"{made.path}: {made.rows:,} updates{ranks if made.ranks else ''}")
    if made.is_damaged:
        say(f"the run is damaged, and rows may be missing: esper-rec verify {opened.path}")
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE
