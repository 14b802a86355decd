"""The command `esper-rec`: it puts the subcommands of `commands/` together."""

from __future__ import annotations

from esper_recorder.commands.fields import fields
from esper_recorder.commands.import_ import import_
from esper_recorder.commands.repair import repair
from esper_recorder.commands.run import run
from esper_recorder.commands.train import train
from esper_recorder.commands.upload import upload
from esper_recorder.commands.verify import verify
from esper_schemas.console import command_group


@command_group("esper-rec")
def main() -> None:
    """Record PPO training runs; import, verify, repair and upload them.

    Example: esper-rec train
    """


for _command in (train, verify, repair, upload, import_, run, fields):
    main.add_command(_command)
