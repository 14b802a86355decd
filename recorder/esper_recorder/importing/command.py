"""The command `esper-rec import` after option parsing: names the runs, imports each log and describes the result."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from esper_recorder.importing.finding import find_source
from esper_recorder.importing.fingerprint import earlier_import
from esper_recorder.importing.followed_log import FollowedLog
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.point_log import Given
from esper_recorder.importing.run_import import Imported, UpdateSource, import_run
from esper_recorder.train.signals import Signals
from esper_schemas.console import progress, say
from esper_schemas.errors import UsageError
from esper_schemas.run.records import ValueLossDefinition

PROGRESS_BYTES = 4 * 1024 * 1024
"""A smaller log is imported too fast for a progress bar to be read."""

_ENDINGS = r"\.(jsonl|ndjson|json|csv|tsv|txt|log|parquet|tfevents|db|wandb)(\.gz)?$"
_GENERIC = {"progress", "result", "metrics", "events", "log"}
"""Names that every training of a trainer has; the folder's name tells one training from another."""


def parse_given(mapping: Sequence[str], definition: Sequence[str], source_run: str | None) -> Given:
    """Parse what a person gave with `--map KEY=FIELD`, `--value-loss-definition FIELD=VALUE` and `--source-run`.

    Raises:
        UsageError: one of them is not of that form, or a field does not exist, or cannot have that value.
    """
    made = {}
    for text in mapping:
        key, is_pair, column = text.rpartition("=")
        if not is_pair or not key.strip() or not column.strip():
            raise UsageError(f"--map expects KEY=FIELD, such as losses/vf=value_loss, found {text!a}")
        made[key.strip()] = column.strip()
    fields_given = dict(_field_of_definition(part) for text in definition for part in text.split(","))
    return Given(made, fields_given, source_run)


def _field_of_definition(text: str) -> tuple[str, Any]:
    name, _, value = (part.strip() for part in text.partition("="))
    kinds = get_type_hints(ValueLossDefinition)
    known = [field.name for field in fields(ValueLossDefinition) if field.name != "assumed"]
    if name not in known:
        raise UsageError(f"--value-loss-definition expects FIELD=VALUE with one of {', '.join(known)}, found {text!a}")
    choices = get_args(kinds[name])
    if name in ("factor", "clip_range"):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0.0 < number < math.inf:
            raise UsageError(f"--value-loss-definition {name} expects a number above 0, found {value!a}")
        return name, number
    if name in ("coefficient_included", "targets_normalised"):
        if value.lower() not in ("true", "false"):
            raise UsageError(f"--value-loss-definition {name} expects true or false, found {value!a}")
        return name, value.lower() == "true"
    if choices and value not in choices:
        raise UsageError(f"--value-loss-definition {name} is one of {', '.join(choices)}, found {value!a}")
    return name, value


def name_runs(paths: Sequence[Path], root: Path, run_id: str | None) -> list[str]:
    """Return the run id of each log, checked before anything is read.

    Raises:
        UsageError: there is one name for several logs, two logs would have the same name, or a name is not valid.
        RunExistsError: a run of that name exists that was not imported.
    """
    if run_id is not None and len(paths) > 1:
        raise UsageError(f"--run-id names one run, found {len(paths)} logs; import them one at a time")
    names = [run_id if run_id is not None else run_id_of(path) for path in paths]
    for place, name in enumerate(names):
        if name in names[:place]:
            other = paths[names.index(name)]
            raise UsageError(
                f"{other} and {paths[place]} would both become run {name}; import one of them with --run-id"
            )
        earlier_import(root, name)
    return names


def run_id_of(path: Path) -> str:
    """Make a run id from the name of a log, or from that of its folder if its name is one that all logs have.

    Raises:
        UsageError: no character of the name is allowed in a run id.
    """
    path = path.absolute()
    stem = re.sub(r"(^|\.)events$", "", re.sub(_ENDINGS, "", path.name))
    if not stem or stem in _GENERIC or stem.startswith("events.out.tfevents."):
        stem = path.parent.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:128].rstrip("-")
    if not name:
        raise UsageError(f"cannot make a run name from {ascii(str(path))[1:-1]}; give one with --run-id")
    return name


def import_log(
    path: Path, root: Path, run_id: str, given: Given, signals: Signals, following: Following = READ_ONCE
) -> tuple[Imported, UpdateSource]:
    """Import one file or folder as one run; if it is followed, until that is over.

    Raises:
        UsageError: it cannot be read, or as `find_source` and `import_run`.
        EsperError: as `import_run`.
    """
    source: UpdateSource | None = None
    try:
        is_once = following is READ_ONCE
        source = find_source(path, given) if is_once else FollowedLog(path, given, following)
        with ExitStack() as shown:
            bar = progress(f"importing {path.name}", _size(path), at_least=PROGRESS_BYTES, is_bytes=True)
            on_read = shown.enter_context(bar)

            def on_caught_up() -> None:
                shown.close()
                following.say_once(f"following {path} as run {root / run_id}; Ctrl-C seals it")

            if not is_once:
                following.on_caught_up = on_caught_up
            imported = import_run(source, root, run_id, signals=signals, on_read=on_read, following=following)
        return imported, source
    except OSError as error:
        is_kept = source is not None and source.account.updates
        kept = f"; the updates so far are sealed in {root / run_id}" if is_kept else ""
        raise UsageError(f"cannot read {path}: {error.strerror or error}{kept}") from None


def follow_log(
    path: Path, root: Path, run_id: str, given: Given, signals: Signals, until_idle: float | None
) -> tuple[Imported, UpdateSource]:
    """Import one file or folder, and what is added to it, until a signal, or for `until_idle` seconds nothing new.

    Raises:
        UsageError, EsperError: as `import_log`.
    """
    following = Following(
        lambda: signals.signum is not None, until_idle=until_idle, say=lambda line: say(f"esper-rec: {line}")
    )
    return import_log(path, root, run_id, given, signals, following)


def _size(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.iterdir() if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def describe(path: Path, imported: Imported, source: UpdateSource) -> str:
    """Describe for a person how a log was imported, and what to type next."""
    if imported.path is None:
        return f"{path}: interrupted before the first update; no run was created"
    account = source.account
    read = f"{account.records:,} {source.what} of {path}"
    if imported.is_interrupted:
        updates = imported.earlier + imported.new
        head = f"{imported.path}: interrupted; the run is sealed with the updates so far: {updates:,} updates of {read}"
    elif imported.earlier:
        new = f"{imported.new:,} updates are new" if imported.new else "nothing is new"
        head = f"{imported.path}: {new}, after {imported.earlier:,} that were imported before; of {read}"
    else:
        head = f"{imported.path}: {account.updates:,} updates of {read}"
    trainer = f"trainer: {source.trainer}" if source.what != "events" else ""
    following = f"Next: esper-analyze report --run {shlex.quote(str(imported.path))}"
    return "\n".join([head, *filter(None, [trainer]), *account.lines(), "", following])
