"""The rules on metrics that are watched by their thresholds in the metrics table."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from esper_analyzer.judging import steps
from esper_analyzer.judging.rules.rule import NOTHING, SYMPTOM, Question, Rule, bands_in_table
from esper_analyzer.judging.watched import (
    Signal,
    of_column,
    of_one_row,
)
from esper_schemas.metric.payload import METRICS


def metric_rules() -> list[Rule]:
    """Make a rule for each metric that is watched by its thresholds in the table."""
    return [
        Rule(
            name=name,
            metric=name,
            title=metric.title,
            value=_value(name),
            bands=replace(metric.bands, only_if=None),
            bands_of=name,
            question=_QUESTION_OF.get(metric.group) if metric.symptom else None,
            needs=(name,),
            meaning=metric.meaning,
            gives=SYMPTOM if metric.symptom else NOTHING,
            chart=metric.chart,
        )
        for name, metric in METRICS.items()
        if metric.bands is not None and metric.watched
    ]


_QUESTION_OF: dict[str, Question] = {"critic": "critic", "policy": "mechanics"}
"""The question that a symptom belongs to, by the group of its metric."""


def _value(name: str) -> Signal:
    """Return a metric where its bands apply, else null."""
    if name == "entropy":
        return of_column("_entropy")
    if name == "explained_variance":
        return of_column("explained")
    spread = bands_in_table(name).only_if
    if spread is None:
        return of_column(name)
    low, high, bound = spread.low, spread.high, spread.bound

    def step(row: steps.Row) -> float | None:
        lowest, highest = row[low], row[high]
        return row[name] if lowest is not None and highest is not None and highest - lowest < bound else None

    return of_one_row(pl.when(pl.col(high) - pl.col(low) < bound).then(pl.col(name)), step)
