"""One frame of the screen as text: for `tail --once`, and for what stays in the terminal after the application.

It has the panels of the application in the same places, without the lines of keys, cursor and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rich.text import Text

from esper_analyzer.drawing.style import Style, in_ascii
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import Picture
from esper_analyzer.terminal.layout import HEADING_HEIGHT
from esper_analyzer.terminal.others import Other
from esper_analyzer.terminal.scene import Chosen, Scene

MIN_WIDTH, MIN_HEIGHT = 40, 12


def draw_frame(
    run: JudgedRun,
    rank: int,
    picture: Picture,
    *,
    width: int,
    height: int,
    style: Style,
    others: Sequence[Other] = (),
    chosen: Chosen | None = None,
) -> list[str]:
    """Return exactly `height` lines of at most `width` cells, laid out for at least 40×12.

    Args:
        run, rank, picture: what is shown.
        width, height: size in cells.
        style: what the output can show.
        others: further runs in the chart.
        chosen: what to show of them. A metric whose course is not in the picture gives way to the value loss.
    """
    wish = chosen or Chosen()
    scene = Scene(
        run, rank, style.unicode, picture, has_keys=False, others=list(others), metric=wish.metric, by=wish.by,
        pinned=wish.pinned, color=style.color,
    )  # fmt: skip
    if picture.rows and scene.course() is None:
        scene.metric = Chosen().metric
    lines = _panels(scene, max(width, MIN_WIDTH), max(height, MIN_HEIGHT))[:height]
    if not style.unicode:
        lines = [in_ascii(line) for line in lines]
    for line in lines:
        line.truncate(width)
        line.rstrip()
    return style.render(lines)


def _panels(scene: Scene, width: int, height: int) -> list[Text]:
    layout = scene.layout(width, height)
    rest = height - HEADING_HEIGHT - layout.verdict - layout.below - layout.small
    course_width = width - layout.side
    course = [*scene.title(course_width, 1), *_sized(scene.chart(course_width, rest - 1), rest - 1)]
    numbers, alerts = scene.numbers(*layout.numbers), scene.alerts(*layout.alerts)
    if layout.is_stacked:
        below = [*_sized(numbers, layout.numbers[1]), *alerts]
    else:
        below = _beside(numbers, layout.numbers[0], alerts)
    return [
        *_sized(scene.heading(width, HEADING_HEIGHT), HEADING_HEIGHT),
        *_sized(scene.verdict(width, layout.verdict), layout.verdict),
        *(_beside(course, course_width, scene.side(layout.side, rest)) if layout.side else course),
        *_sized(below, layout.below),
        *(_sized(scene.small(width, layout.small), layout.small) if layout.small else []),
    ]


def _sized(lines: Sequence[Text], height: int) -> list[Text]:
    return [*lines[:height], *(Text() for _ in range(height - len(lines)))]


def _beside(left: Sequence[Text], width: int, right: Sequence[Text]) -> list[Text]:
    """Join the lines of two panels side by side; the left one gets this width."""
    lines = []
    for one, other in zip_longest(left, right, fillvalue=Text()):
        line = one.copy()
        line.truncate(width, pad=True)
        lines.append(line.append_text(other))
    return lines
