"""Labels of the benchmark are decided by outcome beside the control, at the bounds that are written down."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import outcomes
from benchmark.fresh_environments import EVERY_TASK
from benchmark.outcomes import Facts, RunRows, control_facts, outcome_of, rlmutation_outcome

CARTPOLE = EVERY_TASK["CartPole-v1"]
GOOD = Facts(final_return=450.0, explained=0.8, value_loss=1.0)
YOUNG = replace(GOOD, final_return=60.0)
"""A control that has not learned yet."""


def label(kind: str = "policy-frozen", control: Facts | None = GOOD, env: str = "CartPole-v1", **facts: Any) -> Any:
    """Label and reasons of a run that is as good as its control but for `facts`."""
    has_crashed = facts.pop("has_crashed", False)
    outcome = outcome_of(EVERY_TASK[env], kind, replace(GOOD, **facts), control, has_crashed=has_crashed)
    return outcome.label, *outcome.reasons


def test_a_fault_without_harm_is_not_broken() -> None:
    """A run that learned is sound whatever was done to it, and a sound configuration that fails is broken."""
    assert label() == ("sound",)
    assert label("sound") == ("sound",)
    assert label("sound", final_return=20.0) == ("broken", "return")


def test_the_return_is_judged_at_its_bounds() -> None:
    """300 is learned, below 190 is failed, and what is between is unclear."""
    assert label(final_return=300.0) == ("sound",)
    assert label(final_return=299.9) == ("unclear",)
    assert label(final_return=190.0) == ("unclear",)
    assert label(final_return=189.9) == ("broken", "return")
    assert label(final_return=None) == ("unclear",)


def test_a_return_fails_only_where_the_control_learned() -> None:
    """Where sound runs of that age have not learned either, a low return says nothing."""
    assert label("sound", YOUNG, final_return=20.0) == ("sound",)
    assert label("sound", YOUNG, final_return=None) == ("sound",)
    assert label("policy-frozen", YOUNG, final_return=20.0) == ("unclear",)


def test_without_a_control_a_run_is_sound_only_if_it_has_learned() -> None:
    """Nobody knows then where a sound run would be; of a control whose episodes have not ended nothing is known."""
    for control in (None, replace(GOOD, final_return=None)):
        assert label("sound", control) == ("sound",)
        assert label("policy-frozen", None) == ("sound",)
        for earned in (20.0, 299.9, None):
            assert label("sound", control, final_return=earned) == ("unclear",)
            assert label("policy-frozen", control, final_return=earned) == ("unclear",)
    assert label("sound", None, env="ConstantReward", final_return=20.0) == ("sound",)


def test_a_critic_fails_only_where_its_control_explains() -> None:
    """Below the floor it fails if sound critics explain 0.2 more than the floor, and the return was not learned."""
    young = replace(YOUNG, explained=0.4)
    broken: dict[str, Any] = {"final_return": 20.0, "explained": 0.19}
    assert label("critic-frozen", young, **broken) == ("broken", "critic")
    assert label("critic-frozen", young, **broken | {"explained": 0.2}) == ("unclear",)
    assert label("critic-frozen", replace(young, explained=0.39), **broken) == ("unclear",)
    assert label("critic-frozen", replace(young, explained=None), **broken) == ("unclear",)
    assert label("critic-frozen", young, **broken | {"explained": None}) == ("unclear",)
    assert label("sound", young, **broken) == ("unclear",)


def test_a_fault_that_shows_under_a_learned_return_is_unclear() -> None:
    """A failing critic, an explosion, losses of exactly 0: neither found nor a false alarm if the task was learned."""
    assert label("critic-frozen", explained=-1.0) == ("unclear",)
    assert label("sound", explained=-1.0) == ("sound",)
    assert label("rate-jumps", value_loss=1001.0) == ("unclear",)
    assert label("rate-jumps", value_loss=999.0) == ("sound",)
    assert label("policy-frozen", is_idle=True) == ("unclear",)
    assert label("critic-frozen", explained=None) == ("unclear",)
    assert label("policy-frozen", explained=None) == ("sound",)


def test_a_run_without_finite_losses_is_broken() -> None:
    """NaN at the end breaks whatever the return; a crash before any NaN was recorded is unclear."""
    assert label(is_finite=False) == ("broken", "not finite")
    assert label(is_finite=False, has_crashed=True) == ("broken", "not finite")
    assert label(has_crashed=True) == ("unclear",)
    assert label(has_crashed=True, value_loss=1e30) == ("broken", "not finite")
    assert label(final_return=20.0, has_crashed=True) == ("broken", "return")


def test_environments_without_bounds_judge_nothing() -> None:
    """Where all policies earn the same, sound configurations are sound and faults unclear."""
    assert label("sound", env="ConstantReward", final_return=20.0) == ("sound",)
    assert label("policy-frozen", env="ConstantReward", final_return=20.0) == ("unclear",)
    assert label("policy-frozen", env="Bandit", final_return=0.9, explained=-3.0) == ("sound",)


def test_rlmutation_is_judged_by_its_evaluation() -> None:
    """At 250 a run is sound, below broken, and broken without an evaluation."""
    assert rlmutation_outcome(250.0).label == "sound"
    assert rlmutation_outcome(249.9).reasons == ("return",)
    assert rlmutation_outcome(None).label == "broken"


# ---------------------------------------------------------------------- facts


def rows(count: int = 50, run: int = 0, **columns: Any) -> pl.DataFrame:
    """A run of `count` updates of 100 steps; what is given replaces a column, or its last values."""
    frame: dict[str, list[Any]] = {
        "run": [run] * count,
        "update": list(range(count)),
        "env_steps": [100 * (update + 1) for update in range(count)],
        "own_return": [400.0] * count,
        "own_episodes": [4] * count,
        "explained_variance": [0.9] * count,
        "return_std": [10.0] * count,
        "return_mean": [40.0] * count,
        "value_loss": [0.1] * count,
        "policy_loss": [-0.01] * count,
        "skipped": [False] * count,
    }
    for name, values in columns.items():
        frame[name] = frame[name][: count - len(values)] + list(values)
    return pl.DataFrame(frame, strict=False)


def facts(age: float = 5000, **columns: Any) -> Facts:
    """What such a run had achieved after `age` steps."""
    return RunRows(rows(**columns)).facts(age)


def test_an_outcome_is_of_the_last_fifth() -> None:
    """Of 5,000 steps the last 1,000 count, weighted by episodes; at half the age those before it."""
    assert facts().final_return == 400.0
    assert facts(own_return=[1.0] * 40 + [300.0] * 10).final_return == 300.0
    assert facts(age=2500, own_return=[100.0] * 25 + [300.0] * 25).final_return == 100.0
    returns, episodes = [500.0] * 9 + [20.0], [1] * 9 + [31]
    assert facts(own_return=returns, own_episodes=episodes).final_return == pytest.approx((4500 + 620) / 40)
    assert facts(own_return=[None] * 10, own_episodes=[0] * 10).final_return is None


def test_a_critic_is_measured_where_there_is_something_to_explain() -> None:
    """Updates whose returns vary by less than a tenth of their mean do not count; fewer than five give nothing."""
    assert facts(explained_variance=[0.1] * 10).explained == pytest.approx(0.1)
    assert facts(explained_variance=[0.1] * 10, return_std=[3.9] * 5).explained == pytest.approx(0.1)
    assert facts(return_std=[3.9] * 6).explained is None
    assert facts(explained_variance=[math.nan] * 6).explained == -math.inf
    assert facts(explained_variance=[None] * 6).explained is None


def test_ends_without_numbers_are_seen() -> None:
    """A NaN or infinity in the last five updates, or five skips; policy losses of exactly 0 all through."""
    assert facts(value_loss=[math.nan] + [0.1] * 4).is_finite is False
    assert facts(value_loss=[math.nan] + [0.1] * 5).is_finite is True
    assert facts(policy_loss=[math.inf]).is_finite is False
    assert facts(skipped=[True] * 5).is_finite is False
    assert facts(skipped=[True] * 4).is_finite is True
    assert facts(policy_loss=[0.0] * 10).is_idle is True
    assert facts(policy_loss=[0.0] * 9).is_idle is False


def test_a_control_is_of_the_same_age() -> None:
    """Sound runs count as they were at that age; those that ended before half of it do not; three are needed."""
    grown = [RunRows(rows(own_return=[100.0] * 25 + [400.0] * 25)) for _ in range(3)]
    for age, expected in ((2500, 100.0), (5000, 400.0), (10_000, 400.0)):
        control = control_facts(grown, age)
        assert control is not None
        assert control.final_return == expected
    assert control_facts(grown, 10_001) is None
    assert control_facts(grown[:2], 5000) is None


def run_line(run: int, kind: str, **more: Any) -> dict[str, Any]:
    """A line of the table of runs."""
    return {
        "run": run,
        "name": f"{run}",
        "part": "main",
        "env": "CartPole-v1",
        "trainer": "sb3",
        "kind": kind,
        "is_held_back": False,
        "updates": 50,
        "begins": 0,
        "ended": "finished",
        "evaluation": None,
    } | more


def test_runs_are_labelled_beside_the_others_of_their_cell() -> None:
    """The control of a run is the sound runs of its environment and trainer without itself; a run may have no rows.

    One that crashed before any row could show why is unclear, whatever else is known of it.
    """
    lines = [run_line(number, "sound") for number in range(4)]
    lines += [run_line(4, "policy-frozen"), run_line(5, "policy-frozen", trainer="ours")]
    lines += [run_line(6, "observations-nan", ended="failed"), run_line(7, "rlm-m", part="rlmutation", evaluation=9.0)]
    frames = [rows(run=number) for number in range(4)]
    frames += [rows(run=number, own_return=[20.0] * 50) for number in (4, 5, 7)]
    labels = outcomes.label_runs(lines, pl.concat(frames))
    assert labels["label"].to_list() == ["sound"] * 4 + ["broken", "unclear", "unclear", "broken"]
    assert labels["reasons"].to_list()[4:] == ["return", "", "", "return"]
    assert labels["control_return"].to_list()[3:6] == [400.0, 400.0, None]
    counted = outcomes.summary(labels, "kind").filter(pl.col("kind") == "policy-frozen").to_dicts()[0]
    assert (counted["runs"], counted["broken"], counted["unclear"], counted["return"]) == (2, 1, 1, 1)
