"""Declares a metric in a field of the payload: `metric_field` stores it, `metric_of` makes the `Metric` from it."""

from __future__ import annotations

from dataclasses import Field, field
from typing import Any

from esper_schemas.metric.metrics import Bands, Direction, Dtype, Group, Metric

UPDATE = "the update"


def metric_field(
    description: str,
    dtype: Dtype = "float64",
    *,
    group: Group = "other",
    unit: str = "",
    over: str = UPDATE,
    better: Direction | None = None,
    trend: float | None = None,
    bands: Bands | None = None,
    required: bool = False,
    **shown: Any,
) -> Any:
    """A payload field that declares a metric; `shown` are attributes of `Metric` that differ from the defaults."""
    declared = {
        "description": description, "dtype": dtype, "group": group, "unit": unit, "averaged_over": over,
        "better": better, "trend_threshold": trend, "bands": bands, "required": required, **shown,
    }  # fmt: skip
    is_index = required and dtype == "int64"
    return field(metadata={"metric": declared}) if is_index else field(default=None, metadata={"metric": declared})


def metric_of(declared: Field[Any]) -> Metric:
    """The metric that a field declares."""
    return Metric(name=declared.name, **declared.metadata["metric"])
