"""The goal that a run of Stable-Baselines3 declares without being asked, and where it declares none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TransformReward
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor, VecNormalize
from tests.adapters.sb3_runs import ROLLOUT, make_ppo

from esper_analyzer import open_run
from esper_recorder import env_kwargs_of, return_goal_of
from esper_recorder.adapters.sb3 import RecorderCallback
from esper_schemas.errors import UsageError


class Doubled(gym.Wrapper[Any, Any, Any, Any]):
    """Pays twice as much, in a `step` of its own."""

    def step(self, action: Any) -> Any:
        """Double the reward of the environment."""
        seen, reward, *rest = self.env.step(action)
        return seen, 2.0 * float(reward), *rest


def doubled(env: Any) -> Any:
    """Rewards twice as high."""
    return TransformReward(env, lambda reward: 2.0 * float(reward))


VECTORS: dict[str, tuple[Callable[[], VecEnv], float | None, float | None]] = {
    "as registered": (lambda: make_vec_env("CartPole-v1", 2), 475.0, 475.0),
    "normalised above Monitor": (lambda: VecNormalize(make_vec_env("CartPole-v1", 2)), 475.0, 475.0),
    "without a threshold": (lambda: make_vec_env("Pendulum-v1", 2), None, None),
    "changed below Monitor": (lambda: DummyVecEnv([lambda: Monitor(doubled(gym.make("CartPole-v1")))]), None, None),
    "changed above Monitor": (lambda: DummyVecEnv([lambda: doubled(Monitor(gym.make("CartPole-v1")))]), 475.0, 475.0),
    "counted after wrappers": (lambda: VecMonitor(DummyVecEnv([lambda: gym.make("CartPole-v1")])), None, 475.0),
    "in other processes": (lambda: SubprocVecEnv([lambda: Monitor(gym.make("CartPole-v1"))]), None, 475.0),
}
"""Environments, the goal that is declared for them, and the one that a run of them is judged by."""


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTORS)
def test_a_run_declares_the_published_goal_where_it_holds(tmp_path: Path, name: str) -> None:
    """In its header, after real training, for the environments as Gymnasium registers them and no others.

    Where that is not known, as in other processes, it is judged by the goal of the environment's name; and by none
    where it is known that rewards were changed.
    """
    make, declared, goal = VECTORS[name]
    with closing(make()) as env:
        make_ppo(env).learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="mine"))
    run = open_run(tmp_path / "mine")
    assert (run.header.return_goal, run.return_goal) == (declared, goal)


def test_a_goal_that_is_given_is_kept(tmp_path: Path) -> None:
    """In place of the published one; one that is not a number is refused in one line before anything is opened."""
    make_ppo().learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id="mine", return_goal=300))
    assert open_run(tmp_path / "mine").return_goal == 300.0
    with pytest.raises(UsageError, match=r"^return_goal must be a finite number, such as 475, or None, found nan$"):
        RecorderCallback(tmp_path, run_id="other", return_goal=float("nan"))
    assert not (tmp_path / "other").exists()


MADE: dict[str, tuple[Callable[[], Any], float | None]] = {
    "as registered": (lambda: gym.make("CartPole-v1"), 475.0),
    "drawn": (lambda: gym.make("CartPole-v1", render_mode="rgb_array"), 475.0),
    "another limit": (lambda: gym.make("CartPole-v1", max_episode_steps=200), None),
    "with ice": (lambda: gym.make("FrozenLake-v1", is_slippery=True), 0.7),
    "without ice": (lambda: gym.make("FrozenLake-v1", is_slippery=False), None),
    "a step of its own": (lambda: Doubled(gym.make("CartPole-v1")), None),
    "counted below it": (lambda: Doubled(RecordEpisodeStatistics(gym.make("CartPole-v1"))), 475.0),
    "several": (lambda: gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2), 475.0),
    "no environment": (object, None),
}


@pytest.mark.parametrize("name", MADE)
def test_the_registry_speaks_of_the_environment_as_registered(name: str) -> None:
    """Not of one with another limit, with other arguments, or with rewards that something may have changed."""
    make, goal = MADE[name]
    assert return_goal_of(make()) == goal


MADE_WITH: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "as registered": (lambda: gym.make("CartPole-v1"), {}),
    "drawn": (lambda: gym.make("CartPole-v1", render_mode="rgb_array"), {}),
    "another limit": (lambda: gym.make("CartPole-v1", max_episode_steps=200), {"max_episode_steps": 200}),
    "with ice, as it is by itself": (lambda: gym.make("FrozenLake-v1", is_slippery=True), {}),
    "without ice": (lambda: gym.make("FrozenLake-v1", is_slippery=False), {"is_slippery": False}),
    "registered with an argument": (lambda: gym.make("FrozenLake8x8-v1"), {}),
    "another argument of the registry": (lambda: gym.make("FrozenLake-v1", map_name="8x8"), {"map_name": "8x8"}),
    "several": (
        lambda: gym.vector.SyncVectorEnv([lambda: gym.make("Pendulum-v1", g=9.0)] * 2),
        {"g": 9.0},
    ),
    "a step of its own": (lambda: Doubled(gym.make("CartPole-v1")), {"reward_wrappers": ["Doubled"]}),
    "changed twice, and limited": (
        lambda: doubled(Doubled(gym.make("CartPole-v1", max_episode_steps=200))),
        {"max_episode_steps": 200, "reward_wrappers": ["TransformReward", "Doubled"]},
    ),
    "counted below it": (lambda: Doubled(RecordEpisodeStatistics(gym.make("CartPole-v1"))), {}),
    "no environment": (object, {}),
}


@pytest.mark.parametrize("name", MADE_WITH)
def test_how_an_environment_was_made_is_what_differs_from_the_registry(name: str) -> None:
    """Arguments and the limit of its episodes, but not what the environment does by itself, nor how it is drawn."""
    make, made = MADE_WITH[name]
    assert env_kwargs_of(make()) == made


def test_a_run_records_how_its_environments_were_made(tmp_path: Path) -> None:
    """In the configuration, as far as it differs from the registry; else it has no such key."""
    for name, made in (("usual", {}), ("heavy", {"g": 15.0})):
        with closing(VecNormalize(make_vec_env("Pendulum-v1", 2, env_kwargs=made))) as env:
            make_ppo(env).learn(ROLLOUT, callback=RecorderCallback(tmp_path, run_id=name))
    assert "env_kwargs" not in open_run(tmp_path / "usual").header.config
    assert open_run(tmp_path / "heavy").header.config["env_kwargs"] == {"g": 15.0}
