"""The command `esper-analyze report`, and the document of each of its formats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

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
from esper_schemas.console import say
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_analyzer.explaining.explanation import Explanation
    from esper_analyzer.reading.run_index import Ranks, RunIndex
    from esper_analyzer.reporting.report import Report
    from esper_analyzer.run import Run
    from esper_schemas.run.store import Place


@click.command()
@run_options
@log_options
@judging_options
@no_cache_option
@verify_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html", "markdown"]),
    default="text",
    show_default=True,
    help="html is one page with charts and needs no network; markdown suits an issue or a pull request.",
)
@output_option
def report(
    run: str | None,
    root: Place,
    rank: str | None,
    mapping: tuple[str, ...],
    source_run: str | None,
    judging: JudgingChoice,
    verify: bool,
    form: str,
    output: Path | None,
) -> int:
    """Report on a run: verdict, losses, alerts, damage.

    RUN is a path, a URL, a name under --root, or the log of another trainer.

    Example: esper-analyze report --run my-run --format html -o my-run.html
    """
    from esper_analyzer.reading.imported_log import LogChoice

    ranks, settings = chosen_ranks(rank), judging.settings(root, mapping)
    with run_read(run, root, settings, LogChoice(mapping, source_run), verify=verify) as opened:
        return _report(opened, ranks, form, output)


def _report(opened: Run, ranks: Ranks, form: str, output: Path | None) -> int:
    from esper_analyzer.drawing.style import write_lines
    from esper_analyzer.drawing.terminal_size import terminal_size
    from esper_analyzer.reading.errors import quiet_panics
    from esper_analyzer.reading.run_index import looked_at
    from esper_analyzer.reporting.text import report_lines

    to_screen = form == "text" and output is None
    with quiet_panics():
        made, explained, document = opened.read(
            looked_at(ranks), lambda found: _document("" if to_screen else form, opened, ranks, found)
        )
    if to_screen:
        write_lines(report_lines(made, opened.settings.thresholds, terminal_size(sys.stdout)[0], explained))
        _tell_of_others(opened, made)
    else:
        write_document(document, output)
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


def _tell_of_others(run: Run, made: Report) -> None:
    """Say on standard error that a run of which nobody is sure could be judged beside others of its folder."""
    from esper_analyzer.listing.siblings import tip_beside

    is_alone = not (run.settings.references or run.settings.references_in)
    if is_alone and made.verdict.level in ("warning", "unknown") and (told := tip_beside(run)):
        say(told)


def _document(form: str, run: Run, rank: Ranks, found: RunIndex) -> tuple[Report, Explanation | None, str]:
    """Build a report, what moved first in a critical run, and the text in one of the formats; none for an empty one."""
    from esper_analyzer.caching.judgements import judgements
    from esper_analyzer.reporting.beside import WholeBeside
    from esper_analyzer.reporting.report import build_report

    with WholeBeside(run, rank, found) as beside:
        judged = judgements(run, found, before=beside.begin)
        made = build_report(run, rank, found, judged, beside.whole)
    if form == "html":
        from esper_analyzer.reporting.html import report_html

        return made, None, report_html(run, made, rank, found, judged)
    explained = None
    if form in ("", "text") and made.verdict.level == "critical":
        from esper_analyzer.reporting.moment import explained_trouble

        explained = explained_trouble(run, made, found, judged)
    return made, explained, _text(form, run, made, explained) if form else ""


def _text(form: str, run: Run, made: Report, explained: Explanation | None) -> str:
    if form == "markdown":
        from esper_analyzer.reporting.markdown import report_markdown

        return report_markdown(made)
    if form == "json":
        return made.to_json() + "\n"
    from esper_analyzer.reporting.text import report_lines

    return "".join(f"{line.plain}\n" for line in report_lines(made, run.settings.thresholds, explained=explained))
