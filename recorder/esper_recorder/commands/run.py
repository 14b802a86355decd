"""The command `esper-rec run`."""

from __future__ import annotations

from pathlib import Path

import click

from esper_recorder.commands.options import definition_option, mapping_option, redact_option, upload_option


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("script")
@click.argument("arguments", nargs=-1, metavar="[ARG]...", type=click.UNPROCESSED)
@click.option("-m", "--module", "is_module", is_flag=True, help="SCRIPT is the name of a module, as for python -m.")
@click.option("--out", "root", default=None, help="Folder to create runs in.  [default: that of the event files]")
@mapping_option("Record the tag KEY as FIELD, a metric or a name of your own.")
@definition_option
@upload_option
@redact_option
def run(
    script: str,
    arguments: tuple[str, ...],
    is_module: bool,
    root: str | None,
    mapping: tuple[str, ...],
    definition: tuple[str, ...],
    upload: str | None,
    redact: tuple[str, ...],
) -> int:
    """Run a training script unchanged, and record what it logs.

    What it writes to a SummaryWriter is recorded beside its event files. The script runs as `python SCRIPT ARG...`
    runs it, and its exit code is kept. Each folder of event files with the losses of a PPO becomes a run in that
    folder. The run is sealed when its writer is closed or the script ends, also by Ctrl-C. Options of esper-rec come
    before SCRIPT.

    Example: esper-rec run ppo.py --env-id CartPole-v1
    """
    from esper_recorder.adapters.run_command import run_program
    from esper_recorder.importing.command import parse_given

    given = parse_given(mapping, definition, None)
    where = None if root is None else Path(root)
    return run_program(script, arguments, is_module=is_module, root=where, given=given, upload=upload, redact=redact)
