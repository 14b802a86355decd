"""The command `esper-rec verify`, and how `repair` too shows what is wrong with a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from esper_recorder.commands.options import format_option, which_run
from esper_schemas.console import progress, tell, write
from esper_schemas.exit_codes import ExitCode
from esper_schemas.run.ending import describe_ending

if TYPE_CHECKING:
    from esper_schemas.examining.faults import Fault
    from esper_schemas.examining.run import Verification

MIN_SEGMENTS = 50
"""A run with fewer segments is examined too fast for a progress bar to be read."""


@click.command()
@which_run
@format_option
def verify(run: str, root: str, form: str) -> ExitCode:
    """Check a run for damage, down to every row.

    RUN is a path, a URL, or a name under --root; the run may still be recording. The exit code is 3 if it is damaged. A
    torn end, leftovers of a crash and losses that a repair has recorded are listed but do not count as damage. How the
    run ended is not damage either; the last line says why, where that is known.

    Example: esper-rec verify mine
    """
    from esper_schemas.examining.run import count_all_segments, find_run, verify_run
    from esper_schemas.run.store import parse_place

    found = find_run(run, parse_place(root))
    with progress("verifying segments", count_all_segments(found), at_least=MIN_SEGMENTS) as advance:
        made = verify_run(found, lambda: advance(1))
    if form == "json":
        write(json.dumps(made.to_dict(), indent=2) + "\n")
    else:
        tell(*fault_lines(made))
    return ExitCode.DAMAGED if made.is_damaged else ExitCode.FINE


def fault_lines(made: Verification) -> list[str]:
    """Return one line per fault, and a summary line."""
    of_run = made.run_id or made.path
    lines = [f"{of_run} {_place(fault)}{fault.kind}: {fault.message}" for fault in made.faults]
    damage = sum(fault.is_damage for fault in made.faults)
    losses = sum(fault.kind == "repaired" for fault in made.faults)
    named = (
        (damage, "fault"),
        (losses, "recorded loss"),
        (len(made.faults) - damage - losses, "note"),
        (made.ranks, "rank"),
        (made.segments, "segment"),
        (made.rows, "row"),
    )
    counts = [
        f"{number:,} {name}{'' if number == 1 else 'es' if name.endswith('s') else 's'}" for number, name in named
    ]
    state = "damaged; esper-rec repair recovers what is left" if damage else "no damage"
    ending = f"; its status is {describe_ending(*made.ending)}" if made.ending and made.ending.reason else ""
    return [*lines, f"{made.path}: {state} ({', '.join(counts)}){ending}"]


def _place(fault: Fault) -> str:
    parts = [("rank", fault.rank), ("segment", fault.segment), ("offset", fault.offset)]
    return "".join(f"{name} {number} " for name, number in parts if number is not None)
