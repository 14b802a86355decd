"""The rules of judgement: which metrics and signals are watched, beyond which bounds, for how long, and why.

A rule compares a number with bands, as the metrics table does. An alert needs several updates beyond a bound, and
ends only after several updates within it, so that a number near its threshold does not flap. A rule answers one of
three questions, or none: do the mechanics work, does the critic explain what can be explained, does the outcome
improve? Its `gives` says how much an alert contributes to the answer. What a rule needs to be judged is stated, too, so
that readers see what was not looked at. The benchmark (notebooks/benchmark) says where the bounds come from and how
they fare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import polars as pl

from esper_analyzer.judging import signals, steps
from esper_analyzer.judging.course import CRITIC_FLOOR, LEARNING_UPDATES
from esper_analyzer.judging.watched import (
    USUAL,
    Signal,
    bandit_unrisen,
    fall_for_good,
    of_column,
    of_one_row,
    policy_unmoved,
    stalled,
    stalled_unexplained,
    uncontradicted,
    unexplained_unrisen,
    unmoved_though_lengths_differ,
)
from esper_analyzer.wording import compact
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.metrics import Bands, Level, above, at_least, at_most, below
from esper_schemas.metric.payload import METRICS

Question = Literal["mechanics", "critic", "learning"]

QUESTIONS: dict[Question, str] = {
    "mechanics": "Are the numbers finite, are updates applied, are steps of sane size?",
    "critic": "Does the critic explain what can be explained?",
    "learning": "Does the outcome rise, hold, fall, or not move?",
}
"""The questions of a verdict, in their order."""

WARM_UP_UPDATES = 10
"""Thresholds apply after this many updates; losses that are not finite, and skipped updates, count at once."""

NOTHING: tuple[Level, Level] = ("healthy", "healthy")
SYMPTOM: tuple[Level, Level] = ("healthy", "warning")
WARNS: tuple[Level, Level] = ("warning", "warning")
DECISIVE: tuple[Level, Level] = ("warning", "critical")
"""What a warning alert and a critical alert contribute to the verdict; see `Rule.gives`."""


_SUSTAINED = (8, 10)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _count(value: float) -> str:
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One number that is watched.

    Attributes:
        name: unique name of the rule.
        metric: the metric or signal that is watched; `metric` of its alerts.
        title: name of the number in a sentence.
        value: the number, of the updates, the columns of the course and `PARTS`.
        bands: where the number is a warning or critical.
        bands_of: the metric or signal whose name a user's settings use for other bands; may be empty.
        question: the question of the verdict that it answers; None if it only raises alerts.
        needs: the columns without which it cannot be judged.
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
    value: Signal
    bands: Bands
    bands_of: str
    meaning: str
    question: Question | None = None
    needs: tuple[str, ...] = ()
    hold: tuple[int, int] = (3, 5)
    clear: int = 5
    gives: tuple[Level, Level] = NOTHING
    from_row: int = WARM_UP_UPDATES
    shown: Callable[[float], str] = field(default=compact)
    sentence: Callable[[float], str] | None = None
    chart: str = ""

    @property
    def is_asked(self) -> bool:
        """Whether it asks anything: it has bounds, or watches whether losses are finite; one waits for a user's."""
        is_of_finite = self.question == "mechanics" and self.bands.nonfinite == "critical"
        return bool(self.bands.warning or self.bands.critical) or is_of_finite


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
            question=_QUESTION_OF.get(metric.group) if metric.symptom else None,
            needs=(name,),
            meaning=metric.meaning,
            gives=SYMPTOM if metric.symptom else NOTHING,
            chart=metric.chart,
        )
        for name, metric in METRICS.items()
        if metric.bands is not None and metric.watched
    ]


_QUESTION_OF: dict[str, Question] = {"critic": "critic", "policy": "mechanics", "gradients": "mechanics"}
"""The question that a symptom belongs to, by the group of its metric."""


def _value(name: str) -> Signal:
    """Return a metric where its bands apply, else null."""
    if name == "entropy":
        return of_column("_entropy")
    if name == "explained_variance":
        return of_column("explained")
    spread = _bands(name).only_if
    if spread is None:
        return of_column(name)
    low, high, bound = spread.low, spread.high, spread.bound

    def step(row: steps.Row) -> float | None:
        lowest, highest = row[low], row[high]
        return row[name] if lowest is not None and highest is not None and highest - lowest < bound else None

    return of_one_row(pl.when(pl.col(high) - pl.col(low) < bound).then(pl.col(name)), step)


def _bands(name: str) -> Bands:
    bands = METRICS[name].bands
    assert bands is not None
    return bands


# ---------------------------------------------------------------------- signals


def _signal(name: str, title: str, value: Signal, bands: Bands, meaning: str, **more: object) -> Rule:
    return Rule(name=name, metric=name, title=title, value=value, bands=bands, bands_of=name, meaning=meaning, **more)  # type: ignore[arg-type]


def _mechanics_rules() -> list[Rule]:
    """Make the rules on losses that are impossible, exactly zero or exploding, and on skipped updates."""
    return [
        Rule(
            name="impossible_value_loss",
            metric="value_loss",
            title=METRICS["value_loss"].title,
            value=of_column("value_loss"),
            bands=Bands(critical=(below(0.0),)),
            bands_of="",
            question="mechanics",
            needs=("value_loss",),
            hold=(1, 1),
            clear=10,
            gives=DECISIVE,
            from_row=0,
            meaning="A squared error cannot be negative, NaN or infinite; look at what moved in the updates before.",
        ),
        Rule(
            name="policy_loss",
            metric="policy_loss",
            title=METRICS["policy_loss"].title,
            value=of_column("policy_loss"),
            bands=_bands("policy_loss"),
            bands_of="policy_loss",
            question="mechanics",
            needs=("policy_loss",),
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
            value=Signal(signals.skipped_of_three(), steps.SkippedOfThree),
            bands=Bands(warning=(at_least(1),), critical=(at_least(3),)),
            bands_of="",
            question="mechanics",
            hold=(1, 1),
            clear=10,
            gives=DECISIVE,
            from_row=0,
            meaning=METRICS["skipped"].meaning,
            chart=METRICS["skipped"].chart,
        ),
        _signal(
            "losses_are_zero",
            "Both losses",
            of_one_row(
                signals.losses_are_zero(pl.col("past_value_loss"), pl.col("newest_value_loss")), steps.losses_are_zero
            ),
            Bands(critical=(at_least(1.0),), nonfinite="unknown"),
            "Nothing is trained: usually no sample is valid, by a mask or a filter that is always false.",
            question="mechanics",
            needs=("value_loss", "policy_loss"),
            hold=(3, 3),
            clear=3,
            gives=DECISIVE,
            from_row=0,
            sentence=lambda _: "Value loss and policy loss are exactly 0",
            chart="value_loss",
        ),
        _signal(
            "explosion",
            "The value loss, above its highest level so far,",
            of_one_row(signals.explosion(pl.col("past_value_loss")), steps.explosion),
            Bands(warning=(above(2.0),), critical=(above(3.0),), nonfinite="unknown"),
            "It grows by decades; look at the black box, the learning rate, the rewards and the value targets.",
            question="mechanics",
            needs=("value_loss",),
            hold=(2, 3),
            clear=10,
            gives=DECISIVE,
            from_row=0,
            shown=lambda decades: f"10^{decades:.1f}-fold",
            chart="value_loss",
        ),
        _signal(
            "policy_unmoved",
            "Updates in which the policy has not moved from where it began",
            policy_unmoved(),
            Bands(warning=(at_least(20),), critical=(at_least(40),), nonfinite="unknown"),
            "Nothing that is learned reaches it; look at its optimiser, its learning rate, the clip, the"
            " entropy bonus and its gradients.",
            question="mechanics",
            needs=("kl_divergence", "entropy"),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: f"In {_count(count)} updates the policy has not moved from where it began",
            chart="kl_divergence",
        ),
        _signal(
            "clipped_in_bulk",
            "The share of samples just beyond the clip, and none far beyond,",
            of_one_row(signals.clipped_in_bulk(), steps.clipped_in_bulk),
            Bands(critical=(at_least(0.2),), nonfinite="unknown"),
            "Usually the rollout is of an older policy than the log-probabilities say; look at how they are stored.",
            question="mechanics",
            needs=("ratio_max", "clip_range", "clip_fraction"),
            hold=_SUSTAINED,
            clear=10,
            gives=WARNS,
            shown=_percent,
            chart="clip_fraction",
        ),
    ]


def _critic_rules() -> list[Rule]:
    """Make the rules on whether the critic learns; they wait until a sound critic has had time to learn."""
    return [
        _signal(
            "explains_nothing",
            "The critic explains nothing, and the outcome has not risen: explained variance, where returns vary,",
            uncontradicted(),
            Bands(critical=(at_most(0.035),), nonfinite="unknown"),
            "The critic predicts no better than the mean return, and the policy learns nothing from it; look at its"
            " learning rate, gradients and targets.",
            question="critic",
            needs=("explained_variance",),
            hold=(10, 10),
            clear=10,
            gives=DECISIVE,
            from_row=LEARNING_UPDATES,
            chart="explained_variance",
        ),
        _signal(
            "unexplained_for_long",
            "The critic has explained hardly anything for 40 updates without a rise of the return: explained variance",
            unexplained_unrisen(),
            Bands(critical=(at_most(0.1),), nonfinite="unknown"),
            "The critic predicts no better than the mean return, and the policy learns nothing from it; look at its"
            " learning rate, gradients and targets.",
            question="critic",
            needs=("explained_variance", "episode_return_mean"),
            hold=(40, 40),
            clear=10,
            gives=DECISIVE,
            from_row=LEARNING_UPDATES,
            chart="explained_variance",
        ),
        _signal(
            "explained_where_varied",
            "Explained variance, where returns vary,",
            of_column("explained"),
            Bands(warning=(at_most(0.3),), critical=(at_most(0.1),), nonfinite="unknown"),
            "The critic predicts hardly better than the mean return, or worse; look at its learning rate, gradients and"
            " targets.",
            question="critic",
            needs=("explained_variance",),
            hold=_SUSTAINED,
            clear=10,
            gives=SYMPTOM,
            from_row=LEARNING_UPDATES,
            chart="explained_variance",
        ),
        _signal(
            "critic_below_floor",
            f"The evidence that explained variance stays below {CRITIC_FLOOR:g} where returns vary",
            of_column("below_floor"),
            Bands(warning=(at_least(5.0),), nonfinite="unknown"),
            "A sound critic at the floor looks so once in 100,000 updates, on average; look at its targets.",
            question="critic",
            needs=("explained_variance",),
            hold=(1, 1),
            clear=10,
            gives=WARNS,
            from_row=LEARNING_UPDATES,
            shown=lambda decades: f"10^{decades:.1f} to 1",
            chart="explained_variance",
        ),
        _signal(
            "critic_error",
            "The critic's squared error, relative to the variance of its targets,",
            of_one_row(signals.critic_error(USUAL), steps.critic_error),
            Bands(warning=(above(1.0),), critical=(above(2.0),), nonfinite="unknown"),
            "Above 100 % it is worse than predicting the mean return; look at its learning rate and the reward scale.",
            question="critic",
            needs=("return_std",),
            hold=_SUSTAINED,
            clear=10,
            gives=SYMPTOM,
            from_row=LEARNING_UPDATES,
            shown=_percent,
            chart="value_loss",
        ),
        _signal(
            "value_spread",
            "The spread of the critic's predictions, relative to that of the returns,",
            of_column("_spread"),
            Bands(warning=(below(0.05),), critical=(below(0.02),), nonfinite="unknown"),
            "The critic says nearly the same of every state; look whether it gets gradients, and at its learning rate.",
            question="critic",
            needs=("value_std", "return_std"),
            hold=_SUSTAINED,
            clear=10,
            gives=SYMPTOM,
            shown=_percent,
            chart="value_std",
        ),
        Rule(
            name="value_loss_bounds",
            metric="value_loss",
            title=METRICS["value_loss"].title,
            value=of_column("_loss"),
            bands=Bands(nonfinite="unknown"),  # its scale is that of the rewards, which only the user knows
            bands_of="value_loss",
            question="critic",
            needs=("value_loss",),
            hold=_SUSTAINED,
            clear=10,
            gives=DECISIVE,
            meaning=METRICS["value_loss"].meaning,
        ),
        _signal(
            "value_collapse",
            "The loss falls while the spread of the predictions is below its maximum by",
            Signal(signals.value_collapse(pl.col("_loss_median"), pl.col("_spread_median")), steps.ValueCollapse),
            Bands(warning=(above(0.8),), nonfinite="unknown"),
            "Unless the returns have become alike, the critic shrinks to one number; look at explained variance.",
            needs=("value_std", "return_std"),
            hold=_SUSTAINED,
            clear=10,
            shown=_percent,
            sentence=lambda share: f"The loss falls while the predictions spread {_percent(share)} less than they did",
            chart="value_std",
        ),
        _signal(
            "unexplained_fall",
            "The fall of the value loss, while explained variance did not rise,",
            Signal(
                signals.unexplained_fall(pl.col("_loss_median"), pl.col("_explained_median")), steps.UnexplainedFall
            ),
            Bands(warning=(above(0.5),), nonfinite="unknown"),
            "The loss falls for another reason than learning, such as smaller returns; look at return_std.",
            needs=("explained_variance",),
            hold=_SUSTAINED,
            clear=10,
            shown=_percent,
            from_row=30,
            chart="explained_variance",
        ),
    ]


def _learning_rules() -> list[Rule]:
    """Make the rules on the outcome. Most of their numbers are of many updates, so that one row is enough."""
    return [
        _signal(
            "return_fall",
            "The part of the return's gain that is lost",
            of_column("return_fall"),
            Bands(warning=(above(0.5),), critical=(above(0.8),), nonfinite="unknown"),
            "The policy was better and has unlearned it; look at what moved first: KL, entropy, gradients, losses.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_percent,
            chart="episode_return_mean",
        ),
        _signal(
            "fall_for_good",
            "The part of the return's gain that is lost, under a policy without entropy,",
            fall_for_good(),
            Bands(warning=(above(0.1),), critical=(above(0.15),), nonfinite="unknown"),
            "The policy was better and tries nothing else now; raise the entropy coefficient, or lower the rate.",
            question="learning",
            needs=("episode_return_mean", "entropy"),
            hold=(10, 10),
            gives=DECISIVE,
            shown=_percent,
            chart="episode_return_mean",
        ),
        _signal(
            "return_below_start",
            "The fall of the episode return below its lowest at the start",
            of_column("return_below_start"),
            Bands(warning=(above(0.2),), critical=(above(0.5),), nonfinite="unknown"),
            "Learning makes it worse; look at advantages, at how episode ends are handled, and at the sign of rewards.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_percent,
            chart="episode_return_mean",
        ),
        _signal(
            "return_stalled",
            "Updates in which the return has not risen beyond its noise",
            stalled(),
            Bands(warning=(at_least(60),), critical=(at_least(200),), nonfinite="unknown"),
            "The policy does not learn; look whether its gradients arrive, at advantages, and at stored actions.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: f"In {_count(count)} updates the return has not risen beyond its noise",
            chart="episode_return_mean",
        ),
        _signal(
            "stalled_unexplained",
            "Updates in which the return has not risen, under a critic that explains less than half",
            stalled_unexplained(),
            Bands(critical=(at_least(100),), nonfinite="unknown"),
            "Neither policy nor critic learns; look at what both get: observations, actions, rewards and episode ends.",
            question="learning",
            needs=("episode_return_mean", "explained_variance"),
            hold=(10, 10),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: (
                f"In {_count(count)} updates the return has not risen beyond its noise,"
                " and the critic explains less than half of it"
            ),
            chart="episode_return_mean",
        ),
        _signal(
            "return_unmoved",
            "Updates in all of which the return was the same",
            of_column("return_unmoved"),
            Bands(warning=(at_least(60),), nonfinite="unknown"),
            "There is nothing to learn from, unless no episode has reached its goal yet; look at the rewards.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: f"The return was exactly the same in {_count(count)} updates",
            chart="episode_return_mean",
        ),
        _signal(
            "policy_wanders",
            "The way of the policy, √(2·KL) of each update added up, while the return did not rise,",
            of_column("path_unrisen"),
            Bands(warning=(above(8.0),), critical=(above(14.0),), nonfinite="unknown"),
            "It moves, and learns nothing; look at advantages, stored actions, rewards, and the learning rate.",
            question="learning",
            needs=("episode_return_mean", "kl_divergence"),
            hold=(1, 1),
            gives=DECISIVE,
            from_row=LEARNING_UPDATES,
            chart="kl_divergence",
        ),
        _signal(
            "bandit_unrisen",
            "Updates of episodes of one step in which the return has not risen beyond its noise",
            bandit_unrisen(),
            Bands(warning=(at_least(30),), critical=(at_least(40),), nonfinite="unknown"),
            "Each action is paid at once, and still nothing is learned; look at advantages, and at stored actions.",
            question="learning",
            needs=("episode_return_mean", "episode_length_mean", "entropy"),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: (
                f"In {_count(count)} updates of episodes of one step the return has not risen beyond its noise"
            ),
            chart="episode_return_mean",
        ),
        _signal(
            "return_at_lowest",
            "Updates one after another in which the return was at its lowest",
            of_column("return_at_lowest"),
            Bands(warning=(at_least(60),), critical=(at_least(80),), nonfinite="unknown"),
            "The policy was better by chance and is stuck; look at entropy, at the rewards, and at episode ends.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: f"In the last {_count(count)} updates the return was at its lowest so far",
            chart="episode_return_mean",
        ),
        _signal(
            "return_ignores_policy",
            "Updates in all of which the return was the same, though episodes were of different lengths",
            unmoved_though_lengths_differ(),
            Bands(critical=(at_least(200),), nonfinite="unknown"),
            "Whatever is done, nothing is earned; look whether rewards arrive, and whether a goal can be reached.",
            question="learning",
            needs=("episode_return_mean", "episode_length_mean"),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: (
                f"The return was exactly the same in {_count(count)} updates, though episodes differed in length"
            ),
            chart="episode_return_mean",
        ),
        _signal(
            "entropy_at_ceiling",
            "Updates in which entropy stayed at its highest and the return did not rise",
            of_column("entropy_at_ceiling"),
            Bands(warning=(at_least(50),), critical=(at_least(100),), nonfinite="unknown"),
            "The policy stays random; look at the entropy coefficient, and whether its gradients arrive.",
            question="learning",
            needs=("episode_return_mean", "entropy"),
            hold=(1, 1),
            gives=DECISIVE,
            shown=_count,
            sentence=lambda count: (
                f"In {_count(count)} updates entropy has stayed at its highest, and the return has not risen"
            ),
            chart="entropy",
        ),
        _signal(
            "return_below_first",
            "The fall of the episode return below its first values, under episodes that are no longer,",
            of_column("return_below_first"),
            Bands(warning=(above(0.25),), critical=(above(0.4),), nonfinite="unknown"),
            "It was better before it learned; look at advantages, at episode ends, and at the sign of rewards.",
            question="learning",
            needs=("episode_return_mean", "episode_length_mean"),
            hold=(10, 10),
            gives=DECISIVE,
            shown=_percent,
            chart="episode_return_mean",
        ),
        _signal(
            "entropy_collapse_risk",
            "The risk that entropy collapses within 20 updates",
            Signal(signals.entropy_collapse_risk(pl.col("_mean_entropy")), steps.CollapseRisk),
            Bands(warning=(at_least(0.9),), nonfinite="unknown"),
            "Unless the task is nearly solved, raise the entropy coefficient or lower the learning rate.",
            needs=("entropy",),
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
            Signal(
                signals.spike_score("value_loss", pl.col("_loss"), pl.col("_loss_before")),
                lambda: steps.SpikeScore("_loss", "_loss_before"),
            ),
            Bands(warning=(above(20.0),), nonfinite="unknown"),
            "One rollout was very unlike those before it; look at return_std, and at the environment.",
            needs=("value_loss",),
            hold=(1, 1),
            from_row=30,
            chart="value_loss",
        ),
        _signal(
            "value_loss_plateau",
            "The range of the value loss over 50 updates, relative to its median,",
            Signal(
                signals.plateau("value_loss", pl.col("_loss"), pl.col("_loss_before")),
                lambda: steps.Plateau("_loss", "_loss_before"),
            ),
            Bands(warning=(below(0.01),), nonfinite="unknown"),
            "It does not move at all; look whether the critic is trained, and whether its loss is recorded anew.",
            needs=("value_loss",),
            shown=_percent,
            chart="value_loss",
        ),
        _signal(
            "loss_ratio_drift",
            "Lv/Lp, medians of 10 updates, relative to that of updates 10 to 29,",
            Signal(
                signals.loss_ratio_drift(pl.col("_loss_median"), pl.col("loss_ratio_baseline")), steps.LossRatioDrift
            ),
            Bands(warning=(below(0.01), above(100.0)), nonfinite="unknown"),
            "The losses have drifted apart since the run began; look at the scale of the returns.",
            needs=("value_loss", "policy_loss"),
            hold=_SUSTAINED,
            clear=10,
            chart=LOSS_RATIO,
        ),
    ]


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (*_mechanics_rules(), *_learning_rules(), *_critic_rules(), *_course_rules(), *_table_rules())
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
