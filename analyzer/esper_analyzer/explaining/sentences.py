"""The few sentences that a colleague would say about what moved first."""

from __future__ import annotations

from collections.abc import Sequence

from esper_analyzer.explaining.band import LEAST
from esper_analyzer.explaining.explanation import ExplainedAlert, Moved
from esper_analyzer.explaining.stages import (
    ADVANTAGES,
    COST,
    ENVIRONMENT,
    FIT,
    GRADIENTS,
    LOSSES,
    POLICY,
    RETURNS,
    SETTINGS,
    TD_ERRORS,
    VALUES,
    WORK,
    stage,
)
from esper_analyzer.wording import compact
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import DECLARED

MOST_NAMED = 3
"""So many metrics are named in one sentence."""

_FROM_CONSTANT = "had been {usual} in every update before, and is {value}"
_WHERE_TO_LOOK = {
    SETTINGS: "A setting changed while everything measured was as usual: look at its schedule.",
    ENVIRONMENT: "Nothing that the trainer computes had moved before: look at the environment, and at the actions.",
    VALUES: "The values moved before the rewards did: look at the critic, and at the observations that it is given.",
    TD_ERRORS: "The values were as usual, and the TD errors were not: look at the rewards.",
    ADVANTAGES: "Rewards and values were as usual: look at how advantages are computed.",
    RETURNS: "Rewards and values were as usual: look at how returns are computed and scaled.",
    FIT: "Rewards and values were as usual, but fit each other no longer: look at the critic's targets.",
    POLICY: "The rollout was as usual: look at the policy's update, its step size and the old log-probabilities.",
    LOSSES: "The rollout and the ratios were as usual: look at what enters this loss.",
    GRADIENTS: "The rollout and the losses were as usual: look at the gradient and its scale.",
    WORK: "Nothing else had moved before: look at how the update was cut short.",
    COST: "Nothing but durations and memory moved, which says nothing about the training.",
}
"""What the first metric to move says, by its place in an update: whatever comes before it there had not moved."""

_OWN_METRIC = "It is one of your own metrics: look at what it measures."


def sentences(
    update: int, alert: ExplainedAlert | None, moved: Sequence[Moved], steady: int, not_judged: int, since: int
) -> list[str]:
    """Say what moved first, what went with it, what followed, and where to look.

    Args:
        update: the update that is explained.
        alert: the alert that is explained, if it was not asked for by number.
        moved: what left its band, in order.
        steady: how many metrics did not.
        not_judged: how many metrics have too short a past.
        since: first update that was looked at.
    """
    too_short = f"A metric has a band once {LEAST + 1} updates have measured it"
    if not moved and not_judged > steady:
        return [f"Update {update} comes too early to tell. {too_short}."]
    if not moved:
        return [f"No metric left its own band from update {since} to {update}; what is wrong may have begun before."]
    first = moved[0]
    told = [_first(first)]
    with_it = [one for one in moved[1:] if _is_with(first, one)]
    if with_it:
        told.append(f"In the same update: {_listed(with_it)}.")
    told.append(_OWN_METRIC if first.is_extra else _WHERE_TO_LOOK[stage(first.metric)])
    later = [one for one in moved[1:] if one.update > first.update and not one.is_apart and stage(one.metric) != COST]
    if later:
        next_update = min(one.update for one in later)
        after = next_update - first.update
        told.append(f"{_count(after, 'update')} later: {_listed([one for one in later if one.update == next_update])}.")
    if alert is not None and alert.update > first.update:
        said = f"{_count(alert.update - first.update, 'update')} later, in update {alert.update}"
        told.append(f"The first {alert.level} alert ({alert.rule}) came {said}.")
    if steady:
        told.append(f"{_count(steady, 'other metric')} stayed in {'its band' if steady == 1 else 'their bands'}.")
    if not_judged:
        told.append(f"{_count(not_judged, 'metric')} could not be judged. {too_short}.")
    return told


def _first(one: Moved) -> str:
    """Say what moved first, when, and from where to where."""
    where = f"update {one.update}" + ("" if one.minibatch is None else f", minibatch {one.minibatch}")
    back = "" if one.lasts or one.direction == "not finite" else " It has come back since."
    return f"{title(one)} moved first, in {where}: it {_course(one)}.{back}"


def _course(one: Moved) -> str:
    """Say from where to where a metric went, for example "rose from about 0.5 to 12"."""
    if one.direction == "not finite":
        return f"became {compact(one.peak)} where about {compact(one.usual)} had been usual"
    if one.was_constant:
        return _FROM_CONSTANT.format(usual=compact(one.usual), value=compact(one.value))
    verb = "rose" if one.direction == "up" else "fell"
    course = f"{verb} from about {compact(one.usual)} to {compact(one.value)}"
    if one.peak_update != one.update:
        course += f", and to {compact(one.peak)} by update {one.peak_update}"
    return f"{course} ({deviations(one)} robust deviations)"


def deviations(one: Moved) -> str:
    """Return how far a metric went as a short number."""
    return f"{one.deviations:.1f}" if one.deviations < 100 else compact(one.deviations)


def title(one: Moved) -> str:
    """Return what people call a metric."""
    return DECLARED[one.metric].title if one.metric in DECLARED else printable(one.metric)


def _is_with(first: Moved, one: Moved) -> bool:
    return one.update == first.update and not one.is_apart and stage(one.metric) != COST


def _listed(moved: Sequence[Moved]) -> str:
    """Name metrics and where they went, for example "KL divergence up, Entropy down and 3 more"."""
    named = [f"{title(one)} {one.direction}" for one in moved[:MOST_NAMED]]
    left = len(moved) - len(named)
    return ", ".join(named) + (f" and {left} more" if left else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
