"""Settings of the user: thresholds in a TOML file or in pyproject.toml that replace those of the tables.

    [thresholds.value_loss]              # in pyproject.toml: [tool.esper.thresholds.value_loss]
    warning = "> 8 or < 0.001"
    critical = "> 30"

    [thresholds.critic_error]            # a metric, `loss_ratio`, or a signal that is judged
    critical = "> 3"

    [return_goals]                       # the mean episode return that a task is solved from, by environment
    "CartPole-v1" = 475

Thresholds that the file does not mention stay as they are; an empty string removes a bound. Values that are not
finite stay critical where they were, and a metric that is judged only under a condition (`value_std`) keeps it.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from esper_analyzer.judging.reference import ReferenceRun
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.rules.rule import Rule
from esper_analyzer.judging.task import Task
from esper_analyzer.wording import listed
from esper_schemas.errors import UsageError
from esper_schemas.metric.metrics import Bands, Limit
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds

PYPROJECT = "pyproject.toml"

_MAX_BYTES = 4 * 1024 * 1024
LEAST_OF_FOLDERS = 3
"""Healthy runs that were found in folders are references from so many on."""

MOST_NAMED = 8
"""So many references, or what they are of, are named in a sentence."""

_LIMIT = re.compile(r"(>=|<=|>|<)\s*([-+.\deE]+)")
_OURS = re.compile(r"\btool\s*\.\s*esper\b(?!-)")


@dataclass(frozen=True, slots=True)
class Settings:
    """The thresholds and rules that a run is judged by.

    Attributes:
        thresholds: bands of the metrics.
        rules: what is watched, and how; their bands include the thresholds.
        return_goals: goals of the episode return, by the name of the environment; they replace what runs declare.
        return_goal: the goal of every run; it replaces all others.
        references: sound runs, beside which others of their environment are judged; see `with_references`.
        references_in: folders among whose healthy runs references were looked for.
        source: the file with the user's thresholds; None if there is no such file.
    """

    thresholds: Thresholds
    rules: tuple[Rule, ...]
    source: Path | None = None
    return_goals: Mapping[str, float] = field(default_factory=dict)
    return_goal: float | None = None
    references: tuple[ReferenceRun, ...] = ()
    references_in: tuple[str, ...] = ()

    def return_goal_of(self, env: str | None) -> float | None:
        """Return the goal of the episode return that the user has set for runs on an environment; None if none."""
        return self.return_goals.get(env or "") if self.return_goal is None else self.return_goal

    def references_of(self, task: Task, run_uuid: str | None = None) -> tuple[ReferenceRun, ...]:
        """Return the references of a run of a task, which are not this run; see `ReferenceRun.is_of`.

        Those that were found in folders are none where there are fewer than `LEAST_OF_FOLDERS`, with those that a
        person has named: a wrong verdict on one would decide.
        """
        found = [one for one in self.references if one.run_uuid != run_uuid and one.is_of(task)]
        named = [one for one in found if one.found_in is None]
        return tuple(found if len(found) >= LEAST_OF_FOLDERS else named)

    def references_elsewhere(self, env: str | None) -> tuple[ReferenceRun, ...]:
        """Return the references that a person has named, and that are of other environments than `env`."""
        return tuple(one for one in self.references if one.found_in is None and not one.is_of(Task(env)))

    def unused_references(self, runs: Iterable[tuple[Task, str | None]]) -> str | None:
        """Say that no run was judged beside a reference; None if one was, or there are none.

        Args:
            runs: task and `run_uuid`, None if that is not known, of each run that was judged.
        """
        there = set(runs)
        is_used = any(self.references_of(*one) for one in there)
        if not there or is_used or not (self.references or self.references_in):
            return None
        theirs = sorted({str(one.task.env) for task, _ in there for one in self.references_elsewhere(task.env)})
        if theirs:
            ours = sorted({task.env or "no named environment" for task, _ in there})
            return f"judged alone: the references are of {', '.join(theirs)}, and these runs of {', '.join(ours)}"
        if self.references_in:
            return f"judged alone: {self.why_none_in_folders(task for task, _ in there)}"
        return "judged alone: the only reference is this run itself"

    def why_none_in_folders(self, tasks: Iterable[Task]) -> str:
        """Say why folders give no reference to runs of some tasks."""
        folders = listed(self.references_in, MOST_NAMED)
        ours = sorted({self._said(task) for task in tasks if task.env is not None})
        if not ours:
            return f"no environment is named, by which runs in {folders} are found; name references one by one"
        return f"fewer than {LEAST_OF_FOLDERS} other runs of {listed(ours, MOST_NAMED)} in {folders} are healthy"

    def _said(self, task: Task) -> str:
        """Name a task, with the settings of its environment where these tell it from references in folders."""
        said = f"{task.env} with {task.trainer or 'no named trainer'}"
        others = {one.task for one in self.references if one.found_in is not None}
        is_told = any(other != task and other.but_for_settings() == task.but_for_settings() for other in others)
        return f"{said} and the same settings of the environment" if is_told else said

    @property
    def can_travel(self) -> bool:
        """Whether another process can be told them: the rules are those of the tables, with whatever bands."""
        of_tables = (RULES.get(rule.name) for rule in self.rules)
        return all(
            known is not None and (known is rule or replace(known, bands=rule.bands) == rule)
            for known, rule in zip(of_tables, self.rules, strict=True)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle bands only, since rules have functions; see `can_travel`."""
        if not self.can_travel:
            raise TypeError("settings with rules that are not those of the tables cannot be pickled")
        bands = {rule.name: rule.bands for rule in self.rules}
        more = (self.source, self.return_goals, self.return_goal, self.references, self.references_in)
        return _with_bands, (self.thresholds, bands, *more)


def _with_bands(thresholds: Thresholds, bands: Mapping[str, Bands], *others: Any) -> Settings:
    return Settings(thresholds, tuple(replace(RULES[name], bands=of_rule) for name, of_rule in bands.items()), *others)


DEFAULT_SETTINGS = Settings(DEFAULT_THRESHOLDS, tuple(RULES.values()))
"""The thresholds of the tables, without any of the user's."""


def read_settings(path: Path) -> Settings:
    """Read settings from a TOML file, or from the table `tool.esper` of a `pyproject.toml`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or invalid value; or a
            `pyproject.toml` has no table `tool.esper`.
    """
    document = _parse(path, _text(path))
    if path.name != PYPROJECT:
        return _settings(path, "", document)
    ours = _tool_esper(document)
    if ours is None:
        raise UsageError(
            f"{path} sets no thresholds and no goals: expected a table [tool.esper.thresholds.NAME] or"
            " [tool.esper.return_goals]"
        )
    return _settings(path, "tool.esper.", ours)


def find_settings(folder: Path, *, warn: Callable[[str], object] = warnings.warn) -> Settings:
    """Read the nearest `pyproject.toml` with a table `tool.esper`, in `folder` or above it; else return the defaults.

    A file counts only if it and its folder belong to the current user, to root, or to the owner of `folder`. Otherwise
    anybody who may write to a folder above, such as /tmp, could decide what passes a check.

    Args:
        folder: where to start; usually the current folder.
        warn: called with one line about each `pyproject.toml` that is skipped because it cannot be read, is not TOML,
            or belongs to another user.

    Raises:
        UsageError: the table has an unknown key or invalid value, or a file that mentions the table is not TOML.
    """
    start = folder.resolve()
    owners = {os.getuid(), 0, start.stat().st_uid}
    for parent in (start, *start.parents):
        path = parent / PYPROJECT
        text = ""
        try:
            if not path.is_file():
                continue
            text = _text(path)
            if not {path.stat().st_uid, parent.stat().st_uid} <= owners:
                if _OURS.search(text):
                    warn(f"{path} belongs to another user; skipped in the search for thresholds")
                continue
            ours = _tool_esper(_parse(path, text))
        except OSError:  # a folder that may not be read has no settings for us
            continue
        except UsageError as error:
            if _OURS.search(text):
                raise
            warn(f"{error}; skipped in the search for thresholds")
            continue
        if ours is not None:
            return _settings(path, "tool.esper.", ours)
    return DEFAULT_SETTINGS


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_BYTES:,} bytes, so it is not read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise UsageError(f"{path} is not TOML: {error}") from None


def _tool_esper(document: Mapping[str, Any]) -> Any:
    """Return the table `tool.esper`, which may have any type; None if it does not exist."""
    tool = document.get("tool")
    return tool.get("esper") if isinstance(tool, dict) else None


def _settings(path: Path, prefix: str, document: Any) -> Settings:
    """Make settings from a parsed file; `prefix` is the place of its tables in the file."""
    found = _table(path, prefix.rstrip(".") or "the file", document, ("thresholds", "return_goals"))
    tables, goals = found.get("thresholds", {}), _goals(path, f"{prefix}return_goals", found.get("return_goals", {}))
    judged = {rule.bands_of: rule.bands for rule in RULES.values() if rule.bands_of}
    defaults = {**judged, **DEFAULT_THRESHOLDS}
    where = f"{prefix}thresholds"
    named = _table(path, where, tables, tuple(defaults))
    overrides = {name: _bands(path, f"{where}.{name}", defaults[name], table) for name, table in named.items()}
    if not overrides:
        return replace(DEFAULT_SETTINGS, source=path, return_goals=goals) if goals else DEFAULT_SETTINGS
    thresholds = {name: overrides.get(name, bands) for name, bands in DEFAULT_THRESHOLDS.items()}
    rules = (
        replace(rule, bands=replace(overrides.get(rule.bands_of, rule.bands), only_if=None)) for rule in RULES.values()
    )
    return Settings(thresholds, tuple(rules), path, goals)


def _goals(path: Path, where: str, table: Any) -> dict[str, float]:
    """Return the goals of the episode return by environment."""
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {where} must be a table, found {table!r:.60}")
    for env, goal in table.items():
        if isinstance(goal, bool) or not isinstance(goal, (int, float)) or not math.isfinite(goal):
            raise UsageError(f"{path}: {where}.{env} must be a finite number, such as 475, found {goal!r:.60}")
    return {env: float(goal) for env, goal in table.items()}


def _table(path: Path, where: str, found: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    """Return a table after checking that all its keys are known."""
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {where} must be a table, found {found!r:.60}")
    for key in found:
        if key not in known:
            from difflib import get_close_matches

            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the known keys are {', '.join(known)}"
            raise UsageError(f"{path}: {where} has no key {key!r}; {hint}")
    return found


def _bands(path: Path, where: str, default: Bands, table: Any) -> Bands:
    """Return the default bands, with those that a user's table replaces."""
    given = _table(path, where, table, ("warning", "critical"))
    limits = {level: _limits(path, f"{where}.{level}", text) for level, text in given.items()}
    return replace(
        default,
        warning=limits.get("warning", default.warning),
        critical=limits.get("critical", default.critical),
        low=None if limits else default.low,  # the remark "low" belongs to the scale of the default bounds
    )


def _limits(path: Path, where: str, text: Any) -> tuple[Limit, ...]:
    """Parse limits such as "> 5 or < 0.001"."""
    try:
        return tuple(_limit(part) for part in re.split(r"\s+or\s+", text.strip())) if text.strip() else ()
    except (AttributeError, ValueError):
        raise UsageError(f'{path}: {where} must be bounds such as "> 5 or <= 0.1", found {text!r:.60}') from None


def _limit(text: str) -> Limit:
    match = _LIMIT.fullmatch(text)
    bound = float(match[2]) if match else math.nan
    if match is None or not math.isfinite(bound):
        raise ValueError(text)
    return Limit(match[1], bound)  # type: ignore[arg-type]
