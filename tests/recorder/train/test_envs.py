"""The built-in CartPole is Gymnasium's, and Gymnasium's automatic resets are marked."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from esper_recorder.train.envs import Box, CartPole, Discrete
from esper_recorder.train.gym_envs import GymnasiumEnv, make_env
from esper_schemas.errors import UsageError

CPU = torch.device("cpu")


@pytest.mark.parametrize("balanced", [False, True])
def test_cartpole_equals_gymnasium_step_for_step(balanced: bool) -> None:
    """From the same state under the same actions: same observations, rewards and ends, to the 500th step."""
    ours = CartPole(1, seed=3, device=CPU)
    ours.reset()
    theirs = gymnasium.make("CartPole-v1")
    inner: Any = theirs.unwrapped
    rng = np.random.default_rng(5)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(2 if balanced else 20):
        theirs.reset(seed=int(rng.integers(1000)))
        inner.state = ours.state[:, 0].numpy().copy()
        done = False
        while not done:
            _, _, angle, angular_velocity = inner.state
            action = int(angle + 0.5 * angular_velocity > 0) if balanced else int(rng.integers(2))
            step = ours.step(torch.tensor([action]))
            observation, reward, terminated, truncated, _ = theirs.step(action)
            np.testing.assert_allclose(step.observations[0].numpy(), observation, rtol=1e-6, atol=1e-7)
            assert step.rewards.item() == reward
            assert step.valid.item()
            assert (step.terminated.item(), step.truncated.item()) == (terminated, truncated)
            done = terminated or truncated
        ends["truncated" if truncated else "terminated"] += 1
        reset = ours.step(torch.tensor([0]))
        assert not reset.valid.item()
        assert reset.rewards.item() == 0.0
        assert reset.observations.abs().max() <= 0.05
    assert ends == ({"terminated": 0, "truncated": 2} if balanced else {"terminated": 20, "truncated": 0})


def test_cartpole_start_states_depend_on_the_seed_only() -> None:
    """One seed, one sequence of episodes; another seed, another one."""
    first, again, other = (CartPole(4, seed=seed, device=CPU).reset() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 0.05


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"])
def test_rows_after_an_automatic_reset_are_not_valid(env_id: str) -> None:
    """In a real Gymnasium vector environment exactly the rows that follow an episode's end are invalid."""
    env = GymnasiumEnv(env_id, 3, seed=1, device=CPU)
    env.reset()
    generator = torch.Generator().manual_seed(0)
    was_done = torch.zeros(3, dtype=torch.bool)
    resets = 0
    for _ in range(1100 if env_id == "Acrobot-v1" else 450):
        if isinstance(env.action_space, Discrete):
            actions = torch.randint(env.action_space.n, (3,), generator=generator)
        else:
            actions = torch.randn((3, env.action_space.size), generator=generator)
        step = env.step(actions)
        assert torch.equal(step.valid, ~was_done)
        assert not step.rewards[was_done].any()
        assert not (step.terminated | step.truncated)[was_done].any()
        was_done = step.terminated | step.truncated
        resets += int((~step.valid).sum())
    env.close()
    assert resets >= 3


def test_continuous_actions_are_cut_to_the_bounds_inside_the_environment() -> None:
    """Pendulum takes ±2 at most: a stronger action does the same as the bound."""
    results = []
    for strength in (2.0, 50.0):
        env = GymnasiumEnv("Pendulum-v1", 2, seed=4, device=CPU)
        env.reset()
        results.append(env.step(torch.full((2, 1), strength)).observations)
        env.close()
    torch.testing.assert_close(results[0], results[1])


def test_the_prefix_forces_gymnasium() -> None:
    """CartPole-v1 is the built-in environment, gym:CartPole-v1 is Gymnasium's."""
    assert isinstance(make_env("CartPole-v1", 2, seed=0, device=CPU), CartPole)
    env = make_env("gym:CartPole-v1", 2, seed=0, device=CPU)
    assert isinstance(env, GymnasiumEnv)
    assert env.action_space == Discrete(2)
    env.close()
    assert make_env("Pendulum-v1", 2, seed=0, device=CPU).action_space == Box(1)


def test_discrete_observations_become_one_hot() -> None:
    """FrozenLake's 16 states are 16 columns with a single one."""
    env = make_env("FrozenLake-v1", 2, seed=0, device=CPU)
    observations = env.reset()
    assert observations.shape == (2, 16)
    assert observations.sum(1).tolist() == [1.0, 1.0]
    env.close()


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("NoSuchEnv-v0", "NoSuchEnv"),
        ("CartPole-v9", "v9"),
        ("nosuchmodule:Env-v0", "nosuchmodule"),
        ("Blackjack-v1", "found Tuple"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused_in_one_line(env_id: str, words: str) -> None:
    """The message names the environment and what is wrong with it."""
    with pytest.raises(UsageError) as caught:
        make_env(env_id, 2, seed=0, device=CPU)
    assert env_id in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
