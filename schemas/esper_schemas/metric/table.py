"""The metrics table as Markdown: `python -m esper_schemas.metric.table` prints the body of schemas/README.md."""

from __future__ import annotations

from esper_schemas.metric.metrics import HISTORY_LENGTH, LOSS_RATIO_BANDS, SKIP_REASONS
from esper_schemas.metric.payload import METRICS

_BETTER = {"lower": "lower is better", "higher": "higher is better", None: ""}


def markdown() -> str:
    """The document, generated from `METRICS`; a test compares it with the file."""
    lines = [
        "# The metrics table",
        "",
        "Generated from `esper_schemas/metric/payload.py`; do not edit. Each row is a keyword of `Recorder.record`, a field of",
        "`PPOUpdatePayload` and a column of every file. Only `update`, `policy_loss` and `value_loss` are required (the losses",
        "not if the update was skipped). Null means not measured. What the files look like is in [FORMAT.md](FORMAT.md).",
        "",
        "A value is *critical* or a *warning* where a threshold says so, and healthy otherwise; without thresholds its level is",
        f"unknown. A trend is the change between the halves of the last {HISTORY_LENGTH} values that reaches the given share.",
        "",
        "| metric | type | meaning | taken over | thresholds | trend |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for metric in METRICS.values():
        name = f"**`{metric.name}`**" if metric.required else f"`{metric.name}`"
        meaning = metric.description + (f" [{metric.unit}]" if metric.unit else "")
        trend = f"{metric.trend_threshold:.0%}" if metric.trend_threshold is not None else ""
        better = _BETTER[metric.better]
        cells = [
            name,
            metric.dtype,
            meaning,
            metric.averaged_over,
            str(metric.bands or ""),
            f"{trend}, {better}" if trend and better else trend,
        ]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    lines += [
        "",
        f"The Lv/Lp ratio, abs(value_loss) / abs(policy_loss), is derived and never recorded: {LOSS_RATIO_BANDS}.",
        "",
        "| skip_reason | meaning |",
        "| --- | --- |",
        *(f"| {code} | {meaning} |" for code, meaning in SKIP_REASONS.items()),
        "",
        "Any further name that a trainer records becomes a float64 column of its own.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
