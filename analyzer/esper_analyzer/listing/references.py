"""The sound runs that `--reference` names: runs, logs of other trainers, and the healthy runs of a folder."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from esper_analyzer.judging.reference import ReferenceRun
from esper_analyzer.judging.reference_runs import reference_of
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, LEAST_OF_FOLDERS, Settings
from esper_analyzer.judging.task import Task
from esper_analyzer.listing.entry import RunEntry, read_header, read_rows
from esper_analyzer.listing.listing import list_runs
from esper_analyzer.reading.errors import RUN_ERRORS
from esper_analyzer.reading.imported_log import LogChoice, find_log, imported_log
from esper_analyzer.reading.run_reader import RunReader, locate_run
from esper_analyzer.wording import count
from esper_schemas.errors import EsperError, NotARunError, StoreError, UsageError
from esper_schemas.run.directory import open_place, run_at
from esper_schemas.run.finding import candidates, resolve_run, run_folders
from esper_schemas.run.store import Place, StoreUrl, parse_place

MOST_OF_FOLDER = 12
"""A folder stands for at most so many of its healthy runs of one environment and trainer, the newest."""


def with_references(
    runs: Iterable[str | os.PathLike[str]],
    root: str | os.PathLike[str] = "runs",
    settings: Settings = DEFAULT_SETTINGS,
    mapping: Sequence[str] = (),
) -> Settings:
    """Return settings by which a run is judged beside sound runs of the same task, as by `--reference`.

    Args:
        runs: paths, URLs or names under `root` of sound runs, or logs of other trainers. Three are better than one,
            since then the lowest third of them is left out. A run is judged beside those of its own environment, and
            not beside itself. A folder of runs stands for those in it that are healthy by these settings, the newest
            `MOST_OF_FOLDER` of each environment and trainer. If these are three or more, a run of both is judged
            beside them. There may be none yet.
        root: folder of runs, or the URL of one in an object store.
        settings: what else it is judged by; the references that they have stay.
        mapping: `KEY=FIELD` for keys of logs that nobody else names.

    Raises:
        NotARunError: there is no such run, or a folder cannot be searched.
        UsageError: a run has fewer than `START_RETURNS` updates in which an episode return was measured; or `runs` is
            one text, or has an empty one.
    """
    if isinstance(runs, (str, os.PathLike)):
        raise UsageError(f"references are a list of runs, found {str(runs)!r}; write [{str(runs)!r}]")
    alone = replace(settings, references=(), references_in=())
    found = {one.run_uuid: one for one in settings.references}
    folders: dict[str, Place] = {}
    for run in runs:
        if not isinstance(run, (str, os.PathLike)):
            raise UsageError(f"a reference is a path, a URL, or a name under the folder of runs; found {run!r:.60}")
        named = os.fspath(run)
        if not named:
            raise UsageError("a reference has no name; expected a path, a URL, or a name under the folder of runs")
        folder = _folder_of_runs(named, parse_place(root))
        if folder is None:
            _add(_named(named, root, alone, mapping), named, found)
        else:
            folders[named] = folder
    for named, folder in folders.items():
        for one in _healthy(folder, named, alone):
            _add(one, f"{named}/{one.name}", found)
    searched = dict.fromkeys([*settings.references_in, *folders])
    return replace(settings, references=tuple(found.values()), references_in=tuple(searched))


def _add(one: ReferenceRun, longer: str, found: dict[str, ReferenceRun]) -> None:
    """Add a reference, by its longer name if another one has its name.

    One that is there is not added again, unless it was found in a folder, and now is named.
    """
    known = found.get(one.run_uuid)
    if known is None or (one.found_in is None and known.found_in is not None):
        is_taken = any(other.name == one.name for other in found.values() if other is not known)
        found[one.run_uuid] = replace(one, name=longer) if is_taken else one


def _folder_of_runs(named: str, root: Place) -> Place | None:
    """Return the folder of runs that a person means; None for a run, in whatever state, a log, or nothing at all.

    The folder of runs that is in force, and one that it lies in, are such even if they are not there yet; another one
    if it has runs, or nothing but folders.
    """
    try:
        resolve_run(named, root)
    except NotARunError:
        pass
    except EsperError:
        return None
    else:
        return None
    in_force = Path(root).absolute()
    places = candidates(named, root)
    for place in places:
        if Path(place).absolute() in (in_force, *in_force.parents):
            return place
        with suppress(NotARunError):
            if any(True for _ in run_folders(place)):
                return place
    return next((place for place in places if _is_empty(place)), None)


def _is_empty(place: Place) -> bool:
    """Whether a place is a folder of this machine with nothing in it but what is hidden, or other folders."""
    if isinstance(place, StoreUrl):  # it is there once it has something
        return False
    with suppress(OSError), open_place(place) as folder:
        return all(folder.is_folder(name) for name in folder.names() if not name.startswith("."))
    return False


def _named(named: str, root: str | os.PathLike[str], settings: Settings, mapping: Sequence[str]) -> ReferenceRun:
    log = find_log(named, parse_place(root))
    if log is None:
        return _judged(RunReader(locate_run(named, root)), settings)
    with imported_log(log, LogChoice(tuple(mapping)), is_followed=False) as (path, _):
        return replace(_judged(RunReader(locate_run(path)), settings), name=log.name)


def _judged(run: RunReader, settings: Settings) -> ReferenceRun:
    """Read a reference, and whether it is any good itself."""
    one = reference_of(run)
    (entry,) = read_rows([read_header(run.path, one.name)], settings)
    return replace(one, is_critical=entry.level == "critical", is_damaged=entry.is_damaged)


def _healthy(folder: Place, named: str, settings: Settings) -> Iterator[ReferenceRun]:
    """Read the newest healthy runs of a folder, so many of each task."""
    try:
        entries = list_runs([folder], settings=settings).runs
    except NotARunError:
        if _has_none_yet(folder):
            return
        raise
    counts = Counter[Task]()
    for entry in entries:
        task = entry.task
        if entry.level != "healthy" or entry.is_damaged or counts[task] >= MOST_OF_FOLDER:
            continue
        try:
            one = reference_of(RunReader(run_at(entry.path)))
        except StoreError:
            raise
        except RUN_ERRORS:  # too few returns, or it went away
            continue
        counts[task] += 1
        yield replace(one, name=entry.name, found_in=named)


def tip(runs: Iterable[RunEntry], roots: Sequence[Place]) -> str | None:
    """Say that runs in a list could be judged beside healthy ones of their task; None where that would say no more.

    Args:
        runs: what was listed, judged by themselves.
        roots: the folders that were searched.
    """
    healthy, others = Counter[Task](), Counter[Task]()
    for run in runs:
        if run.env is not None and run.level is not None:
            healthy[run.task] += run.level == "healthy" and not run.is_damaged
            others[run.task] += run.level in ("warning", "unknown")
    asked = sum(others[task] for task, number in healthy.items() if number >= LEAST_OF_FOLDERS)
    if not asked:
        return None
    options = " ".join(f"--reference {shlex.quote(str(root))}" for root in roots)
    said = f"{count(asked)} {'run' if asked == 1 else 'runs'} could be judged beside healthy ones of the same task"
    return f"{said}: {options}"


def _has_none_yet(folder: Place) -> bool:
    """Whether a folder is not there yet, or has no runs. One that cannot be searched may have some."""
    if isinstance(folder, StoreUrl):  # it is there once it has something
        return True
    try:
        with open_place(folder):
            return not any(True for _ in run_folders(folder))
    except FileNotFoundError:
        return True
    except OSError:
        return False
