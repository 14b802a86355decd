"""What moved first, and where one run left another, as text within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.text import Text

from esper_analyzer.drawing.style import fit, level_text
from esper_analyzer.explaining.explanation import Explanation, Moved
from esper_analyzer.explaining.pair import Parted, Parting
from esper_analyzer.explaining.sentences import deviations
from esper_analyzer.reporting.text import name_and_ending
from esper_analyzer.wording import MISSING, compact
from esper_schemas.cleaning import printable

WIDTH = 80

MAX_MOVED = 20
"""So many metrics are listed; the JSON has all."""

_NAME = 24
_MARKS = {"up": "▲", "down": "▼", "not finite": "✗", "silent": "gone", "new": "new"}


def explanation_lines(found: Explanation) -> Iterator[Text]:
    """Yield the lines of an explanation: what is explained, the sentences, and the metrics in order."""
    yield from name_and_ending(found.run_id, found.status, found.end_reason, is_imported=found.is_imported)
    yield from _wrapped(printable(found.path), "  ", style="dim")
    rank = f" of rank {found.rank}" if found.rank else ""
    alert = found.alert
    if found.chosen == "nothing":
        yield Text(f"What moved first: nothing to explain up to update {found.update}{rank}")
    elif found.chosen == "broke off":
        yield Text(f"What moved first before the run broke off in update {found.update}{rank}")
    elif alert is None:
        yield Text(f"What moved first before update {found.update}{rank}")
    else:
        which = "in force" if alert.until is None else "over"
        head = Text(f"What moved first before the alert of update {found.update}{rank}, {which}  ")
        yield head.append_text(level_text(alert.level))
        yield from _wrapped(printable(alert.message), "  ", style="dim")
    yield from _said([*found.sentences, *found.remarks])
    if found.moved:
        yield Text()
        head_line = f"  {'update':>7}  {'minib.':>6}  {'metric':{_NAME}}{'usual':>9}{'became':>10}{'deviations':>12}"
        yield Text(head_line, style="dim")
        is_told = False
        for one in found.moved[:MAX_MOVED]:
            if one.is_apart and not is_told:
                is_told = True
                yield Text("  earlier, and apart from these:", style="dim")
            yield _row(one)
            if one.beside:
                named = ", ".join(f"{printable(other.metric)} {_MARKS[other.direction]}" for other in one.beside)
                yield from _wrapped(f"and {named}", " " * 19, style="dim")
        yield from _left_out(len(found.moved))


def parting_lines(found: Parting) -> Iterator[Text]:
    """Yield the lines about two runs: the sentences, and the metrics in which the second left the first."""
    first, second = (printable(path) for path in found.runs)
    yield from _wrapped(f"Where {second} left {first}", "", style="bold")
    what = "environment steps" if found.by == "steps" else "updates"
    yield from _wrapped(f"{found.aligned} updates aligned by {what}", "  ", style="dim")
    yield from _said(found.sentences)
    if found.parted:
        yield Text()
        yield Text(f"  {'update':>7}  {'metric':{_NAME}}{'first':>9}{'second':>10}{'deviations':>12}", style="dim")
        for one in found.parted[:MAX_MOVED]:
            numbers = f"{compact(one.usual):>9}{compact(one.value):>10}{compact(one.deviations):>12}"
            yield _named(f"  {one.update:>7}  ", one, numbers)
        yield from _left_out(len(found.parted))


def _row(one: Moved) -> Text:
    minibatch = MISSING if one.minibatch is None else str(one.minibatch)
    numbers = f"{compact(one.usual):>9}{compact(one.value):>10}{deviations(one):>12}"
    return _named(f"  {one.update:>7}  {minibatch:>6}  ", one, numbers)


def _named(start: str, one: Moved | Parted, numbers: str) -> Text:
    came_back = "" if one.lasts or one.direction == "not finite" else "  came back"
    line = Text(start).append(f"{fit(printable(one.metric), _NAME):{_NAME}}", style="bold")
    return line.append(numbers).append(f" {_MARKS[one.direction]}").append(came_back, style="dim")


def _left_out(number: int) -> Iterator[Text]:
    if number > MAX_MOVED:
        yield Text(f"  … and {number - MAX_MOVED} more; --format json has all", style="dim")


def _said(sentences: Sequence[str]) -> Iterator[Text]:
    yield Text()
    for sentence in sentences:
        yield from _wrapped(sentence, "  - ", "    ")


def _wrapped(text: str, first: str, rest: str | None = None, style: str = "") -> Iterator[Text]:
    for line in wrap(text, WIDTH, initial_indent=first, subsequent_indent=first if rest is None else rest):
        yield Text(line, style=style)
