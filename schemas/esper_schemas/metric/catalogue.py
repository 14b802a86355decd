"""All declared metrics: those of the table and the derived ratio Lv/Lp; and which of them are shown first."""

from __future__ import annotations

from esper_schemas.metric.metrics import DEFAULT_TREND_THRESHOLD, Bands, Group, Metric, above, below
from esper_schemas.metric.payload import METRICS

LOSS_RATIO = "loss_ratio"
"""Name of the derived metric Lv/Lp = abs(value_loss) / abs(policy_loss)."""

EPISODE_RETURN = "episode_return_mean"
"""Name of the metric that people look at first, where it was recorded."""

EPISODE_LENGTH = "episode_length_mean"

SLIDING_RETURN, SLIDING_LENGTH = "episode_return_sliding_mean", "episode_length_sliding_mean"
"""Extras: the means over more episodes than those that ended in one rollout, the last 100 in most trainers' logs."""

STAND_INS = {EPISODE_RETURN: SLIDING_RETURN, EPISODE_LENGTH: SLIDING_LENGTH}
"""What is read in place of a metric by who needs it, as long as a run has not recorded the metric itself."""

RETURNS = (EPISODE_RETURN, SLIDING_RETURN)
"""The return in either form; whoever shows one return shows the first of these that a run has measured."""

EXPLAINED_VARIANCE = "explained_variance"
"""Name of the metric that says little where returns hardly vary."""

MIN_POLICY_LOSS = 1e-10
"""The Lv/Lp ratio is null if abs(policy_loss) is smaller than this."""

LOSS_RATIO_BANDS = Bands(
    warning=(below(0.2), above(5.0)),
    critical=(below(0.1), above(10.0)),
    nonfinite="unknown",
)
"""Bands of the Lv/Lp ratio."""

DERIVED: dict[str, Metric] = {
    LOSS_RATIO: Metric(
        name=LOSS_RATIO,
        dtype="float64",
        description="abs(value loss) / abs(policy loss);"
        " beyond its bounds in most sound runs, it decides nothing by itself",
        trend_threshold=DEFAULT_TREND_THRESHOLD,
        bands=LOSS_RATIO_BANDS,
        title="Lv/Lp",
        meaning="Lv/Lp is beyond its bounds in most sound runs, and by itself decides nothing.",
        group="losses",
        order=3,
        watched=False,
    )
}
"""Metrics that are computed from others and never recorded."""

DECLARED: dict[str, Metric] = METRICS | DERIVED
"""Every declared metric, by name."""


def leading(*groups: Group) -> list[Metric]:
    """The metrics that are shown first, in their order; only those of `groups`, if any are given."""
    first = [metric for metric in DECLARED.values() if metric.order is not None]
    return sorted((one for one in first if not groups or one.group in groups), key=lambda one: one.order or 0)


def is_label(name: str) -> bool:
    """Whether a column only identifies or describes an update, so that there is nothing to chart or summarise."""
    return name in METRICS and METRICS[name].group == "labels"
