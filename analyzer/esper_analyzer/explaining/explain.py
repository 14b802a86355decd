"""`explain`: find what moved first before an update of a run, or before the trouble that it is in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from esper_analyzer.caching.judgements import judgements
from esper_analyzer.explaining.band import PAST, SLIGHT, find_excursion, has_past
from esper_analyzer.explaining.broken_off import BrokenOff, broken_off, nothing_recorded
from esper_analyzer.explaining.explanation import Chosen, Explanation, Moved
from esper_analyzer.explaining.families import together
from esper_analyzer.explaining.minibatches import InMinibatch, excursions_of
from esper_analyzer.explaining.moment import in_order
from esper_analyzer.explaining.presence import find_turn
from esper_analyzer.explaining.sentences import broke_off, no_trouble, sentences
from esper_analyzer.explaining.stages import COST, SETTINGS, is_explained, stage
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement
from esper_analyzer.judging.trouble import Trouble, trouble_of
from esper_analyzer.measuring.snapshot import metric_names
from esper_analyzer.reading.black_boxes import BlackBox, black_boxes_of
from esper_analyzer.reading.run_index import RunIndex
from esper_schemas.errors import RunDamagedError, UsageError
from esper_schemas.metric.payload import METRICS
from esper_schemas.run.ending import Ending

LOOKBACK = 40
"""A metric may have left its band in so many updates up to the one that is explained."""

_READ = 10 * (PAST + LOOKBACK)
"""So many rows are read. A metric that only every tenth row measured still has a whole past in them."""


def explain_run(
    run: JudgedRun,
    found: RunIndex,
    update: int | None = None,
    rank: int | None = None,
    judged: Mapping[int, Judgement] | None = None,
) -> Explanation:
    """Explain an update of a run.

    Args:
        run: the run.
        found: the index of the run, or of `rank` alone, examined at depth `checksums` or `rows`.
        update: the update; by default that in which the run broke off (see `broken_off`), or else that of the trouble
            that it is in, or was in (see `trouble_of`).
        rank: the rank; by default the one that raised this alert, or the first one if an update is given.
        judged: what `judgements(run, found)` returned; by default it is asked for if it is needed.

    Raises:
        UsageError: the run has no rows, or no such update.
        RunDamagedError: so much of the run is damaged that one of these is true of the rest.
    """
    try:
        return _explain(run, found, update, rank, judged)
    except UsageError as error:
        if found.damage:
            raise RunDamagedError(f"{error}, as far as the damaged files can be read") from None
        raise


def _explain(
    run: JudgedRun, found: RunIndex, update: int | None, rank: int | None, judged: Mapping[int, Judgement] | None
) -> Explanation:
    frames, ending = found.frames(), run.ending(rank)
    boxes = black_boxes_of(run.directory, found)
    if not any(index.rows for index in found.ranks.values()):
        raise UsageError(nothing_recorded(run, boxes))
    trouble, broke = None, broken_off(run, boxes, frames)
    if broke is not None and (update not in (None, broke.update) or rank not in (None, broke.box.rank)):
        broke = None
    if broke is not None:
        rank, update = broke.box.rank, broke.update
    elif update is None:
        by_rank = judgements(run, found, frames) if judged is None else judged
        chosen = trouble_of({number: one.trouble for number, one in by_rank.items()})
        if chosen is None or chosen[1].is_too_early:
            return _nothing(run, ending, found, frames, chosen)
        rank, trouble = chosen
        update = trouble.alert.update
    elif rank is None:
        rank = found.shown("first")[0]
    rows = frames[rank].filter(pl.col("update") <= update).tail(_READ).collect()
    if rows.is_empty() or rows["update"][-1] != (update if broke is None else broke.after):
        raise UsageError(f"{run.path} has no update {update} of rank {rank}; {_recorded(frames[rank], update)}")
    recent = rows.tail(LOOKBACK)
    looked = _Looked(rows, recent["update"][0])
    boxes = [box for box in boxes if box.rank == rank and box.seq >= recent["seq"][0]]
    places = looked.places if broke is None else pl.concat([looked.places, _place_of(broke, looked.places)])
    moved = _moved(looked, excursions_of(_needed(boxes, places["seq"][-1]), places, recent["seq"][0]), update)
    gone = {one.metric for lead in moved for one in (lead, *lead.beside)}
    steady = [name for name in looked.names if name not in gone and looked.has_past(name)]
    not_judged = [name for name in looked.names if name not in gone and name not in steady]
    alert = None if trouble is None else trouble.alert
    return Explanation(
        run_id=run.header.run_id,
        path=str(run.path),
        status=ending.status,
        end_reason=ending.reason,
        is_imported=run.is_imported,
        rank=rank,
        update=update,
        chosen=_chosen(trouble, broke),
        alert=alert,
        since=looked.since,
        sentences=[
            *([] if broke is None else [broke_off(broke.after, broke.box.reason)]),
            *sentences(update, alert, moved, len(steady), len(not_judged), looked.since),
        ],
        moved=moved,
        steady=steady,
        not_judged=not_judged,
        remarks=run.remarks_on_references,
        is_damaged=found.damage > 0,
    )


def _chosen(trouble: Trouble | None, broke: BrokenOff | None) -> Chosen:
    if broke is not None:
        return "broke off"
    return "asked" if trouble is None else "in force" if trouble.lasts else "over"


def _place_of(broke: BrokenOff, places: pl.DataFrame) -> pl.DataFrame:
    """Return the place of the row that was never recorded, as if it had been."""
    row = {"attempt": [broke.box.attempt], "seq": [broke.box.seq], "update": [broke.update]}
    return pl.DataFrame(row, schema=places.schema)


@dataclass(frozen=True)
class _Looked:
    """The rows of a rank up to the update that is explained, and the first update that a metric may have left in."""

    rows: pl.DataFrame
    since: int

    @property
    def places(self) -> pl.DataFrame:
        return self.rows.select("attempt", "seq", "update")

    @property
    def names(self) -> list[str]:
        """The metrics of which anything was measured, without those that tell nothing."""
        names = [name for name in metric_names(self.rows.schema) if is_explained(name)]
        return [name for name in names if self.rows[name].null_count() < self.rows.height]

    def measured(self, name: str) -> pl.DataFrame:
        """Return the rows that measured a metric: columns `update` and `value`. Undefined values are no values."""
        measured = self.rows.select("update", value=pl.col(name).cast(pl.Float64)).drop_nulls("value")
        bands = METRICS[name].bands if name in METRICS else None
        return measured.filter(pl.col("value").is_finite()) if bands and bands.nonfinite == "unknown" else measured

    def has_past(self, name: str) -> bool:
        return has_past(self.measured(name)["value"].to_numpy())


def _moved(looked: _Looked, in_minibatches: dict[str, InMinibatch], update: int) -> list[Moved]:
    """Return what left its band up to an update, in order, and what says the same together."""
    moved = [one for name in looked.names if (one := _in_rows(looked, name, in_minibatches.get(name))) is not None]
    last, in_rows, found = int(looked.rows["update"][-1]), set(looked.names), {one.metric for one in moved}
    moved += [
        _in_box(name, one)
        for name, one in in_minibatches.items()
        if name not in in_rows or (one.update > last and name not in found)
    ]
    return together(in_order(moved, update))


def _in_rows(looked: _Looked, name: str, in_minibatch: InMinibatch | None) -> Moved | None:
    measured = looked.measured(name)
    values = measured["value"].to_numpy()
    since = int((measured["update"] < looked.since).sum())
    is_measurement = name in METRICS and stage(name) != SETTINGS
    found = find_excursion(values, since, slight=SLIGHT) if is_measurement else find_excursion(values, since)
    if found is None:
        return _turned(looked, name)
    update = int(measured["update"][found.start])
    return Moved(
        metric=name,
        is_extra=name not in METRICS,
        source="updates",
        update=update,
        minibatch=in_minibatch.minibatch if in_minibatch and in_minibatch.update == update else None,
        direction=found.direction,
        deviations=found.deviations,
        usual=found.usual,
        low=found.low,
        high=found.high,
        value=float(values[found.start]),
        peak=float(values[found.peak]),
        peak_update=int(measured["update"][found.peak]),
        lasts=found.lasts,
    )


def _turned(looked: _Looked, name: str) -> Moved | None:
    """Return that a metric fell silent or is new. Skipped updates measure nothing, and do not count."""
    rows = looked.rows.filter(~pl.col("skipped").fill_null(False)).select("update", value=pl.col(name).cast(pl.Float64))
    measured = rows["value"].is_not_null().to_numpy()
    turn = find_turn(measured, int((rows["update"] < looked.since).sum()))
    if turn is None:
        return None
    update, is_new = int(rows["update"][turn.start]), turn.presence == "new"
    value = float(rows["value"][turn.start if is_new else turn.start - 1])
    return Moved(
        metric=name,
        is_extra=name not in METRICS,
        source="updates",
        update=update,
        minibatch=None,
        direction=turn.presence,
        deviations=math.inf,
        usual=None if is_new else value,
        low=None,
        high=None,
        value=value if is_new else None,
        peak=value if is_new else None,
        peak_update=update,
        lasts=True,
    )


def _in_box(name: str, found: InMinibatch) -> Moved:
    one = found.excursion
    return Moved(
        metric=name,
        is_extra=name not in METRICS,
        source="black box",
        update=found.update,
        minibatch=found.minibatch,
        direction=one.direction,
        deviations=one.deviations,
        usual=one.usual,
        low=one.low,
        high=one.high,
        value=found.value,
        peak=found.peak,
        peak_update=found.peak_update,
        lasts=one.lasts,
    )


def _outside(rows: pl.LazyFrame) -> list[Moved]:
    """Return the metrics that are outside their bands at the newest of these rows, without durations and memory."""
    newest = rows.tail(_READ).collect()
    looked = _Looked(newest, newest.tail(LOOKBACK)["update"][0])
    return [
        one
        for one in _moved(looked, {}, int(newest["update"][-1]))
        if one.lasts and one.direction not in ("silent", "new") and stage(one.metric) != COST
    ]


def _nothing(
    run: JudgedRun,
    ending: Ending,
    found: RunIndex,
    frames: dict[int, pl.LazyFrame],
    early: tuple[int, Trouble] | None,
) -> Explanation:
    """Say that there is no trouble to explain, or that the only alert, of this rank, came too early."""
    rank = found.shown("first")[0] if early is None else early[0]
    updates, newest = frames[rank].select(pl.len(), pl.col("update").max()).collect().row(0)
    return Explanation(
        run_id=run.header.run_id,
        path=str(run.path),
        status=ending.status,
        end_reason=ending.reason,
        is_imported=run.is_imported,
        rank=rank,
        update=newest,
        chosen="nothing",
        alert=None,
        since=newest,
        sentences=no_trouble(
            updates, None if early is None else early[1].alert, [] if early else _outside(frames[rank])
        ),
        moved=[],
        steady=[],
        not_judged=[],
        remarks=run.remarks_on_references,
        is_damaged=found.damage > 0,
    )


def _needed(boxes: Sequence[BlackBox], last_seq: int) -> list[BlackBox]:
    """Return the boxes that have minibatches up to the update: those of it and before, and the next one after it."""
    return [box for at, box in enumerate(boxes) if not at or boxes[at - 1].seq < last_seq]


def _recorded(frame: pl.LazyFrame, update: int) -> str:
    """Say which updates there are around one that is missing."""
    at = pl.col("update")
    first, last, before, after = (
        frame.select(
            at.min().alias("first"),
            at.max().alias("last"),
            at.filter(at < update).max().alias("before"),
            at.filter(at > update).min().alias("after"),
        )
        .collect()
        .row(0)
    )
    if first is None:
        return "it has recorded none"
    if before is None or after is None:
        return f"choose one from {first} to {last}"
    return f"the nearest are {before} and {after}"
