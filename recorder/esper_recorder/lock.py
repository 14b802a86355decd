"""One writer at a time: an exclusive `flock` on the file LOCK of a rank, held as long as the recorder is open."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from esper_schemas.errors import RunLockedError

_PATIENCE_SECS = 0.5  # a reader that asks whether a writer lives holds the lock for an instant


class RankLock:
    """The lock of one rank. The kernel gives it up when the process dies, however it dies.

    Raises:
        RunLockedError: another process holds it; the message says which.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _PATIENCE_SECS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    holder = os.pread(self._descriptor, 4096, 0).decode("utf-8", "replace").strip()
                    os.close(self._descriptor)
                    raise RunLockedError(
                        f"{path} is held by another writer ({ascii(holder)[1:-1]}); stop it, or choose another run id"
                    ) from None
                time.sleep(0.01)
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(_holder()).encode() + b"\n", 0)
        except OSError:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Give the lock up. In a forked child this only closes the copy, and the parent keeps the lock."""
        os.close(self._descriptor)


def _holder() -> dict[str, object]:
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "locked_at": time.time(),
        "boot_id": boot_id.read_text().strip() if boot_id.exists() else None,
    }
