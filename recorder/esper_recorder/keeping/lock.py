"""One writer at a time: an open recorder holds an exclusive `flock` on the file LOCK of its rank."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from esper_schemas.errors import RunLockedError
from esper_schemas.run.directory import has_writer
from esper_schemas.run.files import Folder, Identity
from esper_schemas.run.names import LOCK_NAME

_PATIENCE_SECS = 0.5  # a reader that looks for a writer holds the lock for a moment


_held_here: set[Identity] = set()
"""The LOCK files that this process has locked."""


class RankLock:
    """The lock of one rank. The kernel releases it when the process dies, however it dies.

    Only the owner of the file may open it, because anyone who can open it can lock it.

    Raises:
        RunLockedError: another recorder holds the lock; the message names its process.
        RunDamagedError: LOCK is not a regular file, or it is locked and has a second name (a hard link).
        OSError: the file cannot be opened or written.
    """

    def __init__(self, rank: Folder) -> None:
        self._rank = rank
        _replace_shared(rank)
        self._descriptor = rank.open_private(LOCK_NAME)
        deadline = time.monotonic() + _PATIENCE_SECS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline and self._is_only_read():
                    self._replace()
                    deadline = time.monotonic() + _PATIENCE_SECS
                elif time.monotonic() > deadline:
                    holder = os.pread(self._descriptor, 4096, 0).decode("utf-8", "replace").strip()
                    said = self._held_by(holder)
                    os.close(self._descriptor)
                    raise RunLockedError(said) from None
                time.sleep(0.01)
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(_holder()).encode() + b"\n", 0)
        except OSError:
            os.close(self._descriptor)
            raise
        _held_here.add(self._identity())

    def _identity(self) -> Identity:
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino

    def _held_by(self, holder: str) -> str:
        """Say who holds the lock, and what to do about it."""
        where = self._rank.where(LOCK_NAME)
        if self._identity() in _held_here:
            return (
                f"{where} is held by this process: close() the recorder that has the run open, or choose another run id"
            )
        return f"{where} is held by another writer ({ascii(holder)[1:-1]}); stop it, or choose another run id"

    def _is_only_read(self) -> bool:
        """Whether only readers hold the lock. No writer takes a shared lock, and a reader could keep one forever."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _replace(self) -> None:
        """Replace the file, on which readers and this process hold shared locks, by one that nobody else can open."""
        self._rank.unlink(LOCK_NAME, self._identity())
        descriptor, self._descriptor = self._descriptor, self._rank.open_private(LOCK_NAME)
        os.close(descriptor)

    def check(self) -> None:
        """Check that LOCK is still the locked file; if it is not, another recorder may be writing too.

        Raises:
            OSError: LOCK was removed or replaced (ESTALE), or its status cannot be read.
        """
        if self._rank.identity_of(LOCK_NAME) != self._identity():
            said = "LOCK was removed or replaced; another recorder may be writing this run, so it is left alone"
            raise OSError(errno.ESTALE, said, self._rank.where(LOCK_NAME))

    def release(self) -> None:
        """Release the lock. In a forked child this only closes the copy, and the parent keeps the lock.

        Calling it again does nothing: the number of the descriptor may be that of another file by then.
        """
        if self._descriptor >= 0:
            _held_here.discard(self._identity())
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _replace_shared(rank: Folder) -> None:
    """Remove a LOCK that nobody holds and that has a second name (a hard link), in a backup or outside the run."""
    found = rank.stat(LOCK_NAME)
    if found is not None and found.st_nlink > 1 and has_writer(rank) is False:
        rank.unlink(LOCK_NAME, (found.st_dev, found.st_ino))


def _holder() -> dict[str, object]:
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "locked_at": time.time(),
        "boot_id": boot_id.read_text().strip() if boot_id.exists() else None,
    }
