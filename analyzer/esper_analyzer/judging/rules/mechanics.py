"""The rules on mechanics: are the numbers finite, are updates applied, are steps of sane size?"""

from __future__ import annotations

import polars as pl

from esper_analyzer.judging import signals, steps
from esper_analyzer.judging.rules.rule import (
    DECISIVE,
    SUSTAINED,
    WARNS,
    Rule,
    as_count,
    as_percent,
    bands_in_table,
    signal_rule,
)
from esper_analyzer.judging.watched import (
    Signal,
    entropy_unrisen,
    of_column,
    of_one_row,
    policy_unmoved,
)
from esper_schemas.metric.metrics import Bands, above, at_least, at_most, below
from esper_schemas.metric.payload import METRICS


def mechanics_rules() -> list[Rule]:
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
            bands=bands_in_table("policy_loss"),
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
        signal_rule(
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
        signal_rule(
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
        signal_rule(
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
            shown=as_count,
            sentence=lambda count: f"In {as_count(count)} updates the policy has not moved from where it began",
            chart="kl_divergence",
        ),
        signal_rule(
            "clipped_in_bulk",
            "The share of samples just beyond the clip, and none far beyond,",
            of_one_row(signals.clipped_in_bulk(), steps.clipped_in_bulk),
            Bands(critical=(at_least(0.2),), nonfinite="unknown"),
            "Usually the rollout is of an older policy than the log-probabilities say; look at how they are stored.",
            question="mechanics",
            needs=("ratio_max", "clip_range", "clip_fraction"),
            hold=SUSTAINED,
            clear=10,
            gives=WARNS,
            shown=as_percent,
            chart="clip_fraction",
        ),
        signal_rule(
            "entropy_unrisen",
            "Entropy, while no rise of the return is known,",
            entropy_unrisen(),
            Bands(warning=(at_most(0.1),), nonfinite="unknown"),
            "The policy hardly explores any more, and no return shows that it learned; raise the entropy coefficient.",
            question="mechanics",
            needs=("entropy",),
            gives=WARNS,
            chart="entropy",
        ),
    ]
