"""Finds runs: all below a folder, however they are sorted into folders of their own, or the one that a person names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from esper_schemas.errors import EsperError, NotARunError, RunDamagedError, RunUnreadableError
from esper_schemas.run.directory import HEADER_NAME, RANK_PREFIX, RunDirectory
from esper_schemas.run.files import Folder

MAX_DEPTH = 8
"""A run lies at most so many folders below the root; a run directly under it lies one below."""

MAX_FOLDERS = 100_000
"""At most so many folders are looked into, so that a root that was not meant, such as `/`, ends in an error."""

_NAMED = 5
"""So many of the latest runs are named where a run was not found."""

_FUTURE_SECS = 24 * 3600.0
"""How far `created` of a header may be ahead of this machine's clock; a later time is ignored."""


def run_folders(root: Path) -> Iterator[Path]:
    """The folders below `root` that are runs, in order of their names: each folder with a `run.json` in it.

    Runs may lie in folders of their own, such as `runs/<sweep>/<run>`. Links are not followed, nothing inside a run is
    looked at, and neither are hidden folders. A folder that cannot be opened counts as a run: opening it raises its
    error. A `root` that is a run itself is the only one.

    Raises:
        NotARunError: `root` does not exist, is not a folder, cannot be opened, or has more than `MAX_FOLDERS` folders.
    """
    try:
        with Folder.at(root) as folder:
            if folder.exists(HEADER_NAME):
                yield root
            else:
                yield from _below(folder, root, root, 1, [0])
    except (FileNotFoundError, NotADirectoryError):
        raise NotARunError(f"{root} is not a folder of runs; record a run first, or pass another with --root") from None
    except OSError as error:
        raise NotARunError(f"cannot open {root} ({error.strerror}); pass another folder with --root") from None


def _below(folder: Folder, path: Path, root: Path, depth: int, seen: list[int]) -> Iterator[Path]:
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


def find_runs(root: Path) -> Iterator[RunDirectory]:
    """The runs below `root`, the oldest first (by the creation time in their headers); see `run_folders`.

    A run whose header cannot be read, or lies in the future, counts as oldest. Opening it raises its error.

    Raises:
        NotARunError: as `run_folders`.
    """
    created = {}
    for path in run_folders(root):
        run = RunDirectory(path)
        try:
            created[run] = sortable(run.header().created)
        except NotARunError:
            continue
        except EsperError:
            created[run] = ""
    yield from sorted(created, key=lambda run: (created[run], str(run.path)))


def sortable(created: str) -> str:
    """The creation time of a header as a sort key; "", the oldest, if it is invalid or in the future."""
    try:
        is_future = datetime.fromisoformat(created).timestamp() > time.time() + _FUTURE_SECS
    except (ValueError, OverflowError):
        return ""
    return "" if is_future else created


def resolve_run(run: str | Path | None, root: Path) -> RunDirectory:
    """Find the run that a person names: a name under `root`, a path, or by default the latest run under `root`.

    Raises:
        NotARunError: there is no such run; the message lists the latest ones there are.
        RunUnreadableError: the folder cannot be opened.
    """
    if run is not None:
        for path in (root / run, Path(run)):
            try:
                with Folder.at(path) as folder:
                    if folder.exists(HEADER_NAME):
                        return RunDirectory(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as error:
                raise RunUnreadableError(f"{path}: cannot open the folder ({error.strerror})") from None
            except (OSError, ValueError) as error:  # a name that is too long, for example
                reason = error.strerror if isinstance(error, OSError) else error
                raise NotARunError(f"{ascii(str(path))[1:-1]} is not the name of a run: {reason}") from None
    if run is None:
        runs = list(find_runs(root)) if root.is_dir() else []
        if runs:
            return runs[-1]
        raise NotARunError(f"no run under {root}; record one first, or pass its path, or another folder with --root")
    missing = f"no run {run}"
    if Path(run).is_dir():
        missing = f"{run} is not an Esper run (it has no {HEADER_NAME}), and no run has that name"
    raise NotARunError(
        f"{ascii(missing)[1:-1]} under {root} (latest there: {_latest(root)}); pass a path, or a name under --root"
    )


def name_of(run: Path, root: Path) -> str:
    """The name of a run as a person types it after `--run`: its path below `root`, with `/` between folders."""
    inside = run.relative_to(root).as_posix() if run.is_relative_to(root) else "."
    return run.name if inside == "." else inside


def _latest(root: Path) -> str:
    """The names of the latest runs, for an error that is about something else."""
    try:
        runs = list(find_runs(root))
    except NotARunError:
        runs = []
    return ", ".join(name_of(run.path, root) for run in runs[-_NAMED:]) or "none"
