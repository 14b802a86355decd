"""Read the runs of a comparison, each once; a run that cannot be read does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from esper_analyzer.caching.judgements import judgements, judgements_of_short
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement, together
from esper_analyzer.judging.settings import Settings
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.measuring.snapshot import metric_names
from esper_analyzer.measuring.whole import measured_metrics
from esper_analyzer.reading.errors import DAMAGE, RUN_ERRORS, describe_error
from esper_analyzer.reading.gaps import Range
from esper_analyzer.reading.run_index import Ranks, RunIndex, looked_at
from esper_analyzer.reading.run_reader import locate_run
from esper_schemas.errors import NotARunError, RunDamagedError, RunUnreadableError, StoreError, UsageError
from esper_schemas.metric.catalogue import LOSS_RATIO, SLIDING_RETURN
from esper_schemas.run.ending import Ending
from esper_schemas.run.store import Place


@dataclass(frozen=True, slots=True)
class Reading:
    """What a comparison needs of a run, from one examination.

    Attributes:
        run: the run.
        found: the index of the rank that is compared.
        rank: this rank; None if the run has none.
        ending: status and why the last attempt ended, of the ranks that are judged.
        judgement: that on the rank that is compared; None if the run has no rank.
        verdict: on all ranks that are judged.
        is_damaged: whether files of these ranks are damaged.
        measured: the metrics that have a value in the rank that is compared, if somebody needs them; else empty.
    """

    run: JudgedRun
    found: RunIndex
    rank: int | None
    ending: Ending
    judgement: Judgement | None
    verdict: Verdict
    is_damaged: bool
    measured: Sequence[str]

    @property
    def updates(self) -> int:
        """Number of updates of the rank that is compared."""
        return 0 if self.judgement is None else self.judgement.rows

    @property
    def ends(self) -> tuple[int | None, int | None]:
        """First and last update of the rank that is compared; None without updates."""
        return (None, None) if self.judgement is None else (self.judgement.first, self.judgement.last)

    @property
    def missing(self) -> list[Range]:
        """The ranges of updates that are missing in the rank that is compared."""
        return [] if self.judgement is None else self.judgement.missing

    def has(self, returns: str) -> bool:
        """Whether the rank that is compared has measured the return in this form, one of `RETURNS`."""
        if returns == SLIDING_RETURN:
            return returns in self.found.schema  # an extra, which is a column only where somebody recorded it
        return self.judgement is not None and self.judgement.has_returns


def read_all(
    runs: Sequence[JudgedRun | str | os.PathLike[str]],
    root: str | os.PathLike[str],
    settings: Settings,
    rank: Ranks,
    *,
    with_metrics: bool,
    verifies: bool = False,
) -> tuple[list[Reading], dict[str, str]]:
    """Read each run once. Also return, for each run that cannot be read at all, what is wrong with it.

    Args:
        runs, root, settings: as for `compare`.
        rank: as for `build_report`.
        with_metrics: whether to find out which metrics each run has measured.
        verifies: as for `RunReader`.

    Raises:
        UsageError: there are fewer than two runs, or one is given twice.
        NotARunError: there is no such run or rank, or fewer than two runs can be read and none is damaged.
        RunUnreadableError: the permissions of a run's folder do not let it be opened.
        StoreError: an object store does not answer, or refuses.
        RunDamagedError: fewer than two runs can be read, and one is damaged.
    """
    if len(runs) < 2:
        raise UsageError(f"compare needs at least two runs, found {len(runs)}")
    given_once: dict[Place, Place] = {}
    opened: list[tuple[str, JudgedRun, RunIndex]] = []
    readings: list[Reading] = []
    failed: dict[str, BaseException] = {}
    names = [str(given.path if isinstance(given, JudgedRun) else given) for given in runs]
    for name, given in zip(names, runs, strict=True):
        try:
            run = (
                given
                if isinstance(given, JudgedRun)
                else JudgedRun(locate_run(given, root), settings, verifies=verifies)
            )
            path = run.path.resolve()
            if path in given_once:
                raise UsageError(f"the run {given_once[path]} is given more than once; name each run once")
            given_once[path] = run.path
            opened.append((name, run, run.read(looked_at(rank), lambda found: found)))
        except _NOT_SET_ASIDE:
            raise
        except RUN_ERRORS as error:
            failed[name] = error
    judged = judgements_of_short([(run, found) for _, run, found in opened])
    for (name, run, found), of_run in zip(opened, judged, strict=True):
        try:
            make = partial(_reading, run, rank, with_metrics, None if of_run is None else (found, of_run))
            readings.append(run.read(looked_at(rank), make, found))
        except _NOT_SET_ASIDE:
            raise
        except RUN_ERRORS as error:
            failed[name] = error
    set_aside = {name: describe_error(failed[name]) for name in names if name in failed}
    if len(readings) < 2:
        causes = "; ".join(f"{name}: {cause}" for name, cause in set_aside.items())
        message = f"fewer than two of the {len(runs)} runs can be read: {causes}"
        raise (
            RunDamagedError(message)
            if any(isinstance(one, DAMAGE) for one in failed.values())
            else NotARunError(message)
        )
    return readings, set_aside


_NOT_SET_ASIDE = (NotARunError, RunUnreadableError, StoreError, UsageError)


def _reading(
    run: JudgedRun,
    rank: Ranks,
    with_metrics: bool,
    made: tuple[RunIndex, Mapping[int, Judgement]] | None,
    found: RunIndex,
) -> Reading:
    """Make what a comparison needs of a run; `made` are the judgements of a look, if they were made already."""
    judged = made[1] if made is not None and made[0] is found else judgements(run, found)
    shown = found.shown(rank)
    compared = shown[0] if len(shown) == 1 else None
    schema = found.schema
    return Reading(
        run=run,
        found=found if compared is None else found.only(compared),
        rank=compared,
        ending=run.ending(looked_at(rank)),
        judgement=None if compared is None else judged[compared],
        verdict=together(run, judged)[1],
        is_damaged=found.damage > 0,
        measured=measured_metrics(found.stretches(shown), schema, [*metric_names(schema), LOSS_RATIO])
        if with_metrics
        else (),
    )
