"""The goals that Gymnasium publishes: which they are, and which runs are judged by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from tests.analyzer.earning import rows_earning

from esper_analyzer import live_monitor, open_run
from esper_analyzer.judging.published_goals import PUBLISHED_GOALS, published_goal
from esper_analyzer.judging.settings import DEFAULT_SETTINGS
from esper_analyzer.judging.task import Task
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.recorded import RecordedFeed
from esper_recorder import Recorder

STUCK = [22.0 + update % 5 for update in range(100)]
"""Mean returns of a policy that stays random on CartPole-v1."""

OF_GYM = ("-v2", "Taxi-v3")
"""Ends of the names that Gymnasium has no more, or without what MuJoCo's environments of Gym needed."""


@pytest.mark.parametrize("env", PUBLISHED_GOALS)
def test_they_are_those_of_the_registry(env: str) -> None:
    """Each number is the one that Gymnasium has for the environment; of those of Gym, for its newest version."""
    newest = max(name for name in gymnasium.registry if name.rpartition("-v")[0] == env.rpartition("-v")[0])
    assert gymnasium.registry[newest if env.endswith(OF_GYM) else env].reward_threshold == PUBLISHED_GOALS[env]


def test_only_an_environment_as_it_is_registered_has_one() -> None:
    """A name that is not in the table, none, and settings of the environment leave a run without a goal."""
    assert published_goal(Task("CartPole-v1", "anything")) == 475.0
    for task in (Task(None), Task("MyCartPole-v1"), Task("CartPole-v1", None, '{"env_kwargs.gravity": 3.7}')):
        assert published_goal(task) is None


def _record(root: Path, **described: Any) -> Path:
    with Recorder.open(root, **described) as recorder:
        for row in rows_earning(STUCK):
            recorder.record(**row)  # type: ignore[arg-type]
        return recorder.path


def test_a_run_that_names_its_environment_is_judged_by_it(tmp_path: Path) -> None:
    """Nobody declared a goal, and still a policy that stays random is found, and whose goal it is stands beside it."""
    report = open_run(_record(tmp_path, env="CartPole-v1")).report()
    assert (report.verdict.level, report.run.return_goal) == ("critical", 475.0)
    assert "It is 24.00, and in Gymnasium it counts as solved from 475 on." in report.verdict.reasons[0]
    monitor = live_monitor(env="CartPole-v1")
    for row in rows_earning(STUCK):
        monitor(row)
    assert monitor.verdict().findings[0] == report.verdict.findings[0]


def test_a_screen_says_the_same(tmp_path: Path) -> None:
    """Followed and replayed, the run has the verdict of its report, to the last word."""
    with Recorder.open(tmp_path, env="CartPole-v1") as recorder:
        for row in rows_earning(STUCK):
            recorder.record(**row)  # type: ignore[arg-type]
        live = LiveFeed(open_run(recorder.path), 0)
        while live.look() or live.work():
            pass
        assert live.picture().verdict == open_run(recorder.path).report().verdict
        live.close()
    run = open_run(recorder.path)
    recorded = RecordedFeed(run, 0)
    while recorded.work():
        pass
    recorded.seek(len(STUCK))
    assert recorded.picture().verdict == run.report().verdict


@pytest.mark.parametrize(
    "described", [{"env": "Corridor-v0"}, {"env": "CartPole-v1", "config": {"env_kwargs": {"a": 1}}}]
)
def test_others_know_no_goal(tmp_path: Path, described: dict[str, Any]) -> None:
    """On another environment, or one that was made otherwise, the same returns end in no verdict of the goal's."""
    report = open_run(_record(tmp_path, **described)).report()
    assert (report.verdict.level, report.run.return_goal) == ("warning", None)
    assert not {"far_from_goal", "no_nearer_to_goal"} & {one.rule for one in report.verdict.findings}


def test_a_goal_that_somebody_set_comes_first(tmp_path: Path) -> None:
    """What a run declares, and before that what the settings say, replaces it; then it is not Gymnasium's."""
    path = _record(tmp_path, env="CartPole-v1", return_goal=400.0)
    reasons = open_run(path).report().verdict.reasons
    assert "It is 24.00, and the goal is 400." in reasons[0]
    told = replace(DEFAULT_SETTINGS, return_goals={"CartPole-v1": 20.0})
    report = open_run(path, settings=told).report()
    assert (report.run.return_goal, report.run.goal_reached is not None) == (20.0, True)
