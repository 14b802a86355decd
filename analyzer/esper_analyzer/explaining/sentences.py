"""The few sentences that a colleague would say about what moved first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from esper_analyzer.explaining.explanation import Moved
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
from esper_analyzer.judging.trouble import FEWEST_BEFORE, RaisedAlert
from esper_analyzer.wording import compact, listed
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

_TOO_SHORT = f"A metric has a band once {FEWEST_BEFORE + 1} updates have measured it."
_OWN_METRIC = "It is one of your own metrics: look at what it measures."


def sentences(
    update: int, alert: RaisedAlert | None, moved: Sequence[Moved], steady: int, not_judged: int, since: int
) -> list[str]:
    """Say what moved first, what went with it, what followed, and where to look.

    Args:
        update: the update that is explained.
        alert: the alert that is explained, if no update was asked for.
        moved: what left its band, in order.
        steady: how many metrics did not.
        not_judged: how many metrics have too short a past.
        since: first update that was looked at.
    """
    told = [] if alert is None or alert.until is None else [_over(alert)]
    if not moved and not_judged > steady:
        return [*told, f"Update {update} comes too early to tell. {_TOO_SHORT}"]
    if not moved:
        none = f"No metric left its own band from update {since} to {update}; what is wrong may have begun before."
        return [*told, none, *_in_force(alert)]
    first = moved[0]
    told.append(_first(first))
    if first.beside:
        says = "says" if len(first.beside) == 1 else "say"
        told.append(f"With it went what {says} the same: {_listed(first.beside)}.")
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
        told.append(f"The {alert.level} alert ({alert.rule}) came {said}.")
    told += _in_force(alert)
    if steady:
        told.append(f"{_count(steady, 'other metric')} stayed in {'its band' if steady == 1 else 'their bands'}.")
    if not_judged:
        told.append(f"{_count(not_judged, 'metric')} could not be judged. {_TOO_SHORT}")
    return told


def broke_off(after: int, reason: str) -> str:
    """Say that a run ended in an update that was never recorded, and why its black box was written."""
    return (
        f"The run broke off in the update after {after}, which was never recorded: {printable(reason).rstrip('.')}."
        " Its black box has the minibatches."
    )


def no_trouble(updates: int, early: RaisedAlert | None, outside: Sequence[Moved]) -> list[str]:
    """Say that there is nothing to explain, and how to ask about an update.

    Args:
        updates: how many updates the run has recorded.
        early: the alert that would be explained, if it had not come too early.
        outside: metrics that are outside their bands at the newest update, in order.
    """
    if outside:
        first, others = outside[0], len(outside) - 1
        since = f"{title(first)} has been outside its band since update {first.update}"
        more = f", and so {'is' if others == 1 else 'are'} {_count(others, 'other metric')}" if others else ""
        nothing = f"Nothing is alarmed, but {since}{more}."
    elif early is None:
        nothing = f"No alert was raised in the {_count(updates, 'update')} of this run, so there is nothing to explain."
    else:
        stands = "is in force" if early.until is None else f"was over by update {early.until}"
        nothing = (
            f"The only alert that could be explained ({early.rule}, {early.level}) began in update {early.since}, too"
            f" early to tell what moved first, and {stands}. {_TOO_SHORT}"
        )
    return [nothing, "To see what moved before an update, name the update (--update N)."]


def _over(alert: RaisedAlert) -> str:
    """Say that the trouble is over."""
    return (
        f"This trouble is over: the {alert.level} alert ({alert.rule}) of update {alert.update} ended by update"
        f" {alert.until}, and no alert is in force that could be explained."
    )


def _in_force(alert: RaisedAlert | None) -> list[str]:
    """Say so where the verdict does not rest on an alert in force."""
    if alert is None or alert.until is not None or alert.gives != "healthy":
        return []
    return [f"The alert is still in force. The verdict on the run does not rest on it: {alert.rule} is only a hint."]


def _first(one: Moved) -> str:
    """Say what moved first, when, and from where to where."""
    where = f"update {one.update}" + ("" if one.minibatch is None else f", minibatch {one.minibatch}")
    back = "" if one.lasts or one.direction == "not finite" else " It has come back since."
    return f"{title(one)} moved first, in {where}: it {_course(one)}.{back}"


def _course(one: Moved) -> str:
    """Say from where to where a metric went, for example "rose from about 0.5 to 12"."""
    if one.direction == "silent":
        return f"was no longer measured; its last value was {compact(one.usual)}"
    if one.direction == "new":
        return f"was measured for the first time, as {compact(one.value)}"
    if one.direction == "not finite":
        return f"became {compact(one.peak)} where about {compact(one.usual)} had been usual"
    if one.was_constant:
        return _FROM_CONSTANT.format(usual=compact(one.usual), value=_apart_from(one.usual, one.value))
    verb = "rose" if one.direction == "up" else "fell"
    course = f"{verb} from about {compact(one.usual)} to {_apart_from(one.usual, one.value)}"
    if one.peak_update != one.update:
        course += f", and to {_apart_from(one.usual, one.peak)} by update {one.peak_update}"
    return f"{course} ({deviations(one)} robust deviations)"


def _apart_from(usual: float | None, value: float | None) -> str:
    """Return a value as a short number, with more digits if it looked the same as what was usual."""
    said = compact(value)
    is_same = usual is not None and value is not None and math.isfinite(value) and float(said) == float(compact(usual))
    return f"{value:.6g}" if is_same and value != usual else said


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
    return listed([f"{title(one)} {one.direction}" for one in moved], MOST_NAMED)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
