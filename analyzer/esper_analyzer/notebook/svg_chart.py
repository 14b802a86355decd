"""The chart of the value loss as a small inline SVG, for the output of a notebook's cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import polars as pl
from markupsafe import Markup

from esper_analyzer.drawing.chart import LOG_DECADES
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.wording import compact, count
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Bands, Level, Limit

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _MARGIN = 640, 150, 56, 18, 12
_COLUMNS = 290


class _Scale:
    """Maps values to vertical positions in the chart, on a linear or a logarithmic scale."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.log = is_log(low, high)

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        value = math.log10(value) if self.log else value
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if low < high else 0.5  # halves do not overflow
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _MARGIN)


def is_log(low: float, high: float) -> bool:
    """Whether a range of positive values spans enough powers of ten for a logarithmic scale."""
    return low > 0.0 and math.log10(high) - math.log10(low) > LOG_DECADES


def svg_chart(buckets: Buckets, bands: Bands | None) -> Markup:
    """Return the value loss as inline SVG; the line keeps both extremes of each column of pixels."""
    width = max(1, math.ceil(buckets.frame.height / _COLUMNS))
    folded = (
        buckets.frame.group_by(pl.col("bucket") // width)
        .agg(pl.col("first").min(), pl.col("last").max(), pl.col("min").min(), pl.col("max").max(), pl.sum("nonfinite"))
        .sort("bucket")
    )
    finite = folded.drop_nulls("min")
    if not folded.height:
        return Markup()
    begin, end = int(folded["first"][0]), int(folded["last"][-1])

    def across(first: int, last: int) -> float:
        share = ((first + last) / 2 - begin) / (end - begin) if end > begin else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - _MARGIN), 1)

    parts = [_text(_LEFT, _HEIGHT - 4, begin), _text(_WIDTH - _MARGIN, _HEIGHT - 4, end, "end")]
    title = "value loss"
    if finite.height:
        scale = _Scale(*finite.select(pl.col("min").min(), pl.col("max").max()).row(0))
        title += ", logarithmic" * scale.log
        for value in {scale.low, scale.high}:
            parts.append(_text(_LEFT - 6, scale(value) + 4, compact(value), "end"))
        parts += _thresholds(bands, scale)
        line = Markup('<path d="{}" fill="none" stroke="currentColor" stroke-width="1.3" stroke-linecap="round"/>')
        parts.append(line.format(_path(finite, across, scale)))
    bad = folded.filter(pl.col("nonfinite") > 0)
    if bad.height:
        title += f", × {count(int(bad['nonfinite'].sum()))} not finite"
    for first, last, number in bad.select("first", "last", "nonfinite").iter_rows():
        where = f"update {first}" if first == last else f"updates {first} to {last}"
        mark = Markup('<path d="M{} 3l6 6m0 -6l-6 6" stroke="{}" stroke-width="2"><title>{}</title></path>')
        parts.append(mark.format(across(first, last) - 3, PALETTE["critical"].color, f"{number} not finite, {where}"))
    return Markup(
        '<svg role="img" aria-label="{}, updates {} to {}" viewBox="0 0 {} {}" width="{}" '
        'style="max-width:100%;height:auto;display:block" font-size="11" fill="currentColor">{}</svg>'
    ).format(
        title,
        begin,
        end,
        _WIDTH,
        _HEIGHT,
        _WIDTH,
        Markup().join([*parts, _text((_LEFT + _WIDTH) // 2, _HEIGHT - 4, title, "middle")]),
    )


def _path(finite: pl.DataFrame, across: Callable[[int, int], float], scale: _Scale) -> str:
    """Return the commands that draw the line, up and down in turn. It breaks where no value is finite."""
    commands: list[str] = []
    before = None
    for at, (bucket, first, last, *ends) in enumerate(finite.select("bucket", "first", "last", "min", "max").rows()):
        x, (bottom, top) = across(first, last), map(scale, ends if at % 2 else reversed(ends))
        move = "L" if before is not None and bucket == before + 1 else "M"
        commands.append(f"{move}{x} {bottom:.1f}V{top:.1f}")
        before = bucket
    return "".join(commands)


def _thresholds(bands: Bands | None, scale: _Scale) -> Iterator[Markup]:
    """Yield a dashed line, and a label if there is room, at each bound in view."""
    labelled: list[float] = []
    for beyond, limit in limits_of(bands):
        if scale.low < limit.bound < scale.high:
            y = round(scale(limit.bound), 1)
            yield Markup('<path d="M{} {}H{}" stroke="{}" stroke-dasharray="4 3"><title>{}</title></path>').format(
                _LEFT, y, _WIDTH - _MARGIN, PALETTE[beyond].color, f"{beyond} {limit}"
            )
            if all(abs(y - other) > _MARGIN for other in labelled):
                labelled.append(y)
                yield _text(_WIDTH - _MARGIN, y - 3, f"{beyond} {limit}", "end")


def limits_of(bands: Bands | None) -> list[tuple[Level, Limit]]:
    """Return each bound with the level beyond it, warnings first."""
    if bands is None or bands.only_if is not None:  # the chart cannot show a band that depends on a condition
        return []
    return [("warning", limit) for limit in bands.warning] + [("critical", limit) for limit in bands.critical]


def _text(x: float, y: float, text: object, anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, round(y, 1), anchor, text)
