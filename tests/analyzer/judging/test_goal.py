"""The declared goal of the return: what the course says of the way to it, and what the verdict makes of that."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper_analyzer import live_monitor
from esper_analyzer.judging.course import Course
from esper_analyzer.judging.goal import FAR, NEAR, NEARER, GoalCourse
from esper_analyzer.judging.judge import Judge, numbers_of
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.returns import Returns
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.verdict import RunFacts, conclude
from esper_schemas.errors import UsageError

Value = float | None
NAN, INF = math.nan, math.inf


def plain(returns: Sequence[Value], updates: Sequence[Value], goal: float) -> list[tuple[Value, ...]]:
    """`GoalCourse` once more, in plain Python, straight from its description."""
    course, found = Returns(), list[tuple[Value, ...]]()
    numbers = [dict(zip(Returns.NAMES, course.step(value), strict=True)) for value in returns]
    made = [(one["return_start"], None, one["return_now"]) for one in numbers]
    known = [value if value is not None and math.isfinite(value) else None for value in returns]
    reached: Value = None
    for i, (start, _, now) in enumerate(made):
        came = -1
        for at, value in enumerate(known[: i + 1]):
            lowest = min((x for x in known[: at + 1] if x is not None), default=INF)
            if value is not None and (value >= goal or (value > lowest and value >= lowest + FAR * (goal - lowest))):
                came = at
        far = float(sum(value is not None for value in known[came + 1 : i + 1]))
        if start is None or now is None:
            found.append((far, None, None, None))
            continue
        is_paid = any(value for value in known[: i + 1])
        is_there, high = now >= goal and is_paid, numbers[i]["return_high"]
        is_near = is_there or (high is not None and high >= goal and is_paid)
        ways = [
            (b, (b - a) / (goal - a) if goal > a else 1.0)
            for a, _, b in made[: i + 1]
            if a is not None and b is not None
        ]
        steps = [way / NEARER for _, way in ways]
        steps = [float(math.floor(one)) if math.isfinite(one) else one for one in steps]
        update = updates[i]
        if reached is None and is_there and update is not None and not math.isnan(update):
            reached = update
        highest = max(steps)
        since = float(len(steps) - steps.index(highest) - (highest > -INF))
        if reached is not None:
            far = since = 0.0
        found.append((far, 0.0 if ways[-1][1] >= NEAR else since, reached, float(is_near)))
    return found


def frame_of(returns: Sequence[Value], updates: Sequence[Value] | None = None, **more: Sequence[Value]) -> pl.DataFrame:
    """Rows of a run with these returns, in the columns that a judge reads."""
    rows = len(returns)
    columns = {"update": updates or list(range(rows)), "episode_return_mean": returns} | more
    return pl.DataFrame(
        {
            name: pl.Series(columns.get(name, [None] * rows), dtype=READ_TYPES[name], strict=False)
            for name in Judge().columns
        }
    )


def both_forms(returns: Sequence[Value], goal: float | None, cut: int) -> list[tuple[Value, ...]]:
    """The numbers row by row, after checking that portions give the same bits."""
    rows = frame_of(returns)
    made, found = Course(goal), list[tuple[Value, ...]]()
    for row in rows.iter_rows(named=True):
        made.step(row)
        found.append(tuple(row[name] for name in GoalCourse.NAMES))
    made = Course(goal)
    portions = [made.extend(part) for part in (rows[:cut], rows[cut:]) if part.height]
    in_portions = pl.concat(portions).select(GoalCourse.NAMES).rows() if portions else []
    assert repr(in_portions) == repr(found)
    return found


RISES = [20.0 + 5.0 * i for i in range(100)]
STUCK = [20.0 + min(4.0 * i, 180.0) + i % 7 for i in range(300)]
FLAT = [-500.0] * 120


@pytest.mark.parametrize(
    ("returns", "goal"),
    [
        (RISES, 475.0),
        (STUCK, 475.0),
        (FLAT, -100.0),
        ([*RISES, *FLAT], 475.0),
        ([None, NAN, *STUCK, INF], 475.0),
        (STUCK, 20.0),
        (STUCK, -1e308),
        (STUCK, 1e308),
        ([None] * 30, 1.0),
        ([0.0] * 60, 0.0),
        ([0.0] * 60, -100.0),
        ([0.0] * 60 + [0.5] * 20, -100.0),
    ],
)
def test_both_forms_are_what_plain_python_says(returns: Sequence[Value], goal: float) -> None:
    """Of runs that rise, get stuck, never move, fall after their goal, and have holes; to the bit."""
    expected = plain(returns, [float(i) for i in range(len(returns))], goal)
    assert both_forms(returns, goal, len(returns) // 3) == expected


odd = st.sampled_from([None, NAN, INF, -INF, 0.0, 1e-300, 1.7e308, -1.7e308, 5e-324])
stretches = st.lists(st.floats(-3.0, 3.0) | odd, min_size=1, max_size=4).map(lambda values: values * 8)


@settings(max_examples=30, deadline=None)
@given(st.lists(stretches, min_size=1, max_size=5), st.floats(-4.0, 4.0) | st.sampled_from([1e308, -1e308, 5e-324]))
def test_any_returns_and_any_goal(parts: list[list[Value]], goal: float) -> None:
    """Step form, frame form in two portions and plain Python give the same numbers."""
    returns = [value for part in parts for value in part][:110]
    assert both_forms(returns, goal, len(returns) // 2) == plain(returns, [float(i) for i in range(len(returns))], goal)


def test_without_a_goal_there_is_nothing() -> None:
    """All of its numbers are null, and no answer and no list of rules speaks of a goal."""
    assert set(both_forms(STUCK, None, 50)) == {(None,) * 4}
    verdict = verdict_on(STUCK, None)
    assert "goal" not in " ".join([*verdict.reasons, *(one.reason for one in verdict.questions.values())])
    assert not {"far_from_goal", "no_nearer_to_goal"} & {one.rule for one in verdict.not_judged}


def verdict_on(returns: Sequence[Value], goal: float | None):  # type: ignore[no-untyped-def]
    """The verdict on a run whose mechanics and critic work."""
    rows = len(returns)
    sound = {"value_loss": 1.0, "policy_loss": 0.01, "kl_divergence": 0.01, "entropy": 0.6, "explained_variance": 0.9}
    judge = Judge(return_goal=goal)
    columns = {name: [value] * rows for name, value in sound.items()}
    judge.advance(frame_of(returns, **columns | {"entropy": [0.6 + 0.01 * (i % 2) for i in range(rows)]}))
    return conclude(judge, RunFacts())


def test_a_return_that_never_comes_near_its_goal_is_critical() -> None:
    """A run at −500 of −100 for good is critical after 80 updates, and not before; without a goal it is not."""
    assert verdict_on(FLAT[:79], -100.0).level != "critical"
    verdict = verdict_on(FLAT, -100.0)
    assert (verdict.level, verdict.findings[0].rule) == ("critical", "far_from_goal")
    far = "In 80 measured updates no return came 15 % of the way to the goal, as of update 79."
    said = f"{far} It is -500.0, and the goal is -100."
    assert verdict.findings[0].text == said
    assert verdict.questions["learning"].level == "critical"
    assert verdict_on(FLAT, None).level != "critical"


def test_a_return_that_rises_is_not_lost_though_its_goal_is_far() -> None:
    """From 7 to 60 of 950 in 100 updates is slow, and learning; row by row it is the same."""
    rising = [7.0 + 0.5 * i + i % 5 for i in range(110)]
    assert verdict_on(rising, 950.0).level == "healthy"
    monitor = live_monitor(return_goal=950.0)
    for update, value in enumerate(rising):
        monitor({"update": update, "value_loss": 1.0, "policy_loss": 0.1, "episode_return_mean": value})
        assert monitor.level != "critical"


LOST_AGAIN = [
    *(20.0 + i % 3 for i in range(20)),
    *(70.0 + i % 3 for i in range(25)),
    *(35.0 + i % 3 for i in range(90)),
]
"""Most of its gain is lost, and all of it far from a goal of 475."""


@pytest.mark.parametrize(
    ("returns", "is_far"),
    [(LOST_AGAIN, True), (FLAT, True), (RISES, False), (STUCK, False)],
    ids=["lost again", "flat", "rises", "stuck"],
)
def test_what_the_rule_on_the_goal_watches_is_the_same_in_both_forms(returns: Sequence[Value], is_far: bool) -> None:
    """Row by row, and over the whole frame: 0 where the return rose and kept its rise, else the updates."""
    rule, goal = RULES["far_from_goal"], 475.0
    judge, stepped = Judge([rule], goal), list[Value]()
    rows = frame_of(returns, episode_length_mean=[20.0] * len(returns)).select(judge.columns)
    for row in rows.iter_rows(named=True):
        judge.step(row)
        stepped.append(judge.values()[rule.name])
    assert numbers_of(rows, [rule], goal)[rule.name].to_list() == stepped
    assert (max(value or 0.0 for value in stepped) >= 80.0) == is_far


def test_a_return_that_lost_its_rise_again_and_is_far_from_its_goal_is_critical() -> None:
    """From 20 to 70 of 475 and back to 35: seven tenths of the gain are lost, which alone is a warning."""
    verdict = verdict_on(LOST_AGAIN, 475.0)
    assert (verdict.level, verdict.findings[0].rule) == ("critical", "far_from_goal")
    assert verdict_on(LOST_AGAIN, None).level == "warning"


def test_a_return_that_is_stuck_below_its_goal_is_a_warning() -> None:
    """At 200 of 475 for 200 updates; one that still rises, however slowly, is not."""
    verdict = verdict_on(STUCK, 475.0)
    assert (verdict.level, verdict.findings[0].rule) == ("warning", "no_nearer_to_goal")
    assert verdict_on([20.0 + 1.2 * i + i % 7 for i in range(260)], 475.0).level == "healthy"


def test_the_answer_names_the_goal_and_when_it_was_reached() -> None:
    """While a run rises it is so much of its goal; afterwards, the update at which it reached it."""
    rising = verdict_on(RISES[:60], 475.0).questions["learning"]
    assert rising.level == "healthy"
    assert " of 475, its goal, at update 59" in rising.reason
    reached = verdict_on([*RISES, *RISES[-1:] * 20], 475.0).questions["learning"]
    assert "; it reached its goal at update 9" in reached.reason


@pytest.mark.parametrize("goal", [NAN, INF, "much", True, 10**400])
def test_a_goal_that_is_no_number_is_refused(goal: object) -> None:
    """By the live monitor, in one line that says what was expected and found."""
    with pytest.raises(UsageError, match=r"^return_goal must be a finite number, such as 475, or None, found .+$"):
        live_monitor(return_goal=goal)  # type: ignore[arg-type]


def test_the_live_monitor_knows_the_goal() -> None:
    """It raises what the report raises."""
    monitor = live_monitor(return_goal=-100.0)
    for update, value in enumerate(FLAT):
        monitor({"update": update, "value_loss": 1.0, "policy_loss": 0.1, "episode_return_mean": value})
    assert monitor.level == "critical"
    assert "far_from_goal" in {alert.rule for alert in monitor.alerts}


@pytest.mark.parametrize("rows", [100, 500])
def test_a_trained_policy_that_goes_on_at_its_goal_is_healthy(rows: int) -> None:
    """A return of 490 to 500 from the first update on does not rise; with the goal of 475 that is as it should be.

    Without a goal nobody knows whether a return that never rises is a good one.
    """
    at_its_best = [490.0 + 7 * i % 11 for i in range(rows)]
    assert verdict_on(at_its_best, 475.0).level == "healthy"
    assert verdict_on(at_its_best, None).level == ("warning" if rows == 100 else "critical")
    always = verdict_on([500.0] * rows, 475.0)
    assert (always.level, always.questions["learning"].level) == ("healthy", "healthy")


def test_a_return_that_hovers_around_its_goal_is_there() -> None:
    """500 updates, now a little above 475, now a little below: there is nothing to warn of."""
    assert verdict_on([475.0 + 6.0 * math.sin(i / 9.0) + i % 3 for i in range(500)], 475.0).level == "healthy"


def test_a_trained_policy_whose_critic_is_new_is_not_critical() -> None:
    """At its goal a flat critic is a warning at most: the outcome contradicts it."""
    at_its_best = [490.0 + 7 * i % 11 for i in range(200)]
    rows = frame_of(at_its_best, value_loss=[1.0] * 200, policy_loss=[0.01] * 200, explained_variance=[1e-8] * 200)
    for goal, level in ((475.0, "warning"), (None, "critical")):
        judge = Judge(return_goal=goal)
        judge.advance(rows)
        assert conclude(judge, RunFacts()).level == level


def test_both_forms_of_what_is_excused_at_a_goal() -> None:
    """Rules give the same numbers row by row and over the frame, where the return is at its goal for a while."""
    course = [490.0] * 60 + [450.0 + 9 * i % 31 for i in range(160)]
    more = {"kl_divergence": 0.01, "entropy": 0.69, "explained_variance": 1e-8, "value_loss": 1.0, "policy_loss": 0.1}
    rows = frame_of(course, **{name: [value] * len(course) for name, value in more.items()})
    numbers = numbers_of(rows, tuple(RULES.values()), 475.0)
    judge = Judge(return_goal=475.0)
    for index, row in enumerate(rows.iter_rows(named=True)):
        judge.step(row)
        values = judge.values()
        for name in ("return_stalled", "return_unmoved", "explains_nothing", "unexplained_for_long", "policy_wanders"):
            assert values.get(name) == numbers[name][index], (name, index)
