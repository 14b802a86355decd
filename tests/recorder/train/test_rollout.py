"""Rollouts of real vector environments: what is masked, what is bootstrapped, which episodes ended."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch

from esper_recorder.train.config import PPOConfig
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.networks import ActorCritic, ObservationNormalizer, ReturnScale
from esper_recorder.train.ppo import PPO
from esper_recorder.train.rollout import EpisodeWindow, Rollout, RolloutCollector
from esper_recorder.train.statistics import measured_rollout

CPU = torch.device("cpu")


def collector(config: PPOConfig) -> RolloutCollector:
    """A fresh collector of the environment of `config`, with an untrained model."""
    env = make_env(config.env, config.num_envs, seed=config.seed, device=CPU)
    generator = torch.Generator().manual_seed(config.seed)
    model = ActorCritic(env.observation_size, env.action_space, config, generator)
    return RolloutCollector(env, model, config, generator)


@pytest.mark.parametrize("env", ["CartPole-v1", "gym:CartPole-v1"])
def test_reset_rows_enter_no_loss_and_no_statistic(env: str) -> None:
    """Garbage in the rows that follow a reset changes neither the update nor what is recorded."""
    config = PPOConfig.for_env(env, num_envs=4, rollout_steps=128, minibatches=3, updates=1)
    outcomes = []
    for garbage in (False, True):
        source = collector(config)
        rollout = source.collect()
        assert 5 < int((~rollout.valid).sum()) < 100
        if garbage:
            rollout = with_garbage(rollout)
        ppo = PPO(source.model, config, torch.Generator().manual_seed(9))
        ppo.update(rollout, learning_rate=1e-3)
        statistics = measured_rollout(rollout) | ppo.statistics.results()
        weights = torch.cat([p.detach().flatten() for p in source.model.parameters()])
        outcomes.append((torch.stack([s.double() for s in statistics.values()]), weights))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], rtol=0, atol=0)


def with_garbage(rollout: Rollout) -> Rollout:
    """The same rollout with other numbers in the rows that are not valid."""
    names = ("values", "advantages", "returns", "td_errors", "log_probs")
    spoilt = {name: torch.where(rollout.valid, getattr(rollout, name), 1e6) for name in names}
    return dataclasses.replace(rollout, **spoilt)


def test_truncation_bootstraps_from_the_final_observation() -> None:
    """A truncated step's TD error holds V of the final observation, a terminated one's holds none."""
    config = PPOConfig.for_env("gym:CartPole-v1", num_envs=2, rollout_steps=300, updates=1)
    source = collector(config)
    rollout = source.collect()
    ends = rollout.episode_ends.view(300, 2)
    values = rollout.values.view(300, 2)
    td_errors = rollout.td_errors.view(300, 2)
    for t, n in ends[:-1].nonzero().tolist():  # an untrained CartPole only ever terminates
        assert td_errors[t, n].item() == pytest.approx(1.0 - values[t, n].item(), rel=1e-5)

    config = PPOConfig.for_env("Pendulum-v1", num_envs=2, rollout_steps=300, updates=1)
    source = collector(config)
    rollout = source.collect()
    ends = rollout.episode_ends.view(300, 2)
    assert ends[199].all()
    assert int(ends.sum()) == 2  # Pendulum is cut off after 200 steps and never terminates
    values = rollout.values.view(300, 2)
    # The row after the end holds the final observation; with λ = 0.95 an advantage there is the TD error.
    rewards = rollout.td_errors.view(300, 2)[199] + values[199] - config.gamma * values[200]
    assert (rewards <= 0).all()
    assert (rewards > -17).all()
    torch.testing.assert_close(rollout.advantages.view(300, 2)[199], rollout.td_errors.view(300, 2)[199])
    assert not rollout.valid.view(300, 2)[200].any()


def test_episode_returns_and_lengths_are_gymnasiums() -> None:
    """Over several rollouts, the episodes counted are those that RecordEpisodeStatistics counts."""
    config = PPOConfig.for_env("gym:CartPole-v1", num_envs=3, rollout_steps=50, updates=1)
    source = collector(config)
    rollouts = [source.collect() for _ in range(6)]
    found = []
    for rollout in rollouts:
        rows = rollout.episode_ends.nonzero().flatten()
        found += list(zip(rollout.episode_returns[rows].tolist(), rollout.episode_lengths[rows].tolist(), strict=True))

    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(gymnasium.make_vec("CartPole-v1", 3))
    env.reset(seed=config.seed)
    expected = []
    for rollout in rollouts:
        for actions in rollout.actions.view(50, 3).numpy():
            *_, info = env.step(actions)
            for n in np.flatnonzero(info.get("_episode", [])):
                expected.append((float(info["episode"]["r"][n]), int(info["episode"]["l"][n])))
    env.close()
    assert len(found) > 20
    assert found == expected


def test_the_episode_window_is_the_mean_of_the_last_hundred() -> None:
    """However many episodes a rollout ends, the window equals the mean of the last 100 in order."""
    rng = np.random.default_rng(2)
    window, history = EpisodeWindow(CPU), []
    blank = dict.fromkeys((field.name for field in dataclasses.fields(Rollout)), torch.zeros(0))
    for share in (0.0, 0.3, 0.9, 0.05, 0.0, 0.5):
        returns, ends = rng.normal(size=200), rng.random(200) < share
        history += list(returns[ends])
        rollout = Rollout(**{**blank, "episode_returns": torch.tensor(returns), "episode_ends": torch.tensor(ends)})
        mean = window.update(rollout).item()
        assert window.count.item() == len(history)
        assert mean == pytest.approx(np.mean(history[-100:])) if history else np.isnan(mean)


def test_observation_statistics_are_those_of_all_valid_rows() -> None:
    """Taken in batch by batch, mean and variance equal those of all valid rows at once."""
    rng = np.random.default_rng(3)
    normalizer, rows = ObservationNormalizer(3), []
    for size in (10, 1, 200):
        batch, valid = rng.normal(2.0, 5.0, size=(size, 3)), rng.random(size) < 0.7
        valid[0] = True
        normalizer.update(torch.tensor(batch, dtype=torch.float64), torch.tensor(valid))
        rows.append(batch[valid])
    everything = np.concatenate(rows)
    np.testing.assert_allclose(normalizer.mean.numpy(), everything.mean(0), rtol=1e-9)
    np.testing.assert_allclose(normalizer.variance.numpy(), everything.var(0), rtol=1e-9)


def test_first_return_scale_is_the_deviation_of_the_first_rollout() -> None:
    """After one rollout the scale is its standard deviation; constant returns leave a floor, not a zero."""
    returns = torch.tensor([1.0, 5.0, 9.0, 1000.0])
    valid = torch.tensor([True, True, True, False])
    scale = ReturnScale(0.9)
    assert scale.scale.item() == 1.0
    scale.update(returns, valid)
    assert scale.scale.item() == pytest.approx(np.std([1.0, 5.0, 9.0]))
    constant = ReturnScale(0.9)
    constant.update(torch.full((4,), 3.0), valid)
    assert 0 < constant.scale.item() <= 1e-2
