"""Where one run left another: the first metric whose difference is larger than the noise of the run that is kept to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from esper_analyzer.explaining.band import QUIET, WIDTH, Direction, Floats, noise_around
from esper_analyzer.explaining.explanation import FORMAT
from esper_analyzer.explaining.stages import COST, is_explained, stage
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.measuring.snapshot import metric_names
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.strict_json import strict
from esper_analyzer.wording import compact, listed
from esper_schemas.cleaning import printable
from esper_schemas.errors import RunDamagedError, UsageError
from esper_schemas.metric.catalogue import DECLARED
from esper_schemas.metric.payload import METRICS
from esper_schemas.run.ending import describe_ending

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEXT, MOST_NAMED = 5, 3
"""A metric has left if it is outside in most of so many aligned updates; so many metrics are named in a sentence."""

Alignment = Literal["steps", "updates"]


@dataclass(frozen=True, slots=True)
class Parted:
    """A metric in which the second run left the first.

    Attributes:
        metric: its name.
        is_extra: whether it is not in the metrics table.
        at: position on the axis where it left.
        update: that update of the second run.
        direction: where the second run went: `up`, `down` or `not finite`.
        deviations: how far it is from the first run there, in robust deviations of that run's noise. Infinite if it is
            not finite, or if the first run is constant.
        value, usual: the value of the second run, and of the first one.
        lasts: whether the second run is outside in most of the last aligned updates, too.
    """

    metric: str
    is_extra: bool
    at: int
    update: int
    direction: Direction
    deviations: float
    value: float
    usual: float
    lasts: bool


@dataclass(frozen=True, slots=True)
class Parting:
    """Where the second of two runs left the first.

    Attributes:
        runs: paths of the first run and of the second.
        rank: the rank that was read of both.
        by: whether they are aligned by environment steps or by updates.
        aligned: how many updates of the second run have their like in the first.
        first_difference: the update of the second run in which any number first differs; None if none does.
        sentences: the answer in words.
        parted: the metrics in which the second run left the first, in order.
        together: the metrics in which it did not.
        only_first, only_second: the metrics that only one of the runs measured in what is aligned; not compared.
        is_damaged: whether files of either run are damaged.
    """

    runs: tuple[str, str]
    rank: int
    by: Alignment
    aligned: int
    first_difference: int | None
    sentences: Sequence[str]
    parted: Sequence[Parted]
    together: Sequence[str]
    only_first: Sequence[str]
    only_second: Sequence[str]
    is_damaged: bool
    format: str = field(default=FORMAT)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain dictionaries and lists, `format` first; NaN and infinities are floats."""
        return {"format": self.format, "question": "where the second run left the first", **asdict(self)}

    def to_json(self) -> str:
        """Return it as strict JSON in ASCII: NaN and infinities are strings."""
        return json.dumps(strict(self.to_dict()), indent=2, allow_nan=False)


def explain_pair(runs: tuple[JudgedRun, JudgedRun], found: tuple[RunIndex, RunIndex], rank: int) -> Parting:
    """Find where the second run left the first.

    Args:
        runs: both runs.
        found: the index of `rank` of each.
        rank: the rank to read of both.

    Raises:
        UsageError: it is one run, or nothing of them can be aligned.
        RunDamagedError: nothing that is left of damaged runs can be aligned.
    """
    one, other = (run.path for run in runs)
    if one.resolve() == other.resolve():
        raise UsageError(f"the run {one} is given twice; name two runs")
    first, second = (index.only(rank).updates().collect() for index in found)
    by: Alignment = "steps" if all(_has_steps(rows) for rows in (first, second)) else "updates"
    axis = "env_steps" if by == "steps" else "update"
    first, second = _aligned(first, second, axis)
    is_damaged = any(index.damage for index in found)
    if first.is_empty():
        nothing = f"{one} and {other} have no {'environment steps' if by == 'steps' else 'updates'} in common"
        if is_damaged:
            raise RunDamagedError(f"{nothing}, as far as the damaged files can be read")
        raise UsageError(nothing)
    measured = [_measured(rows) for rows in (first, second)]
    names = [name for name in measured[0] if name in measured[1]]
    only = tuple([name for name in one if name not in names] for one in measured)
    each = {name: _parted(name, first[name], second, second[axis].to_numpy()) for name in names}
    parted = sorted(filter(None, each.values()), key=_order)
    difference = _first_difference(first, second, [name for name in names if stage(name) != COST])
    starts_apart = difference == second["update"][0]
    return Parting(
        runs=(str(one), str(other)),
        rank=rank,
        by=by,
        aligned=first.height,
        first_difference=difference,
        sentences=[
            *_sentences(_names(runs), by, first.height, difference, starts_apart, parted),
            *_left_out(_names(runs), (only[0], only[1])),
            *_endings(runs, rank),
        ],
        parted=parted,
        together=[name for name in names if each[name] is None],
        only_first=only[0],
        only_second=only[1],
        is_damaged=is_damaged,
    )


def _endings(runs: tuple[JudgedRun, JudgedRun], rank: int) -> list[str]:
    """Say why a run ended, of those that say so."""
    endings = [(name, run.ending(rank)) for name, run in zip(_names(runs), runs, strict=True)]
    told = [f"{printable(name)} ended as {describe_ending(*ending)}" for name, ending in endings if ending.reason]
    return [one if one.endswith((".", "…")) else f"{one}." for one in told]


def _measured(rows: pl.DataFrame) -> list[str]:
    """Return the metrics that were measured, without those that tell nothing."""
    names = [name for name in metric_names(rows.schema) if is_explained(name)]
    return [name for name in names if rows[name].null_count() < rows.height]


def _names(runs: tuple[JudgedRun, JudgedRun]) -> tuple[str, str]:
    """Return what to call the runs: by their ids, or by their paths where these are equal, as of a copy."""
    first, second = (run.header.run_id for run in runs)
    return (first, second) if first != second else (str(runs[0].path), str(runs[1].path))


def _left_out(names: tuple[str, str], only: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    """Name the metrics that only one of the runs has."""
    told = []
    for run, metrics in zip(names, only, strict=True):
        if metrics:
            named = listed([printable(metric) for metric in metrics], MOST_NAMED)
            told.append(f"Only {printable(run)} measured {named}; not compared.")
    return told


def _order(one: Parted) -> tuple[bool, int, int, float]:
    """Durations and memory last, then by where it left, by place in the update, and the farthest first."""
    place = stage(one.metric)
    return place == COST, one.at, place, -one.deviations


def _has_steps(rows: pl.DataFrame) -> bool:
    return rows.height > 0 and rows["env_steps"].null_count() == 0 and rows["env_steps"].is_sorted()


def _aligned(first: pl.DataFrame, second: pl.DataFrame, axis: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return, for each row of the second run that has its like in the first, both rows: two frames of one height.

    The like of a row is the nearest one, at most half a step of the first run away.
    """
    if first.is_empty() or second.is_empty():
        return first.clear(), second.clear()
    steps = first[axis].diff().drop_nulls()
    reach = int(steps.median() or 1) // 2 if len(steps) else 0  # type: ignore[arg-type]
    at_first, at_second = first[axis].to_numpy(), second[axis].to_numpy()
    after = np.clip(np.searchsorted(at_first, at_second), 0, len(at_first) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(at_second - at_first[before] < at_first[after] - at_second, before, after)
    near = np.flatnonzero(np.abs(at_first[nearest] - at_second) <= reach)
    return first[nearest[near]], second[near]


def _parted(name: str, first: pl.Series, second: pl.DataFrame, axis: NDArray[np.int64]) -> Parted | None:
    """Return where one metric left, or None."""
    kept, left = first.cast(pl.Float64).to_numpy(), second[name].cast(pl.Float64).to_numpy()
    is_known = ~first.is_null().to_numpy() & ~second[name].is_null().to_numpy()
    kept, left, places = kept[is_known], left[is_known], np.flatnonzero(is_known)
    if not len(kept):
        return None
    far = _distances(kept, left)
    outside = np.abs(far) > WIDTH
    stays = _mostly(outside)
    at = np.flatnonzero(outside & stays)
    if not len(at):
        return None
    start = int(at[0])
    direction: Direction = "not finite" if not np.isfinite(left[start]) else "up" if far[start] > 0 else "down"
    return Parted(
        metric=name,
        is_extra=name not in METRICS,
        at=int(axis[places[start]]),
        update=int(second["update"][int(places[start])]),
        direction=direction,
        deviations=abs(float(far[start])),
        value=float(left[start]),
        usual=float(kept[start]),
        lasts=bool(2 * outside[-NEXT:].sum() > len(outside[-NEXT:])),
    )


@QUIET
def _distances(kept: Floats, left: Floats) -> Floats:
    """Return the difference between two runs in robust deviations of the noise of the first, with sign.

    Equal values, and NaN beside NaN, are 0 apart.
    """
    finite = np.where(np.isfinite(kept), kept, np.nan)
    unit = noise_around(kept)
    if np.isnan(unit).all():  # a short run: the noise of all that there is
        unit = np.full(len(kept), float(np.nanstd(finite)) if np.isfinite(finite).any() else 0.0)
    far = (left - kept) / unit
    far = np.where((left == kept) | (np.isnan(left) & np.isnan(kept)), 0.0, far)
    return np.where(np.isnan(far), np.where(np.isfinite(left) != np.isfinite(kept), np.inf, 0.0), far)


def _mostly(outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether most of the next `NEXT` values, from each one on, are outside; near the end of those that there are."""
    total = np.concatenate(([0], np.cumsum(outside)))
    ends = np.minimum(np.arange(len(outside)) + NEXT, len(outside))
    starts = np.arange(len(outside))
    found: NDArray[np.bool_] = 2 * (total[ends] - total[starts]) > ends - starts
    return found


def _first_difference(first: pl.DataFrame, second: pl.DataFrame, names: Sequence[str]) -> int | None:
    """Return the first update of the second run in which any of these metrics differs."""
    earliest = second.height
    for name in names:
        differs = first[name].ne_missing(second[name].cast(first[name].dtype)).arg_true()
        earliest = min(earliest, *differs.head(1).to_list()) if len(differs) else earliest
    return None if earliest == second.height else int(second["update"][earliest])


def _sentences(
    names: tuple[str, str],
    by: Alignment,
    aligned: int,
    difference: int | None,
    starts_apart: bool,
    parted: Sequence[Parted],
) -> list[str]:
    kept, left = map(printable, names)
    if difference is None:
        return [f"{left} has the same numbers as {kept} in all {aligned} updates that they have in common."]
    if not parted:
        return [
            f"The numbers differ from update {difference} on, but {left} never left {kept}:"
            " no difference is larger than its noise."
        ]
    first = parted[0]
    where = f"update {first.update}" + (f" ({first.at} environment steps)" if by == "steps" else "")
    told = [
        f"{left} left {kept} in {where}: {_title(first)} was {compact(first.value)},"
        f" where {kept} had {compact(first.usual)}.{'' if first.lasts else ' It has come back since.'}"
    ]
    with_it = [one for one in parted[1:] if one.at == first.at]
    if with_it:
        told.append(f"In the same update: {_listed(with_it)}.")
    later = [one for one in parted if one.at > first.at]
    if later:
        told.append(f"After that: {_listed(later)}.")
    if starts_apart and difference < first.update:
        told.append("The numbers differ from the first update on, as those of two seeds do.")
    elif difference < first.update:
        told.append(f"The numbers differ from update {difference} on; until then they are the same.")
    return told


def _listed(parted: Sequence[Parted]) -> str:
    return listed([f"{_title(one)} {one.direction}" for one in parted], MOST_NAMED)


def _title(one: Parted) -> str:
    return DECLARED[one.metric].title if one.metric in DECLARED else printable(one.metric)
