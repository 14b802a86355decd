"""Each way in which version 0.1.0 misjudged runs outside its own study, on the smallest run that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.analyzer.judging.told import Told, around, line, told

from esper_analyzer.judging.course import LEARNING_UPDATES
from esper_analyzer.judging.returns import PROGRESS, Returns
from esper_analyzer.judging.verdict import REMARK, RunFacts


def remarks_of(run: Told) -> str:
    """The remarks of the last verdict."""
    return " ".join(one.text for one in run.last.findings if one.rule == REMARK)


# ---------------------------------------------------------------------- 1: nothing to explain


@pytest.mark.parametrize(
    "returns",
    [line((0, 0.4), (8, 0.9), (400, 0.9)), line((0, 0.2), (100, 0.9), (400, 0.9))],
    ids=["solved_at_once", "learned"],
)
def test_a_bandit_has_no_returns_to_explain(returns: list[float]) -> None:
    """An optimal bandit is never critical: its episodes have one step, so that explained variance 0 is no failure."""
    run = told(
        episode_return_mean=around(returns, 0.01),
        episode_length_mean=1.0,
        explained_variance=around(0.0, 0.02, 400, seed=1),
        return_std=around(0.3, 0.01, 400, seed=2),
        value_std=0.001,
        value_loss=around(0.045, 0.002, 400, seed=3),
    )
    assert run.worst != "critical"
    assert "explains_nothing" not in run.rules()
    assert run.last.questions["critic"].level != "critical"


def unexplained(returns: list[float | None]) -> Told:
    """A run of 90 updates whose critic explains nothing; the spread of returns was not recorded, as in many logs."""
    explained, losses = around(0.0, 0.005, 90, seed=1), around(0.3, 0.05, 90, seed=2)
    return told(episode_return_mean=returns, explained_variance=explained, value_loss=losses)


@pytest.mark.parametrize(("explained", "is_flat"), [(0.0, True), (0.004, True), (0.008, False), (-0.008, False)])
def test_a_critic_whose_spread_is_unknown_is_flat_where_it_explains_next_to_nothing(
    explained: float, is_flat: bool
) -> None:
    """Mastermind: a critic that has begun to learn explains most of a per cent while its return still stands."""
    found, losses = around(explained, 1e-5, 90, seed=1), around(0.3, 0.05, 90, seed=2)
    run = told(episode_return_mean=around(0.2, 0.02, 90), explained_variance=found, value_loss=losses)
    assert ("explains_nothing" in run.rules()) == is_flat
    known = told(
        episode_return_mean=around(0.2, 0.02, 90),
        explained_variance=found,
        value_loss=losses,
        return_std=around(0.6, 0.01, 90, seed=3),
        value_std=0.01,
    )
    assert "explains_nothing" in known.rules()


@pytest.mark.parametrize(
    ("length", "steps", "is_critical"),
    [(300.0, 128, False), (20.0, 128, True), (300.0, 9600, True), (None, 128, True), (300.0, None, True)],
)
def test_a_sliding_mean_counts_as_far_as_other_episodes_have_ended(
    length: float | None, steps: int | None, is_critical: bool
) -> None:
    """A maze: one early goal by chance stays in the mean of the last 100 episodes for hundreds of updates.

    Where many episodes end in each update, the same numbers are of thousands of episodes: it was better, and is not.
    Where steps or lengths are not known, each mean counts.
    """
    run = told(
        episode_return_mean=None,
        episode_return_sliding_mean=line((0, 0.06), (25, 0.06), (30, 0.01), (100, 0.01)),
        episode_length_sliding_mean=length,
        env_steps=None if steps is None else [steps * (i + 1) for i in range(100)],
        explained_variance=0.4,
    )
    assert ("return_below_start" in run.rules()) == is_critical


def test_a_return_that_is_measured_rarely_is_waited_for() -> None:
    """A critic that explains nothing is critical once the return has not risen in 30 updates that measured it.

    Where episodes are as long as several updates, that takes several times as many; until then the return may rise.
    """
    rises, stands = around(line((0, -9.0), (90, -2.0)), 0.4), around(-9.0, 0.4, 90)
    assert "explains_nothing" not in unexplained([at if i % 3 == 0 else None for i, at in enumerate(rises)]).rules()
    assert "explains_nothing" not in unexplained([at if i % 4 == 0 else None for i, at in enumerate(stands)]).rules()
    assert "explains_nothing" in unexplained([*stands]).rules()


@pytest.mark.parametrize(("loss", "least"), [(0.3, 28), (1000.0, 28 + 70)])
def test_a_critic_has_more_time_where_returns_are_large(loss: float, least: int) -> None:
    """Its predictions move by a limited step with each update, and unscaled returns of −150 are far away.

    The sound runs of LunarLander-v3 whose value loss begins at 1,000 explain nothing for 70 updates and more.
    """
    columns: dict[str, Any] = {
        "explained_variance": around(0.0, 0.005, 140, seed=1),
        "episode_return_mean": around(-150.0, 20.0, 140),
    }
    run = told(**columns, value_loss=around(loss, 0.1 * loss, 140, seed=2))
    first = run.first("critical")
    assert first is not None
    assert least <= first <= least + 15
    assert "explains_nothing" in run.rules()


def test_where_hardly_anything_is_earned_there_is_little_to_explain() -> None:
    """A goal that one update in six finds by chance: a critic cannot explain it yet, and the policy has not risen."""
    returns = [0.2 if i % 6 == 4 else 0.0 for i in range(110)]
    columns: dict[str, Any] = {
        "explained_variance": around(0.0, 0.005, 110, seed=1),
        "value_loss": around(0.3, 0.05, 110, seed=2),
    }
    rules = told(**columns, episode_return_mean=returns).rules()
    assert not rules & {"explains_nothing", "unexplained_for_long"}
    often = [0.2 if i % 6 in (0, 2, 4) else 0.1 for i in range(110)]
    assert "explains_nothing" in told(**columns, episode_return_mean=often).rules()


@pytest.mark.parametrize(("explained", "level"), [(around(0.0, 0.005, 90, seed=1), "warning"), (6e-8, "critical")])
def test_a_critic_of_which_no_outcome_is_known(explained: list[float] | float, level: str) -> None:
    """Without a return and its deviation, nobody knows whether there is anything to explain: a bandit has nothing.

    A critic that says exactly the same of every state is critical all the same.
    """
    losses = around(0.3, 0.05, 90, seed=2)
    run = told(explained_variance=explained, value_loss=losses)
    assert run.last.level == level
    assert ("explains_nothing" in run.rules()) == (level == "critical")
    needs = {one.rule: one.needs for one in run.last.not_judged}
    assert needs.get("explains_nothing") == (None if level == "critical" else ["return_std"])
    known = told(explained_variance=explained, value_loss=losses, return_std=around(0.8, 0.05, 90, seed=3))
    assert known.last.level == "critical"


def test_a_bandit_that_was_optimal_from_the_start() -> None:
    """A bandit whose first update already found the best arm is never critical: nothing was left to learn."""
    run = told(
        episode_return_mean=around(0.9, 0.01, 500),
        episode_length_mean=1.0,
        explained_variance=around(0.0, 0.02, 500, seed=1),
        return_std=around(0.3, 0.01, 500, seed=2),
        value_loss=around(0.045, 0.002, 500, seed=3),
    )
    assert run.worst != "critical"


def test_constant_rewards_leave_nothing_to_explain() -> None:
    """With a constant reward every episode returns the same: the critic is no failure, and nothing is critical."""
    run = told(
        episode_return_mean=10.0,
        return_std=around(2.9, 0.01, 400),
        return_mean=5.0,
        explained_variance=around(-0.02, 0.03, 400, seed=1),
        value_loss=around(4.2, 0.05, 400, seed=2),
    )
    assert run.worst != "critical"


def test_a_solved_task_hardly_varies() -> None:
    """Explained variance −18 where the returns no longer vary, as in a task that is solved, is not critical."""
    rows = 240
    run = told(
        episode_return_mean=around(line((0, 5.0), (80, 1000.0), (rows, 1000.0)), 0.5),
        episode_length_mean=line((0, 5.0), (80, 1000.0), (rows, 1000.0)),
        return_std=around(line((0, 4.0), (80, 30.0), (110, 30.0), (130, 0.5), (rows, 0.5)), 0.02, seed=1),
        return_mean=line((0, 4.0), (80, 90.0), (rows, 99.0)),
        explained_variance=around(line((0, 0.0), (60, 0.9), (110, 0.9), (130, -18.0), (rows, -18.0)), 0.02, seed=2),
        value_loss=around(line((0, 8.0), (60, 40.0), (110, 40.0), (130, 2.3), (rows, 2.3)), 0.1, seed=3),
    )
    assert run.worst != "critical"
    assert run.last.level == "healthy"


def test_a_solved_task_is_seen_without_the_spread_of_returns() -> None:
    """Where return_std was not recorded, value loss and explained variance say that returns no longer vary."""
    rows = 240
    explained = around(line((0, 0.0), (60, 0.9), (110, 0.9), (130, -18.0), (rows, -18.0)), 0.02)
    std = line((0, 4.0), (80, 30.0), (110, 30.0), (130, 0.5), (rows, 0.5))
    run = told(
        episode_return_mean=around(line((0, 5.0), (80, 1000.0), (rows, 1000.0)), 0.5),
        explained_variance=explained,
        value_loss=[0.5 * (1.0 - ev) * one**2 for ev, one in zip(explained, std, strict=True)],
    )
    assert run.worst != "critical"
    assert run.last.level == "healthy"


def test_a_floor_of_noise_is_no_failure() -> None:
    """Slippery FrozenLake: a critic that can explain no more than 0.15 under a return that rises is not critical."""
    run = told(
        episode_return_mean=around(line((0, 0.02), (60, 0.05), (150, 0.7), (300, 0.7)), 0.03),
        explained_variance=around(0.15, 0.03, 300, seed=1),
        return_std=0.3,
        value_loss=0.038,
    )
    assert run.worst != "critical"


# ---------------------------------------------------------------------- 2: a true reading is no failed run


def test_a_value_clip_makes_the_critic_lag_and_not_the_policy() -> None:
    """CleanRL's value clip of 0.2 on returns in the hundreds: EV −2 under a rising return warns and names the clip."""
    rows = 120
    run = told(
        RunFacts(value_clip=0.2),
        episode_return_mean=around(line((0, 20.0), (100, 480.0), (rows, 490.0)), 10.0),
        episode_length_mean=line((0, 20.0), (100, 480.0), (rows, 490.0)),
        explained_variance=around(-2.0, 0.2, rows, seed=1),
        return_std=around(line((0, 10.0), (rows, 40.0)), 0.5, seed=2),
        return_mean=line((0, 11.0), (rows, 90.0)),
        value_loss=line((0, 150.0), (rows, 2400.0)),
    )
    assert run.worst == "warning"
    assert run.last.questions["critic"].level == "warning"
    assert run.last.questions["learning"].level == "healthy"
    assert "The clip of the value loss lets a predicted value move by 0.2 per update" in remarks_of(run)
    assert "clip of the value loss" not in remarks_of(
        told(RunFacts(value_clip=100.0), explained_variance=[-2.0] * 60, return_std=40.0)
    )


# ---------------------------------------------------------------------- 3: foreign scales


@pytest.mark.parametrize("loss", [549.0, 2.5e4, 138.0, 0.016, 1e-5])
def test_a_value_loss_is_of_any_scale(loss: float) -> None:
    """A value loss of 549 in a log with losses and returns only is not critical, and what to record is named."""
    run = told(
        value_loss=around(loss, 0.1 * loss, 200),
        episode_return_mean=around(line((0, 20.0), (150, 300.0), (200, 300.0)), 8.0),
    )
    assert run.worst in ("healthy", "unknown")
    assert run.last.level == "healthy"
    assert run.last.questions["critic"].level == "unknown"
    assert "Whether the critic learns cannot be judged; record return_std or explained_variance." in remarks_of(run)


@pytest.mark.parametrize("loss", [549.0, 0.016])
def test_losses_alone_say_nothing_of_the_critic(loss: float) -> None:
    """A log with losses only is neither critical nor healthy but unknown, and both remedies are named."""
    run = told(value_loss=around(loss, 0.1 * loss, 200))
    assert set(run.levels) == {"unknown"}
    assert run.last.questions["mechanics"].level == "healthy"
    assert "record return_std or explained_variance" in remarks_of(run)
    assert "record episode_return_mean" in remarks_of(run)


# ---------------------------------------------------------------------- 4: the start


def test_short_episodes_end_first() -> None:
    """heist: returns of 10.0 while only short episodes have ended, 2.5 from the sixth update on, are no fall."""
    rows = 320
    run = told(
        episode_return_mean=around([10.0, 8.0, 6.0, 4.5, 3.5, *line((0, 2.5), (150, 2.5), (rows - 5, 7.0))], 0.15),
        episode_length_mean=[103.0, 250.0, 400.0, 600.0, 750.0, *[839.0] * (rows - 5)],
        explained_variance=around(line((0, 0.0), (60, 0.6), (rows, 0.8)), 0.03, seed=1),
        return_std=around(1.5, 0.05, rows, seed=2),
    )
    assert run.worst != "critical"
    assert not {"return_below_start", "return_fall"} & run.rules()


def test_a_run_that_gets_worse_than_its_start_is_critical() -> None:
    """A return that falls from 25.7 to 9.4 after its start is critical, though nothing was ever gained."""
    run = told(
        episode_return_mean=around([25.7] * 20 + line((0, 25.7), (10, 9.4), (60, 9.4)), 0.5),
        explained_variance=0.8,
        return_std=10.0,
    )
    assert run.last.level == "critical"
    assert run.last.findings[0].rule == "return_below_start"


# ---------------------------------------------------------------------- 5: nothing happens


STILL = [20.0 + (-2.0, 1.0, 0.0, 2.0, -1.0)[i % 5] for i in range(640)]
"""A return that stays where it was, whichever rows one looks at."""


def test_nothing_happens_and_it_is_seen() -> None:
    """Explained variance 0.00 ± 0.02 and a return that never leaves its start: a warning early, then critical."""
    run = told(
        episode_return_mean=STILL,
        episode_length_mean=20.0,
        explained_variance=around(0.0, 0.02, 640, seed=1),
        return_std=around(6.0, 0.2, 640, seed=2),
        value_std=0.5,
        value_loss=18.0,
    )
    seen = run.levels[LEARNING_UPDATES + 20 :]
    assert set(seen) <= {"warning", "critical"}
    assert set(run.levels[150:]) == {"critical"}
    assert run.last.questions["critic"].level == run.last.questions["learning"].level == "critical"


def test_a_policy_that_learns_nothing_under_a_perfect_critic() -> None:
    """A return that stays at its start for hundreds of updates is a warning, then critical, however good the critic."""
    run = told(episode_return_mean=STILL, explained_variance=around(0.95, 0.01, 640, seed=1), return_std=6.0)
    assert run.levels[120] == "warning"
    assert run.levels[-1] == "critical"
    assert run.last.questions["critic"].level == "healthy"
    assert run.last.questions["learning"].level == "critical"


def test_noise_alone_is_no_progress() -> None:
    """Of 60 returns that are nothing but noise around one level, at most a tenth seem to have risen in 340 updates."""
    at = Returns.NAMES.index("return_rise")
    rises = [Returns().extend(np.array(around(20.0, 2.0, 340, seed)))[at][-1] for seed in range(60)]
    assert sum(rise >= PROGRESS for rise in rises) <= 6


@pytest.mark.parametrize("kl", [0.0, 2e-7], ids=["frozen", "clip_zero"])
def test_a_policy_that_does_not_move_is_critical(kl: float) -> None:
    """KL divergence and entropy stay where they began: critical after 80 updates, though nothing else looks wrong."""
    run = told(
        kl_divergence=kl,
        entropy=around(0.69, 1e-4, 100),
        episode_return_mean=around(20.0, 2.0, 100, seed=1),
        explained_variance=around(0.8, 0.02, 100, seed=2),
    )
    assert run.first("critical") == 79
    assert run.last.findings[0].rule == "policy_unmoved"
    assert run.last.questions["mechanics"].level == "critical"


@pytest.mark.parametrize(
    "moves",
    [
        {"kl_divergence": 1e-4},
        {"entropy": line((0, 1.38), (120, 1.3))},
        {"episode_return_mean": around(line((0, 20.0), (10, 20.0), (35, 200.0), (120, 200.0)), 2.0)},
    ],
    ids=["kl", "entropy", "return"],
)
def test_a_policy_that_moves_in_one_way_is_never_called_frozen(moves: dict[str, Any]) -> None:
    """One gradient step per rollout has a KL of 0, and a fixed action std a constant entropy: neither is enough."""
    still: dict[str, Any] = {
        "kl_divergence": 0.0,
        "entropy": 1.38,
        "episode_return_mean": around(20.0, 2.0, 120, seed=1),
    }
    run = told(explained_variance=around(0.8, 0.02, 120, seed=2), **(still | moves))
    assert run.worst != "critical"


def idle(**changed: Any) -> Told:
    """100 updates as SB3 logs them under gSDE at a learning rate of 0: their entropy is that of sampled actions."""
    columns: dict[str, Any] = {
        "kl_divergence": 0.0,
        "clip_fraction": 0.0,
        "policy_loss": around(0.0, 1e-8, 100),
        "entropy": around(2.7, 0.05, 100, seed=1),
        "episode_return_mean": around(-1200.0, 60.0, 100, seed=2),
        "explained_variance": around(0.8, 0.02, 100, seed=3),
    }
    return told(**columns | changed)


def test_updates_that_change_nothing_are_seen_under_a_sampled_entropy() -> None:
    """KL divergence, clip fraction and policy loss are 0: critical after 80 updates, whatever the entropy does."""
    assert idle().first("critical") == 79
    assert idle().last.findings[0].rule == "policy_unmoved"


@pytest.mark.parametrize(
    "changed", [{"policy_loss": around(-0.01, 0.01, 100)}, {"clip_fraction": None}], ids=["loss", "clip"]
)
def test_a_kl_that_is_not_computed_is_no_sign_of_a_frozen_policy(changed: dict[str, Any]) -> None:
    """A trainer that writes 0 for it has policy losses of another size, or says nothing of what was clipped."""
    assert "policy_unmoved" not in idle(**changed).rules()


def test_a_collapse_is_seen_where_episodes_take_several_updates() -> None:
    """A return that was measured in every third update is critical within 90 updates of its fall, not within 210."""
    level = line((0, 20.0), (120, 200.0), (180, 200.0), (181, 20.0), (290, 20.0))
    returns = [at if i % 3 == 0 else None for i, at in enumerate(around(level, 2.0))]
    run = told(episode_return_mean=returns, explained_variance=0.9)
    first = run.first("critical")
    assert first is not None
    assert 181 + 70 <= first <= 181 + 90
    assert run.last.findings[0].rule == "return_fall"


def test_a_task_that_was_learned_leaves_no_entropy_to_warn_of() -> None:
    """An entropy of 0.02 is a warning while the return stands still, and none once it has risen and stays."""
    still = around(20.0, 2.0, 60)
    risen = around(line((0, 20.0), (40, 200.0), (60, 200.0)), 2.0)
    entropy = line((0, 0.69), (20, 0.02), (60, 0.02))
    run = told(episode_return_mean=still, explained_variance=0.9, entropy=entropy)
    assert "entropy_unrisen" in {one.rule for one in run.last.findings}
    assert told(episode_return_mean=risen, explained_variance=0.9, entropy=entropy).last.level == "healthy"


def test_a_return_that_is_where_it_began_is_not_healthy_under_a_good_critic() -> None:
    """It is unknown, and says that a goal would tell; with one that was reached, the run is healthy."""
    rows: dict[str, Any] = {"episode_return_mean": around(20.0, 2.0, 50, seed=4), "explained_variance": 0.9}
    run = told(**rows)
    assert run.last.level == "unknown"
    assert "return_goal" in run.last.findings[0].text
    assert told(**rows, return_goal=15.0).last.level == "healthy"
    assert "return_goal" not in told(**rows, return_goal=100.0).last.findings[0].text
    rare = [at if i % 10 == 0 else None for i, at in enumerate(around(line((0, 20.0), (50, 90.0)), 2.0))]
    few = told(episode_return_mean=rare, explained_variance=0.9)
    assert few.last.level == "unknown"
    assert "needs 15 updates in which episodes ended" in few.last.findings[0].text


def test_a_policy_has_nothing_to_follow_where_nothing_is_earned() -> None:
    """A goal is found by chance in one update of 15 and the policy does not move: not critical, as on a frozen lake."""
    paid = [1.0 if i % 15 == 7 else 0.0 for i in range(130)]
    columns: dict[str, Any] = {"kl_divergence": 1e-7, "entropy": around(0.69, 1e-4, 130)}
    assert "critical" not in told(**columns, episode_return_mean=paid).levels
    often = [1.0 if i % 3 else 0.0 for i in range(130)]
    assert told(**columns, episode_return_mean=often).last.findings[0].rule == "policy_unmoved"


def test_an_entropy_bonus_that_is_too_high_holds_the_policy_where_it_began() -> None:
    """A policy that stays uniform is critical after 80 updates, though episodes seem to become a little longer."""
    run = told(
        kl_divergence=[1.5e-4, *[1e-6] * 99],
        entropy=around(0.6925, 1e-4, 100),
        episode_return_mean=around(line((0, 21.0), (30, 24.5), (100, 24.5)), 1.0, seed=1),
        explained_variance=around(0.5, 0.02, 100, seed=2),
    )
    assert (run.judge.measured_now("return_rise") or 0.0) > PROGRESS
    assert run.last.findings[0].rule == "policy_unmoved"
    assert run.last.level == "critical"


def test_a_policy_that_moves_and_learns_nothing_is_critical() -> None:
    """KL divergence 0.01 in each update, and no rise: critical after 213 of them, and never under a rising return."""
    run = told(kl_divergence=0.01, episode_return_mean=STILL[:240], explained_variance=0.9)
    assert run.last.findings[0].rule == "policy_wanders"
    assert run.first("critical") == 226  # 213 ways of √0.02 are more than 30; the first counts in the 15th update
    rising = told(
        kl_divergence=0.01, episode_return_mean=around(line((0, 20.0), (150, 200.0)), 4.0), explained_variance=0.9
    )
    assert "policy_wanders" not in rising.rules()


def test_a_return_that_is_measured_seldom_says_nothing_of_the_way_of_a_policy() -> None:
    """Episodes end in one update of fifteen: 22 returns that did not rise are too few, and 45 are enough."""
    rare = [at if i % 15 == 0 else None for i, at in enumerate(around(20.0, 2.0, 330))]
    assert "policy_wanders" not in told(kl_divergence=0.01, episode_return_mean=rare, explained_variance=0.9).rules()
    seldom = [at if i % 4 == 0 else None for i, at in enumerate(around(20.0, 2.0, 330))]
    assert "policy_wanders" in told(kl_divergence=0.01, episode_return_mean=seldom, explained_variance=0.9).rules()


@pytest.mark.parametrize(("entropy", "level"), [(1.38, "warning"), (0.06, "healthy"), (None, "unknown")])
def test_a_bandit_that_learns_nothing_is_warned_of(entropy: float | None, level: str) -> None:
    """In a bandit each action is paid at once: 40 updates are enough, but not under a policy that was trained before.

    It is a warning alone, since what can be won may be less than the noise, as in Blackjack. Neither is it judged
    without the entropy, since a bandit may be at its best from the start.
    """
    run = told(episode_return_mean=STILL[:100], episode_length_mean=1.0, entropy=entropy)
    assert ("bandit_unrisen" in run.rules()) == (level == "warning")
    assert run.first("critical") is None
    at_goal = told(return_goal=min(STILL), episode_return_mean=STILL[:100], episode_length_mean=1.0, entropy=entropy)
    assert "bandit_unrisen" not in at_goal.rules()


def test_a_policy_that_is_stuck_at_its_lowest_is_critical() -> None:
    """Goals in some of the first updates and none in 150 after: critical; one more goal, and it is not."""
    returns = [0.1, 0.0, 0.0, 0.0] * 8 + [0.0] * 160
    run = told(episode_return_mean=returns)
    assert run.last.findings[0].rule == "return_at_lowest"
    assert run.first("critical") == 178  # the last goal was at update 28
    again = told(episode_return_mean=[*returns[:100], 0.05, *returns[100:]])
    assert "critical" not in again.levels


@pytest.mark.parametrize("lengths", [[8.0, 20.0], [20.0, 20.0]])
def test_a_return_that_is_always_0_is_warned_of(lengths: list[float]) -> None:
    """The same return in 420 updates is a warning and no more: a goal may be found later, as on a frozen lake."""
    run = told(episode_return_mean=0.0, episode_length_mean=lengths * 210)
    assert run.last.level == "warning"
    assert "return_unmoved" in run.rules()
    assert "critical" not in run.levels


def test_a_return_that_is_always_0_reaches_no_goal() -> None:
    """A goal of −100 is not reached by rewards that never arrive; returns that are above it from the start reach it."""
    seldom = [0.0 if i % 5 == 0 else None for i in range(120)]
    unpaid = told(return_goal=-100.0, episode_return_mean=seldom, explained_variance=0.9)
    assert unpaid.last.level == "unknown"
    assert (
        unpaid.last.questions["learning"].reason == "Every return was 0 up to update 119: look whether rewards arrive."
    )
    solved = told(return_goal=-100.0, episode_return_mean=around(-90.0, 2.0, 120), explained_variance=0.9)
    assert solved.last.questions["learning"].level == "healthy"


def test_a_return_that_rose_and_is_back_where_it_began_is_not_healthy() -> None:
    """It rises from 20 to 40, beyond its noise, and falls again to 18, which is too little for a rule of its own."""
    course = line((0, 20.0), (60, 20.0), (110, 40.0), (150, 40.0), (160, 18.0), (200, 18.0))
    run = told(episode_return_mean=around(course, 4.0), explained_variance=0.9)
    assert run.levels[150] == "healthy"
    assert run.last.level == "unknown"
    assert "It had risen, and is back where it began." in run.last.questions["learning"].reason


@pytest.mark.parametrize(
    ("entropy", "level"), [(around(0.69, 1e-4, 230), "critical"), (line((0, 0.69), (230, 0.3)), "warning")]
)
def test_a_policy_that_stays_random_is_critical(entropy: list[float], level: str) -> None:
    """The entropy stays at its highest for 200 updates in which the return does not rise."""
    run = told(entropy=entropy, episode_return_mean=STILL[:230], explained_variance=0.9, kl_divergence=1e-3)
    assert run.last.level == level
    assert ("entropy_at_ceiling" in run.rules()) == (level == "critical")


@pytest.mark.parametrize(("length", "level"), [(1.0, "critical"), (3.0, "unknown")])
def test_a_return_below_the_first_ones(length: float, level: str) -> None:
    """Worse from the sixth update on is worse than at first, unless the first episodes to end were short ones."""
    returns = around([22.0] * 5 + [4.0] * 55, 0.3)
    run = told(
        episode_return_mean=returns,
        episode_length_mean=[20.0] * 5 + [20.0 * length] * 55,
        explained_variance=around(0.8, 0.02, 60, seed=2),
    )
    assert ("return_below_first" in run.rules()) == (level == "critical")
    assert run.last.level == level


def test_a_rise_that_did_not_last_does_not_excuse_a_critic() -> None:
    """Explained variance near 0 while a return that once seemed to rise has long been at its start again: critical."""
    rows = 240
    risen = [20.0] * 20 + [24.0] * 25 + [20.0] * (rows - 45)
    run = told(
        episode_return_mean=around(risen, 1.0, seed=3),
        explained_variance=around(0.02, 0.02, rows, seed=1),
        return_std=6.0,
        value_std=0.5,
        value_loss=18.0,
    )
    assert (run.judge.measured_now("return_rise") or 0.0) >= PROGRESS
    assert "unexplained_for_long" in run.rules()
    assert run.last.questions["critic"].level == "critical"


def test_a_slow_rise_under_much_noise_is_progress() -> None:
    """Goals in 3 to 14 % of ten episodes each, as on a slippery lake: in 200 updates most of 40 runs have risen."""
    at = Returns.NAMES.index("return_rise")
    chance = np.array(line((0, 0.015), (30, 0.03), (160, 0.14), (200, 0.14)))
    runs = [np.random.default_rng(seed).binomial(10, chance) / 10.0 for seed in range(40)]
    assert sum(Returns().extend(run)[at][-1] >= PROGRESS for run in runs) >= 25


# ---------------------------------------------------------------------- 6: collapse after success


@pytest.mark.parametrize("after", [20.0, 28.0])
def test_a_collapse_after_success_is_critical(after: float) -> None:
    """A return that rose from 20 to 200 and falls back to its start is critical: the fall is from its own best."""
    run = told(
        episode_return_mean=around(
            line((0, 20.0), (15, 20.0), (70, 200.0), (100, 200.0), (115, after), (190, after)), 4
        ),
        explained_variance=around(0.8, 0.02, 190, seed=1),
        return_std=20.0,
    )
    assert (run.first("critical") or 0) > 100
    assert run.last.level == "critical"
    assert run.last.findings[0].rule == "return_fall"
    assert "critical" not in run.levels[:100]


def test_a_collapse_is_seen_under_the_noise_that_it_brings() -> None:
    """After a collapse single episodes still succeed: returns from 0 to 1 hide no fall from a return that was always 1.

    It is a warning as soon as ten returns show it, and critical once it has lasted.
    """
    up = around(line((0, 0.02), (20, 0.05), (50, 1.0), (100, 1.0)), 0.01)
    down = [max(0.0, at) for at in around(-0.1, 0.3, 100, seed=1)]
    run = told(episode_return_mean=[*up, *down], explained_variance=around(0.8, 0.02, 200, seed=2))
    assert run.levels[99] == "healthy"
    assert (run.first("warning") or 999) <= 100 + 20
    assert (run.first("critical") or 999) <= 100 + 85
    assert run.last.findings[0].rule == "return_fall"
    assert "return_falling" in run.rules()


@pytest.mark.parametrize(("steps", "after"), [(None, 70), (256, 70), (512, 70), (900, 40), (2048, 20), (16_384, 20)])
def test_a_fall_is_held_for_fewer_updates_where_they_are_large(steps: int | None, after: int) -> None:
    """36,000 environment steps are enough, of 20 updates at least, or 70 updates: a dip lasts for so long.

    What is smoothed falls half a window after the return.
    """
    env_steps = [None if steps is None else steps * (update + 1) for update in range(190)]
    returns = line((0, 20.0), (15, 20.0), (70, 200.0), (99, 200.0), (100, 20.0), (190, 20.0))
    run = told(episode_return_mean=around(returns, 4), explained_variance=0.8, return_std=20.0, env_steps=env_steps)
    first = run.first("critical")
    assert first is not None
    assert 99 + after <= first <= 99 + after + 10
    assert run.last.findings[0].rule == "return_fall"


def test_a_rise_that_chance_could_be_is_not_healthy() -> None:
    """Of 40 to 41 under a noise of 1 nobody knows whether it is learned; from 20 to 200 it is."""
    hardly = around(line((0, 40.0), (60, 40.0), (100, 41.0), (160, 41.0)), 1.0)
    rows: dict[str, Any] = {"explained_variance": 0.9, "return_std": 20.0}
    run = told(episode_return_mean=hardly, **rows)
    assert run.last.level == "unknown"
    assert "It has risen by 1.8 times its noise, and that is clear from 3 on." in run.last.findings[0].text
    assert told(episode_return_mean=line((0, 20.0), (160, 200.0)), **rows).last.level == "healthy"


@pytest.mark.parametrize(("entropy", "level"), [(0.3, "healthy"), (1e-6, "critical")])
def test_a_small_fall_is_for_good_without_entropy(entropy: float, level: str) -> None:
    """Of a gain of 180, 70 are lost: a policy with entropy may find back, one without it is critical."""
    run = told(
        episode_return_mean=around(
            line((0, 20.0), (15, 20.0), (70, 200.0), (100, 200.0), (115, 130.0), (200, 130.0)), 2
        ),
        entropy=line((0, 0.69), (100, entropy), (200, entropy)),
        explained_variance=around(0.8, 0.02, 200, seed=1),
        return_std=20.0,
    )
    assert run.last.questions["learning"].level == level
    assert ("fall_for_good" in run.rules()) == (level == "critical")


# ---------------------------------------------------------------------- 7: an explosion


@pytest.mark.parametrize("before", [1, 3, 9, 60])
@pytest.mark.parametrize("more", [{}, {"return_std": 0.3}], ids=["losses_only", "with_spread"])
def test_an_explosion_is_critical_before_it_is_infinite(before: int, more: dict[str, Any]) -> None:
    """Value losses of 0.0086, 648 and 5.3e7 are critical at 5.3e7, however many updates came before."""
    losses = [0.0086 + 1e-4 * (i % 5) for i in range(before)] + [648.0, 5.3e7, math.inf]
    run = told(value_loss=losses, **more)
    assert run.levels[before + 1] == "critical"
    assert run.levels[before + 2] == "critical"
    assert "critical" not in run.levels[: before + 1]


def test_one_spike_is_no_explosion() -> None:
    """One rollout that is very unlike the others does not end a run."""
    run = told(value_loss=[0.0086] * 40 + [648.0] + [0.0086] * 40)
    assert "critical" not in run.levels


@pytest.mark.parametrize("recorded", ["everything", "losses and returns"])
def test_a_critic_that_diverges_with_its_own_targets_is_critical(recorded: str) -> None:
    """A value loss that grows fourfold with each update, and bootstrapped targets with it: no decade stands out.

    The critic explains them all the same; only the returns of episodes stay where they were.
    """
    growth = [4.0 ** max(0, i - 60) for i in range(90)]
    columns: dict[str, Any] = {"value_loss": [0.5 * g for g in growth], "episode_return_mean": around(20.0, 1.0, 90)}
    if recorded == "everything":
        columns |= {"return_std": [5.0 * g**0.5 for g in growth], "explained_variance": 0.9}
    run = told(**columns)
    assert 61 + 13 <= (run.first("critical") or 0) <= 61 + 20
    assert run.last.findings[0].rule == "error_beyond_returns"
    assert run.last.questions["mechanics"].level == "critical"


@pytest.mark.parametrize("earned", [20.0, 1e-4], ids=["rewards_grow", "rewards_are_scaled"])
def test_an_error_that_is_large_beside_returns_from_the_start_is_none_that_grows(earned: float) -> None:
    """Rewards that grow, or that the trainer scales up, make a large error, and no critic that diverges."""
    grown = line((0, 1.0), (40, 1.0), (80, 1e3)) if earned == 20.0 else [1.0] * 80
    run = told(
        value_loss=[50.0 * g**2 for g in grown],
        episode_return_mean=[earned * g for g in grown],
        return_std=[10.0 * g for g in grown],
        explained_variance=0.3,
    )
    assert "error_beyond_returns" not in run.rules()


# ---------------------------------------------------------------------- 8: too early


def test_nothing_is_healthy_after_twelve_updates(record: Callable[..., Path], command: Callable[..., Any]) -> None:
    """After 12 updates with a squared error of 231 % of the variance the verdict is unknown, and a check says so."""
    measured = {"return_std": 1.0, "value_loss": 1.155, "explained_variance": -1.31, "episode_return_mean": 20.0}
    columns: dict[str, Any] = {name: [value] * 12 for name, value in measured.items()}
    run = told(**columns)
    assert set(run.levels) == {"unknown"}
    path = record([{"update": update, **measured} for update in range(12)])
    assert command("check", "--run", path).returncode == 0
    assert "unknown" in command("check", "--run", path).stdout


# ---------------------------------------------------------------------- 10: entropy


def test_an_entropy_that_was_once_negative_is_never_judged_as_discrete_again() -> None:
    """A differential entropy that was below 0 once may stand at 0.05 for ever without an alert."""
    run = told(
        entropy=[*line((0, 1.4), (20, 0.5)), -0.2, *around(0.05, 0.01, 200)],
        episode_return_mean=around(line((0, 20.0), (221, 300.0)), 5.0, seed=1),
        explained_variance=0.8,
    )
    assert not {"entropy", "entropy_collapse_risk"} & {one.rule.name for one in run.judge.in_force.values()}
    assert run.last.level == "healthy"
    discrete = told(
        entropy=[*line((0, 1.4), (20, 0.5)), 0.2, *around(0.05, 0.01, 200)],
        episode_return_mean=around(line((0, 20.0), (221, 300.0)), 5.0, seed=1),
        explained_variance=0.8,
    )
    assert "entropy" in {one.rule.name for one in discrete.judge.in_force.values()}
