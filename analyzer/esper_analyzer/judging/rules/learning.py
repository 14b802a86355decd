"""The rules on learning: does the outcome rise, hold, fall, or not move?"""

from __future__ import annotations

import polars as pl

from esper_analyzer.judging import signals, steps
from esper_analyzer.judging.course import LEARNING_UPDATES
from esper_analyzer.judging.goal import FAR
from esper_analyzer.judging.reference import LITTLE_WAY, WAY
from esper_analyzer.judging.rules.rule import DECISIVE, WARNS, Rule, as_count, as_percent, signal_rule
from esper_analyzer.judging.watched import (
    Signal,
    bandit_unrisen,
    fall_for_good,
    far_from_goal,
    of_column,
    path_unrisen,
    stalled,
    unless_at_goal,
    unless_sliding,
)
from esper_schemas.metric.metrics import Bands, above, at_least


def learning_rules() -> list[Rule]:
    """Make the rules on the outcome. Most of their numbers are of many updates, so that one row is enough."""
    return [
        signal_rule(
            "return_fall",
            "The part of the return's gain that is lost",
            of_column("return_fall"),
            Bands(critical=(above(0.7),), nonfinite="unknown"),
            "The policy was better and has unlearned it; look at what moved first: KL, entropy, gradients, losses.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_percent,
            chart="episode_return_mean",
        ),
        signal_rule(
            "return_falling",
            "The part of the return's gain that is lost now",
            of_column("return_falling"),
            Bands(warning=(above(0.5),), nonfinite="unknown"),
            "The policy was better a while ago; look at what moved first: KL, entropy, gradients, losses.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=WARNS,
            shown=as_percent,
            chart="episode_return_mean",
        ),
        signal_rule(
            "fall_for_good",
            "The part of the return's gain that is lost, under a policy without entropy,",
            unless_sliding(fall_for_good()),
            Bands(warning=(above(0.1),), critical=(above(0.3),), nonfinite="unknown"),
            "The policy was better and tries nothing else now; raise the entropy coefficient, or lower the rate.",
            question="learning",
            needs=("episode_return_mean", "entropy"),
            hold=(10, 10),
            gives=DECISIVE,
            shown=as_percent,
            chart="episode_return_mean",
            takes_sliding=False,  # it wavers slowly, and so falls by 15 % of its gain in sound runs
        ),
        signal_rule(
            "return_below_start",
            "The fall of the episode return below its lowest at the start",
            of_column("return_below_start"),
            Bands(warning=(above(0.2),), critical=(above(0.33),), nonfinite="unknown"),
            "Learning makes it worse; look at advantages, at how episode ends are handled, and at the sign of rewards.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_percent,
            chart="episode_return_mean",
        ),
        signal_rule(
            "return_stalled",
            "Updates in which the return has not risen beyond its noise",
            unless_at_goal(stalled()),
            Bands(warning=(at_least(60),), critical=(at_least(500),), nonfinite="unknown"),
            "The policy does not learn; look whether its gradients arrive, at advantages, and at stored actions.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: f"In {as_count(count)} updates the return has not risen beyond its noise",
            chart="episode_return_mean",
        ),
        signal_rule(
            "return_unmoved",
            "Updates in all of which the return was the same",
            unless_at_goal(of_column("return_unmoved")),
            Bands(warning=(at_least(60),), nonfinite="unknown"),
            "There is nothing to learn from, unless no episode has reached its goal yet; look at the rewards.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: f"The return was exactly the same in {as_count(count)} updates",
            chart="episode_return_mean",
        ),
        signal_rule(
            "policy_wanders",
            "The way of the policy, √(2·KL) of each update added up, while the return did not rise,",
            unless_at_goal(path_unrisen()),
            Bands(warning=(above(8.0),), critical=(above(30.0),), nonfinite="unknown"),
            "It moves, and learns nothing; look at advantages, stored actions, rewards, and the learning rate.",
            question="learning",
            needs=("episode_return_mean", "kl_divergence"),
            hold=(1, 1),
            gives=DECISIVE,
            from_row=LEARNING_UPDATES,
            chart="kl_divergence",
        ),
        signal_rule(
            "bandit_unrisen",
            "Updates of episodes of one step in which the return has not risen beyond its noise",
            unless_at_goal(bandit_unrisen()),
            Bands(warning=(at_least(40),), nonfinite="unknown"),
            "Each action is paid at once, and still nothing is learned; look at advantages, and at stored actions.",
            question="learning",
            needs=("episode_return_mean", "episode_length_mean", "entropy"),
            hold=(1, 1),
            gives=WARNS,
            shown=as_count,
            sentence=lambda count: (
                f"In {as_count(count)} updates of episodes of one step the return has not risen beyond its noise"
            ),
            chart="episode_return_mean",
        ),
        signal_rule(
            "return_at_lowest",
            "Updates one after another in which the return was at its lowest",
            of_column("return_at_lowest"),
            Bands(warning=(at_least(60),), critical=(at_least(150),), nonfinite="unknown"),
            "The policy was better by chance and is stuck; look at entropy, at the rewards, and at episode ends.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: f"In the last {as_count(count)} updates the return was at its lowest so far",
            chart="episode_return_mean",
        ),
        signal_rule(
            "far_from_goal",
            f"Measured updates in which no return came {as_percent(FAR)} of the way to the goal",
            unless_sliding(far_from_goal()),
            Bands(warning=(at_least(50),), critical=(at_least(80),), nonfinite="unknown"),
            "Nothing has been found that pays; look at exploration, at rewards, and whether the goal can be reached.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: (
                f"In {as_count(count)} measured updates no return came {as_percent(FAR)} of the way to the goal"
            ),
            chart="episode_return_mean",
            takes_sliding=False,  # it hides the single returns that are better by chance
        ),
        signal_rule(
            "no_nearer_to_goal",
            "Updates in which the return has come no nearer to its goal",
            of_column("no_nearer_to_goal"),
            Bands(warning=(at_least(120),), nonfinite="unknown"),
            "It is stuck below its goal, or learns slowly; look at the learning rate, at entropy, and at the critic.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=WARNS,
            shown=as_count,
            sentence=lambda count: f"In {as_count(count)} updates the return has come no nearer to its goal",
            chart="episode_return_mean",
        ),
        signal_rule(
            "below_reference",
            f"Measured updates in which the return was less than {as_percent(WAY)} of the way to its references",
            unless_at_goal(of_column("below_reference")),
            Bands(warning=(at_least(15),), critical=(at_least(30),), nonfinite="unknown"),
            "Sound runs had learned this by then; `esper-analyze explain SOUND THIS` says where it left one of them.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: (
                f"In {as_count(count)} measured updates the return was less than {as_percent(WAY)} of the way up to its"
                " references"
            ),
            chart="episode_return_mean",
        ),
        signal_rule(
            "far_below_reference",
            f"Measured updates in which the return was less than {as_percent(LITTLE_WAY)} of the way to its references",
            unless_at_goal(of_column("far_below_reference")),
            Bands(warning=(at_least(15),), critical=(at_least(60),), nonfinite="unknown"),
            "Sound runs had learned it by then, and this one hardly begins to; compare their settings and losses.",
            question="learning",
            needs=("episode_return_mean",),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: (
                f"In {as_count(count)} measured updates the return was less than {as_percent(LITTLE_WAY)} of the way up"
                " to its references"
            ),
            chart="episode_return_mean",
        ),
        signal_rule(
            "entropy_at_ceiling",
            "Updates in which entropy stayed at its highest and the return did not rise",
            unless_at_goal(of_column("entropy_at_ceiling")),
            Bands(warning=(at_least(50),), critical=(at_least(200),), nonfinite="unknown"),
            "The policy stays random; look at the entropy coefficient, and whether its gradients arrive.",
            question="learning",
            needs=("episode_return_mean", "entropy"),
            hold=(1, 1),
            gives=DECISIVE,
            shown=as_count,
            sentence=lambda count: (
                f"In {as_count(count)} updates entropy has stayed at its highest, and the return has not risen"
            ),
            chart="entropy",
        ),
        signal_rule(
            "return_below_first",
            "The fall of the episode return below its first values, under episodes that are no longer,",
            unless_sliding(of_column("return_below_first")),
            Bands(warning=(above(0.25),), critical=(above(0.75),), nonfinite="unknown"),
            "It was better before it learned; look at advantages, at episode ends, and at the sign of rewards.",
            question="learning",
            needs=("episode_return_mean", "episode_length_mean"),
            hold=(10, 10),
            gives=DECISIVE,
            shown=as_percent,
            chart="episode_return_mean",
            takes_sliding=False,  # its first values are of few episodes, and of short ones
        ),
        signal_rule(
            "entropy_collapse_risk",
            "The risk that entropy collapses within 20 updates",
            Signal(signals.entropy_collapse_risk(pl.col("_mean_entropy")), steps.CollapseRisk),
            Bands(warning=(at_least(0.9),), nonfinite="unknown"),
            "Unless the task is nearly solved, raise the entropy coefficient or lower the learning rate.",
            needs=("entropy",),
            shown=as_percent,
            chart="entropy",
        ),
    ]
