"""The command `esper-rec import` after option parsing: names the runs, imports each file and describes the result."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from esper_recorder.importing.account import Account
from esper_recorder.importing.esper_lite import EsperLiteEvents
from esper_recorder.importing.run_import import Imported, check_is_free, import_run
from esper_recorder.train.signals import Signals
from esper_schemas.console import progress
from esper_schemas.errors import UsageError

PROGRESS_BYTES = 4 * 1024 * 1024
"""A smaller file is imported too fast for a progress bar to be read."""


def name_runs(files: Sequence[Path], root: Path, run_id: str | None) -> list[str]:
    """Return the run id of each file, checked before anything is read.

    Raises:
        UsageError: there is one name for several files, two files would have the same name, or a name is not valid.
        RunExistsError: a run of that name exists.
    """
    if run_id is not None and len(files) > 1:
        raise UsageError(f"--run-id names one run, found {len(files)} files; import them one at a time")
    names = [run_id if run_id is not None else run_id_of(file) for file in files]
    for place, name in enumerate(names):
        if name in names[:place]:
            other = files[names.index(name)]
            raise UsageError(
                f"{other} and {files[place]} would both become run {name}; import one of them with --run-id"
            )
        check_is_free(root, name)
    return names


def run_id_of(file: Path) -> str:
    """Make a run id from the name of a file, or from that of its folder if the file is called `events.jsonl`.

    Raises:
        UsageError: no character of the name is allowed in a run id.
    """
    path = file.absolute()
    stem = re.sub(r"(^|\.)events$", "", re.sub(r"\.(jsonl|ndjson|json)$", "", path.name)) or path.parent.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:128].rstrip("-")
    if not name:
        raise UsageError(f"cannot make a run name from {ascii(str(file))[1:-1]}; give one with --run-id")
    return name


def import_file(file: Path, root: Path, run_id: str, signals: Signals) -> tuple[Imported, Account]:
    """Import one file as one run.

    Raises:
        UsageError: the file is a folder, or cannot be read; and as `import_run`.
        EsperError: as `import_run`.
    """
    if file.is_dir():
        raise UsageError(f"{file}: expected a file, found a folder; name the events.jsonl in it")
    source = EsperLiteEvents(file)
    try:
        size = file.stat().st_size
        with progress(f"importing {file.name}", size, at_least=PROGRESS_BYTES, is_bytes=True) as on_read:
            return import_run(source, root, run_id, signals=signals, on_read=on_read), source.account
    except OSError as error:
        kept = f"; the updates so far are sealed in {root / run_id}" if source.account.updates else ""
        raise UsageError(f"cannot read {file}: {error.strerror or error}{kept}") from None


def describe(file: Path, imported: Imported, account: Account) -> str:
    """Describe for a person how a file was imported, and what to type next."""
    if imported.path is None:
        return f"{file}: interrupted before the first update; no run was created"
    state = "interrupted; the run is sealed with the updates so far: " if imported.is_interrupted else ""
    head = f"{imported.path}: {state}{account.updates:,} updates of {account.records:,} events of {file}"
    following = f"Next: esper-analyze report --run {shlex.quote(str(imported.path))}"
    return "\n".join([head, *account.lines(), "", following])
