from __future__ import annotations

import io

import pytest
from rich.console import Console

from esper_analyzer.drawing.style import Style, level_text
from esper_recorder.train.progress import ProgressDisplay
from esper_recorder.train.trainer import Progress
from esper_schemas import Level


class Terminal(io.StringIO):
    """Text that was written to a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.mark.parametrize(("value_loss", "level"), [(1.0, "healthy"), (10.0, "warning"), (30.0, "critical")])
def test_the_progress_bar_colours_levels_as_the_analyzer_does(value_loss: float, level: Level) -> None:
    """The level of the value loss has the same colour while training as on every screen of `esper-analyze`."""
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, color_system="standard", width=120, _environ={"TERM": "xterm"})
    with ProgressDisplay(console, 10) as display:
        display(Progress(3, 10, 400, 2.0, 200.0, value_loss, 12.5, False))
    (drawn,) = Style(color=True, unicode=True).render([level_text(level)])
    assert drawn.startswith("\x1b[")
    assert drawn in stream.getvalue()


def test_progress_without_a_terminal_is_plain() -> None:
    """Where the output is no terminal the level stands in the line as a word, without escape codes."""
    stream = io.StringIO()
    with ProgressDisplay(Console(file=stream, width=120), 10) as display:
        display(Progress(9, 10, 400, 2.0, 200.0, 1.0, 12.5, False))
    assert stream.getvalue() == "update 10/10  200 steps/s  value loss 1.000 healthy  return 12.5\n"
