"""The option `--stop-on`: ends a training when the analyzer's verdict on it reaches a level."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from esper_schemas.console import say
from esper_schemas.errors import UsageError

TRAINER_NAME = "esper-rec train"
"""The trainer of the runs of this command, as their headers name it."""

StopLevel = Literal["warning", "critical"]


class StoppedByVerdict(Exception):
    """The verdict reached the level that ends the training; the message is the verdict's first reason."""


class VerdictStop:
    """Judges a run while it is trained, by the thresholds of the nearest pyproject.toml, as `esper-analyze` does.

    Attributes:
        level: the level that ends the training.
        monitor: pass this to the recorder as `on_update`.

    Args:
        level: the level that ends the training.
        return_goal: the goal of the episode return, if there is one.
        env: the environment that is trained on.
        references: sound runs of the same task, beside which it is judged, as `with_references` takes them.
        root: where their names are looked for.
        run_uuid: of the run, if it is resumed; it is no reference of itself.

    Raises:
        UsageError: polars, which the analyzer needs, is not installed; a reference measured too few returns, or
            is of another environment.
        NotARunError: there is no such reference.
    """

    def __init__(
        self,
        level: StopLevel,
        return_goal: float | None,
        env: str,
        references: Sequence[str] = (),
        root: Path = Path("runs"),
        run_uuid: str | None = None,
    ) -> None:
        if find_spec("polars") is None:
            raise UsageError(f"--stop-on {level} needs polars, which is not installed: pip install polars")
        from esper_analyzer import find_settings, live_monitor, with_references
        from esper_analyzer.judging.task import Task

        self.level = level
        settings = with_references(references, root, find_settings(Path()))
        for other in settings.references_elsewhere(env):
            theirs = other.task.env
            raise UsageError(f"--reference {other.name} is of {theirs}, and trained is {env}; name a run of {env}")
        unused = settings.unused_references([(Task(env, TRAINER_NAME), run_uuid)])
        if unused is not None:
            say(f"warning: {unused}")
        self.monitor = live_monitor(
            settings=settings, return_goal=return_goal, env=env, trainer=TRAINER_NAME, run_uuid=run_uuid
        )

    def check(self) -> None:
        """Raise `StoppedByVerdict` if the verdict has reached the level; call this after each row."""
        if self.monitor.level in ("critical", self.level):
            raise StoppedByVerdict(f"--stop-on {self.level}: {self.monitor.verdict().reasons[0]}")
