from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from tests.colors import is_red

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


@pytest.mark.parametrize(("factor", "trend"), [(0.8, "▼ better"), (1.3, "▲ worse"), (1.0, "→ steady")])
def test_progress_says_whether_the_value_loss_gets_better(factor: float, trend: str) -> None:
    """The trend of the last ten updates stands behind the level, from the sixth on; a narrow bar leaves it out."""
    for width, isatty in ((120, False), (120, True), (80, True)):
        stream = Terminal() if isatty else io.StringIO()
        console = Console(file=stream, force_terminal=isatty, width=width, _environ={"TERM": "xterm"})
        with ProgressDisplay(console, 10) as display:
            for update in range(10):
                display(Progress(update, 10, 400, 2.0, 200.0, 0.1 * factor**update, 12.5, False))
        assert (trend in stream.getvalue()) == (width == 120)
        assert "healthy" in stream.getvalue()


def test_the_progress_bar_of_a_sound_run_is_not_red() -> None:
    """Whatever colours the terminal has, neither the bar nor the words use red while all is well."""
    for colors in ("standard", "256", "truecolor"):
        stream = Terminal()
        console = Console(file=stream, force_terminal=True, color_system=colors, width=120, _environ={"TERM": "xterm"})
        for updates in (5, 10):  # a bar that is half full, and a full one
            with ProgressDisplay(console, 10) as display:
                for update in range(updates):
                    display(Progress(update, 10, 400, 2.0, 200.0, 1.0, 12.5, False))
        codes = set(re.findall(r"\x1b\[([0-9;]*)m", stream.getvalue()))
        assert any("36" in code.split(";") for code in codes), codes
        assert not [code for code in codes if is_red(code)], codes
