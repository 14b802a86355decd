"""The command `esper-analyze`: each subcommand parses its options, calls one function of the package and prints.

A subcommand imports what it needs when it runs. So `--help`, a wrong option and the completion in a shell do not wait
for polars, and each subcommand waits only for what it uses.
"""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from esper_analyzer.choosing import (
    awaits_run,
    beside,
    chosen_rank,
    chosen_ranks,
    chosen_run,
    chosen_settings,
    group_options,
    many_runs_options,
    no_cache_option,
    one_run_options,
    output_option,
    root_option,
    run_options,
    run_read,
    thresholds_option,
    verify_option,
    watched_run,
    watched_runs_options,
    write_document,
)
from esper_analyzer.fleet_command import fleet
from esper_analyzer.options import INTERVAL_SECS, By, CheckForm, FailOn
from esper_schemas.arguments import run_argument, runs_argument
from esper_schemas.console import command_group, say, write
from esper_schemas.errors import UsageError
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_analyzer.reading.run_index import Ranks, RunIndex
    from esper_analyzer.reporting.comparison.compare import Compared
    from esper_analyzer.reporting.report import Report
    from esper_analyzer.run import Run
    from esper_schemas.metric.metrics import Direction
    from esper_schemas.run.store import Place

_GARBAGE_THRESHOLD = 50_000
"""Objects that are made before garbage is looked for: nothing that a command imports is, and to look takes 70 ms."""


def _data_errors() -> tuple[type[BaseException], ...]:
    from esper_analyzer.reading.errors import DATA_ERRORS

    return DATA_ERRORS


@command_group("esper-analyze", data_errors=_data_errors)
def main() -> None:
    """Read recorded PPO runs: did they learn, since when not, and what moved first?

    Example: esper-analyze report --run my-run
    """
    gc.set_threshold(_GARBAGE_THRESHOLD)


@main.command()
@many_runs_options("the newest first")
@thresholds_option
@no_cache_option
@click.option("--verify", is_flag=True, help="Also check every sealed file against its checksum.")
@click.option("--format", "form", type=click.Choice(["text", "json", "csv"]), default="text", show_default=True)
def runs(
    roots: tuple[Place, ...],
    root: Place,
    sort: str | None,
    reverse: bool,
    filters: tuple[str, ...],
    status: tuple[str, ...],
    thresholds: Path | None,
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
    from esper_analyzer.listing.text import Table

    wanted = Wanted.of(filters, status, sort, is_reversed=reverse)
    settings = chosen_settings(thresholds)
    made = list_runs(roots or (root,), wanted, settings, depth="checksums" if verify else "records")
    if form == "text":
        table = Table(made.runs, terminal_size(sys.stdout)[0])
        write_lines(table)
        for line in table.remarks(made.found):
            say(line)
    else:
        sys.stdout.write(listing_json(made) + "\n" if form == "json" else listing_csv(made))
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


main.add_command(fleet)


@main.command()
@watched_runs_options
@thresholds_option
@no_cache_option
@click.option(
    "--interval",
    default=INTERVAL_SECS,
    show_default=True,
    type=click.FloatRange(0.01, 3600),
    help="Seconds between looks at the run.",
)
@click.option("--once", is_flag=True, help="Print one frame and exit.")
@click.option("--wait", is_flag=True, help="Wait for the run if it does not exist yet.")
@click.option(
    "--on-alert", metavar="CMD", help="Shell command to run for each new alert; it reads the alert as JSON from stdin."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC[,METRIC…]",
    help="Metrics to draw: the first in the chart, the others first among the small charts.  [default: value_loss]",
)
@click.option(
    "--by",
    type=click.Choice(get_args(By)),
    default="updates",
    show_default=True,
    help="What the horizontal axis of the charts counts.",
)
def tail(
    names: tuple[str, ...],
    root: Place,
    rank: str | None,
    thresholds: Path | None,
    interval: float,
    once: bool,
    wait: bool,
    on_alert: str | None,
    metrics: tuple[str, ...],
    by: By,
) -> int:
    """Watch a run while it is recorded, and others over it in the same chart.

    RUN is a path, a URL, or a name under --root; without it the latest run is watched. Up to five more runs are drawn
    over the first, which has the verdict and the numbers; in a pipe each line begins with the name of its run. Each RUN
    may also be the log of another trainer, such as a folder of TensorBoard: `esper-rec import --follow` then makes a
    temporary run of it, for as long as it is watched.

    Example: esper-analyze tail runs/CartPole-v1__ppo__1
    """
    from esper_analyzer.reading.run_reader import GOING_ON
    from esper_analyzer.terminal import tail as screens
    from esper_analyzer.terminal.choices import chosen_to_see

    if once and on_alert is not None:
        raise UsageError("--on-alert needs a tail that goes on, and --once shows one frame; leave --once out")
    if on_alert is not None and not on_alert.strip():
        raise UsageError("--on-alert must be a command, found an empty one")
    number, settings = chosen_rank(rank), chosen_settings(thresholds)
    with ExitStack() as logs:
        opened = [watched_run(name, root, settings, logs, is_followed=not once) for name in beside(names)]
        name, is_new = names[0] if names else None, False
        if wait:
            is_new = awaits_run(name, root, interval)
        run, process = watched_run(name, root, settings, logs, is_followed=not once)
        others, chosen = [other for other, _ in opened], chosen_to_see(run, number, metrics, by)
        if once:
            damage = screens.once(run, number, others=others, chosen=chosen)
        else:
            damage = screens.follow(
                run, number, interval=interval, on_alert=on_alert, is_new=is_new and process is None, root=root,
                others=others, chosen=chosen,
            )  # fmt: skip
            for followed, its_import in [(run, process), *opened]:
                # a run that goes on is left by the user, or the import has begun another attempt
                if its_import is not None and followed.status() not in GOING_ON:
                    its_import.check()
    return ExitCode.DAMAGED if damage else ExitCode.FINE


@main.command()
@one_run_options
@thresholds_option
@click.option(
    "--speed",
    type=click.FloatRange(0.0),
    help="How many times faster than recorded; 0 is as fast as possible.  [default: the speed that takes 25 seconds]",
)
def replay(run: str | None, root: Place, rank: str | None, thresholds: Path | None, speed: float | None) -> int:
    """Show a recorded run from its beginning.

    RUN is a path, a URL, or a name under --root.

    Example: esper-analyze replay --run my-run --speed 10
    """
    from esper_analyzer.terminal import tail as screens

    opened = chosen_run(run, root, chosen_settings(thresholds))
    damage = screens.replay(opened, chosen_rank(rank) or 0, speed=speed, root=root)
    return ExitCode.DAMAGED if damage else ExitCode.FINE


@main.command()
@run_options
@thresholds_option
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
    thresholds: Path | None,
    verify: bool,
    form: str,
    output: Path | None,
) -> int:
    """Report on a run: verdict, losses, alerts, damage.

    RUN is a path, a URL, a name under --root, or the log of another trainer.

    Example: esper-analyze report --run my-run --format html -o my-run.html
    """
    ranks = chosen_ranks(rank)
    with run_read(run, root, chosen_settings(thresholds), verify=verify) as opened:
        return _report(opened, ranks, form, output)


def _report(opened: Run, ranks: Ranks, form: str, output: Path | None) -> int:
    from esper_analyzer.drawing.style import write_lines
    from esper_analyzer.drawing.terminal_size import terminal_size
    from esper_analyzer.reading.errors import quiet_panics
    from esper_analyzer.reading.run_index import looked_at
    from esper_analyzer.reporting.text import report_lines

    to_screen = form == "text" and output is None
    with quiet_panics():
        made, document = opened.read(
            looked_at(ranks), lambda found: _document("" if to_screen else form, opened, ranks, found)
        )
    if to_screen:
        write_lines(report_lines(made, opened.settings.thresholds, terminal_size(sys.stdout)[0]))
    else:
        write_document(document, output)
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


def _document(form: str, run: Run, rank: Ranks, found: RunIndex) -> tuple[Report, str]:
    """Build a report, and its text in one of the formats; an empty text for an empty format."""
    from esper_analyzer.caching.judgements import judgements
    from esper_analyzer.reporting.report import build_report

    judged = judgements(run, found)
    made = build_report(run, rank, found, judged)
    if form != "html":
        return made, _text(form, run, made) if form else ""
    from esper_analyzer.reporting.html import report_html

    return made, report_html(run, made, rank, found, judged)


def _text(form: str, run: Run, made: Report) -> str:
    if form == "markdown":
        from esper_analyzer.reporting.markdown import report_markdown

        return report_markdown(made)
    if form == "json":
        return made.to_json() + "\n"
    from esper_analyzer.reporting.text import report_lines

    return "".join(f"{line.plain}\n" for line in report_lines(made, run.settings.thresholds))


@main.command()
@run_options
@thresholds_option
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
    thresholds: Path | None,
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
    from esper_analyzer.reporting.check import check_run
    from esper_analyzer.reporting.check_formats import summary, write_check

    names = [name.strip() for given in gates for name in given.split(",")]
    if not all(names):
        raise UsageError(f"--gate must name metrics, separated by commas, found {','.join(gates)!r}")
    ranks, settings = chosen_ranks(rank), chosen_settings(thresholds)
    with run_read(run, root, settings, verify=verify) as opened, quiet_panics():
        found = check_run(opened, ranks, fail_on=fail_on, gates=names)
    if output is not None:
        output.write_text(write_check(found, form, Style(color=False, unicode=True), 80), encoding="utf-8")
        say(summary(found))
    else:
        write(write_check(found, form, Style.of(sys.stdout), terminal_size(sys.stdout)[0]))
    return found.exit_code


@main.command()
@runs_argument("[RUN [RUN]]")
@root_option
@thresholds_option
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
    thresholds: Path | None,
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
    from esper_analyzer.reporting.explanation import explanation_lines, parting_lines
    from esper_analyzer.run import open_run

    if len(names) > 2:
        raise UsageError("give one run or two, found " + ", ".join(map(ascii, names)))
    number, settings = chosen_rank(rank), chosen_settings(thresholds)
    if len(names) == 2:
        if update is not None:
            raise UsageError("--update is for one run; of two runs all updates that they have in common are compared")
        first, second = (open_run(name, root, settings=settings, verify=verify) for name in names)
        with quiet_panics():
            parting = second.explain_against(first, rank=number or 0)
        lines, document, is_damaged = parting_lines(parting), parting.to_json, parting.is_damaged
    else:
        with run_read(names[0] if names else None, root, settings, verify=verify) as opened, quiet_panics():
            found = opened.explain(update, rank=number)
        lines, document, is_damaged = explanation_lines(found), found.to_json, found.is_damaged
    if form == "json":
        sys.stdout.write(document() + "\n")
    else:
        write_lines(lines)
    return ExitCode.DAMAGED if is_damaged else ExitCode.FINE


@main.command()
@runs_argument()
@root_option
@thresholds_option
@no_cache_option
@verify_option
@click.option(
    "--rank", help="Rank of each run to compare and to judge.  [default: the first is compared, all are judged]"
)
@click.option(
    "--by",
    type=click.Choice(["updates", "steps", "time"]),
    help="What to align the runs by.  [default: environment steps if all runs have them, else updates]",
)
@click.option(
    "--metric",
    help="What to compare: any recorded metric.  [default: the episode return if all runs have it, else value_loss]",
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
    thresholds: Path | None,
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

    if group_by is not None and no_group:
        raise UsageError("give either --group-by or --no-group, not both")
    number, settings = chosen_rank(rank), chosen_settings(thresholds)
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
            group_by=None if group_by is None else [key for key in group_by.split(",") if key],
            with_reports=form == "html",
            verify=verify,
        )
        made = found.comparison
        document = _comparison(found, form) if form != "text" or output is not None else None
    if document is None:
        columns, rows = terminal_size(sys.stdout)
        write_lines(compare_lines(made, columns, rows - 1 if sys.stdout.isatty() else PIPED_HEIGHT))
    else:
        write_document(document, output)
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


def _comparison(found: Compared, form: str) -> str:
    if form == "html":
        from esper_analyzer.reporting.comparison.html import comparison_html

        return comparison_html(found)
    if form == "json":
        return found.comparison.to_json() + "\n"
    from esper_analyzer.reporting.comparison.text import compare_lines

    return "".join(f"{line.plain}\n" for line in compare_lines(found.comparison))


@main.command()
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


@main.command()
@root_option
@thresholds_option
def mcp(root: Place, thresholds: Path | None) -> int:
    """Answer coding agents by the Model Context Protocol.

    The server speaks on standard input and output. It reads the runs under --root, nothing outside it, and writes
    nothing. Register this command with the agent, which
    then starts it; analyzer/README.md shows how. It ends when the agent closes standard input.

    Example: esper-analyze mcp --root runs
    """
    from esper_analyzer.serving.runs_folder import RunsFolder

    try:
        from esper_analyzer.serving.server import serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"esper-analyze mcp needs {error.name}, which is not installed: pip install 'mcp>=2.3'"
        ) from None
    serve(RunsFolder(root, chosen_settings(thresholds)))
    return ExitCode.FINE
