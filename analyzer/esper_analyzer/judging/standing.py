"""How a run stands where no rule is broken: the critic and the outcome, in a sentence each.

Also whether an outcome says anything: a return that is about where it began does not make a run healthy.
"""

from __future__ import annotations

import math

from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.returns import PROGRESS, START_RETURNS
from esper_analyzer.wording import compact

CLEAR_RISE, CLEARLY_ABOVE = 3.0, 2.0
"""A run can be healthy once its return has risen by so many times its noise, or is above its start by so many times.

It is more than `PROGRESS`, from which on a return counts as moving: chance, or a little of the task, can reach that.
"""

BACK = 1.0
"""A return that has risen, and is above its start by no more than so many times its noise, is back where it began,
if it is also below its best by more than that."""

FEW_RETURNS = f"Not judged yet: needs {START_RETURNS} updates in which episodes ended."


def not_risen(judge: Judge) -> str:
    """Say that a return is where it began, and what would tell whether that is good enough."""
    if judge.measured_now("return_start") is None:
        return FEW_RETURNS
    if _is_unpaid(judge):
        return f"Every return was 0 up to update {judge.last_update}: look whether rewards arrive."
    rise = judge.measured_now("return_rise") or 0.0
    if rise >= CLEAR_RISE:
        said = "It had risen, and is back where it began."
    elif rise >= PROGRESS:
        risen = math.floor(10 * rise) / 10  # 2.99 is not said to be 3
        said = f"It has risen by {risen:g} times its noise, and that is clear from {CLEAR_RISE:g} on."
    else:
        said = "It has not risen beyond its noise yet."
    text = f"{outcome(judge)} {said}"
    if judge.return_goal is not None or judge.references:
        return text
    goal = "Declare the return that counts as solved (return_goal)"
    return f"{text} {goal}, or name a sound run, or a folder of runs, to judge it beside (reference)."


def is_about_where_it_began(judge: Judge) -> bool:
    """Whether the return is measured, and has not clearly risen or is back where it began, nor has reached a goal."""
    if judge.measured_now("return_unmoved") is None or judge.goal_reached is not None:
        return False
    has_risen = (judge.measured_now("return_rise") or 0.0) >= CLEAR_RISE
    start, best, now, noise = (judge.measured_now(f"return_{name}") for name in ("start", "best", "now", "noise"))
    if start is None or now is None or noise is None:
        return not has_risen
    is_back = best is not None and now - start <= BACK * noise < best - now
    return is_back or not (has_risen or now - start > CLEARLY_ABOVE * noise)


def _is_unpaid(judge: Judge) -> bool:
    """Whether every episode return so far was 0."""
    return bool(judge.measured_now("return_unmoved")) and judge.measured_now("return_now") == 0.0


def outcome(judge: Judge) -> str:
    """Describe the outcome in one sentence."""
    start, best, now = (judge.measured_now(f"return_{name}") for name in ("start", "best", "now"))
    if start is None or now is None:
        return "The outcome was judged."
    risen = judge.measured_now("return_rise") or 0.0
    what = "The mean return of the last 100 episodes" if judge.measured_now("return_slides") else "The episode return"
    goal, reached = judge.return_goal, judge.goal_reached
    of_goal = "" if goal is None else f" of {goal:g}, its goal,"
    text = f"{what} is {compact(now)}{of_goal} at update {judge.last_update}; it began as low as {compact(start)}"
    if best is not None and best > max(now, start) and risen >= 1.0:
        text += f", and its best was {compact(best)}"
    if reached is not None:
        text += f"; it reached its goal at update {reached}"
    theirs = judge.measured_now("reference_level")
    if theirs is not None:
        text += f"; its reference runs have had {compact(theirs)} or more since half of its age"
    return f"{text}."


def has_no_number(judge: Judge) -> bool:
    """Whether explained variance and value loss are NaN or infinite; for returns that are all the same only one is."""
    measured = (judge.measured_now("explained_variance"), judge.measured_now("value_loss"))
    return all(number is not None and not math.isfinite(number) for number in measured)


def standing_of_critic(judge: Judge) -> str:
    """Describe the state of the critic in one sentence, or that of the outcome where the critic's is not known."""
    values = judge.values()
    error, explained = values.get("critic_error"), values.get("explained_where_varied")
    at = f"at update {judge.last_update}"
    measured = judge.measured_now("explained_variance")
    if explained is not None:
        return f"Explained variance is {explained:.3g} {at}."
    if error is not None and math.isfinite(error):
        text = f"The critic's squared error is {100 * error:.3g} % of the usual variance of its targets {at}"
        is_quiet = measured is not None and math.isfinite(measured)
        return text + (", where returns vary so little that explained variance says little." if is_quiet else ".")
    if has_no_number(judge):
        return f"Neither explained variance nor value loss is a number {at}."
    if measured is not None:
        return f"Returns vary so little {at} that explained variance says little."
    return outcome(judge) if judge.measured_now("return_now") is not None else f"No rule is broken {at}."
