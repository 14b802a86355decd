"""The charts of the HTML report: the texts around each chart, and the packed data that the page draws."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.settings import Settings
from esper_analyzer.measuring.levels import bands_of
from esper_analyzer.measuring.series import KINDS, Axis, Course, Line
from esper_analyzer.reporting.report import Report
from esper_analyzer.reporting.sections import MetricSection, RatioSection
from esper_analyzer.wording import count, level_word, thresholds_of
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import DECLARED, LOSS_RATIO, RETURNS
from esper_schemas.metric.metrics import Bands, Level, Limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_RANGES = 8

MEAN_DIGITS = 4
"""Significant digits of the mean of a stretch in the file."""


@dataclass(frozen=True, slots=True)
class Chart:
    """The texts of the page about a chart. The packed data has its numbers, in the same order.

    Attributes:
        level: the word for the level of the last value.
    """

    id: str
    name: str
    title: str
    description: str
    bands: str
    level: str
    section: MetricSection | RatioSection
    nonfinite: str
    is_main: bool


def chart_of(
    position: int, name: str, section: MetricSection | RatioSection, lines: Sequence[Line], settings: Settings
) -> Chart:
    """Return the texts of the page about the chart at this position. Names from the run are not escaped yet."""
    metric = DECLARED.get(name)
    facts = [metric.description, metric.averaged_over] if metric else []
    return Chart(
        id=f"chart-{position}",
        name=name,
        title=metric.title if metric else name,
        description="; ".join(fact for fact in facts if fact) or "added by the user",
        bands=thresholds_of(name, bands_of(name, settings.thresholds)),
        level=level_word(name, section.health.level),
        section=section,
        nonfinite="; ".join(_describe_nonfinite(lines)),
        is_main=name in RETURNS or (metric is not None and metric.order is not None),
    )


def _describe_nonfinite(lines: Sequence[Line]) -> Iterator[str]:
    """Describe where a metric is not finite: the first ranges, and how many more there are."""
    for line in lines:
        if not line.nonfinite:
            continue
        shown = [
            f"{KINDS[kind]} at update {first}" if first == last else f"{KINDS[kind]} at updates {first} to {last}"
            for first, last, kind in line.nonfinite[:MAX_RANGES]
        ]
        more = len(line.nonfinite) - len(shown)
        shown += [f"{count(more)} more range{'s' * (more != 1)}"] if more else []
        yield (f"rank {line.rank}: " if len(lines) > 1 else "") + ", ".join(shown)


def chart_data(
    report: Report,
    course: Course,
    axes: Sequence[Axis],
    attempts: Sequence[tuple[int, int]],
    charts: Sequence[Chart],
    links: Mapping[str, str],
    settings: Settings,
) -> dict[str, Any]:
    """Return the data of the charts, with updates as differences and ranges as `coded_ranges` returns them."""
    return {
        "run": printable(report.run.run_id),
        "axes": [{"name": axis.name, "updates": coded(axis.updates), "values": axis.values} for axis in axes],
        "attempts": attempts,
        "first": course.first,
        "last": course.last,
        "width": course.width,
        "missing": coded_ranges(course.missing),
        "missing_of": [coded_ranges(ranges) for ranges in course.missing_of] if len(course.ranks) > 1 else [],
        "alerts": [_alert(alert, links, report.run.rank) for alert in report.alerts],
        "charts": [
            {
                "id": chart.id,
                "name": printable(chart.name),
                "title": printable(chart.title),
                "main": chart.name == "value_loss",
                "log": chart.name == LOSS_RATIO,
                "median": chart.section.median,
                "bands": _bands(chart.name, bands_of(chart.name, settings.thresholds)),
                "lines": [
                    {
                        "rank": line.rank,
                        "updates": coded(line.updates),
                        "values": line.values,
                        "nonfinite": coded_ranges(line.nonfinite),
                        "stretches": coded(line.stretches),
                        "means": rounded(line.means, MEAN_DIGITS),
                    }
                    for line in course.lines[chart.name]
                ],
            }
            for chart in charts
        ],
    }


def _alert(alert: Alert, links: Mapping[str, str], rank: int | None) -> dict[str, Any]:
    """Return the data of an alert; `drawn` says whether it is of the rank in the charts, or these are of several."""
    return {
        "update": alert.update,
        "since": alert.since,
        "until": alert.until,
        "times": alert.times,
        "lasts": alert.lasts,
        "drawn": rank is None or alert.rank == rank,
        "level": alert.level,
        "metric": printable(alert.metric),
        "chart": links.get(alert.metric, ""),
    }


def _bands(name: str, bands: Bands | None) -> list[list[Any]]:
    if bands is None or bands.only_if is not None:  # the chart cannot show a band that depends on a condition
        return []
    levels: tuple[tuple[Level, tuple[Limit, ...]], ...] = (("warning", bands.warning), ("critical", bands.critical))
    return [[level_word(name, level), limit.comparison, limit.bound] for level, limits in levels for limit in limits]


def pack(data: Mapping[str, Any]) -> str:
    """Pack data as JSON, deflated, in Base64, which contains no character special to HTML; NaN becomes null."""
    text = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
    return base64.b64encode(zlib.compress(text, 6)).decode()


def coded(numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first number and then the differences between neighbours, which compress well."""
    found: NDArray[np.int64] = np.asarray(numbers, np.int64)
    return np.concatenate([found[:1], found[1:] - found[:-1]])


def rounded(values: Sequence[float | None] | NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Round to so many significant digits, as a text of the number would be.

    Args:
        values: finite numbers; None, and NaN, become NaN.
        digits: at most 9.
    """
    numbers: NDArray[np.float64] = np.asarray(values, np.float64)  # None becomes NaN
    with np.errstate(all="ignore"):
        exponents = digits - 1 - np.floor(np.log10(np.abs(numbers)))
        powers = 10.0 ** np.abs(exponents)
        scaled = np.where(exponents < 0, numbers / powers, numbers * powers)
        whole = np.rint(scaled)
        made: NDArray[np.float64] = np.where(exponents < 0, whole * powers, whole / powers)
        # Digits and power are exact, so that one product or division is rounded as the text of the number would be.
        is_sure = (np.abs(exponents) <= _EXACT_POWERS) & (np.abs(np.abs(scaled - whole) - 0.5) > _NEAR_HALF)
        is_sure &= (np.abs(scaled) >= 10.0 ** (digits - 1)) & (np.abs(scaled) < 10.0**digits)
    is_zero = numbers == 0.0
    made[is_zero] = numbers[is_zero]
    by_text = ~is_sure & ~is_zero & np.isfinite(numbers)
    made[by_text] = [float(f"{value:.{digits}g}") for value in numbers[by_text].tolist()]
    return made


_EXACT_POWERS = 22
"""Powers of ten up to this one are floating-point numbers."""

_NEAR_HALF = 1e-4
"""What is nearer to the middle of two decimal numbers, in units of the last digit, is rounded by its text."""


def coded_ranges(ranges: Iterable[tuple[int, ...]]) -> list[int]:
    """Flatten ranges to one list: for each its distance from the end of the one before, its length, the rest."""
    end, numbers = 0, []
    for first, last, *rest in ranges:
        numbers += [first - end, last - first, *rest]
        end = last
    return numbers
