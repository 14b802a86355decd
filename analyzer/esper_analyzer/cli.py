"""The command `esper-analyze`: it puts the subcommands of `commands/` together.

A subcommand imports what it needs when it runs. So `--help`, a wrong option and the completion in a shell do not wait
for polars, and each subcommand waits only for what it uses.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

from esper_analyzer.commands.check import check
from esper_analyzer.commands.compare import compare
from esper_analyzer.commands.explain import explain
from esper_analyzer.commands.export import export
from esper_analyzer.commands.fleet import fleet
from esper_analyzer.commands.mcp import mcp
from esper_analyzer.commands.replay import replay
from esper_analyzer.commands.report import report
from esper_analyzer.commands.runs import runs
from esper_analyzer.commands.tail import tail
from esper_schemas.console import command_group

_GARBAGE_THRESHOLD = 150_000
"""Objects that are made before garbage is looked for: nothing that a command imports is, and to look takes 70 ms."""

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
"""The environment variable that says how many threads NumPy's linear algebra starts as it is loaded: one per core."""

_NAMING_LEFTOVERS = frozenset({"datasketches", "duckdb"})
"""Libraries that name on standard error, as the process ends, every object of theirs that nobody has collected."""


def _data_errors() -> tuple[type[BaseException], ...]:
    from esper_analyzer.reading.errors import DATA_ERRORS

    return DATA_ERRORS


@command_group("esper-analyze", data_errors=_data_errors)
def main() -> None:
    """Read recorded PPO runs: did they learn, since when not, and what moved first?

    Example: esper-analyze report --run my-run
    """
    gc.set_threshold(_GARBAGE_THRESHOLD)
    if _BLAS_THREADS not in os.environ and "numpy" not in sys.modules:
        # Nothing here multiplies matrices, and its threads spin for 100 ms of the processor. `os.environ` stays as it
        # was: it is what commands of the user get.
        os.putenv(_BLAS_THREADS, "1")
    atexit.register(_leave_garbage)


def _leave_garbage() -> None:
    """Let the process end without looking for garbage, which takes 70 to 100 ms, since its memory is given back."""
    if not _NAMING_LEFTOVERS & sys.modules.keys():
        gc.freeze()


for _command in (runs, fleet, tail, replay, report, check, explain, compare, export, mcp):
    main.add_command(_command)
