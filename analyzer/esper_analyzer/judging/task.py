"""What a run is trained on, and by what: runs that have it in common can be judged beside each other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from esper_analyzer.reading.configuration import flattened
from esper_schemas.run.records import RunHeader

ENV_SETTINGS = ("env_kwargs", "env_config", "env_args")
"""What trainers call the settings of an environment in their configuration, at any depth."""

_NEVER_MATTERS = ("render_mode", "seed")
_VERSION = re.compile(r"\s+v?\d\S*$")


@dataclass(frozen=True, slots=True)
class Task:
    """An environment, its settings, and a trainer; equal for runs that can be judged beside each other.

    Attributes:
        env: name of the environment; None if it was not recorded.
        trainer: name of the trainer without the version that adapters add, as in "stable-baselines3 2.9.2"; None if
            it was not recorded.
        env_settings: `ENV_SETTINGS` of the configuration as JSON; empty if there are none.
    """

    env: str | None
    trainer: str | None = None
    env_settings: str = ""

    @classmethod
    def of(cls, env: str | None, trainer: str | None, config: Mapping[str, Any]) -> Task:
        """Make the task of a run with this configuration, nested or by dotted name."""
        found = {name: value for name, value in flattened(config).items() if _is_of_env(name, value)}
        settings = json.dumps(found, sort_keys=True, default=str) if found else ""
        return cls(env, trainer and _VERSION.sub("", trainer), settings)

    @classmethod
    def of_header(cls, header: RunHeader) -> Task:
        """Make the task of a run with this header."""
        return cls.of(header.env, header.trainer, header.config)

    def but_for_settings(self) -> Task:
        """The same without the settings of the environment."""
        return replace(self, env_settings="")


NO_TASK = Task(None)
"""That of a run of which nothing is known."""


def _is_of_env(name: str, value: Any) -> bool:
    parts = name.split(".")
    is_there = any(part in ENV_SETTINGS for part in parts) and parts[-1] not in _NEVER_MATTERS
    return is_there and value is not None and value != {}
