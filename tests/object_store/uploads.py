"""What the tests of uploads share: runs that are recorded, the command, and what is in a store."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import obstore
from obstore.store import ObjectStore, from_url
from tests.forked import Forked, run_module, start_module
from tests.object_store.servers import Server

from esper_recorder import Recorder
from esper_schemas import RunDirectory
from esper_schemas.examining.run import examine_run
from esper_schemas.run import bucket
from esper_schemas.run.directory import open_place
from esper_schemas.run.store import StoreUrl

ROWS, SEGMENT_ROWS = 95, 10
"""Of `record_run`."""


def record_run(root: Path, run_id: str = "mine", *, rows: int = ROWS, **opened: Any) -> Path:
    """Record a run of several segments; return its folder."""
    with Recorder.open(root, run_id=run_id, segment_rows=SEGMENT_ROWS, git_commit="c0ffee", **opened) as recorder:
        record_rows(recorder, 0, rows)
    return recorder.path


def record_rows(recorder: Recorder, first: int, rows: int) -> None:
    """Record so many updates."""
    for update in range(first, first + rows):
        recorder.record(update=update, policy_loss=0.01 * update, value_loss=1.0 / (update + 1))


def start_upload(server: Server, *arguments: object, environment: Mapping[str, str] | None = None) -> Forked:
    """Start `esper-rec upload` in a process of its own, which finds the server by its environment."""
    return start_module("esper_recorder", "upload", *arguments, environment=environment or server.environment())


def upload(
    server: Server, *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `esper-rec upload` to its end."""
    environment = {**server.environment(), **(environment or {})}
    return run_module("esper_recorder", "upload", *arguments, environment=environment)


def client(server: Server) -> ObjectStore:
    """A client of the server that is none of Esper's."""
    config = {name.lower(): value for name, value in server.variables().items()}
    return from_url(server.url(), config=config, client_options={"allow_http": True})  # type: ignore[call-overload,no-any-return]


def keys(server: Server, prefix: str = "") -> set[str]:
    """The keys of the objects below a prefix."""
    return {entry["path"] for some in obstore.list(client(server), prefix or None) for entry in some}


def objects(server: Server, prefix: str = "") -> dict[str, bytes]:
    """The objects below a prefix: key → bytes."""
    store = client(server)
    return {key: obstore.get(store, key).bytes().to_bytes() for key in keys(server, prefix)}


def empty(server: Server) -> bool:
    """Delete every object in the bucket; return whether the server can do that, and lists none afterwards."""
    store = client(server)
    try:
        for some in obstore.list(store):
            obstore.delete(store, [entry["path"] for entry in some])
        return not any(obstore.list(store))
    except obstore.exceptions.GenericError:  # as s3rver answers where a killed upload left half a file of its own
        return False


def put(server: Server, key: str, data: bytes) -> None:
    """Put an object, as somebody else would."""
    obstore.put(client(server), key, data)


def files(run: Path, below: str = "") -> dict[str, bytes]:
    """The files of a run that belong into a store: key → bytes; `below` is what precedes the name of the run."""
    found = (path for path in run.rglob("*") if path.is_file() and path.name != "LOCK")
    return {f"{below}{path.relative_to(run.parent).as_posix()}": path.read_bytes() for path in found}


def faults(server: Server, key: str, monkeypatch_env: Any) -> tuple[int, list[str]]:
    """The rows of an uploaded run, and everything that is wrong with it, down to every row."""
    for name, value in server.variables().items():
        monkeypatch_env.setenv(name, value)
    monkeypatch_env.setattr(bucket, "LISTED_SECS", 0.0)  # what was uploaded just now counts
    url = StoreUrl.parse(server.url(key))
    made = examine_run(open_place(url), url.name, "rows").verification(Path(key))
    return made.rows, [f"{fault.kind}: {fault.message}" for fault in made.faults]


def rows_of(run: Path) -> int:
    """The rows of a run on the disk, which must be sound."""
    with RunDirectory(run).open() as folder:
        made = examine_run(folder, run.name, "rows").verification(run)
    assert not made.is_damaged, made.faults
    return made.rows
