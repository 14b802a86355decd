"""Runs that lie beside another one in its folder; it loads little, as a report of a single run does."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from esper_analyzer.judging.settings import LEAST_OF_FOLDERS
from esper_analyzer.judging.task import Task
from esper_analyzer.reading.errors import RUN_ERRORS
from esper_analyzer.reading.run_reader import RunReader
from esper_schemas.run.directory import open_place, run_at
from esper_schemas.run.store import StoreUrl

MOST_BESIDE = 1000
"""So many folders beside a run are looked at for others of its task."""


def tip_beside(run: RunReader) -> str | None:
    """Say that a run could be judged beside the healthy ones of the folder that it lies in.

    Only headers are read, of `MOST_BESIDE` folders at most, so nobody knows yet which are healthy. None where fewer
    than `LEAST_OF_FOLDERS` others are of its task, where its environment is not known, where it lies in an object
    store, or where the folder cannot be opened.
    """
    task = Task.of_header(run.header)
    if task.env is None or isinstance(run.path, StoreUrl):
        return None
    found = sum(1 for _ in islice((other for other in _others(run) if other == task), LEAST_OF_FOLDERS))
    if found < LEAST_OF_FOLDERS:
        return None
    option = f"--reference {shlex.quote(str(run.path.parent))}"
    return f"other runs of {task.env} lie beside this one; to judge it beside those that are healthy: {option}"


def _others(run: RunReader) -> Iterator[Task]:
    """What the other runs in the folder of a run were trained on."""
    folder = run.path.parent
    with suppress(OSError), open_place(folder) as opened:
        names = (name for name in opened.names() if not name.startswith(".") and opened.is_folder(name))
        for name in islice(names, MOST_BESIDE):
            with suppress(*RUN_ERRORS):
                header = RunReader(run_at(folder / name)).header
                if header.run_uuid != run.header.run_uuid:
                    yield Task.of_header(header)
