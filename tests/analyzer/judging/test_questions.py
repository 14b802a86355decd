"""The three questions of a verdict: what each answers, when it is unknown, and what would change that."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.analyzer.judging.told import Told, around, line, told

from esper_analyzer.judging.course import LEARNING_UPDATES
from esper_analyzer.judging.goal import GoalCourse
from esper_analyzer.judging.reference import ReferenceCourse
from esper_analyzer.judging.returns import START_RETURNS
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.rules.rule import QUESTIONS
from esper_analyzer.judging.standing import outcome
from esper_analyzer.judging.verdict import REMARK, RunFacts


def test_what_is_broken_early_is_said_early() -> None:
    """A warning stands above what is unknown; both are among the reasons."""
    found = told(explained_variance=0.8, skipped=[i == 8 for i in range(12)]).last
    assert found.level == "warning"
    assert [one.level for one in found.findings] == ["warning", "unknown"]
    assert found.questions["mechanics"].level == "warning"


@pytest.mark.parametrize(
    ("more", "unknown", "remedies"),
    [
        ({}, {"critic", "learning"}, ["return_std or explained_variance", "episode_return_mean"]),
        ({"explained_variance": 0.8}, {"learning"}, ["episode_return_mean"]),
        ({"return_std": 1.0}, {"learning"}, ["episode_return_mean"]),
        ({"episode_return_mean": [float(i) for i in range(60)]}, {"critic"}, ["return_std or explained_variance"]),
        ({"episode_return_mean": [float(i) for i in range(60)], "return_std": 1.0}, set(), []),
    ],
)
def test_what_was_not_recorded_is_named(more: dict[str, Any], unknown: set[str], remedies: list[str]) -> None:
    """A question that nothing was recorded for is unknown, and a remark says what to record; losses alone are unknown.

    The remark waits for as long as the critic has to learn.
    """
    run = told(value_loss=[0.1] * 60, **more)
    assert {name for name, answer in run.last.questions.items() if answer.level == "unknown"} == unknown
    remarks = [one.text for one in run.last.findings if one.rule == REMARK]
    assert len(remarks) == len(remedies)
    assert all(f"record {name}." in remark for name, remark in zip(remedies, remarks, strict=True))
    assert run.last.level == ("unknown" if len(unknown) == 2 else "healthy")
    assert not [one for one in run.verdicts[LEARNING_UPDATES - 2].findings if one.rule == REMARK]
    for name in unknown:
        assert run.last.questions[name].reason.startswith("Not judged: needs ")  # type: ignore[index]


def test_what_was_judged_and_what_the_others_need_is_listed() -> None:
    """Each rule of a question is in one of the two lists; those that only need more updates need no column.

    The rules on the way to a goal, or beside references, are in neither, as there are none.
    """
    run = told(explained_variance=[0.8] * 60, episode_return_mean=[None] * 50 + [1.0] * 10)
    asked = {name for name, rule in RULES.items() if rule.question is not None and rule.is_asked}
    asked -= {*GoalCourse.NAMES, *ReferenceCourse.NAMES}
    judged, others = set(run.last.judged), {one.rule: one.needs for one in run.last.not_judged}
    assert judged | set(others) >= asked
    assert not judged & set(others)
    assert {"impossible_value_loss", "explained_where_varied", "explosion"} <= judged
    assert others["critic_error"] == ["return_std"]
    assert others["value_spread"] == ["value_std", "return_std"]
    assert others["kl_divergence"] == ["kl_divergence"]
    assert others["return_fall"] == []
    assert set(others) <= asked


def test_an_outcome_needs_some_updates_in_which_episodes_ended() -> None:
    """Until then it is not judged yet; afterwards the answer says where the return stands."""
    returns = [float(i) for i in range(75)]
    run = told(episode_return_mean=[x if i % 3 == 0 else None for i, x in enumerate(returns)])
    early = next(one for one in run.verdicts if one.questions["learning"].level != "unknown")
    first = run.verdicts.index(early)
    assert first <= 5 * START_RETURNS
    assert run.verdicts[9].questions["learning"].reason in (
        f"Not judged yet: needs {START_RETURNS} updates in which episodes ended.",
    )
    assert run.last.questions["learning"].level == "healthy"
    assert "The episode return is" in run.last.questions["learning"].reason
    assert "it began as low as" in run.last.questions["learning"].reason


def test_a_critic_whose_numbers_are_nan_is_not_called_sound() -> None:
    """Where returns are all the same NaN is what explained variance should be: the value loss tells."""
    explained = [0.8] * 40 + [math.nan] * 40
    critic = told(explained_variance=explained, value_loss=[1.0] * 40 + [math.nan] * 40).last.questions["critic"]
    assert critic.level == "unknown"
    assert critic.reason == "Neither explained variance nor value loss is a number at update 79."
    quiet = told(explained_variance=explained, return_std=[1.0] * 40 + [0.0] * 40, value_loss=[0.0] * 80)
    assert "is a number" not in quiet.last.questions["critic"].reason


def test_a_best_below_the_start_is_no_best() -> None:
    """Of a return that has fallen since the start, no best is named that it had after the fall."""
    returns = around(line((0, 22.0), (16, 15.0), (30, 9.0), (40, 12.0), (120, 12.0), (130, 11.0), (160, 11.0)), 0.05)
    said = outcome(told(episode_return_mean=returns).judge)
    assert said.startswith("The episode return is 10.9")
    assert "its best was" not in said


def test_each_question_has_its_answer() -> None:
    """The worst level of its own rules, since when, and what was found; the verdict is the worst of the three."""
    rows = 230
    run = told(
        episode_return_mean=around(line((0, 20.0), (60, 200.0), (120, 200.0), (135, 22.0), (rows, 22.0)), 3.0),
        explained_variance=around([0.8] * 150 + [-0.5] * 80, 0.01),
        return_std=20.0,
        value_loss=[40.0] * 150 + [300.0] * 80,
        kl_divergence=[0.005] * 180 + [0.2] * 50,
    )
    answers = run.last.questions
    assert list(answers) == list(QUESTIONS)
    assert {name: answer.level for name, answer in answers.items()} == {
        "mechanics": "warning",
        "critic": answers["critic"].level,
        "learning": "critical",
    }
    assert answers["critic"].level in ("warning", "critical")
    assert answers["mechanics"].since == 180
    assert answers["mechanics"].reason.startswith("KL divergence is 0.2 (> 0.03) since update 180.")
    assert answers["learning"].reason.startswith("The part of the return's gain that is lost is ")
    assert run.last.level == "critical"
    by_rule = {one.rule: one for one in run.last.findings}
    assert answers["learning"].reason == by_rule["return_fall"].said
    sound = run.verdicts[110].questions
    assert {answer.level for answer in sound.values()} == {"healthy"}
    assert sound["mechanics"].reason == "Losses are finite, and updates are applied."
    assert "Explained variance is" in sound["critic"].reason
    assert all(answer.since is None for answer in sound.values())


def test_a_fall_must_last() -> None:
    """A return that comes back is no collapse, and neither is one whose episodes are not measured for a while."""
    up = line((0, 20.0), (60, 200.0), (100, 200.0))
    dip = told(episode_return_mean=around([*up, *[22.0] * 15, *[200.0] * 60], 3.0), explained_variance=0.8)
    assert "critical" not in dip.levels
    hole: list[float | None] = [*around(up, 3.0), 22.0, *[None] * 100]
    assert "critical" not in told(episode_return_mean=hole, explained_variance=0.8).levels


def test_the_critic_alone_ends_no_run_that_learns() -> None:
    """Whatever it explains, under a return that rises it is a warning at most.

    Without any outcome it is critical, if its predictions hardly differ. If they do, chance may decide most returns.
    """
    explained = around(-0.4, 0.05, 150)
    rising = line((0, 20.0), (40, 40.0), (150, 300.0))
    run = told(episode_return_mean=around(rising, 2.0, seed=1), explained_variance=explained, return_std=20.0)
    assert run.worst == "warning"
    assert run.last.questions["critic"].level == "warning"
    alone = told(explained_variance=explained, return_std=20.0, value_std=1.5)
    assert alone.last.level == "critical"
    assert alone.last.findings[0].rule == "explains_nothing"
    assert told(explained_variance=explained, return_std=20.0, value_std=9.0).worst == "warning"


def test_a_return_that_never_moves_leaves_the_critic_open() -> None:
    """Sparse rewards that no episode has reached yet: nothing to learn from is a warning, and ends no run."""
    run = told(episode_return_mean=[0.0] * 400, explained_variance=around(0.0, 0.01, 400), return_std=0.0)
    assert run.last.level == "warning"
    assert run.worst == "warning"
    assert run.last.findings[0].rule == "return_unmoved"
    assert run.last.reasons[0].startswith("The return was exactly the same in ")


def test_what_makes_a_critic_lag_is_named() -> None:
    """A clip of the value loss, where it is far below the spread of the value targets."""
    lag: dict[str, Any] = {"explained_variance": [-2.0] * 60, "return_std": 40.0, "value_loss": 2400.0}

    def causes(run: Told) -> list[str]:
        return [one.text for one in run.last.findings if "clip of the value loss" in one.text]

    assert len(causes(told(RunFacts(value_clip=0.2), **lag))) == 1
    assert "spread by 40" in causes(told(RunFacts(value_clip=0.2), **lag))[0]
    assert not causes(told(RunFacts(value_clip=0.2), **lag, value_target_scale=40.0))
    assert not causes(told(RunFacts(value_clip=40.0), **lag))
    assert not causes(told(RunFacts(), **lag))
