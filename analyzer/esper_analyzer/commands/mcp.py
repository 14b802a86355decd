"""The command `esper-analyze mcp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esper_analyzer.commands.choosing import JudgingChoice, judging_options, root_option
from esper_schemas.errors import UsageError
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from esper_schemas.run.store import Place


@click.command()
@root_option
@judging_options
def mcp(root: Place, judging: JudgingChoice) -> int:
    """Answer coding agents by the Model Context Protocol.

    The server speaks on standard input and output. It reads the runs under --root, nothing outside it, and writes
    nothing. Register this command with the agent, which then starts it; analyzer/README.md shows how. It ends when the
    agent closes standard input.

    Example: esper-analyze mcp --root runs
    """
    from esper_analyzer.serving.runs_folder import RunsFolder

    try:
        from esper_analyzer.serving.server import serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"esper-analyze mcp needs {error.name}, which is not installed: pip install 'mcp>=2.3'"
        ) from None
    serve(RunsFolder(root, judging.settings(root)))
    return ExitCode.FINE
