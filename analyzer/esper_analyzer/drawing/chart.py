"""The main chart's curve and axes: a metric with its thresholds, over updates, steps or time, drawn by plotext."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import polars as pl
from rich.style import Style as RichStyle

from esper_analyzer.drawing.figure import FRAME_COLOR, cleared_figure, marker
from esper_analyzer.drawing.style import Style, to_ascii
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.places import BY_UPDATE, Ruler
from esper_analyzer.options import By
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Bands, Level

Scaling = Literal["auto", "log", "linear"]
SCALINGS: tuple[Scaling, ...] = ("auto", "log", "linear")

LOG_DECADES = 2.0
"""The automatic scale is logarithmic if positive values span more than this many powers of ten."""

_LINE = 14  # the terminal's colour number of bright cyan
_NOT_FINITE_MARK = "!"
_MIN_TICK_DISTANCE = 0.08  # as a share of the height
_MIN_TICKS = 3
_MUCH = 5
_TIMES = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
_FEW_UNITS = 3.0  # an axis that is longer has its times in this unit


@dataclass(frozen=True, slots=True)
class Beside:
    """A further line of a chart.

    Attributes:
        buckets: its course.
        color: the terminal's colour number.
        mark: the character that draws it where there is only ASCII, or no colour.
        ruler: where its updates are on the axis of the chart.
    """

    buckets: Buckets
    color: int = FRAME_COLOR
    mark: str = "."
    ruler: Ruler = BY_UPDATE


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values to 0 to 1 of the chart's height. plotext gets only those, because large numbers abort it.

    On a logarithmic scale, `low` and `high` are common logarithms, and values that are not positive are at the bottom.
    """

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            return (math.log10(value) - self.low) / (self.high - self.low) if value > 0.0 else 0.0
        if math.isfinite(self.high - self.low):
            return (value - self.low) / (self.high - self.low)
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def shows(self, value: float) -> bool:
        return (not self.log or value > 0.0) and 0.0 <= self(value) <= 1.0


def draw_chart(
    buckets: Buckets,
    bands: Bands | None,
    *,
    width: int,
    height: int,
    style: Style,
    scaling: Scaling = "auto",
    beside: Sequence[Beside] = (),
    ruler: Ruler = BY_UPDATE,
) -> list[str]:
    """Draw the chart as `height` lines of `width` cells, with escape codes for colour if the style has it.

    Each column shows the smallest and the largest value of its updates, so no spike is lost. A red `!` at the top
    marks a value that is not finite, at its update. Thresholds within the axis are dotted lines. A logarithmic
    scale begins at the smallest positive value; if there is none, the scale is linear. The axes show all of the lines
    `beside` too, which are drawn below the curve, each of its own character where there is no colour. `ruler` is the
    horizontal axis.
    """
    columns = 2 * max(width - 8, 1)
    frame = buckets.folded(columns)
    finite = frame.filter(pl.col("min").is_not_null())
    others = [(other, _finite(other.buckets.folded(columns))) for other in beside if other.buckets.frame.height]
    shown = _together(finite, [part for _, part in others])
    scale = _scale(shown, [bound for bound, _ in _limits(bands)], scaling)
    limits = [(bound, color) for bound, color in _limits(bands) if shown.height and _is_in_view(bound, scale)]
    first, last = ends_of([(ruler, frame), *((other.ruler, part) for other, part in others)]) or (0.0, 1.0)
    across = _Scale(first, last if last > first else first + 1.0)
    with cleared_figure() as figure:
        figure.plot_size(width, height)
        for bound, color in limits:
            _draw(figure, [i / (width - 1) for i in range(width)], [scale(bound)] * width, marker("┈", color))
        for other, part in others:
            mark = "braille" if style.unicode and style.color else other.mark
            _draw_curve(figure, part, columns, other.ruler, across, scale, marker(mark, other.color))
        line = marker("braille" if style.unicode else "*", _LINE)
        _draw_curve(figure, finite, columns, ruler, across, scale, line)
        broken = [across(ruler.at(update)) for update in frame.filter(pl.col("nonfinite") > 0)["first"]]
        _draw(figure, broken, [1.0] * len(broken), marker(_NOT_FINITE_MARK, 9, "bold"))
        _axes(figure, ruler, across, scale, [bound for bound, _ in limits], width, height)
        text: str = figure.build().string(colorless=not style.color)
    lines = text.rstrip("\n").split("\n")
    return lines if style.unicode else [to_ascii(line) for line in lines]


def _draw_curve(
    figure: Any,
    finite: pl.DataFrame,
    columns: int,
    ruler: Ruler,
    across: _Scale,
    scale: _Scale,
    line: Any,
) -> None:
    for stretch in _stretches(finite, columns):
        xs, ys = _path(stretch, ruler, across, scale)
        figure.draw(figure.signal(xs, ys, marker=line).lines(True).density("full"))


def _finite(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("min").is_not_null())


def _together(finite: pl.DataFrame, others: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the extremes of all lines together."""
    return pl.concat([finite.select("min", "max"), *(other.select("min", "max") for other in others)])


def ends_of(frames: Sequence[tuple[Ruler, pl.DataFrame]]) -> tuple[float, float] | None:
    """Return where the buckets of several lines, each with its axis, begin and end; None if there are none."""
    known = [(ruler, frame) for ruler, frame in frames if frame.height]
    if not known:
        return None
    begins = min(ruler.at(frame["first"][0]) for ruler, frame in known)
    return begins, max(ruler.at(frame["last"][-1]) for ruler, frame in known)


def is_logarithmic(
    buckets: Buckets, bands: Bands | None, scaling: Scaling = "auto", beside: Sequence[Beside] = ()
) -> bool:
    """Whether the chart of these buckets has a logarithmic scale."""
    finite = _together(_finite(buckets.frame), [_finite(other.buckets.frame) for other in beside])
    return _scale(finite, [bound for bound, _ in _limits(bands)], scaling).log


def _draw(figure: Any, xs: list[float], ys: list[float], mark: Any) -> None:
    if xs:
        figure.draw(figure.signal(xs, ys, marker=mark))


def _is_in_view(bound: float, scale: _Scale) -> bool:
    """Whether to draw a line at a threshold: it is in view, and not so low that it merges with the bottom."""
    return scale.shows(bound) and (scale.log or scale(bound) >= _MIN_TICK_DISTANCE / 2)


def _stretches(finite: pl.DataFrame, columns: int) -> Iterator[pl.DataFrame]:
    """Split the curve at gaps that are much wider than usual and wide enough to be seen."""
    if not finite.height:
        return
    gaps = (finite["first"] - finite["last"].shift(1)).fill_null(0)
    ordered = sorted(gaps[1:].to_list() or [0])
    usual = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2  # `median` is in slow modules
    seen = 3 * (int(finite["last"][-1]) - int(finite["first"][0]) + 1) / columns
    starts = [0, *(gaps > max(_MUCH * usual, seen)).arg_true().to_list(), finite.height]
    for start, stop in pairwise(starts):
        yield finite[start:stop]


def _path(finite: pl.DataFrame, ruler: Ruler, across: _Scale, scale: _Scale) -> tuple[list[float], list[float]]:
    """Return one line through both extremes of every column, each from the end nearer to the column before."""
    xs: list[float] = []
    ys: list[float] = []
    places = ruler.all_at(((finite["first"] + finite["last"]) / 2).to_numpy())
    for at, (low, high) in zip(places.tolist(), finite.select("min", "max").iter_rows(), strict=True):
        x, ends = across(at), [min(max(scale(value), 0.0), 1.0) for value in (low, high)]
        if ys and abs(ends[1] - ys[-1]) < abs(ends[0] - ys[-1]):
            ends.reverse()
        for y in ends if low != high else ends[:1]:
            xs.append(x)
            ys.append(y)
    return xs, ys


def _limits(bands: Bands | None) -> list[tuple[float, int]]:
    if bands is None:
        return []
    return [
        (limit.bound, _color_of(level))
        for level, limits in (("warning", bands.warning), ("critical", bands.critical))
        for limit in limits
    ]


@cache
def _color_of(level: Level) -> int:
    """Return the terminal's colour number of a level."""
    color = RichStyle.parse(PALETTE[level].style).color
    assert color is not None
    assert color.number is not None
    return color.number


def _scale(finite: pl.DataFrame, bounds: Sequence[float], scaling: Scaling) -> _Scale:
    """Return the range of the values with a margin, widened to the nearest threshold above if it is close."""
    if not finite.height:
        return _Scale(0.0, 1.0)
    low, high = float(finite["min"].min()), float(finite["max"].max())  # type: ignore[arg-type]
    near = [bound for bound in bounds if high < bound <= 2 * high]
    high = min(near, default=high)
    ends = _log_ends(finite, high, scaling)
    if ends is not None:
        margin = 0.04 * (ends[1] - ends[0]) or 0.5
        return _Scale(ends[0] - margin, ends[1] + margin, log=True)
    margin = 0.12 * (high / 2 - low / 2) or 0.5 * abs(high) or 0.5
    floor = 0.0 if 0.0 <= low < 0.3 * high else low - margin
    return _Scale(max(floor, -1.7e308), min(high + margin, 1.7e308))


def _log_ends(finite: pl.DataFrame, high: float, scaling: Scaling) -> tuple[float, float] | None:
    """Return the common logarithms of the ends of a logarithmic scale; None for a linear one."""
    values = pl.concat([finite["min"], finite["max"]])
    lowest = values.filter(values > 0.0).min() if scaling == "log" else values.min()
    if scaling == "linear" or not isinstance(lowest, float) or lowest <= 0.0:
        return None
    ends = math.log10(lowest), math.log10(high)
    return ends if scaling == "log" or ends[1] - ends[0] > LOG_DECADES else None


def _axes(
    figure: Any,
    ruler: Ruler,
    across: _Scale,
    scale: _Scale,
    bounds: Sequence[float],
    width: int,
    height: int,
) -> None:
    figure.axes(True)
    figure.axes(False, axis="x", side="upper")
    figure.axes(False, axis="y", side="right")
    apart = max(_MIN_TICK_DISTANCE, 1.01 / max(height - 3, 1))  # never two labels in one line of text
    values = _value_ticks(scale, bounds, max(_MIN_TICKS, height // 3), apart)
    y, x = figure.ruler("y", "left"), figure.ruler("x", "lower")
    y.lim(0.0, 1.0)
    y.ticks([scale(value) for value in values], [_label(value).rjust(7) for value in values])
    ticks = _place_ticks(ruler.by, across, max(2, width // 16))
    x.lim(0.0, 1.0)
    x.ticks([across(place) for place, _ in ticks], [label for _, label in ticks])


def _label(value: float) -> str:
    size = abs(value)
    if size != 0.0 and not 1e-4 <= size < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}" if size < 1 else f"{value:.4g}"


def _value_ticks(scale: _Scale, bounds: Sequence[float], most: int, apart: float) -> list[float]:
    """Return round values and the thresholds in view; a threshold replaces round values nearer than `apart`."""

    def is_apart(value: float, others: Sequence[float]) -> bool:
        return all(abs(scale(value) - scale(other)) >= apart for other in others)

    if scale.log:
        decades = range(max(math.ceil(scale.low), -307), min(math.floor(scale.high), 308) + 1)
        ticks = [10.0**decade for decade in decades[:: max(1, math.ceil(len(decades) / most))]]
        if len(ticks) < 2:
            steps = _round_steps(10.0**scale.low, 10.0 ** min(scale.high, 308.0), most)
            ticks = [tick for tick in steps if scale.shows(tick)]
    else:
        finest = [_round_steps(scale.low, scale.high, most + more) for more in (0, 1, 2, 3)]
        ticks = next((found for found in finest if len(found) >= _MIN_TICKS), finest[-1])
    shown: list[float] = []
    for bound in bounds:  # of two thresholds too near each other, only the first gets a label
        if scale.shows(bound) and is_apart(bound, shown):
            shown.append(bound)
    return sorted(shown + [tick for tick in ticks if is_apart(tick, shown)])


def _place_ticks(by: By, across: _Scale, most: int) -> list[tuple[float, str]]:
    """Return round places on the horizontal axis with their labels; times are in the largest unit that suits."""
    if by == "time":
        secs, unit = next((one for one in _TIMES if across.high >= _FEW_UNITS * one[0]), _TIMES[-1])
        rounds = [tick for tick in _round_steps(across.low / secs, across.high / secs, most) if tick >= 0.0]
        ticks = [(tick * secs, f"{tick:.6g} {unit}") for tick in rounds]
    else:
        whole = sorted({round(tick) for tick in _round_steps(across.low, across.high, most)})
        ticks = [(tick, str(tick) if by == "updates" else _steps_label(tick)) for tick in whole]
    return [(place, label) for place, label in ticks if across.shows(place)]


def _steps_label(steps: int) -> str:
    """Return a number of steps in few characters, without rounding it away."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if steps >= 10 * size or (steps >= size and steps % (size // 10) == 0):
            return f"{steps / size:.6g}{unit}"
    return str(steps)


def _round_steps(low: float, high: float, most: int) -> list[float]:
    """Return about `most` multiples of 1, 2 or 5 times a power of ten between two values."""
    span = high - low
    if not (math.isfinite(span) and span > 0.0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most)) if span / most > 0.0 else 0.0
    if power == 0.0:
        return [low]
    step = next((power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most), 10 * power)
    start = math.ceil(low / step)
    return [(start + i) * step for i in range(math.floor(high / step) - start + 1)]
