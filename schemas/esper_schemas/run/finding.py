"""Finds runs: all below a folder, however they are sorted into folders of their own, or the one that a person names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import overload

from esper_schemas.errors import EsperError, NotARunError, RunDamagedError, RunUnreadableError, StoreError, UsageError
from esper_schemas.run.directory import RunDirectory, StoredRun, open_place, run_at
from esper_schemas.run.names import ATTEMPTS, HEADER_NAME, RANK_PREFIX
from esper_schemas.run.storage import Storage
from esper_schemas.run.store import Place, StoreUrl, is_url, parse_place, path_below

MAX_DEPTH = 8
"""A run lies at most so many folders below the root; a run directly under it lies one below."""

MAX_FOLDERS = 100_000
"""At most so many folders are looked into, so that a root that was not meant, such as `/`, ends in an error."""

_NAMED = 5
"""So many of the latest runs are named where a run was not found."""

_FUTURE_SECS = 24 * 3600.0
"""How far `created` of a header may be ahead of this machine's clock; a later time is ignored."""


def run_folders(root: Place) -> Iterator[Place]:
    """The folders below `root` that are runs, in order of their names: each folder with a `run.json` in it.

    Runs may lie in folders of their own, such as `runs/<sweep>/<run>`. Links are not followed, nothing inside a run is
    looked at, and neither are hidden folders. A folder that cannot be opened counts as a run: opening it raises its
    error. A `root` that is a run itself is the only one.

    Raises:
        NotARunError: `root` does not exist, is not a folder, cannot be opened, or has more than `MAX_FOLDERS` folders.
        StoreError: it is in an object store that does not answer, or refuses.
    """
    try:
        with open_place(root) as folder:
            if folder.exists(HEADER_NAME):
                yield root
            else:
                yield from _below(folder, root, root, 1, [0])
    except (FileNotFoundError, NotADirectoryError):
        if isinstance(root, StoreUrl):
            raise NotARunError(f"there are no objects below {root}; upload a run first, or check the URL") from None
        raise NotARunError(f"{root} is not a folder of runs; record a run first, or pass another with --root") from None
    except OSError as error:
        raise NotARunError(f"cannot open {root} ({error.strerror}); pass another folder with --root") from None


def _below(folder: Storage, path: Place, root: Place, depth: int, seen: list[int]) -> Iterator[Place]:
    """The runs in an open folder; `seen` counts the folders looked into so far."""
    for name in folder.names():
        if name.startswith((".", RANK_PREFIX)):  # a run that has lost its header has ranks
            continue
        inner = path / name
        try:
            if not folder.is_folder(name):
                continue
            seen[0] += 1
            if seen[0] > MAX_FOLDERS:
                raise NotARunError(
                    f"{root} has more than {MAX_FOLDERS:,} folders below it; name the folder of runs itself"
                )
            with folder.folder(name) as opened:
                if opened.exists(HEADER_NAME):
                    yield inner
                elif depth < MAX_DEPTH:
                    yield from _below(opened, inner, root, depth + 1, seen)
        except FileNotFoundError:
            continue  # it was removed in between
        except (OSError, RunDamagedError):
            yield inner


@overload
def find_runs(root: Path) -> Iterator[RunDirectory]: ...


@overload
def find_runs(root: Place) -> Iterator[StoredRun]: ...


def find_runs(root: Place) -> Iterator[StoredRun]:
    """The runs below `root`, the oldest first (by the creation time in their headers); see `run_folders`.

    A run whose header cannot be read, or lies in the future, counts as oldest. Opening it raises its error.

    Raises:
        NotARunError, StoreError: as `run_folders`.
    """
    created = {}
    places = list(run_folders(root))
    fetch_records(root, places)
    for run in map(run_at, places):
        try:
            created[run] = sortable(run.header().created)
        except NotARunError:
            continue
        except StoreError:
            raise
        except EsperError:
            created[run] = ""
    yield from sorted(created, key=lambda run: (created[run], str(run.path)))


def fetch_records(root: Place, places: Iterable[Place]) -> None:
    """Fetch at once what says what some runs below `root` are, and how they ended, if they are in an object store.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    if isinstance(root, StoreUrl):
        with open_place(root) as folder:
            folder.read_ahead(_records(folder, (path_below(place, root) or "" for place in places)))


def _records(root: Storage, runs: Iterable[str]) -> Iterator[str]:
    """The folders with the header and the attempts of each run, which say what it is and how it ended."""
    for run in runs:
        yield run
        for name in root.names(run):
            if name.startswith(RANK_PREFIX):
                yield f"{run}/{name}/{ATTEMPTS}".lstrip("/")


def sortable(created: str) -> str:
    """The creation time of a header as a sort key; "", the oldest, if it is invalid or in the future."""
    try:
        is_future = datetime.fromisoformat(created).timestamp() > time.time() + _FUTURE_SECS
    except (ValueError, OverflowError):
        return ""
    return "" if is_future else created


def resolve_run(run: str | Path | None, root: Place) -> StoredRun:
    """Find the run that a person names: a name under `root`, a path, a URL, or by default the latest run under `root`.

    Raises:
        NotARunError: there is no such run; the message lists the latest ones there are.
        RunUnreadableError: the folder cannot be opened.
        StoreError: it is in an object store that does not answer, or refuses.
        UsageError: it is a URL that names no place in an object store.
    """
    if run is not None:
        for path in candidates(run, root):
            try:
                with open_place(path) as folder:
                    if folder.exists(HEADER_NAME):
                        return run_at(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as error:
                raise RunUnreadableError(f"{path}: cannot open the folder ({error.strerror})") from None
            except (OSError, ValueError) as error:  # a name that is too long, for example
                reason = error.strerror if isinstance(error, OSError) else error
                raise NotARunError(f"{ascii(str(path))[1:-1]} is not the name of a run: {reason}") from None
    if run is None:
        runs = list(find_runs(root)) if isinstance(root, StoreUrl) or root.is_dir() else []
        if runs:
            return runs[-1]
        raise NotARunError(f"no run under {root}; record one first, or pass its path, or another folder with --root")
    if is_url(run):
        place = parse_place(run)
        raise NotARunError(f"{place} is not an Esper run: there is no {place / HEADER_NAME}")
    missing, advice = f"no run {run}", "pass a path, or the name of a run in that folder"
    if Path(run).is_dir():
        missing = f"{run} is not an Esper run (it has no {HEADER_NAME}), and no run has that name"
        advice = f"{advice}; {import_first(run)}"
    elif Path(run).is_file():
        missing, advice = f"{run} is a file and no Esper run, and no run has that name", import_first(run)
    raise NotARunError(f"{ascii(missing)[1:-1]} under {root} (latest there: {_latest(root)}); {ascii(advice)[1:-1]}")


def import_first(path: str | Place) -> str:
    """Say what to do with a file or folder in which there is no run."""
    return f"if it is the log of another trainer, use esper-rec import {path} first"


def candidates(run: str | Path, root: Place) -> list[Place]:
    """The places that a person may mean by RUN, in the order in which to look: a name under `root`, or a path.

    The current folder, and what begins at the one above it, are paths only.

    Raises:
        UsageError: it is a URL that names no place in an object store.
    """
    if is_url(run):
        return [parse_place(run)]
    if Path(run).parts[:1] in ((), ("..",)):
        return [Path(run)]
    with suppress(UsageError):  # a path that goes up names nothing in an object store
        return [parse_place(f"{root}/{run}") if isinstance(root, StoreUrl) else root / run, Path(run)]
    return [Path(run)]


def name_of(run: Place, root: Place) -> str:
    """The name of a run as a person types it after `--run`: its path below `root`, with `/` between folders."""
    return path_below(run, root) or run.name


def _latest(root: Place) -> str:
    """The names of the latest runs, for an error that is about something else."""
    try:
        runs = list(find_runs(root))
    except NotARunError:
        runs = []
    return ", ".join(name_of(run.path, root) for run in runs[-_NAMED:]) or "none"
