"""The rules of judgement: which metrics and signals are watched, beyond which bounds, for how long, and why.

A rule compares a number with bands, as the metrics table does. An alert needs several updates beyond a bound, and
ends only after several updates within it, so that a number near its threshold does not flap. The rule's `gives` says
how much an alert contributes to the verdict. The numbers were tuned on one half of the calibration study
(notebooks/calibration) and are reported on the other half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import polars as pl

from esper_analyzer.judging import signals
from esper_analyzer.judging.baselines import LOSS_RATIO_BASELINE, RETURN_SIZE, RETURN_START, USUAL_RETURN_STD
from esper_analyzer.wording import compact
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.metrics import Bands, Level, above, at_least, at_most, below
from esper_schemas.metric.payload import METRICS

WARM_UP_UPDATES = 10
"""Thresholds apply after this many updates; losses that are not finite, and skipped updates, count at once."""

LEARNING_UPDATES = 28
"""A critic has this many updates to learn before it is judged by what it explains."""

NOTHING: tuple[Level, Level] = ("healthy", "healthy")
SYMPTOM: tuple[Level, Level] = ("healthy", "warning")
DECISIVE: tuple[Level, Level] = ("warning", "critical")
"""What a warning alert and a critical alert contribute to the verdict; see `Rule.gives`."""


_SUSTAINED = (8, 10)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


_LOSS, _LOSS_MEDIAN, _LOSS_BEFORE = pl.col("_loss"), pl.col("_loss_median"), pl.col("_loss_before")
_EXPLAINED, _EXPLAINED_MEDIAN = pl.col("_explained"), pl.col("_explained_median")
_SPREAD, _SPREAD_MEDIAN = pl.col("_spread"), pl.col("_spread_median")
_ENTROPY, _MEAN_ENTROPY = pl.col("_entropy"), pl.col("_mean_entropy")

PARTS = (
    {
        "_loss": signals.finite("value_loss"),
        "_explained": signals.explained_where_varied(USUAL_RETURN_STD),
        "_spread": signals.value_spread(),
        "_entropy": signals.discrete_entropy(),
    },
    {
        "_loss_median": signals.median_of(_LOSS),
        "_loss_before": signals.median_before("value_loss", _LOSS),
        "_explained_median": signals.median_of(_EXPLAINED),
        "_spread_median": signals.median_of(_SPREAD),
        "_mean_entropy": signals.mean_entropy(_ENTROPY),
    },
)
"""Columns that several values are made from; they are added first, in two steps, so that each is computed once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One number that is watched.

    Attributes:
        name: unique name of the rule.
        metric: the metric or signal that is watched; `metric` of its alerts.
        title: name of the number in a sentence.
        value: the number, an expression over the updates, the baselines and `PARTS`.
        bands: where the number is a warning or critical.
        bands_of: the metric or signal whose name a user's settings use for other bands; may be empty.
        hold: (k, n): an alert needs k of the last n updates beyond the bound, including the newest.
        clear: the alert ends after this many consecutive updates within the bound.
        gives: the levels that a warning and a critical alert contribute to the verdict.
        from_row: first row of the run (from 0) that counts; values that are not finite also count before it.
        meaning: what it usually means and what to look at next, in a sentence or two.
        shown: formats a value.
        sentence: describes a value, without full stop, if "title is value (bound)" does not fit.
        chart: the metric whose chart to look at, if that is not `metric`; else empty.
    """

    name: str
    metric: str
    title: str
    value: pl.Expr
    bands: Bands
    bands_of: str
    meaning: str
    hold: tuple[int, int] = (3, 5)
    clear: int = 5
    gives: tuple[Level, Level] = NOTHING
    from_row: int = WARM_UP_UPDATES
    shown: Callable[[float], str] = field(default=compact)
    sentence: Callable[[float], str] | None = None
    chart: str = ""


# ---------------------------------------------------------------------- metrics of the table


def _table_rules() -> list[Rule]:
    """Make a rule for each metric that is watched by its thresholds in the table."""
    return [
        Rule(
            name=name,
            metric=name,
            title=metric.title,
            value=_value(name),
            bands=replace(metric.bands, only_if=None),
            bands_of=name,
            meaning=metric.meaning,
            gives=SYMPTOM if metric.symptom else NOTHING,
            chart=metric.chart,
        )
        for name, metric in METRICS.items()
        if metric.bands is not None and metric.watched
    ]


def _value(name: str) -> pl.Expr:
    """Return a metric where its bands apply, else null."""
    if name == "entropy":
        return _ENTROPY
    if name == "explained_variance":
        return _EXPLAINED
    spread = _bands(name).only_if
    value = pl.col(name)
    return pl.when(pl.col(spread.high) - pl.col(spread.low) < spread.bound).then(value) if spread else value


def _bands(name: str) -> Bands:
    bands = METRICS[name].bands
    assert bands is not None
    return bands


# ---------------------------------------------------------------------- signals


def _signal(name: str, title: str, value: pl.Expr, bands: Bands, meaning: str, **more: object) -> Rule:
    return Rule(name=name, metric=name, title=title, value=value, bands=bands, bands_of=name, meaning=meaning, **more)  # type: ignore[arg-type]


def _loss_rules() -> list[Rule]:
    """Make the rules on impossible losses and on skipped updates, which count at once."""
    return [
        Rule(
            name="impossible_value_loss",
            metric="value_loss",
            title=METRICS["value_loss"].title,
            value=pl.col("value_loss"),
            bands=Bands(critical=(below(0.0),)),
            bands_of="",
            hold=(1, 1),
            clear=10,
            gives=DECISIVE,
            from_row=0,
            meaning="A squared error cannot be negative, NaN or infinite; look at the update before it.",
        ),
        Rule(
            name="policy_loss",
            metric="policy_loss",
            title=METRICS["policy_loss"].title,
            value=pl.col("policy_loss"),
            bands=_bands("policy_loss"),
            bands_of="policy_loss",
            hold=(1, 1),
            clear=10,
            gives=DECISIVE,
            meaning=METRICS["policy_loss"].meaning,
        ),
        Rule(
            name="skipped",
            metric="skipped",
            title="Skipped updates of the last three",
            sentence=lambda count: "Three updates in a row were skipped" if count >= 3 else "An update was skipped",
            value=signals.skipped_of_three(),
            bands=Bands(warning=(at_least(1),), critical=(at_least(3),)),
            bands_of="",
            hold=(1, 1),
            clear=10,
            gives=DECISIVE,
            from_row=0,
            meaning=METRICS["skipped"].meaning,
            chart=METRICS["skipped"].chart,
        ),
    ]


def _critic_rules() -> list[Rule]:
    """Make the rules on whether the critic learns; they wait until a sound critic has had time to learn."""
    return [
        _signal(
            "explained_where_varied",
            "Explained variance, where returns vary,",
            _EXPLAINED,
            Bands(warning=(at_most(0.3),), critical=(at_most(0.1),), nonfinite="unknown"),
            "The critic predicts hardly better than the mean return, or worse; look at its learning rate, gradients and"
            " targets.",
            hold=_SUSTAINED,
            clear=10,
            gives=DECISIVE,
            from_row=LEARNING_UPDATES,
            chart="explained_variance",
        ),
        _signal(
            "critic_error",
            "The critic's squared error, relative to the variance of its targets,",
            signals.critic_error(USUAL_RETURN_STD),
            Bands(warning=(above(1.0),), critical=(above(2.0),), nonfinite="unknown"),
            "Above 100 % it is worse than predicting the mean return; look at its learning rate and the reward scale.",
            hold=_SUSTAINED,
            clear=10,
            gives=DECISIVE,
            from_row=LEARNING_UPDATES,
            shown=_percent,
            chart="value_loss",
        ),
        _signal(
            "value_spread",
            "The spread of the critic's predictions, relative to that of the returns,",
            _SPREAD,
            Bands(warning=(below(0.05),), critical=(below(0.02),), nonfinite="unknown"),
            "The critic says nearly the same of every state; look whether it gets gradients, and at its learning rate.",
            hold=_SUSTAINED,
            clear=10,
            gives=DECISIVE,
            shown=_percent,
            chart="value_std",
        ),
        Rule(
            name="unscaled_value_loss",
            metric="value_loss",
            title=METRICS["value_loss"].title,
            value=signals.unscaled_value_loss(_LOSS),
            bands=_bands("value_loss"),
            bands_of="value_loss",
            hold=_SUSTAINED,
            clear=10,
            gives=DECISIVE,
            meaning=METRICS["value_loss"].meaning,
        ),
        _signal(
            "value_collapse",
            "The loss falls while the spread of the predictions is below its maximum by",
            signals.value_collapse(_LOSS_MEDIAN, _SPREAD_MEDIAN),
            Bands(warning=(above(0.8),), nonfinite="unknown"),
            "Unless the returns have become alike, the critic shrinks to one number; look at explained variance.",
            hold=_SUSTAINED,
            clear=10,
            shown=_percent,
            chart="value_std",
        ),
        _signal(
            "unexplained_fall",
            "The fall of the value loss, while explained variance did not rise,",
            signals.unexplained_fall(_LOSS_MEDIAN, _EXPLAINED_MEDIAN),
            Bands(warning=(above(0.5),), nonfinite="unknown"),
            "The loss falls for another reason than learning, such as smaller returns; look at return_std.",
            hold=_SUSTAINED,
            clear=10,
            shown=_percent,
            from_row=30,
            chart="explained_variance",
        ),
    ]


def _policy_rules() -> list[Rule]:
    return [
        _signal(
            "return_below_start",
            "The fall of the episode return below that of the untrained policy",
            signals.return_below_start(RETURN_START, RETURN_SIZE),
            Bands(critical=(above(0.33),), nonfinite="unknown"),
            "Learning makes it worse; look at advantages, at how episode ends are handled, and at the sign of rewards.",
            hold=(18, 20),
            clear=10,
            gives=DECISIVE,
            shown=_percent,
            chart="episode_return_mean",
        ),
        _signal(
            "clipped_in_bulk",
            "The share of samples just beyond the clip, and none far beyond,",
            signals.clipped_in_bulk(),
            Bands(critical=(at_least(0.2),), nonfinite="unknown"),
            "Usually the rollout is of an older policy than the log-probabilities say; look at how they are stored.",
            hold=_SUSTAINED,
            clear=10,
            gives=DECISIVE,
            shown=_percent,
            chart="clip_fraction",
        ),
        _signal(
            "entropy_collapse_risk",
            "The risk that entropy collapses within 20 updates",
            signals.entropy_collapse_risk(_MEAN_ENTROPY),
            Bands(warning=(at_least(0.9),), nonfinite="unknown"),
            "Unless the task is nearly solved, raise the entropy coefficient or lower the learning rate.",
            shown=_percent,
            chart="entropy",
        ),
    ]


def _course_rules() -> list[Rule]:
    """Make the rules on how the losses move; they raise alerts but contribute nothing to the verdict."""
    return [
        _signal(
            "value_loss_spike",
            "The robust z-score of the value loss",
            signals.spike_score("value_loss", _LOSS, _LOSS_BEFORE),
            Bands(warning=(above(20.0),), nonfinite="unknown"),
            "One rollout was very unlike those before it; look at return_std, and at the environment.",
            hold=(1, 1),
            from_row=30,
            chart="value_loss",
        ),
        _signal(
            "value_loss_plateau",
            "The range of the value loss over 50 updates, relative to its median,",
            signals.plateau("value_loss", _LOSS, _LOSS_BEFORE),
            Bands(warning=(below(0.01),), nonfinite="unknown"),
            "It does not move at all; look whether the critic is trained, and whether its loss is recorded anew.",
            shown=_percent,
            chart="value_loss",
        ),
        _signal(
            "loss_ratio_drift",
            "Lv/Lp, medians of 10 updates, relative to that of updates 10 to 29,",
            signals.loss_ratio_drift(_LOSS_MEDIAN, LOSS_RATIO_BASELINE),
            Bands(warning=(below(0.01), above(100.0)), nonfinite="unknown"),
            "The losses have drifted apart since the run began; look at the scale of the returns.",
            hold=_SUSTAINED,
            clear=10,
            chart=LOSS_RATIO,
        ),
    ]


RULES: dict[str, Rule] = {
    rule.name: rule for rule in (*_loss_rules(), *_critic_rules(), *_policy_rules(), *_course_rules(), *_table_rules())
}
"""Every rule by name; those that decide the verdict are first, in the order in which the verdict ranks them."""

SIGNALS = [rule.name for rule in RULES.values() if rule.name == rule.metric and rule.name not in METRICS]
"""Names of the rules that watch a signal, which no trainer records."""

CHART_OF = {metric.name: metric.chart for metric in METRICS.values() if metric.chart} | {
    rule.metric: rule.chart for rule in RULES.values() if rule.chart
}
"""The chart to look at for a metric or signal that has no chart of its own, or whose chart says less."""

INFORMING = {
    "windowed_loss_ratio": signals.windowed_loss_ratio(),
    "entropy_velocity": signals.entropy_velocity(),
    "entropy_clip_correlation": signals.entropy_clip_correlation(),
}
"""Signals that no rule watches, because no bound on them means trouble by itself."""
