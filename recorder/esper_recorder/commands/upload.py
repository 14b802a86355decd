"""The command `esper-rec upload`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esper_recorder.commands.options import format_option, redact_option, root_option
from esper_schemas.arguments import runs_argument
from esper_schemas.console import tell, write
from esper_schemas.exit_codes import ExitCode


@click.command()
@runs_argument(metavar="RUN…")
@click.argument("url")
@root_option
@click.option("--follow", is_flag=True, help="Go on while the run is recorded, until it ends. For one RUN.")
@redact_option
@click.option("--rank", type=click.IntRange(min=0), help="Upload only this rank.  [default: all]")
@format_option
def upload(
    names: tuple[str, ...], url: str, root: str, follow: bool, redact: tuple[str, ...], rank: int | None, form: str
) -> ExitCode:
    """Upload runs to an object store.

    RUN is a path, or a name under --root; URL is s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH.
    The run mine becomes URL/mine, with the same files in it. Only finished files are uploaded, each at most once: an
    object that is there with the same bytes is left as it is, and one with other bytes is an error. So a command that
    was interrupted is simply given again. Credentials come from the environment, such as AWS_ACCESS_KEY_ID. The exit
    code is 2 if a RUN could not be uploaded, 3 if it is damaged; the others are still uploaded.

    Example: esper-rec upload mine s3://bucket/runs
    """
    from esper_recorder.uploading.command import upload_runs

    uploads, code = upload_runs(names, url, Path(root), redact, rank=rank, follow=follow)
    if form == "json":
        write(json.dumps({"format": "esper-upload/1", "runs": [entry.to_dict() for entry in uploads]}, indent=2) + "\n")
    else:
        tell(*(entry.describe() for entry in uploads if entry.uploaded is not None))
    return code
