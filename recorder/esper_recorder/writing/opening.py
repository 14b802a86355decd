"""What happens when a recorder is opened: the run's folder and header, the lock, recovery, the next attempt."""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from esper_recorder.keeping import durable
from esper_recorder.keeping.lock import RankLock
from esper_recorder.keeping.recovery import recover
from esper_schemas.errors import RunExistsError, UsageError
from esper_schemas.run.directory import (
    HEADER_NAME,
    WRITTEN_FOLDERS,
    RunDirectory,
    attempt_name,
    rank_name,
    read_attempts,
)
from esper_schemas.run.files import Folder
from esper_schemas.run.records import MAX_JSON_BYTES, Attempt, RunHeader, ValueLossDefinition, check_run_id, now
from esper_schemas.segment.active import SegmentIdentity

Resume = Literal["never", "allow", "must"]

_VERSIONED = ("torch", "numpy", "pyarrow", "gymnasium", "stable_baselines3")


MAX_CONFIG_DEPTH = 64
"""Levels of nesting that a configuration may have."""


@dataclass(frozen=True, slots=True)
class OpenedRank:
    """A rank that is ours to write: locked, recovered, its next attempt recorded.

    `identity` is that of its first segment, whose `first_seq` is what the first row continues from. `attempt.first_seq`
    is the number that this row gets, which is higher where the attempt before ended in dropped rows. `folder` is that
    of the rank, held with the folders in it.
    """

    run: RunDirectory
    folder: Folder
    lock: RankLock
    attempt: Attempt
    identity: SegmentIdentity

    def close(self) -> None:
        """Give the lock up, and let go of the folders."""
        self.lock.release()
        self.folder.close()


def environment_number(name: str, default: int) -> int:
    """A whole number that a launcher such as torchrun put into the environment.

    Raises:
        UsageError: the variable is set to something else.
    """
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(f"environment variable {name} must be a whole number, found {text!a}")
    return int(text)


def new_run_id() -> str:
    """A run id from the time and three random bytes, which sorts by age."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def open_rank(
    root: str | os.PathLike[str],
    *,
    run_id: str | None,
    resume: Resume,
    rank: int,
    world_size: int,
    described: Mapping[str, Any],
    value_loss_definition: ValueLossDefinition | None,
) -> OpenedRank:
    """Create the run or join it, take the lock, recover what a killed attempt left, begin an attempt.

    Raises:
        UsageError: an argument is wrong, or the run must exist and does not.
        RunExistsError: it exists and `resume` is "never".
        RunLockedError: another process writes it.
        RunDamagedError: what is there cannot be recovered without losing data.
        OSError: a folder or file cannot be created.
    """
    if resume not in ("never", "allow", "must"):
        raise UsageError(f"resume must be 'never', 'allow' or 'must', found {resume!a}")
    if not 0 <= rank < world_size:
        raise UsageError(f"rank must be from 0 to world_size − 1 = {world_size - 1}, found {rank}")
    if run_id is None and (world_size > 1 or resume == "must"):
        raise UsageError("run_id=… is missing: it is needed to resume a run, and when several ranks write one")
    run_id = new_run_id() if run_id is None else check_run_id(run_id)
    run = RunDirectory(Path(os.path.abspath(root)) / run_id)  # noqa: PTH100 (a name such as a/../b must not be made)
    header = _header(run_id, world_size, described, value_loss_definition)
    content = _checked(header.to_bytes())
    folder = _open_folder(run, rank, is_shared=world_size > 1, resume=resume)
    try:
        lock = RankLock(folder)
    except BaseException:
        folder.close()
        raise
    try:
        with run.open() as outer:
            try:
                durable.create(outer, HEADER_NAME, content)
            except FileExistsError:
                header = RunHeader.read(outer, HEADER_NAME)  # ours already: resumed, or created by another rank
        recovered = recover(folder, header.run_uuid)
        earlier = read_attempts(folder)
        if earlier and resume == "never":  # by a process that opened it in the same instant, and has ended
            raise _taken(run)
        continues_from = _seq_on_disk(earlier, recovered.next_seq)
        attempt = _next_attempt(earlier, continues_from)
        durable.replace(folder, attempt_name(attempt.attempt), attempt.to_bytes())
    except BaseException:
        lock.release()
        folder.close()
        raise
    identity = SegmentIdentity(
        header.run_id, rank, attempt.attempt, recovered.next_segment, continues_from, header.run_uuid
    )
    return OpenedRank(run, folder, lock, attempt, identity)


def _open_folder(run: RunDirectory, rank: int, *, is_shared: bool, resume: Resume) -> Folder:
    """The folder of a rank with its folders in it, held; made where it is not there yet."""
    name = rank_name(rank)
    durable.make_folders(run.path.parent)
    with Folder.at(run.path.parent) as root:
        exists = root.exists(run.path.name)
        if exists and is_shared:
            with run.open() as outer:
                exists = outer.exists(name)
        if exists and resume == "never":
            raise _taken(run)
        if not exists and resume == "must":
            raise UsageError(f"there is no run {run.path} to resume; open it with resume='allow' to begin one")
        if not root.exists(run.path.name):
            durable.make_folder(root, run.path.name)
    with run.open() as outer:
        for inner in WRITTEN_FOLDERS:
            durable.make_folder(outer, f"{name}/{inner}")
        folder = outer.folder(name)
    try:
        for inner in WRITTEN_FOLDERS:
            folder.hold(inner)
    except BaseException:
        folder.close()
        raise
    return folder


def _taken(run: RunDirectory) -> RunExistsError:
    return RunExistsError(
        f"run {run.path} exists already: choose another run_id, or open it with resume='allow' to add an attempt"
    )


def _seq_on_disk(earlier: list[Attempt], next_seq: int) -> int:
    """What the first new row continues from: rows that were on disk once and are gone leave a gap, as damage does."""
    last_seq = earlier[-1].last_seq if earlier else None
    return next_seq if last_seq is None else max(next_seq, last_seq + 1)


def _next_attempt(earlier: list[Attempt], next_seq: int) -> Attempt:
    if earlier:  # rows that were dropped at its very end used up their numbers too
        last = earlier[-1]
        next_seq = max(next_seq, last.first_seq + last.rows + last.dropped_rows)
    return Attempt(attempt=len(earlier), started=now(), first_seq=next_seq, pid=os.getpid(), host=socket.gethostname())


def _header(
    run_id: str, world_size: int, described: Mapping[str, Any], definition: ValueLossDefinition | None
) -> RunHeader:
    try:
        config = json.loads(
            json.dumps(dict(described.get("config") or {}), default=str),
            parse_constant=str,  # NaN and Infinity are no JSON; they become text
        )
    except RecursionError:
        raise UsageError(f"config must be nested at most {MAX_CONFIG_DEPTH} deep, found more") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"config must be a mapping of names to JSON values ({error})") from None
    if _depth(config) > MAX_CONFIG_DEPTH:
        raise UsageError(f"config must be nested at most {MAX_CONFIG_DEPTH} deep, found {_depth(config)}")
    commit = described.get("git_commit")
    definition = definition or replace(ValueLossDefinition(), assumed=True)
    return RunHeader(
        run_uuid=str(uuid.uuid4()),
        run_id=run_id,
        created=now(),
        trainer=described.get("trainer"),
        env=described.get("env"),
        device=described.get("device"),
        value_loss_definition=asdict(definition),
        world_size=world_size,
        host=socket.gethostname(),
        versions=_versions(),
        git_commit=(_git_commit() if commit is None else commit) or None,
        config=config,
    )


def _checked(header: bytes) -> bytes:
    """The header, if readers take one of its size."""
    if len(header) > MAX_JSON_BYTES:
        raise UsageError(
            f"config makes the run's header {len(header):,} bytes long; the limit is {MAX_JSON_BYTES:,}:"
            " leave out what is no hyper-parameter"
        )
    return header


def _depth(value: object) -> int:
    """Levels of lists and mappings in each other."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        inner, depth = waiting.pop()
        if isinstance(inner, (dict, list)):
            deepest = max(deepest, depth)
            waiting += [(entry, depth + 1) for entry in (inner.values() if isinstance(inner, dict) else inner)]
    return deepest


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("esper-recorder", *(name for name in _VERSIONED if name in sys.modules)):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """The commit that the working directory stands at, if it is in a git repository."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
