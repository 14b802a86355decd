"""The command `esper-analyze fleet`: its options, and what it prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, get_args

import click

from esper_analyzer.commands.choosing import (
    JudgingChoice,
    chosen_groups,
    group_options,
    judging_options,
    many_runs_options,
    no_cache_option,
    output_option,
    tell_unused_references,
    verify_each_option,
    write_document,
)
from esper_analyzer.options import EngineName, FailOn, FleetForm
from esper_schemas.console import say
from esper_schemas.errors import UsageError
from esper_schemas.run.store import Place, parse_place

if TYPE_CHECKING:
    from esper_analyzer.reporting.fleet.fleet import Fleet


@click.command()
@many_runs_options("the worst first")
@click.option(
    "--from",
    "listed",
    metavar="FILE",
    type=click.File(encoding="utf-8", errors="surrogateescape"),
    help="File with one more ROOT in each line; - is standard input.",
)
@click.option(
    "--engine",
    "engine_name",
    type=click.Choice(get_args(EngineName)),
    default="local",
    show_default=True,
    help="What judges the runs: processes of this machine, or a Ray cluster whose nodes see the same paths.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Ray cluster.  [default: $RAY_ADDRESS, else one that runs here, else one is started for this command]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="How many processes judge at the same time.  [default: one for each core, of the cluster for ray]",
)
@judging_options
@no_cache_option
@verify_each_option
@click.option(
    "--fail-on",
    type=click.Choice(get_args(FailOn)),
    help="Exit with 1 if a run reaches this level; `unknown` fails everything that is not healthy.",
)
@group_options
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(FleetForm)),
    default="text",
    show_default=True,
    help="json has runs and groups; csv and parquet have one row for each run, parquet with config.NAME.",
)
@output_option
def fleet(
    roots: tuple[Place, ...],
    root: Place,
    sort: str | None,
    reverse: bool,
    filters: tuple[str, ...],
    status: tuple[str, ...],
    listed: TextIO | None,
    engine_name: EngineName,
    address: str | None,
    workers: int | None,
    judging: JudgingChoice,
    verify: bool,
    fail_on: FailOn | None,
    group_by: str | None,
    no_group: bool,
    form: FleetForm,
    output: Path | None,
) -> int:
    """Judge thousands of runs, the worst first, with their groups of seeds.

    The rows are those of `runs`, without the age, so that the same runs have the same output: whatever judges them,
    however many processes it has, and in whichever order they end. A process that dies is replaced; a run over which it
    dies again and again is a row with that error, as is a folder without runs. Names for --sort and --filter are those
    of `runs`. The exit code is 3 if a run is damaged, 2 if one cannot be read, 1 if one reaches --fail-on.

    Example: esper-analyze fleet sweeps/2026-11 --format parquet -o fleet.parquet
    """
    groups = chosen_groups(group_by, no_group)
    _check_output(form, output)
    from esper_analyzer.engines.opening import engine_of
    from esper_analyzer.listing.listing import Wanted
    from esper_analyzer.reporting.fleet.fleet import judge_fleet

    settings = judging.settings(root)
    made = judge_fleet(
        _roots(roots, root, listed),
        engine_of(engine_name, address, workers),
        Wanted.of(filters, status, sort, is_reversed=reverse),
        settings,
        depth="checksums" if verify else "records",
        group=not no_group,
        group_by=groups,
    )
    _write(made, form, output)
    tell_unused_references(settings, ((run.task, run.run_uuid) for run in made.runs if run.error is None))
    return made.exit_code(fail_on)


def _roots(given: tuple[Place, ...], root: Place, listed: TextIO | None) -> list[Place]:
    """Return the folders that are named, each once; `root` if none is."""
    lines = [] if listed is None else [line for line in listed.read().split("\n") if line]
    if listed is not None and not lines:
        raise UsageError(f"{listed.name} names no folder; it must have one in each line")
    if any("\0" in line for line in lines):
        raise UsageError(f"{listed.name if listed else ''} is no text: a line of it has a null byte")
    return list(dict.fromkeys([*given, *map(parse_place, lines)])) or [root]


def _check_output(form: FleetForm, output: Path | None) -> None:
    """Check what can be checked of the output before thousands of runs are judged."""
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("Parquet is no text for a terminal; name a file with -o")
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"{output} cannot be written: there is no folder {output.parent}")


def _write(made: Fleet, form: FleetForm, output: Path | None) -> None:
    if form != "text":
        from esper_analyzer.reporting.fleet.formats import fleet_csv, fleet_json, fleet_parquet

        if form == "parquet":
            write_document(fleet_parquet(made), output)
        else:
            write_document(fleet_json(made) + "\n" if form == "json" else fleet_csv(made), output)
        return
    from esper_analyzer.drawing.style import write_lines
    from esper_analyzer.drawing.terminal_size import terminal_size
    from esper_analyzer.reporting.fleet.text import fleet_lines, table_of

    columns, rows = terminal_size(sys.stdout)
    table = table_of(made, columns)
    if output is not None:
        write_document("".join(f"{line.plain}\n" for line in fleet_lines(made, table, columns)), output)
        return
    write_lines(fleet_lines(made, table, columns, rows - 1 if sys.stdout.isatty() else None))
    for line in table.remarks(made.found):
        say(line)
