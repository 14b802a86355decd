"""The metrics table: one PPO update as the trainer hands it over, each field with its meaning and its rules.

`PPOUpdatePayload` is the single source for every metric. Arrow schema, validation, thresholds, names and meanings on
screens and pages, command help and documentation are derived from its fields through `METRICS`. To add a metric, add a
field; `Metric` lists what it can declare.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any

from esper_schemas.errors import PayloadError
from esper_schemas.metric.coercion import check_extra_name, coerce
from esper_schemas.metric.declaration import metric_field, metric_of
from esper_schemas.metric.metrics import (
    DEFAULT_TREND_THRESHOLD,
    SKIP_REASONS,
    Bands,
    Dtype,
    Metric,
    Spread,
    above,
    at_least,
    at_most,
    below,
)

MINIBATCHES = "sample-weighted mean over all minibatches of all executed epochs"
ROLLOUT = "the rollout, before the update"

_VALUE_LOSS_BANDS = Bands(warning=(above(5.0), below(0.001)), critical=(above(20.0), below(0.0)), low=0.01)
_VALUE_LOSS_MEANING = "Usually rewards are unscaled or the value learning rate is too high; look at return_std."

# One per group, with what its metrics have in common; each field below states only what differs.
_label = partial(metric_field, group="labels")
_loss = partial(metric_field, group="losses", over=MINIBATCHES, better="lower", trend=DEFAULT_TREND_THRESHOLD)
_policy = partial(metric_field, group="policy", over=MINIBATCHES, trend=DEFAULT_TREND_THRESHOLD)
_gradient = partial(metric_field, group="gradients", over=MINIBATCHES)
_critic = partial(metric_field, group="critic", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
_return = partial(metric_field, group="returns", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
_episode = partial(metric_field, group="episodes")
_setting = partial(metric_field, group="settings")
_work = partial(metric_field, group="work")
_cost = partial(metric_field, group="cost")


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOUpdatePayload:
    """The measurements of one PPO update. What was not measured stays None, which is not the same as 0.0.

    `update` is always required; `policy_loss` and `value_loss` are required unless `skipped` is True.
    Numbers may be Python or NumPy numbers or zero-dimensional tensors; they are stored as the dtype
    of the metrics table. `extras` holds any further name → float.

    Raises:
        PayloadError: a value does not fit its column, a required one is missing, or an extra's name
            is empty, not printable, or the name of another column.
    """

    update: int = _label(
        "index of the PPO update; rises by 1 within an attempt", "int64", required=True, chart="value_loss"
    )
    wall_time: datetime | int | None = _label(
        "when the update ended; filled in by the recorder if absent", "timestamp", unit="µs UTC"
    )
    elapsed_secs: float | None = _label(
        "monotonic time since the attempt began; filled in by the recorder if absent", unit="s"
    )
    env_steps: int | None = _work("environment steps taken so far", "int64", unit="steps")

    policy_loss: float | None = _loss(
        "clipped surrogate loss, sign as minimised",
        bands=Bands(),
        required=True,
        short="P.Loss",
        order=2,
        watched=False,
        meaning="Usually a ratio or an advantage overflowed; look at ratio_max and advantage_std.",
    )
    value_loss: float | None = _loss(
        "½·mean(max(e², e_clipped²)) on the scale of the value targets, ≥ 0; ½·mean(e²) without value clipping",
        bands=_VALUE_LOSS_BANDS,
        required=True,
        short="V.Loss",
        order=1,
        headline=True,
        watched=False,
        meaning=_VALUE_LOSS_MEANING,
    )
    value_loss_unclipped: float | None = _loss(
        "½·mean(e²), comparable between trainers, ≥ 0",
        bands=_VALUE_LOSS_BANDS,
        watched=False,
        meaning=_VALUE_LOSS_MEANING,
    )
    entropy: float | None = _policy(
        "entropy of the policy, +H (thresholds are for discrete actions)",
        unit="nats",
        trend=0.08,
        bands=Bands(warning=(at_most(0.3),), critical=(at_most(0.1),)),
        order=7,
        headline=True,
        gauge=(0.0, 1.5),
        meaning="The policy hardly explores any more; unless the task is solved, raise the entropy coefficient.",
    )
    entropy_coef: float | None = _setting("entropy coefficient in force")
    learning_rate: float | None = _setting("learning rate in force")
    vf_coef: float | None = _setting("value-loss coefficient in force")
    clip_range: float | None = _setting("policy clip range in force")

    kl_divergence: float | None = _policy(
        "KL(old ‖ new), k3 estimator, ≥ 0",
        unit="nats",
        trend=0.30,
        bands=Bands(warning=(above(0.015),), critical=(above(0.03),)),
        short="KL",
        order=5,
        headline=True,
        gauge=(0.0, 0.06),
        symptom=True,
        meaning="The policy moves far in each update; lower the learning rate or the number of epochs.",
    )
    clip_fraction: float | None = _policy(
        "share of samples with abs(ratio − 1) > clip range",
        trend=0.30,
        bands=Bands(warning=(at_least(0.25),), critical=(at_least(0.30),)),
        short="Clip",
        order=6,
        gauge=(0.0, 0.5),
        symptom=True,
        meaning="Much of each update is cut off by the clip; lower the learning rate or the number of epochs.",
    )
    clip_fraction_positive: float | None = _policy(
        "share of samples with ratio > 1 + clip range",
        bands=Bands(warning=(at_least(0.30),), critical=(at_least(0.50),)),
        meaning="Many actions become much likelier in one update; lower the learning rate or the epochs.",
    )
    clip_fraction_negative: float | None = _policy(
        "share of samples with ratio < 1 − clip range",
        bands=Bands(warning=(at_least(0.15),), critical=(at_least(0.30),)),
        meaning="Many actions become much rarer in one update; lower the learning rate or the epochs.",
    )
    ratio_mean: float | None = _policy("importance ratio new/old, mean")
    ratio_min: float | None = _policy(
        "importance ratio, smallest",
        over="all minibatches (minimum)",
        bands=Bands(warning=(below(0.5),), critical=(below(0.3),)),
        title="Smallest ratio",
        meaning="Some actions become far rarer in one update; look at KL divergence and at the learning rate.",
    )
    ratio_max: float | None = _policy(
        "importance ratio, largest",
        over="all minibatches (maximum)",
        bands=Bands(warning=(above(1.5),), critical=(above(2.0),)),
        title="Largest ratio",
        meaning="Some actions become far likelier in one update; look at KL divergence and at the learning rate.",
    )
    ratio_std: float | None = _policy("importance ratio, standard deviation")
    log_prob_min: float | None = _policy(
        "smallest log-probability of a taken action, ≤ 0 for discrete actions",
        unit="nats",
        over="all minibatches (minimum)",
        bands=Bands(warning=(at_most(-50.0),), critical=(at_most(-100.0),)),
        title="Smallest log-probability",
        meaning="The policy takes actions that it holds for almost impossible; look for stale rollouts.",
    )
    log_prob_max: float | None = _policy(
        "largest log-probability of a taken action", unit="nats", over="all minibatches (maximum)"
    )

    pre_clip_grad_norm: float | None = _gradient(
        "global L2 norm of the gradient before clipping",
        trend=0.25,
        bands=Bands(warning=(above(5.0),), critical=(above(10.0),)),
        title="Gradient norm before clipping",
        short="Grad",
        order=8,
        headline=True,
        meaning="The gradient is far above what clipping lets through; look at the scale of the losses.",
    )
    grad_norm: float | None = _gradient("global L2 norm of the gradient after clipping", trend=0.25)
    nan_grad_count: int | None = _gradient(
        "NaN elements of the gradient; null when not counted",
        "int64",
        unit="elements",
        over="all minibatches (sum)",
        bands=Bands(warning=(at_least(1),), critical=(above(5),)),
        title="The number of NaN in the gradient",
        chart="pre_clip_grad_norm",
        meaning="Gradients hold NaN; look at the losses, the observations and mixed precision.",
    )
    inf_grad_count: int | None = _gradient(
        "infinite elements of the gradient; null when not counted",
        "int64",
        unit="elements",
        over="all minibatches (sum)",
        bands=Bands(warning=(at_least(1),), critical=(above(5),)),
        title="The number of infinities in the gradient",
        chart="pre_clip_grad_norm",
        meaning="Gradients overflow; look at the losses, the observations and mixed precision.",
    )

    explained_variance: float | None = _critic(
        "1 − Var(G − V) / Var(G); null when Var(G) is about 0",
        better="higher",
        trend=0.15,
        bands=Bands(warning=(at_most(0.3),), critical=(below(0.0),), nonfinite="unknown"),
        short="Expl.var",
        order=4,
        headline=True,
        gauge=(-1.0, 1.0),
        meaning="The critic explains little of the returns; look at its learning rate and its targets.",
    )
    value_nrmse: float | None = _critic("RMSE(V, G) / std(G); null when std(G) is about 0", better="lower")
    v_return_correlation: float | None = _critic(
        "Pearson correlation of V and G; null when either is constant",
        better="higher",
        bands=Bands(warning=(below(0.5),), critical=(below(0.3),), nonfinite="unknown"),
        title="Correlation of values and returns",
        meaning="Predictions hardly follow the returns; look at the critic's learning rate and targets.",
    )
    value_mean: float | None = _critic("V(s), mean")
    value_std: float | None = _critic(
        "V(s), standard deviation",
        bands=Bands(critical=(below(0.01),), only_if=Spread("value_min", "value_max", 0.1)),
        title="Standard deviation of values",
        meaning="The critic says the same of every state; look at its gradients and its learning rate.",
    )
    value_min: float | None = _critic("V(s), smallest")
    value_max: float | None = _critic("V(s), largest")
    return_mean: float | None = _return("return G, mean", title="Return G", order=10)
    return_std: float | None = _return("return G, standard deviation")
    return_p10: float | None = _return("return G, 10th percentile")
    return_p50: float | None = _return("return G, median")
    return_p90: float | None = _return("return G, 90th percentile")
    advantage_mean: float | None = _return("advantage before normalisation, mean")
    advantage_std: float | None = _return(
        "advantage before normalisation, standard deviation",
        bands=Bands(critical=(at_most(0.1),)),
        title="Standard deviation of advantages",
        meaning="Advantages hardly differ, so that there is little to learn from; look at rewards and returns.",
    )
    advantage_skewness: float | None = _return("advantage before normalisation, skewness")
    advantage_positive_ratio: float | None = _return("share of samples with a positive advantage")
    td_error_mean: float | None = _critic("one-step TD error on the raw return scale, mean")
    td_error_std: float | None = _critic("one-step TD error on the raw return scale, standard deviation")
    bellman_error: float | None = _critic("mean absolute TD error on the raw return scale, ≥ 0", better="lower")
    value_target_scale: float | None = _setting("what value targets were divided by; 1.0 if they were not")

    episode_return_mean: float | None = _episode(
        "undiscounted return of episodes that ended in this rollout; null if none ended",
        over="episodes ended in the rollout",
        better="higher",
        trend=0.15,
        title="Episode return",
        short="Return",
        order=9,
        headline=True,
    )
    episode_length_mean: float | None = _episode(
        "length of episodes that ended in this rollout; null if none ended",
        unit="steps",
        over="episodes ended in the rollout",
        trend=DEFAULT_TREND_THRESHOLD,
    )
    episodes: int | None = _episode("episodes that ended in this rollout", "int64", unit="episodes")

    epochs_run: int | None = _work("epochs executed", "int32", unit="epochs")
    minibatches: int | None = _work("minibatches executed", "int32", unit="minibatches")
    samples: int | None = _work("valid samples in the rollout", "int64", unit="samples")
    early_stop_epoch: int | None = _work("epoch at which KL stopped the update; null if none did", "int32")
    skipped: bool | None = _work(
        "the update was skipped or rolled back; three in a row are critical",
        "bool",
        bands=Bands(warning=(at_least(1),)),
        chart="value_loss",
        watched=False,
        meaning="Look at the losses and gradients of the update before the first of them.",
    )
    skip_reason: int | None = _label(
        "why it was skipped: " + ", ".join(f"{code} {meaning}" for code, meaning in SKIP_REASONS.items()), "int32"
    )
    amp_loss_scale: float | None = _work("mixed-precision loss scale in force")
    amp_overflow: bool | None = _work("mixed precision overflowed in this update", "bool")

    update_secs: float | None = _cost("duration of the update", unit="s", trend=DEFAULT_TREND_THRESHOLD)
    rollout_secs: float | None = _cost("duration of the rollout", unit="s", trend=DEFAULT_TREND_THRESHOLD)
    gpu_memory_allocated_bytes: int | None = _cost("GPU memory allocated at the end", "int64", unit="B")
    gpu_memory_reserved_bytes: int | None = _cost("GPU memory reserved at the end", "int64", unit="B")
    gpu_memory_peak_bytes: int | None = _cost("peak GPU memory allocated in the update", "int64", unit="B")

    extras: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        validate(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Everything that was measured, extras included, in the order of the metrics table."""
        measured = {name: value for name in METRICS if (value := getattr(self, name)) is not None}
        return measured | merge_extras(measured, self.extras or {})


METRICS: dict[str, Metric] = {f.name: metric_of(f) for f in fields(PPOUpdatePayload) if "metric" in f.metadata}
"""Every metric of the table by name, in column order."""


REQUIRED = tuple(name for name, metric in METRICS.items() if metric.required and name != "update")
"""Metrics that every update must carry unless it was skipped; `update` itself is always required."""


def merge_extras(metrics: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extras that are not None.

    Raises:
        PayloadError: a name is not a string, empty, longer than 255 bytes, not printable, or already a column.
    """
    for name in extras:
        check_extra_name(name)
        if name in METRICS or name in metrics:
            raise PayloadError(f"extra {name!r} is a metric of the table; pass it as a keyword instead")
    return {name: value for name, value in extras.items() if value is not None}


def dtype_of(name: str) -> Dtype:
    """Column type of a metric; one that the user added is float64."""
    metric = METRICS.get(name)
    return metric.dtype if metric else "float64"


def validate(values: Mapping[str, Any], *, arriving: Collection[str] = ()) -> dict[str, Any]:
    """As `admit`, but every value must fit.

    Raises:
        PayloadError: a value does not fit its column, or a required one is missing.
    """
    plain, refused = admit(values, arriving=arriving)
    for reason in refused.values():
        raise PayloadError(reason)
    return plain


def admit(values: Mapping[str, Any], *, arriving: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """The measured values as plain Python numbers, ready to store, and why others cannot be stored; None means absent.

    Args:
        values: name → value for metrics of the table and for extras.
        arriving: Names whose values are still on their way from a device, and count as given.

    Returns:
        Name → number, and name → reason.

    Raises:
        PayloadError: what every row needs is missing, or cannot be stored.
    """
    plain: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            if name not in METRICS:
                check_extra_name(name)
            plain[name] = coerce(name, dtype_of(name), value)
        except PayloadError as error:
            refused[name] = str(error)
    if plain.get("skip_reason", 0) not in SKIP_REASONS:
        refused["skip_reason"] = f"skip_reason must be one of {SKIP_REASONS}, found {plain.pop('skip_reason')}"
    for name in () if plain.get("skipped") else REQUIRED:
        if name not in plain and name not in arriving:
            said = f"{name}=… is missing; if the update was skipped, say skipped=True, skip_reason=…"
            raise PayloadError(refused.get(name, said))
    if "update" not in plain and "update" not in arriving:
        said = "update=… is missing: every record needs the index of its PPO update"
        raise PayloadError(refused.get("update", said))
    return plain, refused
