"""The command `esper-analyze runs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from esper_analyzer.commands.choosing import (
    JudgingChoice,
    judging_options,
    many_runs_options,
    no_cache_option,
    tell_unused_references,
    verify_each_option,
)
from esper_schemas.console import say
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_schemas.run.store import Place


@click.command()
@many_runs_options("the newest first")
@judging_options
@no_cache_option
@verify_each_option
@click.option("--format", "form", type=click.Choice(["text", "json", "csv"]), default="text", show_default=True)
def runs(
    roots: tuple[Place, ...],
    root: Place,
    sort: str | None,
    reverse: bool,
    filters: tuple[str, ...],
    status: tuple[str, ...],
    judging: JudgingChoice,
    verify: bool,
    form: str,
) -> int:
    """List the runs under a folder, however deep they lie in it.

    ROOT says the same as --root, and may be repeated. --sort puts the best first: numbers from the largest, ages from
    the youngest, verdicts from the worst, texts from A; runs without a value come last. Names for --sort and --filter
    are the columns, the metrics of the table, config.NAME and extras.NAME. The exit code is 3 if a listed run is
    damaged.

    Example: esper-analyze runs --filter 'config.lr >= 1e-3' --sort return
    """
    from esper_analyzer.drawing.style import write_lines
    from esper_analyzer.drawing.terminal_size import terminal_size
    from esper_analyzer.listing.formats import listing_csv, listing_json
    from esper_analyzer.listing.listing import Wanted, list_runs
    from esper_analyzer.listing.references import tip
    from esper_analyzer.listing.text import Table

    wanted = Wanted.of(filters, status, sort, is_reversed=reverse)
    settings = judging.settings(root)
    made = list_runs(roots or (root,), wanted, settings, depth="checksums" if verify else "records")
    if form == "text":
        table = Table(made.runs, terminal_size(sys.stdout)[0])
        write_lines(table)
        for line in table.remarks(made.found):
            say(line)
        if not settings.references_in and (told := tip(made.runs, roots or (root,))):
            say(told)
    else:
        sys.stdout.write(listing_json(made) + "\n" if form == "json" else listing_csv(made))
    tell_unused_references(settings, ((run.task, run.run_uuid) for run in made.runs if run.error is None))
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE
