"""The rules on how the losses move, which raise alerts and contribute nothing to the verdict."""

from __future__ import annotations

import polars as pl

from esper_analyzer.judging import signals, steps
from esper_analyzer.judging.rules.rule import SUSTAINED, Rule, as_percent, signal_rule
from esper_analyzer.judging.watched import Signal
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.metrics import Bands, above, below


def loss_rules() -> list[Rule]:
    """Make the rules on how the losses move; they raise alerts but contribute nothing to the verdict."""
    return [
        signal_rule(
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
        signal_rule(
            "value_loss_plateau",
            "The range of the value loss over 50 updates, relative to its median,",
            Signal(
                signals.plateau("value_loss", pl.col("_loss"), pl.col("_loss_before")),
                lambda: steps.Plateau("_loss", "_loss_before"),
            ),
            Bands(warning=(below(0.01),), nonfinite="unknown"),
            "It does not move at all; look whether the critic is trained, and whether its loss is recorded anew.",
            needs=("value_loss",),
            shown=as_percent,
            chart="value_loss",
        ),
        signal_rule(
            "loss_ratio_drift",
            "Lv/Lp, medians of 10 updates, relative to that of updates 10 to 29,",
            Signal(
                signals.loss_ratio_drift(pl.col("_loss_median"), pl.col("loss_ratio_baseline")), steps.LossRatioDrift
            ),
            Bands(warning=(below(0.01), above(100.0)), nonfinite="unknown"),
            "The losses have drifted apart since the run began; look at the scale of the returns.",
            needs=("value_loss", "policy_loss"),
            hold=SUSTAINED,
            clear=10,
            chart=LOSS_RATIO,
        ),
    ]
