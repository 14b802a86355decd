"""Where tests write: in memory, where that can be had.

A recorder waits for its disk at every file that it finishes, some thirty times for the shortest run, so the suite would
wait for the disk most of its time. In memory the same calls are made, and return at once. What a disk may do to them is
tested by itself, in `tests/crash`, and half of its kills take place on a real one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
DISK = Path("/var/tmp")
"""A folder that outlives a restart of the machine, and so is on a disk."""

_NEEDED_BYTES = 2 * 1024**3  # a container often has only 64 MiB there; a run of the suite uses some hundred


def make_scratch() -> Path:
    """Make a folder for all temporary files of this process, and of those that it starts, and return it.

    It is in memory, unless TMPDIR names another place. Its path is short: names of sockets below it are bounded.
    """
    has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= _NEEDED_BYTES
    place = MEMORY if has_room and "TMPDIR" not in os.environ else None
    folder = Path(tempfile.mkdtemp(prefix="esper-", dir=place)).resolve()
    folder.chmod(0o755)  # some tests are about other users
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder
