"""The command `esper-analyze explain`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from esper_analyzer.commands.choosing import (
    JudgingChoice,
    chosen_rank,
    judging_options,
    log_options,
    no_cache_option,
    root_option,
    run_read,
    verify_option,
)
from esper_schemas.arguments import runs_argument
from esper_schemas.errors import UsageError
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_schemas.run.store import Place


@click.command()
@runs_argument("[RUN [RUN]]")
@root_option
@log_options
@judging_options
@no_cache_option
@verify_option
@click.option("--rank", help="Rank to explain.  [default: the one in trouble; of two runs, rank 0]")
@click.option(
    "--update", type=click.IntRange(0), help="Update to explain.  [default: that of the trouble the run is in]"
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def explain(
    names: tuple[str, ...],
    root: Place,
    mapping: tuple[str, ...],
    source_run: str | None,
    judging: JudgingChoice,
    verify: bool,
    rank: str | None,
    update: int | None,
    form: str,
) -> int:
    """Say what moved first before an update, or before the trouble that a run is in.

    The trouble is an alert that is in force after the newest row: one that the verdict rests on before others, critical
    before warning. If none is, it is the worst one that is over, and the answer says so.

    RUN is a path, a URL, a name under --root, or the log of another trainer. Each metric, each metric of your own and
    each number of the black boxes is compared with its own past alone: a band of 5 robust deviations around the median
    of the 50 values before. Those that left their bands are listed in the order in which they did.

    With two runs: where the second left the first, beyond the noise of the first.

    Example: esper-analyze explain --run my-run --update 812
    """
    from esper_analyzer.drawing.style import write_lines
    from esper_analyzer.reading.errors import quiet_panics
    from esper_analyzer.reading.imported_log import LogChoice
    from esper_analyzer.reporting.explanation import explanation_lines, parting_lines
    from esper_analyzer.run import open_run

    if len(names) > 2:
        raise UsageError("give one run or two, found " + ", ".join(map(ascii, names)))
    if len(names) == 2 and judging.references:
        raise UsageError("--reference is for one run; name two runs alone: the first is the one that it is held to")
    number, settings = chosen_rank(rank), judging.settings(root, mapping)
    choice = LogChoice(mapping, source_run)
    if len(names) == 2:
        if update is not None:
            raise UsageError("--update is for one run; of two runs all updates that they have in common are compared")
        choice.check_for_logs()
        first, second = (open_run(name, root, settings=settings, verify=verify) for name in names)
        with quiet_panics():
            parting = second.explain_against(first, rank=number or 0)
        lines, document, is_damaged = parting_lines(parting), parting.to_json, parting.is_damaged
    else:
        name = names[0] if names else None
        with run_read(name, root, settings, choice, verify=verify) as opened, quiet_panics():
            found = opened.explain(update, rank=number)
        lines, document, is_damaged = explanation_lines(found), found.to_json, found.is_damaged
    if form == "json":
        sys.stdout.write(document() + "\n")
    else:
        write_lines(lines)
    return ExitCode.DAMAGED if is_damaged else ExitCode.FINE
