"""Makes the pictures of the README from a real run: trains CartPole, then draws one frame of the live chart.

`make pictures` runs it. The run is seeded, so apart from its times a picture changes only when what it shows does.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).parent
COLUMNS, LINES = 100, 30


def on_a_terminal(*arguments: str, folder: str) -> str:
    """What `python -m <arguments>` writes on a terminal of 100 × 30 with colours."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONUTF8": "1"}
    environment.pop("NO_COLOR", None)
    command = ["-m", *arguments]
    output: str = pexpect.run(
        " ".join([sys.executable, *command]),
        cwd=folder,
        env=environment,
        encoding="utf-8",
        timeout=120,
        dimensions=(LINES, COLUMNS),
    )
    return output.replace("\r\n", "\n")


def main() -> None:
    """Train, draw, save."""
    with tempfile.TemporaryDirectory() as folder:
        on_a_terminal("esper_recorder", "train", "--run-id", "cartpole", folder=folder)
        frame = on_a_terminal("esper_analyzer", "tail", "--once", "--run", "cartpole", folder=folder)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(frame.rstrip("\n")), soft_wrap=True)
    console.save_svg(str(PICTURES / "tail.svg"), title="esper-analyze tail", unique_id="tail")


if __name__ == "__main__":
    main()
