"""Where tests write: in memory, where that can be had.

A recorder waits for its disk at every file that it finishes, some thirty times for the shortest run, so the suite would
wait for the disk most of its time. In memory the same calls are made, and return at once. What a disk may do to them is
tested by itself, in `tests/crash`, and half of its kills take place on a real one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

MEMORY = Path("/dev/shm")
DISK = Path("/var/tmp")
"""A folder that outlives a restart of the machine, and so is on a disk."""

_NEEDED_BYTES = 2 * 1024**3  # a container often has only 64 MiB there; a run of the suite uses some hundred

_PREFIX = "est-"  # Ray's sockets are 90 characters below it, of the 107 that a name may have
_KEPT = "kept"
_KEPT_SECS = 24 * 60 * 60.0


def make_scratch() -> Path:
    """Make a folder for all temporary files of this process, and of those that it starts, and return it.

    It is in memory, unless TMPDIR names another place. Its path is short: names of sockets below it are bounded. The
    folders of runs that were killed are removed: a run holds a lock on its folder for as long as it lives.
    """
    has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= _NEEDED_BYTES
    place = MEMORY if has_room and "TMPDIR" not in os.environ else Path(tempfile.gettempdir())
    for folder in place.glob(f"{_PREFIX}*"):
        _remove_if_left(folder)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)).resolve()
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
        if folder.exists():  # otherwise another run has begun meanwhile, and took it for one that was left
            break
    folder.chmod(0o755)  # some tests are about other users
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


def keep(folder: Path) -> None:
    """Keep a folder of `make_scratch` for a day after its run, for somebody to look into."""
    (folder / _KEPT).touch()


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that no run holds a lock on, unless it is kept."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return  # it has just been removed, or is somebody else's
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept = folder / _KEPT
        if not kept.exists() or time.time() - kept.stat().st_mtime > _KEPT_SECS:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # a run holds it
    finally:
        os.close(opened)
