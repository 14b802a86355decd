"""The command `esper-rec fields`."""

from __future__ import annotations

import json

import click

from esper_recorder.commands.options import format_option
from esper_schemas.console import output_width, tell, write
from esper_schemas.errors import UsageError


@click.command()
@click.argument("word", required=False)
@format_option
def fields(word: str | None, form: str) -> None:
    """Show which key of which trainer becomes which column.

    Each trainer is listed with what it calls its value loss and what that is multiplied by. With WORD, only trainers,
    keys and columns are shown that contain it. `esper-rec import` reads logs by this table.

    Example: esper-rec fields kl
    """
    from esper_recorder.dialects.fields import as_json, lines, select

    selected = select(word)
    if not selected:
        raise UsageError(f"no trainer, key or column has {word!a} in its name; esper-rec fields lists them all")
    if form == "json":
        write(json.dumps(as_json(selected), indent=2) + "\n")
    else:
        tell(*lines(selected, output_width()))
