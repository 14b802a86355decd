"""The metrics table: one PPO update as the trainer hands it over, each field with its meaning and its rules.

This class is the single source for every metric. Arrow schema, validation, thresholds, report, command help
and documentation are derived from its fields through `METRICS`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from esper_schemas.errors import PayloadError
from esper_schemas.metric.coercion import check_extra_name, coerce
from esper_schemas.metric.metrics import (
    DEFAULT_TREND_THRESHOLD,
    SKIP_REASONS,
    Bands,
    Direction,
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
UPDATE = "the update"

_VALUE_LOSS_BANDS = Bands(warning=(above(5.0), below(0.001)), critical=(above(20.0), below(0.0)), low=0.01)


def _metric(
    description: str,
    dtype: Dtype = "float64",
    *,
    unit: str = "",
    over: str = UPDATE,
    better: Direction | None = None,
    trend: float | None = None,
    bands: Bands | None = None,
    required: bool = False,
) -> Any:
    """Declare a payload field; its `Metric` is completed with the field's name when the class exists."""
    metadata = {"metric": (dtype, description, unit, over, better, trend, bands, required)}
    return field(metadata=metadata) if required and dtype == "int64" else field(default=None, metadata=metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOUpdatePayload:
    """What one PPO update measured. Anything not measured stays None, which is never the same as 0.0.

    `update` is always required; `policy_loss` and `value_loss` are required unless `skipped` is True.
    Numbers may be Python or NumPy numbers or zero-dimensional tensors; they are stored as the dtype
    of the metrics table. `extras` holds any further name → float.

    Raises:
        PayloadError: a value does not fit its column, a required one is missing, or an extra's name
            is empty, not printable, or the name of another column.
    """

    update: int = _metric("index of the PPO update; rises by 1 within an attempt", "int64", required=True)
    wall_time: datetime | int | None = _metric(
        "when the update ended; filled in by the recorder if absent", "timestamp", unit="µs UTC"
    )
    elapsed_secs: float | None = _metric(
        "monotonic time since the attempt began; filled in by the recorder if absent", unit="s"
    )
    env_steps: int | None = _metric("environment steps taken so far", "int64", unit="steps")

    policy_loss: float | None = _metric(
        "clipped surrogate loss, sign as minimised",
        over=MINIBATCHES,
        better="lower",
        trend=0.20,
        bands=Bands(),
        required=True,
    )
    value_loss: float | None = _metric(
        "½·mean(max(e², e_clipped²)) on the scale of the value targets, ≥ 0; ½·mean(e²) without value clipping",
        over=MINIBATCHES,
        better="lower",
        trend=0.20,
        bands=_VALUE_LOSS_BANDS,
        required=True,
    )
    value_loss_unclipped: float | None = _metric(
        "½·mean(e²), comparable between trainers, ≥ 0",
        over=MINIBATCHES,
        better="lower",
        trend=0.20,
        bands=_VALUE_LOSS_BANDS,
    )
    entropy: float | None = _metric(
        "entropy of the policy, +H (thresholds are for discrete actions)",
        unit="nats",
        over=MINIBATCHES,
        trend=0.08,
        bands=Bands(warning=(at_most(0.3),), critical=(at_most(0.1),)),
    )
    entropy_coef: float | None = _metric("entropy coefficient in force")
    learning_rate: float | None = _metric("learning rate in force")
    vf_coef: float | None = _metric("value-loss coefficient in force")
    clip_range: float | None = _metric("policy clip range in force")

    kl_divergence: float | None = _metric(
        "KL(old ‖ new), k3 estimator, ≥ 0",
        unit="nats",
        over=MINIBATCHES,
        trend=0.30,
        bands=Bands(warning=(above(0.015),), critical=(above(0.03),)),
    )
    clip_fraction: float | None = _metric(
        "share of samples with abs(ratio − 1) > clip range",
        over=MINIBATCHES,
        trend=0.30,
        bands=Bands(warning=(at_least(0.25),), critical=(at_least(0.30),)),
    )
    clip_fraction_positive: float | None = _metric(
        "share of samples with ratio > 1 + clip range",
        over=MINIBATCHES,
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(warning=(at_least(0.30),), critical=(at_least(0.50),)),
    )
    clip_fraction_negative: float | None = _metric(
        "share of samples with ratio < 1 − clip range",
        over=MINIBATCHES,
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(warning=(at_least(0.15),), critical=(at_least(0.30),)),
    )
    ratio_mean: float | None = _metric(
        "importance ratio new/old, mean", over=MINIBATCHES, trend=DEFAULT_TREND_THRESHOLD
    )
    ratio_min: float | None = _metric(
        "importance ratio, smallest",
        over="all minibatches (minimum)",
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(warning=(below(0.5),), critical=(below(0.3),)),
    )
    ratio_max: float | None = _metric(
        "importance ratio, largest",
        over="all minibatches (maximum)",
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(warning=(above(1.5),), critical=(above(2.0),)),
    )
    ratio_std: float | None = _metric(
        "importance ratio, standard deviation", over=MINIBATCHES, trend=DEFAULT_TREND_THRESHOLD
    )
    log_prob_min: float | None = _metric(
        "smallest log-probability of a taken action, ≤ 0 for discrete actions",
        unit="nats",
        over="all minibatches (minimum)",
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(warning=(at_most(-50.0),), critical=(at_most(-100.0),)),
    )
    log_prob_max: float | None = _metric(
        "largest log-probability of a taken action",
        unit="nats",
        over="all minibatches (maximum)",
        trend=DEFAULT_TREND_THRESHOLD,
    )

    pre_clip_grad_norm: float | None = _metric(
        "global L2 norm of the gradient before clipping",
        over=MINIBATCHES,
        trend=0.25,
        bands=Bands(warning=(above(5.0),), critical=(above(10.0),)),
    )
    grad_norm: float | None = _metric("global L2 norm of the gradient after clipping", over=MINIBATCHES, trend=0.25)
    nan_grad_count: int | None = _metric(
        "NaN elements of the gradient; null when not counted",
        "int64",
        unit="elements",
        over="all minibatches (sum)",
        bands=Bands(warning=(at_least(1),), critical=(above(5),)),
    )
    inf_grad_count: int | None = _metric(
        "infinite elements of the gradient; null when not counted",
        "int64",
        unit="elements",
        over="all minibatches (sum)",
        bands=Bands(warning=(at_least(1),), critical=(above(5),)),
    )

    explained_variance: float | None = _metric(
        "1 − Var(G − V) / Var(G); null when Var(G) is about 0",
        over=ROLLOUT,
        better="higher",
        trend=0.15,
        bands=Bands(warning=(at_most(0.3),), critical=(below(0.0),), nonfinite="unknown"),
    )
    value_nrmse: float | None = _metric(
        "RMSE(V, G) / std(G); null when std(G) is about 0",
        over=ROLLOUT,
        better="lower",
        trend=DEFAULT_TREND_THRESHOLD,
    )
    v_return_correlation: float | None = _metric(
        "Pearson correlation of V and G; null when either is constant",
        over=ROLLOUT,
        better="higher",
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(warning=(below(0.5),), critical=(below(0.3),), nonfinite="unknown"),
    )
    value_mean: float | None = _metric("V(s), mean", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    value_std: float | None = _metric(
        "V(s), standard deviation",
        over=ROLLOUT,
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(critical=(below(0.01),), only_if=Spread("value_min", "value_max", 0.1)),
    )
    value_min: float | None = _metric("V(s), smallest", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    value_max: float | None = _metric("V(s), largest", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    return_mean: float | None = _metric("return G, mean", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    return_std: float | None = _metric("return G, standard deviation", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    return_p10: float | None = _metric("return G, 10th percentile", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    return_p50: float | None = _metric("return G, median", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    return_p90: float | None = _metric("return G, 90th percentile", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD)
    advantage_mean: float | None = _metric(
        "advantage before normalisation, mean", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD
    )
    advantage_std: float | None = _metric(
        "advantage before normalisation, standard deviation",
        over=ROLLOUT,
        trend=DEFAULT_TREND_THRESHOLD,
        bands=Bands(critical=(at_most(0.1),)),
    )
    advantage_skewness: float | None = _metric(
        "advantage before normalisation, skewness", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD
    )
    advantage_positive_ratio: float | None = _metric(
        "share of samples with a positive advantage", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD
    )
    td_error_mean: float | None = _metric(
        "one-step TD error on the raw return scale, mean", over=ROLLOUT, trend=DEFAULT_TREND_THRESHOLD
    )
    td_error_std: float | None = _metric(
        "one-step TD error on the raw return scale, standard deviation",
        over=ROLLOUT,
        trend=DEFAULT_TREND_THRESHOLD,
    )
    bellman_error: float | None = _metric(
        "mean absolute TD error on the raw return scale, ≥ 0",
        over=ROLLOUT,
        better="lower",
        trend=DEFAULT_TREND_THRESHOLD,
    )
    value_target_scale: float | None = _metric("what value targets were divided by; 1.0 if they were not")

    episode_return_mean: float | None = _metric(
        "undiscounted return of episodes that ended in this rollout; null if none ended",
        over="episodes ended in the rollout",
        better="higher",
        trend=0.15,
    )
    episode_length_mean: float | None = _metric(
        "length of episodes that ended in this rollout; null if none ended",
        unit="steps",
        over="episodes ended in the rollout",
        trend=DEFAULT_TREND_THRESHOLD,
    )
    episodes: int | None = _metric("episodes that ended in this rollout", "int64", unit="episodes")

    epochs_run: int | None = _metric("epochs executed", "int32", unit="epochs")
    minibatches: int | None = _metric("minibatches executed", "int32", unit="minibatches")
    samples: int | None = _metric("valid samples in the rollout", "int64", unit="samples")
    early_stop_epoch: int | None = _metric("epoch at which KL stopped the update; null if none did", "int32")
    skipped: bool | None = _metric(
        "the update was skipped or rolled back; three in a row are critical",
        "bool",
        bands=Bands(warning=(at_least(1),)),
    )
    skip_reason: int | None = _metric(
        "why it was skipped: " + ", ".join(f"{code} {meaning}" for code, meaning in SKIP_REASONS.items()),
        "int32",
    )
    amp_loss_scale: float | None = _metric("mixed-precision loss scale in force")
    amp_overflow: bool | None = _metric("mixed precision overflowed in this update", "bool")

    update_secs: float | None = _metric("duration of the update", unit="s", trend=DEFAULT_TREND_THRESHOLD)
    rollout_secs: float | None = _metric("duration of the rollout", unit="s", trend=DEFAULT_TREND_THRESHOLD)
    gpu_memory_allocated_bytes: int | None = _metric("GPU memory allocated at the end", "int64", unit="B")
    gpu_memory_reserved_bytes: int | None = _metric("GPU memory reserved at the end", "int64", unit="B")
    gpu_memory_peak_bytes: int | None = _metric("peak GPU memory allocated in the update", "int64", unit="B")

    extras: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        validate(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Everything that was measured, extras included, in the order of the metrics table."""
        measured = {name: value for name in METRICS if (value := getattr(self, name)) is not None}
        return measured | merge_extras(measured, self.extras or {})


def _complete(declared: Any) -> Metric:
    dtype, description, unit, over, better, trend, bands, required = declared.metadata["metric"]
    return Metric(
        name=declared.name,
        dtype=dtype,
        description=description,
        unit=unit,
        averaged_over=over,
        better=better,
        trend_threshold=trend,
        bands=bands,
        required=required,
    )


METRICS: dict[str, Metric] = {f.name: _complete(f) for f in fields(PPOUpdatePayload) if "metric" in f.metadata}
"""Every metric of the table by name, in column order."""


REQUIRED = tuple(name for name, metric in METRICS.items() if metric.required and name != "update")
"""Metrics that every update must carry unless it was skipped; `update` itself is always required."""


def merge_extras(metrics: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """Extras that are not None, refusing names that are columns already.

    Raises:
        PayloadError: the name is no string, empty, longer than 255 bytes, not printable, or taken.
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
    """The measured values as plain Python numbers, ready to store; None means absent.

    Args:
        values: name → value for metrics of the table and for extras.
        arriving: Names whose values are still on their way from a device, and count as given.

    Raises:
        PayloadError: a value does not fit its column, or a required one is missing.
    """
    plain = {name: coerce(name, dtype_of(name), value) for name, value in values.items() if value is not None}
    for name in plain.keys() - METRICS.keys():
        check_extra_name(name)
    if not plain.get("skipped"):
        for name in REQUIRED:
            if name not in plain and name not in arriving:
                raise PayloadError(f"{name}=… is missing; if the update was skipped, say skipped=True, skip_reason=…")
    if "update" not in plain and "update" not in arriving:
        raise PayloadError("update=… is missing: every record needs the index of its PPO update")
    if plain.get("skip_reason", 0) not in SKIP_REASONS:
        raise PayloadError(f"skip_reason must be one of {SKIP_REASONS}, found {plain['skip_reason']}")
    return plain
