"""The command `esper-analyze compare`, and the document of each of its formats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from esper_analyzer.commands.choosing import (
    JudgingChoice,
    chosen_groups,
    chosen_rank,
    group_options,
    judging_options,
    no_cache_option,
    output_option,
    root_option,
    tell_unused_references,
    verify_option,
    write_document,
)
from esper_analyzer.options import By
from esper_schemas.arguments import runs_argument
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_analyzer.reporting.comparison.compare import Compared
    from esper_schemas.metric.metrics import Direction
    from esper_schemas.run.store import Place


@click.command()
@runs_argument()
@root_option
@judging_options
@no_cache_option
@verify_option
@click.option(
    "--rank", help="Rank of each run to compare and to judge.  [default: the first is compared, all are judged]"
)
@click.option(
    "--by",
    type=click.Choice(get_args(By)),
    help="What to align the runs by.  [default: environment steps if all runs have them, else updates]",
)
@click.option(
    "--metric",
    help="What to compare: any recorded metric."
    "  [default: the episode return, or its sliding mean, if all runs have it, else value_loss]",
)
@click.option(
    "--better",
    type=click.Choice(["lower", "higher"]),
    help="Which way is better, if the metrics table does not say.",
)
@group_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html"]),
    default="text",
    show_default=True,
    help="html is one page with all runs in each chart, and needs no network.",
)
@output_option
def compare(
    names: tuple[str, ...],
    root: Place,
    judging: JudgingChoice,
    verify: bool,
    rank: str | None,
    by: By | None,
    metric: str | None,
    better: Direction | None,
    group_by: str | None,
    no_group: bool,
    form: str,
    output: Path | None,
) -> int:
    """Compare runs and groups of seeds side by side, the best first.

    Runs that end before half the median span are set aside and named.

    Example: esper-analyze compare run-a run-b --format html -o compared.html
    """
    from esper_analyzer.drawing.style import write_lines
    from esper_analyzer.drawing.terminal_size import terminal_size
    from esper_analyzer.reading.errors import quiet_panics
    from esper_analyzer.reporting.comparison.compare import compared
    from esper_analyzer.reporting.comparison.text import PIPED_HEIGHT, compare_lines

    groups = chosen_groups(group_by, no_group)
    number, settings = chosen_rank(rank), judging.settings(root)
    with quiet_panics():
        found = compared(
            names,
            root=root,
            settings=settings,
            by=by,
            metric=metric,
            better=better,
            rank="first" if number is None else number,
            group=not no_group,
            group_by=groups,
            with_metrics=form == "html",
            verify=verify,
        )
        made = found.comparison
        document = _comparison(found, form) if form != "text" or output is not None else None
    if document is None:
        columns, rows = terminal_size(sys.stdout)
        write_lines(compare_lines(made, columns, rows - 1 if sys.stdout.isatty() else PIPED_HEIGHT))
    else:
        write_document(document, output)
    tell_unused_references(settings, found.judged)
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


def _comparison(found: Compared, form: str) -> str:
    if form == "html":
        from esper_analyzer.reporting.comparison.html import comparison_html

        return comparison_html(found)
    if form == "json":
        return found.comparison.to_json() + "\n"
    from esper_analyzer.reporting.comparison.text import compare_lines

    return "".join(f"{line.plain}\n" for line in compare_lines(found.comparison))
