"""Opens a rank for recording: run folder, header, lock, recovery, the next attempt."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from esper_recorder.keeping import durable
from esper_recorder.keeping.lock import RankLock
from esper_recorder.keeping.recovery import recover
from esper_recorder.writing import log
from esper_recorder.writing.arguments import root_path, whole
from esper_recorder.writing.config_values import as_json
from esper_recorder.writing.foreign import describe
from esper_schemas.cleaning import short
from esper_schemas.errors import EsperError, RunExistsError, UsageError
from esper_schemas.run.directory import RunDirectory, has_writer, read_attempts
from esper_schemas.run.files import Folder
from esper_schemas.run.names import HEADER_NAME, WRITTEN_FOLDERS, attempt_name, rank_name, rank_numbers, segment_numbers
from esper_schemas.run.records import (
    MAX_JSON_BYTES,
    Attempt,
    RunHeader,
    ValueLossDefinition,
    check_return_goal,
    check_run_id,
    now,
)
from esper_schemas.run.store import is_url
from esper_schemas.segment.active import SegmentIdentity
from esper_schemas.segment.sealed import load_parquet

Resume = Literal["never", "allow", "must"]

_VERSIONED = ("torch", "numpy", "pyarrow", "gymnasium", "stable_baselines3", "sb3_contrib")


class OpenedRank(NamedTuple):
    """A rank that this process may write: locked and recovered, with its next attempt recorded.

    Attributes:
        folder: folder of the rank, open with the folders in it.
        attempt: `attempt.first_seq` is the sequence number of the first row.
        identity: identity of the first segment. The first row continues from its `first_seq`, which is lower than
            `attempt.first_seq` if the previous attempt ended in dropped rows.
    """

    run: RunDirectory
    header: RunHeader
    folder: Folder
    lock: RankLock
    attempt: Attempt
    identity: SegmentIdentity

    def close(self) -> None:
        """Release the lock, and close the folders."""
        self.lock.release()
        self.folder.close()


def _load_what_recording_needs() -> None:
    """Import what is too slow to come with the package. Later there may be no free descriptor for it, or no right."""
    import difflib  # noqa: F401

    load_parquet()


class _Number(NamedTuple):
    """A whole number, and where it was found, for errors: "" if the caller gave it."""

    value: int
    origin: str


def _number(name: str, given: object, default: int) -> _Number:
    """Return the rank or the world size that the caller gave, or that a launcher such as torchrun set.

    Raises:
        UsageError: it is not a whole number.
    """
    if given is not None:
        return _Number(whole(name, given), "")
    number = environment_number(name.upper(), default)
    return _Number(number, f"{name.upper()}={number}" if os.environ.get(name.upper()) else "")


def environment_number(name: str, default: int) -> int:
    """Return a whole number that a launcher such as torchrun set in the environment.

    Raises:
        UsageError: the variable is not a whole number.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise UsageError(f"environment variable {name} must be a whole number, found {text!a}")
    return int(text)


def new_run_id() -> str:
    """Make a run id from the time (UTC) and three random bytes. Run ids sort by age."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"


def open_rank(
    root: str | os.PathLike[str],
    *,
    run_id: str | None,
    resume: Resume,
    rank: int | None,
    world_size: int | None,
    described: Mapping[str, Any],
    value_loss_definition: ValueLossDefinition | None,
) -> OpenedRank:
    """Create or join the run, take the lock, recover what a killed attempt left, and begin an attempt.

    Raises:
        UsageError: an argument is not valid, or `resume` is "must" and the run does not exist.
        RunExistsError: the run exists and `resume` is "never".
        RunLockedError: another recorder is writing this rank.
        RunDamagedError: recovering the run would lose data.
        OSError: a folder or file cannot be created.
    """
    _load_what_recording_needs()
    if is_url(root):
        raise UsageError(
            f"runs are recorded into a folder of this machine, found {str(root).partition(':')[0]}://…; name a folder,"
            " and the URL as upload=URL (--upload URL), which uploads the run while it is recorded"
        )
    path = root_path(root)
    if resume not in ("never", "allow", "must"):
        raise UsageError(f"resume must be 'never', 'allow' or 'must', found {resume!a}")
    own, size = _number("rank", rank, 0), _number("world_size", world_size, 1)
    origins = [origin for origin in (own.origin, size.origin) if origin]
    hint = f" (the environment has {' and '.join(origins)}; unset it, or give rank=… and world_size=…)"
    if not 0 <= own.value < size.value:
        raise UsageError(
            f"rank must be from 0 to world_size − 1 = {size.value - 1}, found {own.value}{hint if origins else ''}"
        )
    if run_id is None and (size.value > 1 or resume == "must"):
        raise UsageError(
            "run_id=… is missing: it is needed to resume a run, and when several ranks write one"
            f"{hint if size.origin and size.value > 1 else ''}"
        )
    run_id = new_run_id() if run_id is None else check_run_id(run_id)
    run = RunDirectory(Path(os.path.abspath(path)) / run_id)  # noqa: PTH100 (Path.absolute() would keep a/../b)
    return _open(run, own.value, _header(run_id, size.value, described, value_loss_definition), resume)


def open_beside(opened: OpenedRank, run_id: str, first_seq: int) -> OpenedRank:
    """Begin a run beside one that was taken away, for the same rank of the same training. Other ranks may join it.

    Args:
        opened: the rank of the run that was taken away.
        run_id: name of the new run; if it exists with that rank, it is resumed.
        first_seq: sequence number from which the first row continues.

    Raises:
        EsperError, OSError: as in `open_rank`.
    """
    run = RunDirectory(opened.run.path.parent / run_id)
    header = replace(opened.header, run_id=run_id, run_uuid=str(uuid.uuid4()), created=now())
    return _open(run, opened.identity.rank, header, "allow", first_seq)


def _open(run: RunDirectory, rank: int, header: RunHeader, resume: Resume, first_seq: int = 0) -> OpenedRank:
    content = _checked(header)
    folder = _open_folder(run, rank, is_shared=header.world_size > 1, resume=resume)
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
                there = RunHeader.read(outer, HEADER_NAME)
                if resume == "never" and header.world_size == 1:
                    if _has_segments(folder):  # another process opened it at the same moment
                        raise _taken(run) from None
                    durable.replace(outer, HEADER_NAME, content)  # nothing was ever recorded under this name
                else:
                    header = _joined(run, there, header)  # the run is resumed, or another rank made it
        recovered = recover(folder, header.run_uuid)
        earlier = read_attempts(folder)
        if resume == "never" and recovered.next_segment:
            raise _taken(run)
        continues_from = max(first_seq, _seq_on_disk(earlier, recovered.next_seq))
        attempt = _next_attempt(earlier, continues_from)
        durable.replace(folder, attempt_name(attempt.attempt), attempt.to_bytes())
    except BaseException:
        lock.release()
        folder.close()
        raise
    identity = SegmentIdentity(
        header.run_id, rank, attempt.attempt, recovered.next_segment, continues_from, header.run_uuid
    )
    return OpenedRank(run, header, folder, lock, attempt, identity)


def _joined(run: RunDirectory, there: RunHeader, ours: RunHeader) -> RunHeader:
    """Return the header of a run that is joined; log a warning if its `world_size` differs."""
    if there.world_size != ours.world_size:
        log.warning(
            "%s was begun with world_size %d and is resumed with %d; its header keeps the first number",
            run.path,
            there.world_size,
            ours.world_size,
        )
    return there


def _open_folder(run: RunDirectory, rank: int, *, is_shared: bool, resume: Resume) -> Folder:
    """Open the folder of a rank and the folders in it; make those that do not exist."""
    name = rank_name(rank)
    durable.make_folders(run.path.parent)
    with Folder.at(run.path.parent) as root:
        exists = root.exists(run.path.name) and _is_recorded(run, name if is_shared else None)
        if exists and resume == "never" and _has_rows(run, name if is_shared else None):
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


def _is_recorded(run: RunDirectory, rank: str | None) -> bool:
    """Whether a folder contains a run, or `rank` of one. The folder of another tool, which a run may join, does not."""
    try:
        with run.open() as outer:
            names = outer.names()
            return rank in names if rank is not None else HEADER_NAME in names or bool(rank_numbers(outer))
    except EsperError:
        return True  # it is not a folder, or cannot be opened


def _has_rows(run: RunDirectory, rank: str | None) -> bool:
    """Whether a run, or `rank` of it, has rows or a writer that may record them. True if that cannot be determined."""
    try:
        with run.open() as outer:
            for name in [rank] if rank is not None else [rank_name(number) for number in rank_numbers(outer)]:
                with outer.folder(name) as folder:
                    if has_writer(folder) is not False or _has_segments(folder):
                        return True
    except (EsperError, OSError):
        return True
    return False


def _has_segments(rank: Folder) -> bool:
    """Whether a rank has segments, or an attempt whose record counts rows."""
    return bool(segment_numbers(rank)) or any(attempt.rows for attempt in read_attempts(rank))


def _taken(run: RunDirectory) -> RunExistsError:
    return RunExistsError(
        f"run {run.path} exists already: choose another run_id, or open it with resume='allow' to add an attempt"
    )


def _seq_on_disk(earlier: list[Attempt], next_seq: int) -> int:
    """Return where the first new row continues. Rows that were on disk and are gone leave a gap, as damage does."""
    last_seq = earlier[-1].last_seq if earlier else None
    return next_seq if last_seq is None else max(next_seq, last_seq + 1)


def _next_attempt(earlier: list[Attempt], next_seq: int) -> Attempt:
    if earlier:  # rows dropped at its end used up sequence numbers too
        last = earlier[-1]
        next_seq = max(next_seq, last.first_seq + last.rows + last.dropped_rows)
    return Attempt(attempt=len(earlier), started=now(), first_seq=next_seq, pid=os.getpid(), host=socket.gethostname())


def _header(
    run_id: str, world_size: int, described: Mapping[str, Any], definition: ValueLossDefinition | None
) -> RunHeader:
    config = _config(described.get("config"))
    commit = described.get("git_commit")
    definition = definition or replace(ValueLossDefinition(), assumed=True)
    return RunHeader(
        run_uuid=str(uuid.uuid4()),
        run_id=run_id,
        created=now(),
        trainer=described.get("trainer"),
        env=described.get("env"),
        device=described.get("device"),
        return_goal=check_return_goal(described.get("return_goal")),
        value_loss_definition=asdict(definition),
        world_size=world_size,
        host=socket.gethostname(),
        versions=_versions(),
        git_commit=(_git_commit() if commit is None else commit) or None,
        config=config,
    )


def _config(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping | None):
        raise UsageError(f"config must be a mapping of names to values, found {type(given).__name__}")
    try:
        config: dict[str, Any] = as_json(given or {})
    except UsageError:
        raise
    except Exception as error:  # the mapping of a caller may raise anything
        raise UsageError(f"config cannot be read: {describe(type(error), error)}") from None
    return config


def _checked(header: RunHeader) -> bytes:
    """Return the bytes of a header that every reader accepts."""
    content = header.to_bytes()
    if len(content) > MAX_JSON_BYTES:
        raise UsageError(
            f"config makes the run's header {len(content):,} bytes long; the limit is {MAX_JSON_BYTES:,}:"
            " leave out what is not a hyper-parameter"
        )
    for name in RunHeader.misfits(json.loads(content)):
        raise UsageError(f"{name} cannot be stored in the run's header, found {short(getattr(header, name))}")
    return content


def _versions() -> dict[str, str]:
    packages = ("esper-recorder", *(name for name in _VERSIONED if name in sys.modules))
    installed = {package: _version_of(package) for package in packages}
    return {"python": platform.python_version()} | {name: found for name, found in installed.items() if found}


@cache
def _version_of(package: str) -> str | None:
    from importlib import metadata  # with half of the standard library

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the working directory, or None if it is not in a git repository."""
    import subprocess

    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
