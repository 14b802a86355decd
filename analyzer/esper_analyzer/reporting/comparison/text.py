"""A comparison as text of 60 to 80 columns: scores, verdicts, differing hyper-parameters, groups of seeds.

The text fits the height of a screen. What does not fit is said: how many lines of which part are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from esper_analyzer.drawing.style import STATUS_STYLE, fit, level_text
from esper_analyzer.options import By
from esper_analyzer.reporting.comparison.comparison import ComparedRun, Comparison, ShortRun
from esper_analyzer.reporting.comparison.groups import SCORES, Chance, Estimate, Group, Improvement, is_seed
from esper_analyzer.wording import compact, count, duration
from esper_schemas.cleaning import printable
from esper_schemas.metric.levels import LEVELS

MIN_WIDTH, MAX_WIDTH = 60, 80
MIN_HEIGHT = 20
PIPED_HEIGHT = 60
"""The most lines of the text where it does not go to a terminal."""

_NUMBERS = {"final": 9, "best": 9, "at": 13, "area": 9}
_MAX_NAMES = 4
_MAX_DIFFERENCES = 40
_CONSOLE = Console(width=MAX_WIDTH)
_REMARK = "    "
_HOW_SCORED = "final: median of the last 10; area: mean over the span (trapezoidal rule)"
_DIFFERENCES = "Differing hyper-parameters"
_MIN_CUT = 0.01
"""The heading mentions a run that begins before the span by more than this share of the run."""


def compare_lines(comparison: Comparison, width: int = MAX_WIDTH, height: int | None = None) -> Iterator[Text]:
    """Yield the lines of the text, none longer than `width` columns.

    Args:
        comparison: the comparison.
        width: columns, clamped to 60 to 80.
        height: the most lines, at least 20. None for all of them. If they do not fit, the text has the best runs and
            groups, the worst verdicts, and one line that says what it leaves out.
    """
    width = min(MAX_WIDTH, max(MIN_WIDTH, width))
    every = list(_every_line(comparison, width))
    if height is None or len(every) <= max(height, MIN_HEIGHT):
        yield from every
    else:
        yield from _fitting_lines(comparison, width, max(height, MIN_HEIGHT))


def _every_line(comparison: Comparison, width: int) -> Iterator[Text]:
    runs = _ranked(comparison)
    yield from _heading(comparison, width)
    yield Text()
    yield from _scores(comparison, runs, width)
    yield from _wrapped(_HOW_SCORED, "  ", "  ", width, "dim")
    yield Text()
    yield from _verdicts(runs, width)
    if comparison.differences:
        yield Text()
        yield from _differences(comparison.differences, comparison.groups, width)
    if comparison.groups:
        yield Text()
        yield from _groups(comparison, width)


def _fitting_lines(comparison: Comparison, width: int, height: int) -> Iterator[Text]:
    """Yield at most `height` lines. The runs get what heading, verdicts, differences and groups leave."""
    heading = list(_heading(comparison, width))
    most = height // 3
    if len(heading) > most:
        more = len(heading) - most + 1
        heading = [*heading[: most - 1], Text(f"  … and {more} more lines of remarks", style="yellow")]
    runs = _ranked(comparison)
    verdicts = list(_verdicts_in_short(runs, width))
    share = (height - len(heading) - len(verdicts)) // (4 if comparison.groups else 3)
    differences, more_keys = _first(list(_differences_in_short(comparison, width)), share)
    groups, more_groups = _first(list(_groups_in_short(comparison, width)), share)
    parts = [heading, verdicts, differences, groups]
    left = height - sum(map(len, parts)) - sum(map(bool, parts)) - 2  # blank lines; the table's head and the last line
    shown = list(_scores(comparison, runs, width, max(left, 1)))
    of_runs = sum(1 for line in shown[1:] if not line.plain.startswith(_REMARK))
    for at, part in enumerate((heading, shown, verdicts, differences, groups)):
        if part and at:
            yield Text()
        yield from part
    counts = {"run": len(runs) - of_runs, "hyper-parameter": more_keys, "group": more_groups}
    left_out = [f"{count(number)} {noun}{'s' * (number != 1)}" for noun, number in counts.items() if number]
    said = f"left out: {', '.join([*left_out, 'reasons'])}; all with --format json or html"
    yield Text(_cut(said, width), style="dim")


def _first(lines: list[Text], most: int) -> tuple[list[Text], int]:
    """Return a title and as many of its lines as fit, and how many do not."""
    kept = lines[: max(most, 2)]
    return kept, len(lines) - len(kept)


def _ranked(comparison: Comparison) -> list[ComparedRun]:
    by_label = {run.label: run for run in comparison.runs}
    return [by_label[label] for label in comparison.best_first]


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
    if comparison.short:
        ends = [f"{_name(run)} ends at {position(run.last, axis.by)}" for run in comparison.short]
        more = f", and {len(ends) - _MAX_NAMES} more" if len(ends) > _MAX_NAMES else ""
        limit = position(comparison.short[0].limit, axis.by)
        said = f"set aside, as too short (before {limit}, half the median span): {', '.join(ends[:_MAX_NAMES])}{more}"
        yield from _wrapped(said, "  ", "    ", width, "yellow")
    for warning in comparison.warnings:
        yield from _wrapped(printable(warning), "  ! ", "    ", width, "yellow")


def _scores(comparison: Comparison, runs: Sequence[ComparedRun], width: int, most: int | None = None) -> Iterator[Text]:
    """Yield the table's head and the scores of each run, as far as `most` lines reach."""
    free = width - 2 - sum(_NUMBERS.values())
    names = max(4, *(cell_len(printable(run.label)) for run in runs))
    column = min(free, names)
    yield Text(f"  {'run':{column}}" + "".join(head.rjust(room) for head, room in _NUMBERS.items()), style="dim")
    left = len(runs) * 2 if most is None else most
    for run in runs:
        scores = run.scores
        left -= 1 + bool(scores.nonfinite)
        if left < 0:
            return
        at = position(scores.best_at, comparison.axis.by) if scores.best_at is not None else compact(None)
        cells = {"final": compact(scores.final), "best": compact(scores.best), "at": at, "area": compact(scores.area)}
        line = Text("  ").append(_padded(printable(run.label), column))
        for head, cell in cells.items():
            line.append(cell.rjust(_NUMBERS[head]), style="bold red" if cell == "NaN" else "")
        yield line
        if scores.nonfinite:
            remark = f"{_REMARK}{count(scores.nonfinite)} of {count(scores.measured)} values not finite"
            yield Text(remark, style="bold red")


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
        if run.end_reason:
            yield from _wrapped(run.described_ending, "    ", "    ", width, STATUS_STYLE[run.status])
        if run.reason and run.verdict != "healthy":
            yield from _wrapped(printable(run.reason), "    ", "    ", width, "dim")


def _verdicts_in_short(runs: Sequence[ComparedRun], width: int) -> Iterator[Text]:
    """Yield a title and one line for each level that a run has, the worst first."""
    yield Text("Verdict on each whole run")
    for level in reversed(LEVELS):
        if named := [run for run in runs if run.verdict == level]:
            names = "" if level == "healthy" else f"  {', '.join(map(_name, named))}"
            line = Text("  ").append(f"{len(named):>4} ").append_text(level_text(level))
            yield line.append(_cut(names, width - line.cell_len))


def _differences(differences: Mapping[str, Mapping[str, Any]], groups: Sequence[Group], width: int) -> Iterator[Text]:
    yield Text(_DIFFERENCES)
    for key, values in list(differences.items())[:_MAX_DIFFERENCES]:
        by_value = _by_value(values)
        if groups and is_seed(key):
            parts = list(by_value)
        else:
            parts = [f"{value} ({_names(_as_groups(runs, groups))})" for value, runs in by_value.items()]
        yield from _wrapped(f"{fit(printable(key), 40)}: {', '.join(parts)}", "  ", "    ", width)
    if len(differences) > _MAX_DIFFERENCES:
        yield Text(f"  … and {len(differences) - _MAX_DIFFERENCES} more")


def _by_value(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the runs that have each value of a hyper-parameter."""
    by_value: dict[str, list[str]] = {}
    for run, value in values.items():
        by_value.setdefault(_value(value), []).append(run)
    return by_value


def _differences_in_short(comparison: Comparison, width: int) -> Iterator[Text]:
    """Yield a title and, in one line each, the hyper-parameters with their values; seeds last."""
    if comparison.differences:
        yield Text(_DIFFERENCES)
    for key, values in sorted(comparison.differences.items(), key=lambda item: is_seed(item[0])):
        yield Text(_cut(f"  {fit(printable(key), 40)}: {', '.join(_by_value(values))}", width))


def _groups_in_short(comparison: Comparison, width: int) -> Iterator[Text]:
    """Yield a title and, in one line each, the groups with their final scores, the best first."""
    if comparison.bootstrap is None:
        return
    yield Text(f"Groups of seeds: final, interquartile mean [{comparison.bootstrap.confidence:.0%} interval]")
    if (found := comparison.improvement) is not None and found.final.probability is not None:
        better = "better" if comparison.better else "greater"
        chance = f"{found.final.probability:.2f}"
        yield Text(f"  Probability that {found.group} is {better} than {found.over}: {chance}")
    for group in ranked_groups(comparison):
        final = group.final
        line = Text(f"  {group.name:3}{len(group.runs):>3} run{'s' * (len(group.runs) != 1):1}{compact(final.iqm):>9}")
        if final.low is not None and final.high is not None:
            line.append(f"  [{compact(final.low)}, {compact(final.high)}]")
        made_with = ", ".join(f"{fit(printable(key), 40)} {_value(value)}" for key, value in group.settings.items())
        yield line.append(_cut(f"  {made_with}" if made_with else "", width - line.cell_len))


def ranked_groups(comparison: Comparison) -> list[Group]:
    """Return the groups by their final score, the best first; without a direction as they are."""
    sign = {"lower": 1.0, "higher": -1.0, None: 0.0}[comparison.better]

    def rank(group: Group) -> tuple[bool, float]:
        iqm = group.final.iqm
        is_known = iqm is not None and not math.isnan(iqm)
        return not is_known, sign * iqm if iqm is not None and is_known and sign else 0.0

    return sorted(comparison.groups, key=rank)


def _as_groups(runs: Sequence[str], groups: Sequence[Group]) -> list[str]:
    """Return the names of groups in place of their runs, if the runs are whole groups."""
    whole = [group for group in groups if set(group.runs) <= set(runs)]
    return [group.name for group in whole] if sum(len(group.runs) for group in whole) == len(runs) else list(runs)


def _groups(comparison: Comparison, width: int) -> Iterator[Text]:
    made = comparison.bootstrap
    assert made is not None
    title = f"Groups of seeds: interquartile mean [{made.confidence:.0%} interval],"
    yield from _wrapped(f"{title} {count(made.resamples)} bootstrap resamples", "", "  ", width)
    for group in ranked_groups(comparison):
        runs = f"{len(group.runs)} run{'s' * (len(group.runs) != 1)}: {_names(group.runs)}"
        yield from _wrapped(f"{group.name}  {runs}", "  ", "     ", width, "bold")
        if group.settings:
            yield from _wrapped(settings_text(group.settings), "     ", "     ", width)
        yield from _estimates(group)
    if comparison.improvement:
        yield from _improvement(comparison.improvement, comparison.better is not None, width)


def _estimates(group: Group) -> Iterator[Text]:
    for name in SCORES:
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
    for name in SCORES:
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


def _name(run: ComparedRun | ShortRun) -> str:
    return fit(printable(run.label), 36)


def _names(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _MAX_NAMES} more" if len(labels) > _MAX_NAMES else ""
    return ", ".join(fit(printable(label), 36) for label in labels[:_MAX_NAMES]) + more


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return what distinguishes a group from others, as `lr 0.001, clip 0.2`, safe to print."""
    return ", ".join(f"{fit(printable(key), 40)} {_value(value)}" for key, value in settings.items())


def _value(value: Any) -> str:
    return fit(printable("none" if value is None else str(value)), 40)


def _cut(text: str, width: int) -> str:
    """Cut a text to `width` cells, also where its ellipsis becomes three dots."""
    return text if cell_len(text) <= width else fit(text, width - 2)


def _padded(text: str, width: int) -> str:
    shown = fit(text, width)
    return shown + " " * (width - cell_len(shown))


def _wrapped(text: str, first: str, rest: str, width: int, style: str = "") -> Iterator[Text]:
    """Wrap a text to `width` cells; unlike textwrap, rich knows that some characters are two cells wide."""
    indent = first
    for line in Text(text).wrap(_CONSOLE, width - max(len(first), len(rest)), overflow="fold"):
        yield Text(f"{indent}{line.plain.rstrip()}", style=style)
        indent = rest
