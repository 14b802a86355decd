"""Which run, rank and thresholds a command is asked for: the options that commands share, and what they open.

As in the commands, a function imports what it needs, so that the options alone load quickly.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esper_schemas.arguments import run_argument
from esper_schemas.console import say
from esper_schemas.errors import NotARunError, UsageError
from esper_schemas.run.records import check_return_goal
from esper_schemas.run.store import Place, parse_place

if TYPE_CHECKING:
    from esper_analyzer.judging.settings import Settings
    from esper_analyzer.judging.task import Task
    from esper_analyzer.reading.imported_log import LogChoice, LogImport
    from esper_analyzer.reading.run_index import Ranks
    from esper_analyzer.run import Run

_Command = TypeVar("_Command", bound=Callable[..., Any])


class PlaceType(click.ParamType[Place]):
    """A folder, or the URL of one in an object store."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Raise UsageError if it is a URL that names no such place."""
        return parse_place(value)


def root_option(command: _Command) -> _Command:
    """Add `--root`: the folder of runs."""
    return click.option(
        "--root",
        default="runs",
        show_default=True,
        metavar="PATH|URL",
        type=PlaceType(),
        help="Folder of runs, or its URL in an object store.",
    )(command)


def verify_option(command: _Command) -> _Command:
    """Add `--verify`: compare checksums in an object store too."""
    return click.option(
        "--verify",
        is_flag=True,
        help="Compare every sealed file with its checksum in an object store too, where this downloads the whole run.",
    )(command)


def verify_each_option(command: _Command) -> _Command:
    """Add `--verify` to a list of runs, which compares no checksums by default."""
    return click.option("--verify", is_flag=True, help="Also check every sealed file against its checksum.")(command)


def run_options(command: _Command) -> _Command:
    """Add RUN, `--run`, `--root` and `--rank`: the run to read."""
    rank = click.option(
        "--rank",
        help="Rank to read: a number, or `all` for all numbers together."
        "  [default: all are judged, the numbers are of the first]",
    )
    return run_argument()(root_option(rank(command)))


def log_options(command: _Command) -> _Command:
    """Add `--map` and `--source-run`, as `mapping` and `source_run`: how the log of another trainer is read."""
    source_run = click.option(
        "--source-run", metavar="NAME", help="Which run of a log that has several, as `esper-rec import` takes it."
    )
    mapping = click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="KEY=FIELD",
        help="Read the key KEY of a log as FIELD, a metric or a name of your own. Repeat it for each key.",
    )
    return mapping(source_run(command))


def rank_to_show_option(command: _Command) -> _Command:
    """Add `--rank` to a screen, which shows one rank at a time."""
    return click.option("--rank", help="Rank to show and to judge.  [default: the first is shown, all are judged]")(
        command
    )


def many_runs_options(order: str) -> Callable[[_Command], _Command]:
    """Return what adds the options by which many runs are found, filtered and sorted.

    Gives `roots`, `root`, `sort`, `reverse`, `filters` and `status`.

    Args:
        order: the order without `--sort`.
    """
    options = (
        click.argument("roots", nargs=-1, metavar="[ROOT]...", type=PlaceType()),
        root_option,
        click.option("--sort", metavar="NAME", help=f"Column, metric, or config.NAME to sort by.  [default: {order}]"),
        click.option("--reverse", is_flag=True, help="Turn the order round."),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            metavar="CONDITION",
            help="Only runs for which this is true, such as 'config.lr >= 1e-3' or"
            " 'env == CartPole-v1 and return > 100'. Repeat it for more conditions.",
        ),
        click.option(
            "--status", multiple=True, metavar="STATUS", help="Only runs with this status; several with commas."
        ),
    )

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def group_options(command: _Command) -> _Command:
    """Add `--group-by` and `--no-group`: which runs are seeds of one another."""
    command = click.option("--no-group", is_flag=True, help="Do not group runs that differ only in the seed.")(command)
    return click.option(
        "--group-by", metavar="KEY[,KEY…]", help="Group the runs that have equal values of these hyper-parameters."
    )(command)


def chosen_groups(group_by: str | None, no_group: bool) -> list[str] | None:
    """Return the hyper-parameters by which runs are grouped; None where they differ only in the seed."""
    if group_by is None:
        return None
    if no_group:
        raise UsageError("give either --group-by or --no-group, not both")
    return [key for key in group_by.split(",") if key]


@dataclass(frozen=True)
class JudgingChoice:
    """What the user says of how runs are judged, as `judging_options` takes it."""

    thresholds: Path | None
    return_goal: float | None
    references: tuple[str, ...]

    def settings(self, root: Place, mapping: Sequence[str] = ()) -> Settings:
        """Return what is in force. Report the file of the user's own thresholds on standard error.

        Args:
            root: where the names of references are looked for.
            mapping: `KEY=FIELD` for keys of logs, of references too.
        """
        from esper_analyzer.judging.settings import find_settings, read_settings

        if self.thresholds is None:
            settings = find_settings(Path(), warn=lambda line: say(f"warning: {line}"))
        else:
            settings = read_settings(self.thresholds)
        if settings.source is not None:
            say(f"thresholds: {settings.source}")
        if self.return_goal is not None:
            settings = replace(settings, return_goal=check_return_goal(self.return_goal))
        if not self.references:
            return settings
        from esper_analyzer.listing.references import with_references

        return with_references(self.references, root, settings, mapping)


def judging_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add `--thresholds`, `--return-goal` and `--reference`; together they are the parameter `judging`."""

    @wraps(command)
    def with_choice(
        *args: Any, thresholds: Path | None, return_goal: float | None, references: tuple[str, ...], **others: Any
    ) -> int:
        return command(*args, judging=JudgingChoice(thresholds, return_goal, references), **others)

    reference = click.option(
        "--reference",
        "references",
        multiple=True,
        metavar="RUN",
        help="Sound run of the same task, beside which return and critic are judged: a path, a URL, a name under"
        " --root, or a log; a folder of runs stands for those that are healthy. Repeat it: of three or more, the lowest"
        " third is left out.",
    )
    goal = click.option(
        "--return-goal",
        type=float,
        metavar="RETURN",
        help="Mean episode return that the task is solved from, in the environment's own rewards."
        "  [default: that of [return_goals] for the environment, else what the run declares, else what Gymnasium"
        " publishes]",
    )
    return click.option(
        "--thresholds",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="TOML file of thresholds.  [default: [tool.esper.thresholds] of the nearest pyproject.toml that has it]",
    )(goal(reference(with_choice)))


def tell_unused_references(settings: Settings, runs: Iterable[tuple[Task, str | None]]) -> None:
    """Say on standard error that no run was judged beside a reference, if it is so; see `unused_references`."""
    told = settings.unused_references(runs)
    if told is not None:
        say(f"warning: {told}")


def no_cache_option(command: _Command) -> _Command:
    """Add `--no-cache`: use no number that was stored once, in this command and in the processes that it starts."""
    return click.option(
        "--no-cache",
        is_flag=True,
        expose_value=False,
        callback=_use_rows,
        help="Read and judge every row anew, and keep nothing in the cache folder. ESPER_NO_CACHE=1 says the same.",
    )(command)


def _use_rows(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if not is_given:
        return
    from esper_analyzer.reading.segment_index import NO_CACHE

    before = os.environ.get(NO_CACHE)
    os.environ[NO_CACHE] = "1"
    context.call_on_close(partial(_restore, NO_CACHE, before))


def _restore(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


def output_option(command: _Command) -> _Command:
    """Add `-o`: write to a file instead of standard output."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File to write to. One that exists is replaced once the new one is whole.",
    )(command)


def write_document(document: str | bytes, output: Path | None) -> None:
    """Write a document to a file, which is then whole, or to standard output without one; a text in UTF-8."""
    from esper_analyzer.whole_file import whole_file

    data = document.encode() if isinstance(document, str) else document
    if output is not None:
        with whole_file(output) as file:
            file.write(data)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)


def chosen_run(run: str | None, root: Place, settings: Settings | None = None, *, verify: bool = False) -> Run:
    """Open the named run, or the latest one. Report on standard error which run is the latest.

    Without `settings`, it is judged by the thresholds of the tables; for `verify`, see `open_run`.
    """
    from esper_analyzer.judging.settings import DEFAULT_SETTINGS
    from esper_analyzer.run import open_run

    opened = open_run(run, root, settings=settings or DEFAULT_SETTINGS, verify=verify)
    if run is None:
        say(f"latest run: {opened.path}")
    return opened


@contextmanager
def run_read(
    run: str | None, root: Place, settings: Settings, choice: LogChoice, *, verify: bool = False
) -> Iterator[Run]:
    """Open a run as `chosen_run` does; the log of another trainer is imported, and its run removed afterwards.

    Raises:
        UsageError: a `choice` was made, and it is no log.
    """
    with ExitStack() as logs:
        opened, process = watched_run(run, root, settings, choice, logs, is_followed=False, verify=verify)
        choice.check_for_logs(process)
        yield opened


def watched_run(
    run: str | None,
    root: Place,
    settings: Settings,
    choice: LogChoice,
    logs: ExitStack,
    *,
    is_followed: bool,
    verify: bool = False,
) -> tuple[Run, LogImport | None]:
    """Open a run as `chosen_run` does, or the log of another trainer by an import that `logs` ends.

    Return the run, and the import if there is one. `choice` says how a log is read, and `is_followed` whether the
    import goes on while it is written.
    """
    from esper_analyzer.reading.imported_log import find_log, imported_log
    from esper_analyzer.run import open_run

    log = find_log(run, root)
    if log is None:
        return chosen_run(run, root, settings, verify=verify), None
    path, process = logs.enter_context(imported_log(log, choice, is_followed=is_followed))
    return open_run(path, settings=settings), process


def awaits_run(run: str | None, root: Place, interval: float) -> bool:
    """Wait until a run, or the log of another trainer, exists. Return whether this had to wait."""
    from esper_analyzer.reading.imported_log import find_log
    from esper_analyzer.run import open_run

    has_waited = False
    while True:
        try:
            if find_log(run, root) is None:
                open_run(run, root)
        except NotARunError:
            if not has_waited:
                what = f"run {run}" if run else "a run"
                say(f"waiting for {what} under {root}")
            has_waited = True
            time.sleep(interval)
        else:
            return has_waited


def chosen_ranks(rank: str | None) -> Ranks:
    """Return the ranks that a command that can put several together is asked for."""
    if rank == "all":
        return None
    number = chosen_rank(rank, "a number or `all`")
    return "first" if number is None else number


def chosen_rank(
    rank: str | None, allowed: str = "the number of one rank (this command shows one at a time)"
) -> int | None:
    """Return the number of the rank that the user asks for; None without one."""
    if rank is None:
        return None
    if not (rank.isascii() and rank.isdecimal()):
        raise UsageError(f"--rank must be {allowed}, found {rank!r}")
    return int(rank)
