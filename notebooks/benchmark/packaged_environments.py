"""Real environments of packages that the project does not need: how each is made.

    python -m pip install -r notebooks/benchmark/environments.txt

installs the packages. One is imported when the first environment that needs it is made.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Make = Callable[[], gymnasium.Env[Any, Any]]


def box2d(env_id: str) -> Make:
    """Makes an environment of Gymnasium's that Box2D simulates."""

    def make() -> gymnasium.Env[Any, Any]:
        # Its import warns of types of its own, and where warnings are errors the process dies of a segmentation fault.
        with warnings.catch_warnings(action="ignore"):
            _package("Box2D", env_id)
        return gymnasium.make(env_id, disable_env_checker=True)

    return make


def babyai(env_id: str) -> Make:
    """Makes an environment of BabyAI's, which are in MiniGrid."""

    def make() -> gymnasium.Env[Any, Any]:
        return Quiet(minigrid(env_id)())

    return make


def minatar(env_id: str, game: str) -> Make:
    """Makes a game of MinAtar's, which has no identifiers of Gymnasium's."""

    def make() -> gymnasium.Env[Any, Any]:
        return Game(_package("minatar", env_id).Environment(game))

    return make


def minigrid(env_id: str) -> Make:
    """Makes an environment of MiniGrid's, which registers them when it is imported."""

    def make() -> gymnasium.Env[Any, Any]:
        _package("minigrid", env_id)
        return View(gymnasium.make(env_id, disable_env_checker=True))

    return make


def mujoco(env_id: str) -> Make:
    """Makes an environment of Gymnasium's that MuJoCo simulates."""

    def make() -> gymnasium.Env[Any, Any]:
        # Else it writes MUJOCO_LOG.TXT into the working folder, for each NaN that a fault makes of an action.
        _package("mujoco", env_id).set_mju_user_warning(lambda message: None)
        return Single(gymnasium.make(env_id, disable_env_checker=True))

    return make


class Quiet(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Resets that print nothing. Those of BabyAI print a line for each layout that is drawn again."""

    def reset(self, **options: Any) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return self.env.reset(**options)


class Single(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Observations in single precision."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        return np.asarray(observation, np.float32)


class View(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """What a MiniGrid agent sees, 7 × 7 cells of object, colour and state, and its direction as one-hot: 151 numbers.

    A cell's three numbers are divided by the largest that they can be.
    """

    LARGEST = (10, 5, 2)

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0.0, 1.0, (7 * 7 * 3 + 4,), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        seen = np.divide(observation["image"], self.LARGEST, dtype=np.float32).ravel()
        return np.concatenate((seen, np.eye(4, dtype=np.float32)[int(observation["direction"])]))


class Game(gymnasium.Env[NDArray[np.float32], Any]):
    """A game of MinAtar's as a Gymnasium environment: 10 × 10 cells with a 0 or 1 for each of its channels, in a row.

    It has the actions that do something, and MinAtar's defaults: one action in ten is the one before. MinAtar has a
    class of this kind, too, which takes no seed as large as those of the plans.
    """

    def __init__(self, game: Any) -> None:
        self._game = game
        self._actions: list[int] = game.minimal_action_set()
        self.action_space = spaces.Discrete(len(self._actions))
        self.observation_space = spaces.Box(0.0, 1.0, (int(np.prod(game.state_shape())),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._game.seed(int(self.np_random.integers(2**32)))
        self._game.reset()
        return self._observation(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        reward, is_over = self._game.act(self._actions[int(action)])
        return self._observation(), float(reward), bool(is_over), False, {}

    def _observation(self) -> NDArray[np.float32]:
        cells: NDArray[np.float32] = self._game.state().astype(np.float32).ravel()
        return cells


def _package(name: str, env_id: str) -> Any:
    """The module `name`, imported.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what installs it.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ModuleNotFoundError(
            f"{env_id} needs {name}, which is not installed; install what sampling needs with:"
            " python -m pip install -r notebooks/benchmark/environments.txt"
        ) from None
