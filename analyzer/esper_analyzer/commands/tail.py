"""The command `esper-analyze tail`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, get_args

import click

from esper_analyzer.commands.choosing import (
    JudgingChoice,
    awaits_run,
    chosen_rank,
    judging_options,
    log_options,
    no_cache_option,
    rank_to_show_option,
    root_option,
    watched_run,
)
from esper_analyzer.options import INTERVAL_SECS, By
from esper_schemas.arguments import runs_argument
from esper_schemas.errors import UsageError
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_schemas.run.store import Place

MAX_BESIDE = 5
"""So many runs are drawn over another at most: more could not be told apart."""


@click.command()
@runs_argument("[RUN]...")
@root_option
@rank_to_show_option
@log_options
@judging_options
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
    mapping: tuple[str, ...],
    source_run: str | None,
    judging: JudgingChoice,
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
    from esper_analyzer.reading.imported_log import LogChoice
    from esper_analyzer.terminal import tail as screens
    from esper_analyzer.terminal.choices import chosen_to_see
    from esper_schemas.run.ending import GOING_ON

    if once and on_alert is not None:
        raise UsageError("--on-alert needs a tail that goes on, and --once shows one frame; leave --once out")
    if on_alert is not None and not on_alert.strip():
        raise UsageError("--on-alert must be a command, found an empty one")
    number, settings = chosen_rank(rank), judging.settings(root, mapping)
    choice = LogChoice(mapping, source_run)
    with ExitStack() as logs:
        opened = [watched_run(name, root, settings, choice, logs, is_followed=not once) for name in _beside(names)]
        name, is_new = names[0] if names else None, False
        if wait:
            is_new = awaits_run(name, root, interval)
        run, process = watched_run(name, root, settings, choice, logs, is_followed=not once)
        choice.check_for_logs(process, *(its_import for _, its_import in opened))
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


def _beside(names: Sequence[str]) -> Sequence[str]:
    """Return the runs to draw over the first of those asked for. Raise UsageError if there are too many."""
    if len(names) > MAX_BESIDE + 1:
        raise UsageError(
            f"tail shows at most {MAX_BESIDE + 1} runs in one chart, found {len(names)};"
            " `esper-analyze compare --format html` shows any number"
        )
    return names[1:]
