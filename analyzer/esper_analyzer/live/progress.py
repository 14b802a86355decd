"""How far a run is on its way: updates or environment steps of those that its configuration asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esper_analyzer.live.picture import Picture

UPDATES_KEYS = ("num_updates", "num_iterations")
STEPS_KEYS = ("total_timesteps", "total_steps", "total_env_steps")
"""Names of a run's length in configurations: of our trainer, CleanRL, Stable-Baselines3 and those like them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has done of what it was started for.

    Attributes:
        done, total: both in updates, or both in environment steps; `done` is at most `total`.
        is_steps: whether they are environment steps.
        left_secs: seconds that the rest takes at the speed of the last 50 updates; None if that is unknown.
    """

    done: int
    total: int
    is_steps: bool
    left_secs: float | None

    @classmethod
    def of(cls, config: Mapping[str, Any], picture: Picture) -> Progress | None:
        """Return the progress of a run.

        Args:
            config: the configuration in the header of the run.
            picture: the state of the run.

        Returns:
            None where the configuration does not tell the length, or the run has gone beyond it.
        """
        last, steps = picture.last_update, picture.last("env_steps")
        if last is None or picture.span is None:
            return None
        total, done = _length(config, UPDATES_KEYS), last + (picture.span[0] != 1)  # some count updates from 1
        speed, is_steps = picture.updates_per_sec, False
        if total is None and steps is not None:
            total, done = _length(config, STEPS_KEYS), int(steps)
            speed, is_steps = picture.steps_per_sec, True
        if total is None or done > total:
            return None
        return cls(done, total, is_steps, (total - done) / speed if speed else None)


def _length(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """Return the first of these numbers that is one; a log of another trainer may have it as text, or as a float."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS:
            value = int(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value < 10**_MAX_DIGITS:
            return int(value)
    return None


_MAX_DIGITS = 15
