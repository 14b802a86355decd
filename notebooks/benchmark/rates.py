"""False alarms and detections of judged runs, with exact intervals, and the folds to choose thresholds by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from benchmark.judged import Judged
from benchmark.plan import SOUND

LEVEL = 0.95
"""Of all intervals, which are two-sided."""


class Interval(NamedTuple):
    """An estimate with the ends of its interval; all NaN where nothing was seen that could tell."""

    value: float
    low: float
    high: float


def share(count: int, of: int) -> Interval:
    """Return `count` / `of` with the interval of Clopper and Pearson (1934)."""
    if not of:
        return Interval(math.nan, math.nan, math.nan)
    tail = (1 - LEVEL) / 2
    low = float(stats.beta.ppf(tail, count, of - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - tail, count + 1, of - count)) if count < of else 1.0
    return Interval(count / of, low, high)


def rate(count: int, exposure: float) -> Interval:
    """Return events per unit of `exposure` with the exact interval of a Poisson count (Garwood 1936)."""
    if not exposure:
        return Interval(math.nan, math.nan, math.nan)
    tail = (1 - LEVEL) / 2
    low = float(stats.chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    high = float(stats.chi2.ppf(1 - tail, 2 * count + 2)) / 2
    return Interval(count / exposure, low / exposure, high / exposure)


def cases(judged: Mapping[str, Judged], labels: pl.DataFrame) -> pl.DataFrame:
    """What came of each run.

    Args:
        judged: What was said of the runs, by name; all of `labels` must be there, and others are ignored.
        labels: As `Corpus.labels`; `deadline` may be left out.

    Returns:
        `labels` with these columns: `rows`; `first_warning`, `first_critical`, `last`, `rules` and `last_rules` as in
        `Judged`; `false_alarm`, whether a sound run was ever critical, or a broken one before it broke; `watched`, the
        updates at which that could have happened, up to the first alarm; `found`, the update at which a broken run was
        critical first from its onset on, within its deadline; `delay` and `delay_steps`, the updates and environment
        steps from the onset to it, null where it was critical before.
    """
    found = [_case(run, judged[run["name"]]) for run in labels.to_dicts()]
    schema = {
        "rows": pl.Int64,
        "first_warning": pl.Int64,
        "first_critical": pl.Int64,
        "last": pl.String,
        "rules": pl.String,
        "last_rules": pl.String,
        "false_alarm": pl.Boolean,
        "watched": pl.Int64,
        "found": pl.Int64,
        "delay": pl.Int64,
        "delay_steps": pl.Float64,
    }
    return pl.concat([labels, pl.DataFrame(found, schema=schema)], how="horizontal")


def _case(run: Mapping[str, Any], one: Judged) -> dict[str, Any]:
    onset, is_broken = run["begins"], run["label"] == "broken"
    could_be_false = one.updates < onset if is_broken else np.full(len(one.updates), run["label"] == "sound")
    first, found = one.first_critical, one.critical_from(onset) if is_broken else None
    is_early = first is not None and bool(could_be_false[one.updates == first][0])
    if first is not None and is_early:
        could_be_false &= one.updates <= first
    if found is not None and run.get("deadline") is not None and found > run["deadline"]:
        found = None
    delay, delay_steps = None, None
    if found is not None and not is_early:
        delay = int(((one.updates >= onset) & (one.updates < found)).sum())
        delay_steps = one.steps_since(onset, found)
    return {
        "rows": len(one.updates),
        "first_warning": one.first_warning,
        "first_critical": first,
        "last": one.last,
        "rules": ", ".join(one.rules),
        "last_rules": ", ".join(one.last_rules),
        "false_alarm": is_early,
        "watched": int(could_be_false.sum()),
        "found": found,
        "delay": delay,
        "delay_steps": delay_steps,
    }


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Counts of some runs.

    Attributes:
        sound: Runs labelled sound.
        critical: Those of them that were ever critical.
        broken: Runs labelled broken.
        found: Those of them that were critical at any time from the onset on, within their deadline.
        later: Those of `broken` that have rows before their onset.
        early: Those of `later` that were critical before their onset; most of them are among `found`, too.
        unclear: Runs that enter no rate.
        watched: Updates of sound runs, and of broken ones before their onset, up to the first alarm of each.
        delay: Median updates from onset to detection, of those found and not early; None if there are none.
        delay_steps: The same in environment steps, of those whose steps are known.
    """

    sound: int
    critical: int
    broken: int
    found: int
    later: int
    early: int
    unclear: int
    watched: int
    delay: float | None
    delay_steps: float | None

    @classmethod
    def of(cls, cases: pl.DataFrame) -> Rates:
        """Count `cases`, as `cases()` returns them."""
        sound, broken = (cases.filter(pl.col("label") == label) for label in ("sound", "broken"))
        return cls(
            sound=len(sound),
            critical=int(sound["false_alarm"].sum()),
            broken=len(broken),
            found=len(broken) - broken["found"].null_count(),
            later=int((broken["watched"] > 0).sum()),
            early=int(broken["false_alarm"].sum()),
            unclear=len(cases) - len(sound) - len(broken),
            watched=int(cases["watched"].sum()),
            delay=_median(broken["delay"]),
            delay_steps=_median(broken["delay_steps"]),
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rates:
        """The counts of a row of `tables.rates_table`, which has more keys than these."""
        return cls(**{each.name: record[each.name] for each in fields(cls)})

    @property
    def critical_share(self) -> Interval:
        """Share of sound runs that were ever critical: false alarms per run."""
        return share(self.critical, self.sound)

    @property
    def found_share(self) -> Interval:
        """Share of broken runs that were found."""
        return share(self.found, self.broken)

    def alarms_per(self, updates: int) -> Interval:
        """False alarms per so many updates looked at, those before an onset among them."""
        return rate(self.critical + self.early, self.watched / updates)


def rates(judged: Mapping[str, Judged], labels: pl.DataFrame) -> Rates:
    """Counts of the runs in `labels`; see `cases` for the arguments."""
    return Rates.of(cases(judged, labels))


def _median(values: pl.Series) -> float | None:
    median = values.drop_nulls().median()
    return None if median is None else float(median)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- folds


class Fold(NamedTuple):
    """The labels of the runs to choose thresholds by, and of those to judge the choice by; in neither twice."""

    training: pl.DataFrame
    left_out: pl.DataFrame


def folds(labels: pl.DataFrame, by: Sequence[str] = ("env", "kind")) -> Iterator[Fold]:
    """Leave each environment out, then each kind of failure.

    With an environment go its sound and broken runs. With a kind go its broken runs alone, also those of the part
    "rlmutation": the sound runs stay in training, and are never left out by kind.
    """
    for column in by:
        for name in sorted(labels[column].unique()):
            is_left_out = pl.col(column) == name
            if not (column == "kind" and name == SOUND):
                yield Fold(labels.filter(~is_left_out), labels.filter(is_left_out))
