"""Groups of seeds: which runs repeat one experiment, and the statistics over such a group.

The estimates are those of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice": interquartile mean, percentile interval of a bootstrap stratified by environment, probability of
improvement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from esper_analyzer.reading.configuration import flattened
from esper_analyzer.reporting.comparison.bootstrap import (
    CONFIDENCE,
    RANDOM_SEED,
    RESAMPLES,
    Floats,
    Statistic,
    interquartile_mean,
    interval,
    share_of_pairs,
)
from esper_schemas.errors import UsageError
from esper_schemas.metric.metrics import Direction

SCORES = ("final", "best", "area")
"""What groups of seeds are compared by: fields of `Group` and of `Improvement`."""

MIN_SEEDS = 3
"""A group with fewer runs than this in any of its environments has no interval."""

_SEED_KEY = re.compile(r"(^|[._-])seed$", re.IGNORECASE)
_HEADER_KEYS = ("trainer", "env", "device")

Settings = Mapping[str, Any]
"""A run's hyper-parameters by dotted name, plus trainer, environment, device and value-loss definition."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score over the runs of a group.

    Attributes:
        n: runs that have the score; a score that is not finite counts as the worst possible.
        missing: runs that never measured it within the span.
        iqm: interquartile mean; infinite if too many scores are not finite, NaN if those cannot be ranked.
        low, high: bounds of the 95 % interval; None with fewer than 3 runs in any environment.
    """

    n: int
    missing: int
    iqm: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ only in the seed, or have equal values of the keys to group by.

    `settings` are the values that distinguish this group from the others. An undefined estimate has no `iqm`.
    """

    name: str
    runs: list[str]
    settings: dict[str, Any]
    final: Estimate
    best: Estimate
    area: Estimate


@dataclass(frozen=True, slots=True)
class Chance:
    """A probability and its 95 % interval; None with fewer than 3 runs in any environment of either group."""

    probability: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Improvement:
    """The probability that a run of `group` is better than one of `over` (greater, if the metric has no direction)."""

    group: str
    over: str
    final: Chance
    best: Chance
    area: Chance


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How the intervals were computed."""

    resamples: int = RESAMPLES
    confidence: float = CONFIDENCE
    method: Literal["percentile"] = "percentile"
    stratified_by: Literal["env"] = "env"
    random_seed: int = RANDOM_SEED


def settings_of(config: Mapping[str, Any], header: Mapping[str, Any], definition: Mapping[str, Any]) -> Settings:
    """Return hyper-parameters, `header` (trainer, env, device) and value-loss definition by dotted name."""
    settings = flattened(config) | {key: header[key] for key in _HEADER_KEYS if header.get(key) is not None}
    return settings | {f"value_loss_definition.{key}": value for key, value in flattened(definition).items()}


def differing(settings: Mapping[str, Settings]) -> dict[str, dict[str, Any]]:
    """Return the keys whose values differ between runs, each with the values of the runs that have the key."""
    keys = dict.fromkeys(key for of_run in settings.values() for key in of_run)
    differences = {}
    for key in keys:
        if len({_identity(of_run, key) for of_run in settings.values()}) > 1:
            differences[key] = {run: of_run[key] for run, of_run in settings.items() if key in of_run}
    return differences


def seed_groups(settings: Mapping[str, Settings], by: Sequence[str] | None) -> list[list[str]]:
    """Group runs, in order of appearance.

    Args:
        settings: the settings of each run, by its label.
        by: keys with equal values within a group; None means all keys except seeds. With None, a run without
            hyper-parameters is alone, because nothing shows what it repeats.

    Raises:
        UsageError: no run has such a key.
    """
    known = dict.fromkeys(key for of_run in settings.values() for key in of_run)
    for key in by or ():
        if key not in known:
            differing_here = ", ".join(list(differing(settings))[:8]) or "none"
            raise UsageError(
                f"no run has a hyper-parameter {key!r} to group by; those that differ are {differing_here}"
            )
    groups: dict[Any, list[str]] = {}
    for run, of_run in settings.items():
        keys = by if by is not None else [key for key in of_run if not is_seed(key)]
        has_config = any(key not in _HEADER_KEYS and not key.startswith("value_loss_definition.") for key in of_run)
        identity: Any = frozenset((key, _identity(of_run, key)) for key in keys)
        groups.setdefault(identity if by is not None or has_config else run, []).append(run)
    return list(groups.values())


def is_seed(key: str) -> bool:
    """Whether a hyper-parameter is a seed, such as `seed`, `env_seed` or `algo.seed`."""
    return bool(_SEED_KEY.search(key))


def group_name(number: int) -> str:
    """Return the name of a group: A, B, … Z, then G27, G28, …"""
    return chr(ord("A") + number) if number < 26 else f"G{number + 1}"


def describe_group(runs: Sequence[str], settings: Mapping[str, Settings], keys: Iterable[str]) -> dict[str, Any]:
    """Return the values that all runs of the group share, for the keys that distinguish groups."""
    first = settings[runs[0]]
    shared = [key for key in keys if len({_identity(settings[run], key) for run in runs}) == 1]
    return {key: first[key] for key in shared if key in first}


def estimate(scores: Sequence[float | None], envs: Sequence[str | None], better: Direction | None) -> Estimate:
    """Return the interquartile mean of a group's scores, and its 95 % stratified bootstrap interval.

    The interquartile mean leaves out a quarter of the runs at each end, rounded down. With fewer than four runs it is
    the mean.

    Args:
        scores: the score of each run; None if it was never measured.
        envs: the environment of each run; runs are resampled within their environment.
        better: direction of improvement, which decides the worst score for scores that are not finite.
    """
    samples, missing = _by_env(scores, envs, better)
    n = sum(map(len, samples.values()))
    if not n:
        return Estimate(0, missing)
    strata = list(samples.values())
    if any(np.isnan(sample).any() for sample in strata):
        return Estimate(n, missing, float("nan"))
    low, high = _interval(strata, interquartile_mean)
    return Estimate(n, missing, float(interquartile_mean(*strata)), low, high)


def chance(
    scores: tuple[Sequence[float | None], Sequence[float | None]],
    envs: tuple[Sequence[str | None], Sequence[str | None]],
    better: Direction | None,
) -> Chance:
    """Return the probability that a run of the first group is better than one of the second; ties count half.

    It is the Mann–Whitney statistic divided by the number of pairs, averaged over the environments that both groups
    have. `scores` and `envs` have one item for each group, as in `estimate`.
    """
    (first, _), (second, _) = (_by_env(*each, better) for each in zip(scores, envs, strict=True))
    shared = [env for env in first if env in second]
    samples = [sample for env in shared for sample in (first[env], second[env])]
    if not samples or any(np.isnan(sample).any() for sample in samples):
        return Chance(None)
    sign = -1.0 if better == "lower" else 1.0

    def beats(*resampled: Floats) -> Floats:
        pairs = zip(resampled[::2], resampled[1::2], strict=True)
        shares = [share_of_pairs(sign * one, sign * other) for one, other in pairs]
        return np.asarray(np.mean(np.stack(shares), axis=0))

    low, high = _interval(samples, beats)
    return Chance(float(beats(*samples)), low, high)


def _interval(samples: Sequence[Floats], statistic: Statistic) -> tuple[float | None, float | None]:
    return (None, None) if any(len(sample) < MIN_SEEDS for sample in samples) else interval(samples, statistic)


def _by_env(
    scores: Sequence[float | None], envs: Sequence[str | None], better: Direction | None
) -> tuple[dict[str | None, Floats], int]:
    """Return scores by environment and the number of missing ones. Scores that are not finite become the worst one."""
    worst = {"lower": np.inf, "higher": -np.inf, None: np.nan}[better]
    by_env: dict[str | None, list[float]] = {}
    for score, env in zip(scores, envs, strict=True):
        if score is not None:
            by_env.setdefault(env, []).append(score if np.isfinite(score) else worst)
    return {env: np.array(values) for env, values in by_env.items()}, sum(score is None for score in scores)


def _identity(settings: Settings, key: str) -> str:
    """Return the same text for equal values: 1 equals 1.0 and NaN equals NaN, but 1, True and "1" differ."""
    if key not in settings:
        return ""
    value = settings[key]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)
