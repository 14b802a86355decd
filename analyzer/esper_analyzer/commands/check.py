"""The command `esper-analyze check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from esper_analyzer.commands.choosing import (
    JudgingChoice,
    chosen_ranks,
    judging_options,
    log_options,
    no_cache_option,
    output_option,
    run_options,
    run_read,
    verify_option,
    write_document,
)
from esper_analyzer.options import CheckForm, FailOn
from esper_schemas.console import say, write
from esper_schemas.errors import UsageError

if TYPE_CHECKING:
    from esper_schemas.run.store import Place


@click.command()
@run_options
@log_options
@judging_options
@no_cache_option
@verify_option
@click.option(
    "--fail-on",
    type=click.Choice(get_args(FailOn)),
    default="critical",
    show_default=True,
    help="The level that fails; `unknown` fails everything that is not healthy.",
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="METRIC[,METRIC…]",
    help="Also fail if the last value of one of these metrics, or an alert in force on it, is at that level.",
)
@click.option("--format", "form", type=click.Choice(get_args(CheckForm)), default="text", show_default=True)
@output_option
def check(
    run: str | None,
    root: Place,
    rank: str | None,
    mapping: tuple[str, ...],
    source_run: str | None,
    judging: JudgingChoice,
    verify: bool,
    fail_on: FailOn,
    gates: tuple[str, ...],
    form: CheckForm,
    output: Path | None,
) -> int:
    """Pass or fail a run by exit code: 0 passed, 1 failed, 3 damaged.

    RUN is a path, a URL, a name under --root, or the log of another trainer, which is imported as it is now.

    Example: esper-analyze check --run my-run --gate explained_variance
    """
    from esper_analyzer.drawing.style import Style
    from esper_analyzer.drawing.terminal_size import terminal_size
    from esper_analyzer.reading.errors import quiet_panics
    from esper_analyzer.reading.imported_log import LogChoice
    from esper_analyzer.reporting.check import check_run
    from esper_analyzer.reporting.check_formats import summary, write_check

    names = [name.strip() for given in gates for name in given.split(",")]
    if not all(names):
        raise UsageError(f"--gate must name metrics, separated by commas, found {','.join(gates)!r}")
    ranks, settings = chosen_ranks(rank), judging.settings(root, mapping)
    with run_read(run, root, settings, LogChoice(mapping, source_run), verify=verify) as opened, quiet_panics():
        found = check_run(opened, ranks, fail_on=fail_on, gates=names)
    if output is not None:
        write_document(write_check(found, form, Style(color=False, unicode=True), 80), output)
        say(summary(found))
    else:
        write(write_check(found, form, Style.of(sys.stdout), terminal_size(sys.stdout)[0]))
    return found.exit_code
