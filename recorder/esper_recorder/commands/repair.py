"""The command `esper-rec repair`."""

from __future__ import annotations

import click

from esper_recorder.commands.options import which_run
from esper_recorder.commands.verify import MIN_SEGMENTS, fault_lines
from esper_schemas.console import progress, tell
from esper_schemas.exit_codes import ExitCode


@click.command()
@which_run
def repair(run: str, root: str) -> ExitCode:
    """Make a damaged run readable again.

    RUN is a path, or a name under --root. Repair leaves sound data alone, moves what it cannot use to
    repairs/*.broken, and records what is lost. The exit code is 3 if damage remains.

    Example: esper-rec repair mine
    """
    from esper_recorder.keeping.repair import repair_run
    from esper_schemas.examining.run import count_all_segments, find_run
    from esper_schemas.run.store import parse_place

    found = find_run(run, parse_place(root))
    with progress("repairing segments", count_all_segments(found), at_least=MIN_SEGMENTS) as advance:
        made = repair_run(found, lambda: advance(1))
    tell(*(made.done or ["nothing to repair"]), *fault_lines(made.verification))
    return ExitCode.DAMAGED if made.verification.is_damaged else ExitCode.FINE
