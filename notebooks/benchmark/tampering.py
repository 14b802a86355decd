"""Environments that are broken on purpose: wrappers that change what a trainer is told, from some update on.

They stand around `running.Truth`, which goes on noting what the environment really paid.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium
import numpy as np

from benchmark.running import Clock

Env = gymnasium.Env[Any, Any]


class Tampered(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose observations, rewards, actions or ends are changed while the clock says so."""

    def __init__(self, env: Env, clock: Clock, *, seed: int = 0) -> None:
        super().__init__(env)
        self.clock = clock
        self.rng = np.random.default_rng(seed)

    def reset(self, **options: Any) -> Any:
        observation, info = self.env.reset(**options)
        self.begin_episode(observation)
        return (self.change_observation(observation) if self.clock.is_broken else observation), info

    def step(self, action: Any) -> Any:
        if self.clock.is_broken:
            action = self.change_action(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.note(observation, float(reward))
        if self.clock.is_broken:
            observation, reward = self.change_observation(observation), self.change_reward(float(reward))
            terminated, truncated = self.change_ends(terminated, truncated)
        return observation, reward, terminated, truncated, info

    def begin_episode(self, observation: Any) -> None:
        """Note the first observation of an episode."""

    def note(self, observation: Any, reward: float) -> None:
        """Note what the environment gave, broken or not."""

    def change_action(self, action: Any) -> Any:
        """What the environment does instead."""
        return action

    def change_observation(self, observation: Any) -> Any:
        """What the trainer sees instead."""
        return observation

    def change_reward(self, reward: float) -> float:
        """What the trainer gets instead."""
        return reward

    def change_ends(self, terminated: bool, truncated: bool) -> tuple[bool, bool]:
        """How the episode ends instead."""
        return terminated, truncated


class ZeroObservations(Tampered):
    """Every observation is zero."""

    def change_observation(self, observation: Any) -> Any:
        return np.zeros_like(observation)


class NanObservations(Tampered):
    """The first number of every observation is NaN."""

    def change_observation(self, observation: Any) -> Any:
        observation = observation.copy()
        observation[0] = np.nan
        return observation


class ScaledObservations(Tampered):
    """Observations are 1,000 times as large, as after a change of unit."""

    def change_observation(self, observation: Any) -> Any:
        return observation * np.float32(1000)


class NoisyObservations(Tampered):
    """Noise of deviation 3 is added to every number."""

    def change_observation(self, observation: Any) -> Any:
        return observation + 3 * self.rng.standard_normal(observation.shape, np.float32)


class DelayedObservations(Tampered):
    """Observations are 8 steps old; those of the first steps are the first one."""

    def begin_episode(self, observation: Any) -> None:
        self.past = deque([observation], maxlen=9)

    def note(self, observation: Any, reward: float) -> None:
        self.past.append(observation)

    def change_observation(self, observation: Any) -> Any:
        return self.past[0]


class FirstObservation(Tampered):
    """The observation is always the first one of the run (RLMutation's MSU)."""

    first: Any = None

    def begin_episode(self, observation: Any) -> None:
        self.first = observation if self.first is None else self.first

    def change_observation(self, observation: Any) -> Any:
        return self.first


class NeighboursObservation(Tampered):
    """The observation is that which the environment before it gave last: the environments are out of step."""

    def __init__(self, env: Env, clock: Clock, index: int, shared: dict[str, Any]) -> None:
        super().__init__(env, clock)
        self._index, self._shared = index, shared

    def begin_episode(self, observation: Any) -> None:
        self._shared[str(self._index)] = observation

    def note(self, observation: Any, reward: float) -> None:
        self._shared[str(self._index)] = observation

    def change_observation(self, observation: Any) -> Any:
        return self._shared.get(str(self._index - 1), self._shared.get(str(len(self._shared) - 1), observation))


class NoRewards(Tampered):
    """The rewards stop."""

    def change_reward(self, reward: float) -> float:
        return 0.0


class NegatedRewards(Tampered):
    """The rewards have the wrong sign."""

    def change_reward(self, reward: float) -> float:
        return -reward


class DelayedRewards(Tampered):
    """Rewards come 20 steps late, also into the next episode."""

    def __init__(self, env: Env, clock: Clock) -> None:
        super().__init__(env, clock)
        self._due: deque[float] = deque([0.0] * 20)

    def change_reward(self, reward: float) -> float:
        self._due.append(reward)
        return self._due.popleft()


class NoisyRewards(Tampered):
    """One reward in ten is replaced by noise of the size of the rewards seen so far (RLMutation's RN)."""

    size = 0.0

    def note(self, observation: Any, reward: float) -> None:
        self.size = max(self.size, abs(reward))

    def change_reward(self, reward: float) -> float:
        return float(self.rng.uniform(-self.size, self.size)) if self.rng.random() < 0.1 else reward


class PermutedActions(Tampered):
    """Every action means the next one; continuous actions have the wrong sign."""

    def change_action(self, action: Any) -> Any:
        space = self.env.action_space
        return (int(action) + 1) % int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else -action


class Untrue(Tampered):
    """Observation and reward of a step are replaced together, each time with the probability `probability`."""

    def __init__(self, env: Env, clock: Clock, *, seed: int, probability: float) -> None:
        super().__init__(env, clock, seed=seed)
        self.probability = probability
        self.past: deque[tuple[Any, float]] = deque(maxlen=1000)

    def begin_episode(self, observation: Any) -> None:
        self.past.append((observation, 0.0))

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.past.append((observation, float(reward)))
        if self.clock.is_broken and self.rng.random() < self.probability:
            observation, reward = self.replacement()
        return observation, reward, terminated, truncated, info

    def replacement(self) -> tuple[Any, float]:
        """Observation and reward in place of the last ones of `past`."""
        raise NotImplementedError


class Repeated(Untrue):
    """Those of the step before (RLMutation's R)."""

    def replacement(self) -> tuple[Any, float]:
        return self.past[-2]


class Random(Untrue):
    """Those of a step of the past, drawn at random (RLMutation's Ra)."""

    def replacement(self) -> tuple[Any, float]:
        return self.past[int(self.rng.integers(len(self.past)))]


class Mangled(Untrue):
    """The observation of one step of the past and the reward of another (RLMutation's M)."""

    def replacement(self) -> tuple[Any, float]:
        one, other = self.rng.integers(len(self.past), size=2)
        return self.past[int(one)][0], self.past[int(other)][1]


class TerminationsTruncated(Tampered):
    """A termination is reported as a truncation, so that the value of the end is bootstrapped."""

    def change_ends(self, terminated: bool, truncated: bool) -> tuple[bool, bool]:
        return False, terminated or truncated


class TruncationsTerminal(Tampered):
    """A truncation is reported as a termination (RLMutation's MTS)."""

    def change_ends(self, terminated: bool, truncated: bool) -> tuple[bool, bool]:
        return terminated or truncated, False
