"""The rules on the critic: does it explain what can be explained?"""

from __future__ import annotations

import polars as pl

from esper_analyzer.judging import signals, steps
from esper_analyzer.judging.course import CRITIC_FLOOR, LEARNING_UPDATES
from esper_analyzer.judging.reference import LESS
from esper_analyzer.judging.rules.rule import (
    DECISIVE,
    SUSTAINED,
    SYMPTOM,
    WARNS,
    Rule,
    as_count,
    as_percent,
    signal_rule,
)
from esper_analyzer.judging.watched import (
    USUAL,
    Signal,
    of_column,
    of_one_row,
    uncontradicted,
    unexplained_unrisen,
    unless_at_goal,
)
from esper_schemas.metric.catalogue import EPISODE_RETURN, SLIDING_RETURN
from esper_schemas.metric.metrics import Bands, above, at_least, at_most, below
from esper_schemas.metric.payload import METRICS


def critic_rules() -> list[Rule]:
    """Make the rules on whether the critic learns; they wait until a sound critic has had time to learn."""
    return [
        signal_rule(
            "explains_nothing",
            "The critic explains nothing, and the outcome has not risen: explained variance, where returns vary,",
            uncontradicted(),
            Bands(critical=(at_most(0.05),), nonfinite="unknown"),
            "The critic predicts no better than the mean return, and the policy learns nothing from it; look at its"
            " learning rate, gradients and targets.",
            question="critic",
            needs=("explained_variance",),
            needs_one_of=("return_std", "return_mean", EPISODE_RETURN, SLIDING_RETURN),
            hold=(10, 10),
            clear=10,
            gives=DECISIVE,
            from_row=LEARNING_UPDATES,
            chart="explained_variance",
        ),
        signal_rule(
            "unexplained_for_long",
            "The critic has explained hardly anything for 40 updates without a rise of the return: explained variance",
            unexplained_unrisen(),
            Bands(critical=(at_most(0.05),), nonfinite="unknown"),
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
        signal_rule(
            "explained_where_varied",
            "Explained variance, where returns vary,",
            of_column("explained"),
            Bands(warning=(at_most(0.3),), critical=(at_most(0.1),), nonfinite="unknown"),
            "The critic predicts hardly better than the mean return, or worse; look at its learning rate, gradients and"
            " targets.",
            question="critic",
            needs=("explained_variance",),
            hold=SUSTAINED,
            clear=10,
            gives=SYMPTOM,
            from_row=LEARNING_UPDATES,
            chart="explained_variance",
        ),
        signal_rule(
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
        signal_rule(
            "critic_below_reference",
            f"Updates in which the critic explained less than {as_percent(LESS)} of what those of its references did",
            unless_at_goal(of_column("critic_below_reference")),
            Bands(warning=(at_least(15),), critical=(at_least(30),), nonfinite="unknown"),
            "Sound critics had learned this by then; look at the targets, the learning rate and the gradients of this"
            " one.",
            question="critic",
            needs=("explained_variance",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: (
                f"In {as_count(count)} updates the critic explained less than {as_percent(LESS)} of what those of its"
                " references did, and the return did not rise"
            ),
            chart="explained_variance",
        ),
        signal_rule(
            "critic_error",
            "The critic's squared error, relative to the variance of its targets,",
            of_one_row(signals.critic_error(USUAL), steps.critic_error),
            Bands(warning=(above(1.0),), critical=(above(2.0),), nonfinite="unknown"),
            "Above 100 % it is worse than predicting the mean return; look at its learning rate and the reward scale.",
            question="critic",
            needs=("return_std",),
            hold=SUSTAINED,
            clear=10,
            gives=SYMPTOM,
            from_row=LEARNING_UPDATES,
            shown=as_percent,
            chart="value_loss",
        ),
        signal_rule(
            "value_spread",
            "The spread of the critic's predictions, relative to that of the returns,",
            of_column("_spread"),
            Bands(warning=(below(0.05),), critical=(below(0.02),), nonfinite="unknown"),
            "The critic says nearly the same of every state; look whether it gets gradients, and at its learning rate.",
            question="critic",
            needs=("value_std", "return_std"),
            hold=SUSTAINED,
            clear=10,
            gives=SYMPTOM,
            shown=as_percent,
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
            hold=SUSTAINED,
            clear=10,
            gives=DECISIVE,
            meaning=METRICS["value_loss"].meaning,
        ),
        signal_rule(
            "value_collapse",
            "The loss falls while the spread of the predictions is below its maximum by",
            Signal(signals.value_collapse(pl.col("_loss_median"), pl.col("_spread_median")), steps.ValueCollapse),
            Bands(warning=(above(0.8),), nonfinite="unknown"),
            "Unless the returns have become alike, the critic shrinks to one number; look at explained variance.",
            needs=("value_std", "return_std"),
            hold=SUSTAINED,
            clear=10,
            shown=as_percent,
            sentence=lambda share: (
                f"The loss falls while the predictions spread {as_percent(share)} less than they did"
            ),
            chart="value_std",
        ),
        signal_rule(
            "unexplained_fall",
            "The fall of the value loss, while explained variance did not rise,",
            Signal(
                signals.unexplained_fall(pl.col("_loss_median"), pl.col("_explained_median")), steps.UnexplainedFall
            ),
            Bands(warning=(above(0.5),), nonfinite="unknown"),
            "The loss falls for another reason than learning, such as smaller returns; look at return_std.",
            needs=("explained_variance",),
            hold=SUSTAINED,
            clear=10,
            shown=as_percent,
            from_row=30,
            chart="explained_variance",
        ),
    ]
