"""In which order one update computes its metrics: within an update, a metric is moved only by what comes before it.

Settings are there first. Then the environment answers, the critic values its states, and TD errors, advantages and
returns are made of both. Then the minibatches: ratios and entropy, the losses, their gradients.
"""

from __future__ import annotations

from esper_schemas.metric.catalogue import is_label
from esper_schemas.metric.payload import METRICS

SETTINGS, ENVIRONMENT, VALUES, TD_ERRORS, ADVANTAGES, RETURNS, FIT, POLICY, LOSSES, GRADIENTS, WORK, COST = range(12)

_BY_GROUP = {
    "settings": SETTINGS,
    "episodes": ENVIRONMENT,
    "other": ENVIRONMENT,
    "critic": FIT,
    "returns": RETURNS,
    "policy": POLICY,
    "losses": LOSSES,
    "gradients": GRADIENTS,
    "work": WORK,
    "labels": WORK,
    "cost": COST,
}
_BY_NAME = {
    "samples": ENVIRONMENT,
    **dict.fromkeys(("value_mean", "value_std", "value_min", "value_max"), VALUES),
    **dict.fromkeys(("td_error_mean", "td_error_std", "bellman_error"), TD_ERRORS),
    **{name: ADVANTAGES for name in METRICS if name.startswith("advantage_")},
    "value_target_scale": RETURNS,
}

_COUNTS_UP = "env_steps"


def stage(metric: str) -> int:
    """Return the place of a metric in an update. A metric that the user added is taken to be the environment's."""
    if metric in _BY_NAME:
        return _BY_NAME[metric]
    return _BY_GROUP[METRICS[metric].group if metric in METRICS else "other"]


def is_explained(metric: str) -> bool:
    """Whether a column can tell why something moved: not if it only names an update, or only counts up."""
    return not is_label(metric) and metric != _COUNTS_UP


def is_of_minibatches(metric: str) -> bool:
    """Whether a metric is measured while the minibatches are trained on, or after."""
    return POLICY <= stage(metric) < COST
