from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from esper_analyzer import Verdict
from esper_analyzer.judging.course import LEARNING_UPDATES
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.verdict import RunFacts, conclude
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas import Level

SOUND = {"policy_loss": -0.01, "skipped": False, "explained_variance": 0.8}


def verdict(rows: Sequence[dict[str, Any]], before: int = 60, **facts: Any) -> Verdict:
    """The verdict on a run whose last rows these are; `before` of them, sound ones, come first."""
    usual = {name: rows[0][name] for name in ("return_std", "value_target_scale") if rows and name in rows[0]}
    full = [{**usual, "value_loss": 0.05 + 0.01 * (i % 7)} for i in range(before)]
    full += [{"value_loss": 0.05 + 0.01 * (i % 7), **row} for i, row in enumerate(rows)]
    judge = Judge()
    if full:
        frame = pl.DataFrame(
            [{"update": i, **SOUND, **row} for i, row in enumerate(full)],
            schema_overrides=SCHEMA,
            infer_schema_length=None,
        )
        judge.advance(
            frame.with_columns(pl.lit(None, SCHEMA[name]).alias(name) for name in SCHEMA if name not in frame.columns)
        )
    return conclude(judge, RunFacts(**facts))


@pytest.mark.parametrize(
    ("rows", "level", "said"),
    [
        ([{}] * 10, "healthy", "Explained variance is 0.8 at update 69."),
        ([{"value_loss": 549.0}] * 10, "healthy", "Explained variance is 0.8"),
        ([{}] * 9 + [{"value_loss": math.nan}], "critical", "Value loss is NaN (not finite) at update 69."),
        ([{}] * 9 + [{"policy_loss": -math.inf}], "critical", "Policy loss is -inf (not finite) at update 69."),
        ([{}] * 9 + [{"value_loss": -0.1}], "critical", "Value loss is -0.1 (< 0) at update 69."),
        ([{"value_loss": math.nan}] + [{}] * 5, "critical", "Value loss was NaN (not finite) at update 60, and is"),
        ([{"value_loss": math.nan}] + [{}] * 12, "healthy", "Explained"),
        ([{}] * 9 + [{"value_loss": math.nan, "skipped": True, "skip_reason": 1}], "warning", "non-finite loss"),
        ([{}] * 9 + [{"skipped": True}], "warning", "An update was skipped at update 69."),
        ([{}] * 7 + [{"skipped": True}] * 3, "critical", "Three updates in a row were skipped at update 69."),
        ([{}] * 5 + [{"skipped": True}] * 3 + [{}] * 12, "healthy", "Explained"),
        ([{"value_loss": 0.0, "policy_loss": 0.0}] * 3, "critical", "Value loss and policy loss are exactly 0"),
        ([{"value_loss": 0.0}] * 3, "healthy", ""),
        ([{"value_loss": 200.0, "explained_variance": -1e3}] * 2, "critical", "is 10^3.3-fold (> 10^3.0-fold)"),
        ([{"value_loss": 20.0, "explained_variance": -1e2}] * 2, "warning", "is 10^2.3-fold (> 10^2.0-fold)"),
        ([{"value_loss": 200.0, "explained_variance": -1e3}], "healthy", ""),
        ([{"value_loss": 200.0}] * 2, "healthy", ""),
        ([{"return_std": 1.0, "value_loss": 0.99}] * 10, "healthy", "0.8"),
        ([{"return_std": 1.0, "value_loss": 1.01}] * 10, "warning", "is 202 % (> 200 %) since update 60."),
        ([{"return_std": 1.0}] * 3 + [{"return_std": 1.0, "value_loss": 1.01}] * 7, "healthy", ""),
        ([{"return_std": 100.0, "value_loss": 9000.0}] * 10, "healthy", ""),
        ([{"return_std": 100.0, "value_loss": 1.1, "value_target_scale": 100.0}] * 10, "warning", "220 %"),
        ([{"return_std": 1.0, "value_loss": 9.0, "value_loss_unclipped": 0.1}] * 10, "healthy", ""),
        ([{"explained_variance": 0.2, "value_loss": 0.2}] * 10, "healthy", "Explained variance is 0.2"),
        ([{"explained_variance": 0.1, "value_loss": 0.2}] * 10, "warning", "where returns vary, is 0.1 (<= 0.1)"),
        ([{"explained_variance": 0.0, "value_loss": 0.3}] * 30, "critical", "The critic explains nothing"),
        ([{"explained_variance": 0.0, "value_loss": 0.3, "episode_length_mean": 1.0}] * 30, "healthy", ""),
        ([{"explained_variance": math.nan}] * 10, "healthy", "Returns vary so little"),
        ([{"return_std": 1.0, "value_std": 0.01}] * 10, "warning", "is 1 % (< 2 %)"),
        ([{"policy_loss": -1e-6}] * 10, "healthy", ""),
        ([{"kl_divergence": 0.05}] * 3, "warning", "KL divergence is 0.05 (> 0.03) since update 60."),
        ([{"kl_divergence": 0.02}] * 10, "healthy", ""),
        ([{"kl_divergence": 0.05}] * 2, "healthy", ""),
        ([{"entropy": 0.69}] + [{"entropy": 0.05}] * 10, "warning", "is 0.05 (<= 0.1)"),
        ([{"entropy": 0.05}] * 10, "healthy", ""),
        ([{"entropy": 0.69}] + [{"entropy": 0.05, "log_prob_max": 1.5}] * 10, "healthy", ""),
        ([{"clip_fraction": 0.22, "ratio_max": 1.3, "clip_range": 0.2}] * 10, "warning", "is 22 % (>= 20 %)"),
        ([{"clip_fraction": 0.22, "ratio_max": 3.0, "clip_range": 0.2}] * 10, "healthy", ""),
    ],
)
def test_the_verdict_on_the_current_state(rows: list[dict[str, Any]], level: Level, said: str) -> None:
    """Each rule alone: its level, and a first reason that says what was found and since when."""
    found = verdict(rows)
    assert found.level == level
    assert said in found.reasons[0]


@pytest.mark.parametrize(
    ("row", "first"),
    [
        ({"explained_variance": 0.0}, LEARNING_UPDATES + 10),
        ({"value_loss": math.nan}, 1),
        ({"value_loss": 0.0, "policy_loss": 0.0}, 3),
        ({"skipped": True}, 3),
    ],
)
def test_a_run_is_critical_from_here_on(row: dict[str, Any], first: int) -> None:
    """What a critic explains waits for 28 updates, and then for ten more; what cannot be counts at once."""
    assert verdict([row] * (first - 1), before=0).level != "critical"
    assert verdict([row] * first, before=0).level == "critical"


def test_nothing_is_said_before_there_is_anything_to_say() -> None:
    """No rows, no losses and too few rows are each unknown, for a reason of their own."""
    assert (before := verdict([], before=0)).level == "unknown"
    assert before.reasons == ["Nothing has been recorded yet."]
    assert verdict([{"value_loss": None, "policy_loss": None}] * 60, before=0).reasons == ["No loss has been measured."]
    early = verdict([{}] * (LEARNING_UPDATES - 1), before=0)
    assert early.level == "unknown"
    assert early.reasons == ["Only 27 updates so far; critic and outcome are judged from 28 on."]
    assert verdict([{}] * LEARNING_UPDATES, before=0).level == "unknown"
    assert verdict([{}] * (LEARNING_UPDATES + 1), before=0).level == "healthy"


def test_a_sliding_mean_is_the_return_of_a_run_that_has_no_other() -> None:
    """As in the logs of most trainers; a rule that does not take it says what it needs, and nothing is asked for."""
    means = [10.0 + 2.0 * min(i, 60) + i % 3 for i in range(100)]
    found = verdict([{"episode_return_sliding_mean": mean} for mean in means], before=0)
    learning = found.questions["learning"]
    assert (found.level, learning.level) == ("healthy", "healthy")
    assert learning.reason.startswith(
        "The mean return of the last 100 episodes is 131.0 at update 99; it began as low as "
    )
    assert "return_fall" in found.judged
    needs = {one.rule: one.needs for one in found.not_judged}
    assert needs["fall_for_good"] == ["episode_return_mean", "entropy"]
    assert needs["return_below_first"] == ["episode_return_mean", "episode_length_mean"]
    assert "return_at_lowest" not in needs
    assert not any("Whether the policy learns" in reason for reason in found.reasons)
    both = [{"episode_return_sliding_mean": mean, "episode_return_mean": 500.0 + i} for i, mean in enumerate(means)]
    assert verdict(both, before=0).questions["learning"].reason.startswith("The episode return is 59")


def test_what_cannot_be_judged_is_unknown_and_says_what_to_record() -> None:
    """With losses alone only the mechanics are judged, however long the run is, and whatever the scale of its loss."""
    found = verdict([{"explained_variance": None, "value_loss": 138.0 + i % 7} for i in range(200)], before=0)
    assert found.level == "unknown"
    assert [answer.level for answer in found.questions.values()] == ["healthy", "unknown", "unknown"]
    assert found.reasons[1:] == [
        "Whether the critic learns cannot be judged; record return_std or explained_variance.",
        "Whether the policy learns cannot be judged; record episode_return_mean.",
    ]
    needs = {one.rule: one.needs for one in found.not_judged}
    assert needs["critic_error"] == ["return_std"]
    assert needs["return_fall"] == ["episode_return_mean"]
    assert {"impossible_value_loss", "explosion"} <= set(found.judged)
    assert not set(found.judged) & set(needs)


@pytest.mark.parametrize(("clip", "named"), [(0.2, True), (5.0, False), (None, False)])
def test_a_value_clip_that_makes_the_critic_lag_is_named(clip: float | None, named: bool) -> None:
    """A clip of 0.2 on targets that spread by 10 lets a prediction move by a fiftieth of that per update."""
    found = verdict([{"return_std": 10.0, "value_loss": 40.0}] * 40, value_clip=clip)
    assert any("lets a predicted value move by 0.2 per update" in reason for reason in found.reasons) == named


def test_a_solved_task_is_no_failure_of_the_critic() -> None:
    """Where returns hardly vary any more, their usual variance is the measure, and explained variance says nothing."""
    solved = [{"return_std": 0.1, "value_loss": 0.05, "explained_variance": -2.0, "value_std": 0.005}] * 40
    assert verdict(solved).level == "critical"
    learning = [{"return_std": 20.0, "value_loss": 5.0, "explained_variance": 0.9, "value_std": 19.0}] * 60
    assert verdict([*learning, *solved], before=0).level == "healthy"


BEGINNING = [20.0, 21.0, 19.0, 20.0, 22.0] * 4
SELDOM = [0.0, 0.0, 0.03, 0.0, 0.0]


@pytest.mark.parametrize(
    ("returns", "level", "rule"),
    [
        (BEGINNING + [9.0] * 40, "critical", "return_below_start"),
        (BEGINNING + [18.0] * 40, "unknown", ""),
        (BEGINNING + [200.0] * 30 + [150.0] * 70, "healthy", ""),
        (BEGINNING + [200.0] * 30 + [90.0] * 15, "warning", "return_falling"),
        (BEGINNING + [200.0] * 30 + [90.0] * 80, "warning", "return_falling"),
        (BEGINNING + [200.0] * 30 + [40.0] * 30, "warning", "return_falling"),
        (BEGINNING + [200.0] * 30 + [34.0] * 80, "critical", "return_fall"),
        ([-1200.0, -1300.0, -1250.0, -1100.0, -1200.0] * 4 + [-2000.0] * 40, "critical", "return_below_start"),
        ([0.02, 0.0, 0.05, 0.0, 0.02] * 4 + [-0.05, -0.02, -0.08] * 10, "unknown", ""),
        (BEGINNING * 4, "warning", "return_stalled"),
        (BEGINNING * 32, "critical", "return_stalled"),
        ([20.0] * 80, "warning", "return_unmoved"),
        (SELDOM * 60, "warning", "return_stalled"),  # 60 of its 300 updates are above its lowest return
        (SELDOM * 40, "unknown", ""),
    ],
)
def test_the_outcome_rises_holds_falls_or_does_not_move(returns: list[float], level: Level, rule: str) -> None:
    """A return that is lost, well below its start, or stalled for long is critical; a lesser or noisy fall is not.

    One that has never risen is unknown, though the critic is healthy.
    """
    found = verdict([{"episode_return_mean": value} for value in returns], before=0)
    learning = found.questions["learning"]
    assert found.level == level
    assert learning.level == level
    assert (learning.level == "unknown") == ("It has not risen beyond its noise yet." in learning.reason)
    assert not rule or found.findings[0].rule == rule
    assert found.questions["critic"].level == "healthy"


def test_the_ratio_of_the_losses_never_decides() -> None:
    """However far it is from its bounds, for however long."""
    assert verdict([{"policy_loss": 1e-9}] * 200).level == "healthy"
    assert verdict([{"policy_loss": 1e6, "value_loss": 0.01}] * 200).level == "healthy"


def test_reasons_are_ranked_and_data_that_is_lost_is_named() -> None:
    """The most severe reason comes first; gaps, drops and damage warn; remarks come last."""
    found = verdict(
        [{"kl_divergence": 0.5}] * 9 + [{"value_loss": math.nan}],
        missing=[(3, 3), (7, 9)],
        dropped=2,
        damage=1,
        remarks=["It is assumed."],
    )
    assert found.level == "critical"
    assert found.reasons[0].startswith("Value loss is NaN")
    assert found.reasons[1].startswith("KL divergence was 0.5 (> 0.03) at update 62. The policy moves far")
    assert "4 updates are missing: 3, 7 to 9." in found.reasons
    assert "The recorder had to drop 2 rows." in found.reasons
    assert found.reasons[-1] == "It is assumed."
    assert verdict([{}] * 10, missing=[(3, 3)]).level == "warning"


def test_the_worst_reason_comes_first_whichever_rule_gives_it(record: Callable[..., Path], command: Any) -> None:
    """A rule that warns stands above one that is critical in the table of rules, and below it in every verdict."""
    dead = {"explained_variance": 0.0, "policy_loss": -0.01, "value_loss": 0.5}
    rows = [{"update": update, **dead} for update in range(60) if update != 30]
    path = record([*rows, {"update": 60, **dead, "skipped": True}])
    done = command("report", "--run", path, "--format", "json")
    found = json.loads(done.stdout)["verdict"]
    assert found["level"] == "critical"
    starts = ["The critic explains nothing", "An update was skipped", "1 update is missing"]
    places = [next(i for i, reason in enumerate(found["reasons"]) if reason.startswith(start)) for start in starts]
    assert places == sorted(places)
    assert places[0] == 0
    text = " ".join(command("report", "--run", path).stdout.split())
    assert 0 <= text.index(starts[0]) < text.index(starts[1]) < text.index(starts[2])
