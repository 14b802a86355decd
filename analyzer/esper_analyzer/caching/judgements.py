"""The judgement on the rows of a run: whoever needs it takes it from here, so that no row is judged twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from esper_analyzer.caching.kept import keep, kept, load_kept
from esper_analyzer.caching.keys import key_of_rows
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement, judge_in_steps, judge_ranks, judge_side_by_side
from esper_analyzer.judging.plan import Plan
from esper_analyzer.reading.errors import RUN_ERRORS
from esper_analyzer.reading.run_index import RunIndex
from esper_schemas.errors import StoreError

_KIND = "judgement"


@dataclass(frozen=True, slots=True)
class _Judgements:
    """What the cache folder keeps: ranks, and the judgement on each."""

    of_ranks: list[tuple[int, Judgement]]


def judgements(
    run: JudgedRun,
    found: RunIndex,
    frames: Mapping[int, pl.LazyFrame] | None = None,
    *,
    before: Callable[[], object] = lambda: None,
) -> dict[int, Judgement]:
    """Return the judgement on each rank that was examined: that which was kept, or one that is made and kept now.

    Args:
        run: the run.
        found: the ranks, examined at depth `checksums` or `rows`.
        frames: their rows that count, as `found.frames()` returns them, if those are open already.
        before: is called before rows are judged, unless the judgement was kept.

    Raises:
        DATA_ERRORS: rows cannot be decoded although their file matches its seal.
    """

    def judge() -> _Judgements:
        before()
        return _Judgements([*judge_ranks(run, found, found.frames() if frames is None else frames).items()])

    return dict(kept(_KIND, key_of_rows(run, found, found), _Judgements, judge).of_ranks)


def judgements_of_short(looks: Sequence[tuple[JudgedRun, RunIndex]]) -> list[dict[int, Judgement] | None]:
    """As `judgements` of several runs, which are judged side by side as far as they are short.

    Args:
        looks: runs and the ranks of each, as for `judgements`.

    Returns:
        None for a run that is left to `judgements`: it has many rows, goes on, cannot be decoded, or has rules of the
        caller's own.

    Raises:
        StoreError: an object store does not answer, or refuses.
    """
    made: list[dict[int, Judgement] | None] = []
    group: list[_Short] = []
    for run, found in looks:
        key = key_of_rows(run, found, found)
        there = None if key is None else load_kept(_KIND, key, _Judgements)
        made.append(None if there is None else dict(there.of_ranks))
        if key is None or there is not None or not run.settings.can_travel:
            continue
        short = _Short(len(made) - 1, key, run, found)
        if short.count > _MOST_ROWS:
            continue
        if group and (
            group[0].run.settings is not run.settings or short.count + sum(one.count for one in group) > _MOST_ROWS
        ):
            _judge_group(group, made)
            group = []
        group.append(short)
    _judge_group(group, made)
    return made


_MOST_ROWS = 65_536
"""So many rows of several runs are judged side by side, in about 100 MB."""


@dataclass(frozen=True, slots=True)
class _Short:
    """A short run that is to be judged: its place in the result, and the key to keep that under."""

    place: int
    key: str
    run: JudgedRun
    found: RunIndex

    @property
    def count(self) -> int:
        return sum(index.rows for index in self.found.ranks.values())

    def rows(self) -> dict[int, pl.LazyFrame]:
        """The rows of each rank, with what is needed to judge them."""
        needed = {*Plan.of(self.run.settings.rules).columns, "dropped_before"}
        names = [name for name in self.found.schema if name in needed]
        return {rank: rows.select(names) for rank, rows in self.found.frames().items()}


def _judge_group(group: Sequence[_Short], made: list[dict[int, Judgement] | None]) -> None:
    """Judge and keep the runs of a group, and put that to its places; leave out those that cannot be decoded."""
    try:
        held = [*zip(group, _read([one.rows() for one in group]), strict=True)]
    except StoreError:
        raise  # each request was tried several times already, and the next run would wait as long
    except RUN_ERRORS:
        if len(group) > 1:
            for one in group:
                _judge_group([one], made)
        return
    asked = [
        (one.run, one.found.ranks[rank], rows, one.found.damage_of(rank))
        for one, of_ranks in held
        for rank, rows in of_ranks.items()
    ]
    judged = iter(judge_side_by_side(asked))
    for one, of_ranks in held:
        found = _Judgements([(rank, next(judged)) for rank in of_ranks])
        made[one.place] = dict(keep(_KIND, one.key, _Judgements, found).of_ranks)


def _read(runs: Sequence[Mapping[int, pl.LazyFrame]]) -> list[dict[int, pl.DataFrame]]:
    """Read the rows of each rank of each run, all at once."""
    frames = iter(pl.collect_all([rows for of_ranks in runs for rows in of_ranks.values()]))
    return [{rank: next(frames) for rank in of_ranks} for of_ranks in runs]


def judgement_in_steps(
    run: JudgedRun, found: RunIndex, rank: int, rows: pl.LazyFrame
) -> Generator[int, None, Judgement] | None:
    """As `judgements`, of one rank and in steps: yields the number of rows judged so far, and returns the judgement.

    Args:
        run: the run.
        found: ranks that were examined at depth `checksums` or `rows`; this one is among them.
        rank: the rank.
        rows: its rows that count.

    Returns:
        None if nothing is kept of the run, because it goes on; see `key_of_rows`.
    """
    found = found.only(rank)
    key = key_of_rows(run, found, found)
    return None if key is None else _in_steps(run, found, rank, rows, key)


def _in_steps(
    run: JudgedRun, found: RunIndex, rank: int, rows: pl.LazyFrame, key: str
) -> Generator[int, None, Judgement]:
    made = load_kept(_KIND, key, _Judgements)
    if made is None:
        judged = yield from judge_in_steps(run, found.rank(rank), rows, found.damage_of(rank))
        made = keep(_KIND, key, _Judgements, _Judgements([(rank, judged)]))
    return dict(made.of_ranks)[rank]
