"""The fingerprint of a folder on a disk: the state of everything in it, which says whether anything was changed.

It opens the folders in a folder that is open already, relative to their descriptors. It follows no link, and opens no
file.
"""

from __future__ import annotations

import hashlib
import os
import stat

from esper_schemas.run.storage import Fingerprint

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINES = 200_000
_MAX_DEPTH = 4


def fingerprint_of(folder: int) -> Fingerprint | None:
    """Return the state of everything in an open folder, at any depth; None if it has more in it than a run can have.

    Args:
        folder: Its descriptor.

    Raises:
        OSError: a folder inside it cannot be listed.
    """
    lines: list[str] = []
    newest = _list_states(folder, "", lines, 0)
    if newest is None:
        return None
    return Fingerprint(hashlib.sha256("\0".join(lines).encode("utf-8", "surrogateescape")).hexdigest(), newest)


def _list_states(folder: int, path: str, lines: list[str], depth: int) -> int | None:
    """Add one line for an open folder and for everything in it, in order, and return the newest ctime."""
    found = os.fstat(folder)
    lines.append(_state(path or str(found.st_dev), found))
    newest = found.st_ctime_ns
    for name in sorted(os.listdir(folder)):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        inner: int | None = found.st_ctime_ns
        if not stat.S_ISDIR(found.st_mode):
            lines.append(_state(f"{path}/{name}", found))
        elif depth < _MAX_DEPTH:
            opened = os.open(name, _FLAGS, dir_fd=folder)
            try:
                inner = _list_states(opened, f"{path}/{name}", lines, depth + 1)
            finally:
                os.close(opened)
        else:
            return None
        if inner is None or len(lines) > _MAX_LINES:
            return None
        newest = max(newest, inner)
    return newest


def _state(path: str, found: os.stat_result) -> str:
    kind = stat.S_IFMT(found.st_mode)
    return f"{path}\0{kind} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
