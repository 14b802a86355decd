"""The rules of judgement: which metrics and signals are watched, beyond which bounds, for how long, and why.

A rule compares a number with bands, as the metrics table does. An alert needs several updates beyond a bound, and
ends only after several updates within it, so that a number near its threshold does not flap. A rule answers one of
three questions, or none: do the mechanics work, does the critic explain what can be explained, does the outcome
improve? Its `gives` says how much an alert contributes to the answer. What a rule needs to be judged is stated, too, so
that readers see what was not looked at. The benchmark (notebooks/benchmark) says where the bounds come from and how
they fare.
"""

from __future__ import annotations

from esper_analyzer.judging import signals
from esper_analyzer.judging.rules.critic import critic_rules
from esper_analyzer.judging.rules.learning import learning_rules
from esper_analyzer.judging.rules.losses import loss_rules
from esper_analyzer.judging.rules.mechanics import mechanics_rules
from esper_analyzer.judging.rules.metrics import metric_rules
from esper_analyzer.judging.rules.rule import Rule
from esper_schemas.metric.payload import METRICS

RULES: dict[str, Rule] = {
    rule.name: rule for rule in (*mechanics_rules(), *learning_rules(), *critic_rules(), *loss_rules(), *metric_rules())
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
