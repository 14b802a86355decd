"""The options that subcommands of `esper-rec` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from esper_schemas.arguments import run_argument

_Command = TypeVar("_Command", bound=Callable[..., Any])

root_option = click.option("--root", default="runs", show_default=True, help="Folder to look for RUN in.")

format_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)

upload_option = click.option(
    "--upload",
    metavar="URL",
    help="Upload the run below URL while it is recorded, as `esper-rec upload` does, in a process of its own.",
)

redact_option = click.option(
    "--redact",
    multiple=True,
    metavar="KEY",
    help="Leave KEY out of what is uploaded: host, commit, config, or config.KEY with a dot for each level. Repeat it"
    " for each key. The run on this machine keeps it.",
)

definition_option = click.option(
    "--value-loss-definition",
    "definition",
    multiple=True,
    metavar="FIELD=VALUE",
    help="What the value loss of the log is: factor, clipping, clip_range, reduction, coefficient_included,"
    " targets_normalised or source, as in run.json. Repeat it, or separate several with commas.",
)


def which_run(command: _Command) -> _Command:
    """Add RUN, `--run` and `--root`, which name the run, to a command."""
    return run_argument(required=True)(root_option(command))


def mapping_option(what: str) -> Callable[[_Command], _Command]:
    """Add `--map KEY=FIELD` to a command; `what` is the first sentence of its help."""
    return click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="KEY=FIELD",
        help=f"{what} The KEY `step` is the step that the log gives to each point. Repeat it for each key; both losses"
        " are needed where the trainer is not known.",
    )
