"""The command `esper-analyze replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esper_analyzer.commands.choosing import (
    JudgingChoice,
    chosen_rank,
    chosen_run,
    judging_options,
    rank_to_show_option,
    root_option,
)
from esper_schemas.arguments import run_argument
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_schemas.run.store import Place


@click.command()
@run_argument()
@root_option
@rank_to_show_option
@judging_options
@click.option(
    "--speed",
    type=click.FloatRange(0.0),
    help="How many times faster than recorded; 0 is as fast as possible.  [default: the speed that takes 25 seconds]",
)
def replay(
    run: str | None,
    root: Place,
    rank: str | None,
    judging: JudgingChoice,
    speed: float | None,
) -> int:
    """Show a recorded run from its beginning.

    RUN is a path, a URL, or a name under --root.

    Example: esper-analyze replay --run my-run --speed 10
    """
    from esper_analyzer.terminal import tail as screens

    opened = chosen_run(run, root, judging.settings(root))
    damage = screens.replay(opened, chosen_rank(rank) or 0, speed=speed, root=root)
    return ExitCode.DAMAGED if damage else ExitCode.FINE
