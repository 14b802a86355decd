"""Which runners of rsl_rl are recorded, what the header of a run says of one, and the episodes of a rollout."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from rsl_rl.algorithms import PPO
from rsl_rl.runners import OnPolicyRunner

from esper_recorder.dialects.gym import RSL_RL
from esper_schemas.errors import UsageError
from esper_schemas.run.records import ValueLossDefinition


def find_runner(writer: object, attached: Iterable[Any]) -> Any:
    """Return the runner that has made this writer: one that is attached, or the one whose `learn` is being called.

    Raises:
        UsageError: no such runner is found.
    """
    for runner in attached:
        if runner.logger.writer is writer:
            return runner
    frame = sys._getframe(1)
    while frame is not None:
        runner = frame.f_locals.get("self")
        if isinstance(runner, OnPolicyRunner) and runner.logger.writer is writer:
            return runner
        frame = frame.f_back  # type: ignore[assignment]
    raise UsageError(
        "the Writer found no OnPolicyRunner that uses it: call esper_recorder.adapters.rsl_rl.attach(runner) before"
        " learn()"
    )


def check_runner(runner: Any) -> None:
    """Refuse an algorithm whose numbers have another meaning.

    Raises:
        UsageError: it is not rsl_rl's PPO.
    """
    if not isinstance(runner.alg, PPO):
        raise UsageError(
            f"the Writer records PPO of rsl_rl, found {type(runner.alg).__name__}, which has other losses; take it"
            " out of cfg['logger']"
        )


def trainer_of() -> str:
    """Return the library that trains, with its version."""
    return f"rsl_rl {version('rsl-rl-lib')}"


def env_name(env: Any) -> str:
    """Return the id under which Gymnasium knows the environment, or else the name of its class."""
    own = getattr(env, "unwrapped", env)
    found = getattr(getattr(own, "spec", None), "id", None)
    return found if isinstance(found, str) else type(own).__name__


def config_of(runner: Any, log_dir: str) -> dict[str, Any]:
    """Return the configuration that the runner was made with, the number of environments, and its folder of logs."""
    config = {name: entry for name, entry in runner.cfg.items() if name != "logger"}
    return config | {"num_envs": runner.env.num_envs, "log_dir": str(log_dir)}


def value_loss_definition(alg: PPO) -> ValueLossDefinition:
    """Describe the value loss: what the table of dialects says of rsl_rl, made exact by the algorithm."""
    assert RSL_RL.define is not None
    known: Mapping[str, Any] = {
        "use_clipped_value_loss": bool(alg.use_clipped_value_loss),
        "clip_param": float(alg.clip_param),
    }
    return RSL_RL.define(RSL_RL.value_loss, known, {})


class Episodes:
    """The episodes that end while a runner collects, as its logger reports them.

    The logger keeps the last 100 in two deques. For as long as the episodes are watched, these are deques that also
    keep what was added since the last look.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._returns, self._lengths = _Watched(logger.rewbuffer), _Watched(logger.lenbuffer)
        logger.rewbuffer, logger.lenbuffer = self._returns, self._lengths

    def close(self) -> None:
        """Leave the logger with deques of the usual kind."""
        for name, watched in (("rewbuffer", self._returns), ("lenbuffer", self._lengths)):
            if getattr(self._logger, name) is watched:
                setattr(self._logger, name, deque(watched, maxlen=watched.maxlen))

    def take(self) -> dict[str, float | int | None]:
        """Return the metrics of the episodes that ended since the last call."""
        returns, lengths = self._returns.take(), self._lengths.take()
        return {
            "episodes": len(returns),
            "episode_return_mean": sum(returns) / len(returns) if returns else None,
            "episode_length_mean": sum(lengths) / len(lengths) if lengths else None,
        }


class _Watched(deque[float]):
    """A deque that also keeps what was added to it since the last look, however much that is."""

    def __init__(self, before: deque[float]) -> None:
        super().__init__(before, maxlen=before.maxlen)
        self._new: list[float] = []

    def extend(self, added: Iterable[float]) -> None:
        added = list(added)
        self._new += added
        super().extend(added)

    def take(self) -> list[float]:
        new, self._new = self._new, []
        return new
