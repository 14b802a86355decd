"""A comparison as text of 60 to 80 columns: scores, verdicts, differing hyper-parameters, groups of seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from esper_analyzer.drawing.style import STATUS_STYLE, fit, level_text
from esper_analyzer.reporting.comparison.axis import By
from esper_analyzer.reporting.comparison.compare import ComparedRun, Comparison
from esper_analyzer.reporting.comparison.groups import Chance, Estimate, Group, Improvement, is_seed
from esper_analyzer.wording import compact, count, duration
from esper_schemas.cleaning import printable

MIN_WIDTH, MAX_WIDTH = 60, 80

_NUMBERS = {"final": 9, "best": 9, "at": 13, "area": 9}
_MAX_NAMES = 4
_MAX_DIFFERENCES = 40
_CONSOLE = Console(width=MAX_WIDTH)
_SCORES = ("final", "best", "area")
_MIN_CUT = 0.01
"""The heading mentions a run that begins before the span by more than this share of the run."""


def compare_lines(comparison: Comparison, width: int = MAX_WIDTH) -> Iterator[Text]:
    """Yield the lines of the text, none longer than `width` columns; `width` is clamped to 60 to 80."""
    width = min(MAX_WIDTH, max(MIN_WIDTH, width))
    yield from _heading(comparison, width)
    yield Text()
    yield from _scores(comparison, width)
    yield Text()
    yield from _verdicts(comparison.runs, width)
    if comparison.differences:
        yield Text()
        yield from _differences(comparison.differences, comparison.groups, width)
    if comparison.groups:
        yield Text()
        yield from _groups(comparison, width)


def _heading(comparison: Comparison, width: int) -> Iterator[Text]:
    axis = comparison.axis
    direction = f" ({comparison.better} is better)" if comparison.better else ""
    what = f"{len(comparison.runs)} runs by {printable(comparison.metric)}{direction}, at equal {axis.unit}"
    yield from _wrapped(what, "", "  ", width, "bold")
    runs = "all runs" if all(run.first is not None for run in comparison.runs) else "the runs that measured it"
    span = f"from {position(axis.start, axis.by)} to {position(axis.end, axis.by)}, the span that {runs} have in common"
    yield from _wrapped(span, "  ", "  ", width)
    beyond = [
        f"{_name(run)} goes on to {position(run.last or 0.0, axis.by)}" for run in comparison.runs if run.is_cut_off
    ]
    early = [
        f"{_name(run)} begins at {position(run.first, axis.by)}"
        for run in comparison.runs
        if run.first is not None and run.last is not None and run.first < axis.start - _MIN_CUT * (run.last - run.first)
    ]
    cut = [*early, *beyond]
    if cut:
        more = f", and {len(cut) - _MAX_NAMES} more" if len(cut) > _MAX_NAMES else ""
        yield from _wrapped(f"cut off: {', '.join(cut[:_MAX_NAMES])}{more}", "  ", "    ", width, "yellow")
    for warning in comparison.warnings:
        yield from _wrapped(printable(warning), "  ! ", "    ", width, "yellow")


def _scores(comparison: Comparison, width: int) -> Iterator[Text]:
    free = width - 2 - sum(_NUMBERS.values())
    names = max(4, *(cell_len(printable(run.label)) for run in comparison.runs))
    column = min(free, names)
    yield Text(f"  {'run':{column}}" + "".join(head.rjust(room) for head, room in _NUMBERS.items()), style="dim")
    for run in comparison.runs:
        scores = run.scores
        at = position(scores.best_at, comparison.axis.by) if scores.best_at is not None else compact(None)
        cells = {"final": compact(scores.final), "best": compact(scores.best), "at": at, "area": compact(scores.area)}
        line = Text("  ").append(_padded(printable(run.label), column))
        for head, cell in cells.items():
            line.append(cell.rjust(_NUMBERS[head]), style="bold red" if cell == "NaN" else "")
        yield line
        if scores.nonfinite:
            remark = f"    {count(scores.nonfinite)} of {count(scores.measured)} values not finite"
            yield Text(remark, style="bold red")
    yield from _wrapped(
        "final: median of the last 10; area: mean over the span (trapezoidal rule)", "  ", "  ", width, "dim"
    )


def _verdicts(runs: Sequence[ComparedRun], width: int) -> Iterator[Text]:
    yield Text("Verdict on each whole run")
    column = min(width - 32, max(cell_len(printable(run.label)) for run in runs))
    for run in runs:
        line = Text("  ").append(_padded(printable(run.label), column)).append("  ")
        line.append_text(level_text(run.verdict)).append(" " * (9 - len(run.verdict)))
        line.append(f" {run.status}", style=STATUS_STYLE[run.status])
        if run.is_damaged:
            line.append(" damaged", style="bold red")
        yield line
        if run.reason and run.verdict != "healthy":
            yield from _wrapped(printable(run.reason), "    ", "    ", width, "dim")


def _differences(differences: Mapping[str, Mapping[str, Any]], groups: Sequence[Group], width: int) -> Iterator[Text]:
    yield Text("Differing hyper-parameters")
    for key, values in list(differences.items())[:_MAX_DIFFERENCES]:
        by_value: dict[str, list[str]] = {}
        for run, value in values.items():
            by_value.setdefault(_value(value), []).append(run)
        if groups and is_seed(key):
            parts = list(by_value)
        else:
            parts = [f"{value} ({_names(_as_groups(runs, groups))})" for value, runs in by_value.items()]
        yield from _wrapped(f"{fit(printable(key), 40)}: {', '.join(parts)}", "  ", "    ", width)
    if len(differences) > _MAX_DIFFERENCES:
        yield Text(f"  … and {len(differences) - _MAX_DIFFERENCES} more")


def _as_groups(runs: Sequence[str], groups: Sequence[Group]) -> list[str]:
    """Return the names of groups in place of their runs, if the runs are whole groups."""
    whole = [group for group in groups if set(group.runs) <= set(runs)]
    return [group.name for group in whole] if sum(len(group.runs) for group in whole) == len(runs) else list(runs)


def _groups(comparison: Comparison, width: int) -> Iterator[Text]:
    made = comparison.bootstrap
    assert made is not None
    title = f"Groups of seeds: interquartile mean [{made.confidence:.0%} interval],"
    yield from _wrapped(f"{title} {count(made.resamples)} bootstrap resamples", "", "  ", width)
    for group in comparison.groups:
        runs = f"{len(group.runs)} run{'s' * (len(group.runs) != 1)}: {_names(group.runs)}"
        yield from _wrapped(f"{group.name}  {runs}", "  ", "     ", width, "bold")
        made_with = ", ".join(f"{fit(printable(key), 40)} {_value(value)}" for key, value in group.settings.items())
        if made_with:
            yield from _wrapped(made_with, "     ", "     ", width)
        yield from _estimates(group)
    if comparison.improvement:
        yield from _improvement(comparison.improvement, comparison.better is not None, width)


def _estimates(group: Group) -> Iterator[Text]:
    for name in _SCORES:
        found: Estimate = getattr(group, name)
        if found.iqm is None and name == "best":
            continue  # undefined for a metric without a direction
        line = Text(f"     {name:6}{compact(found.iqm):>9}")
        if found.low is not None and found.high is not None:
            line.append(f"  [{compact(found.low)}, {compact(found.high)}]")
        elif found.iqm is not None and not math.isnan(found.iqm):
            line.append(f"  too few seeds ({found.n})", style="dim")
        if found.missing:
            line.append(f"  {found.missing} unmeasured", style="yellow")
        yield line


def _improvement(found: Improvement, has_direction: bool, width: int) -> Iterator[Text]:
    better = "better" if has_direction else "greater"
    yield from _wrapped(
        f"Probability that a run of {found.group} is {better} than one of {found.over}", "  ", "    ", width
    )
    for name in _SCORES:
        chance: Chance = getattr(found, name)
        if chance.probability is None:
            continue
        line = Text(f"     {name:6}{chance.probability:>9.2f}")
        if chance.low is not None and chance.high is not None:
            line.append(f"  [{chance.low:.2f}, {chance.high:.2f}]")
        else:
            line.append("  too few seeds", style="dim")
        yield line


def position(at: float, by: By) -> str:
    """Format a position on the axis: a count or a duration."""
    if by == "time":
        return f"{at:.1f} s" if abs(at) < 100.0 else duration(at)
    return count(round(at))


def _name(run: ComparedRun) -> str:
    return fit(printable(run.label), 36)


def _names(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _MAX_NAMES} more" if len(labels) > _MAX_NAMES else ""
    return ", ".join(fit(printable(label), 36) for label in labels[:_MAX_NAMES]) + more


def _value(value: Any) -> str:
    return fit(printable("none" if value is None else str(value)), 40)


def _padded(text: str, width: int) -> str:
    shown = fit(text, width)
    return shown + " " * (width - cell_len(shown))


def _wrapped(text: str, first: str, rest: str, width: int, style: str = "") -> Iterator[Text]:
    """Wrap a text to `width` cells; unlike textwrap, rich knows that some characters are two cells wide."""
    indent = first
    for line in Text(text).wrap(_CONSOLE, width - max(len(first), len(rest)), overflow="fold"):
        yield Text(f"{indent}{line.plain.rstrip()}", style=style)
        indent = rest
