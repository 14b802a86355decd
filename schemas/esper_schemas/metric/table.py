"""Prints the metrics table as Markdown: `python -m esper_schemas.metric.table` writes the text of schemas/README.md."""

from __future__ import annotations

from collections.abc import Iterable

from esper_schemas.metric.catalogue import DECLARED, LOSS_RATIO_BANDS, leading
from esper_schemas.metric.metrics import HISTORY_LENGTH, SKIP_REASONS
from esper_schemas.metric.payload import METRICS

_BETTER = {"lower": "lower is better", "higher": "higher is better", None: ""}


def markdown() -> str:
    """The whole document, generated from `METRICS`; a test compares it with the file."""
    lines = [
        "# The metrics table",
        "",
        "Generated from `esper_schemas/metric/payload.py`; do not edit. Each row is a keyword of `Recorder.record`, a field of",
        "`PPOUpdatePayload` and a column of every file. Only `update`, `policy_loss` and `value_loss` are required; a skipped",
        "update needs no losses. Null means not measured. [FORMAT.md](FORMAT.md) describes the files.",
        "",
        "A value is *critical* or a *warning* where a threshold says so, and healthy otherwise; without thresholds its level is",
        f"unknown. A trend is the change between the halves of the last {HISTORY_LENGTH} values that reaches the given share.",
        "",
        "| metric | type | group | meaning | taken over | thresholds | trend |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for metric in METRICS.values():
        name = f"**`{metric.name}`**" if metric.required else f"`{metric.name}`"
        meaning = metric.description + (f" [{metric.unit}]" if metric.unit else "")
        trend = f"{metric.trend_threshold:.0%}" if metric.trend_threshold is not None else ""
        better = _BETTER[metric.better]
        cells = [
            name,
            metric.dtype,
            metric.group,
            meaning,
            metric.averaged_over,
            str(metric.bands or ""),
            f"{trend}, {better}" if trend and better else trend,
        ]
        lines.append(_row(cells))
    lines += [
        "",
        f"The Lv/Lp ratio, abs(value_loss) / abs(policy_loss), is derived and never recorded: {LOSS_RATIO_BANDS}.",
        "",
        "| skip_reason | meaning |",
        "| --- | --- |",
        *(f"| {code} | {meaning} |" for code, meaning in SKIP_REASONS.items()),
        "",
        "Any further name that a trainer records becomes a float64 column of its own.",
        "",
        "## The metrics shown first",
        "",
        "Every screen and page shows these in this order if they were recorded. A narrow column shows the short name.",
        "",
        "| metric | title | short |",
        "| --- | --- | --- |",
        *(_row([f"`{metric.name}`", metric.title, metric.short]) for metric in leading()),
        "",
        "## Beyond the thresholds",
        "",
        "What a value beyond the thresholds usually means, and what to look at next. Alerts include this text.",
        "",
        "| metric | title | usually |",
        "| --- | --- | --- |",
        *(_row([f"`{one.name}`", one.title, one.meaning]) for one in DECLARED.values() if one.bands is not None),
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(markdown(), end="")
