"""The cache folder of the user: small files that may vanish at any time, and that are believed only if they are whole.

The folder is `$ESPER_CACHE_DIR`, else `$XDG_CACHE_HOME/esper`, else `~/.cache/esper`. Nothing in it is needed: a file
that is not there, or is not what was written, is made again from the rows of the run.

- A file is written aside and renamed, so that it is whole or not there, whoever else writes at the same time.
- Its first line has a checksum of its name and of all that follows.
- A file counts only if it is a regular file with one name, of the current user, that nobody else may open. Any other is
  removed. The folder itself must belong to the user, and nobody else may write to it; else it is not used at all.
- The folder stays below `MAX_BYTES` and `MAX_FILES`; those that were not used for longest are removed first.
- No error of the disk leaves this module: without a home, or on a full disk, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from esper_analyzer.reading.segment_index import uses_stored_numbers
from esper_schemas.errors import EsperError
from esper_schemas.run.files import Folder, Identity, read_descriptor

CACHE_DIR = "ESPER_CACHE_DIR"
"""The environment variable that names the cache folder."""

MAX_BYTES = 256 * 1024 * 1024
"""The files of the cache folder have at most so many bytes together."""

MAX_FILES = 4096
"""The cache folder has at most so many files."""

MAX_FILE_BYTES = 32 * 1024 * 1024
"""A larger file is neither written nor read."""

_FORMAT = "esper-cache/1"
_LEFT = 0.75  # how much of a bound is left after the oldest files were removed, so that this is rarely needed
_ABANDONED_SECS = 3600.0  # a file that was written aside for longer than this belongs to a process that was killed
_ASIDE = ".aside-"

Made = TypeVar("Made")


def cache_folder() -> Path | None:
    """Return the path of the cache folder, whether it exists or not; None if the user has no home."""
    if named := os.environ.get(CACHE_DIR):
        return Path(named)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # noqa: PTH117 (an empty name is no path); XDG: a relative path is to be ignored
        return Path(xdg) / "esper"
    try:
        return Path.home() / ".cache" / "esper"
    except RuntimeError:
        return None


def load(kind: str, key: str, parse: Callable[[bytes], Made]) -> Made | None:
    """Return what was kept under a key; None if nothing was, or if stored numbers must not be used.

    Args:
        kind: what is kept; the first part of the name of its file.
        key: the sha256, in hexadecimal, of everything that it was made of.
        parse: makes it of the bytes that were kept. If it raises ValueError, TypeError, KeyError or RecursionError, the
            file is removed, and None is returned.
    """
    folder = _open()
    if folder is None:
        return None
    name = _name(kind, key)
    with folder:
        identity = None
        with suppress(ValueError, TypeError, KeyError, RecursionError, EsperError, OSError):
            identity = folder.identity_of(name)
            if identity is None:
                return None
            body = _body(folder, name)
            if body is not None:
                made = parse(body)
                _mark_used(folder, name)
                return made
        _remove(folder, name, identity)  # and not what another process has put in its place by now
        return None


def store(kind: str, key: str, body: bytes) -> None:
    """Keep bytes under a key, in place of what was kept there. Does nothing where that is not possible.

    Args:
        kind, key: as for `load`.
        body: what is to be kept.
    """
    if len(body) > MAX_FILE_BYTES - 1024:
        return
    folder = _open(make=True)
    if folder is None:
        return
    with folder:
        name = _name(kind, key)
        aside = f"{_ASIDE}{secrets.token_hex(8)}"
        try:
            _write(folder, aside, _head(name, body) + body)
            folder.rename(aside, name)
            _make_room(folder)
        except (EsperError, OSError):
            _remove(folder, aside)


def _name(kind: str, key: str) -> str:
    return f"{kind}-{key}.json"


def _head(name: str, body: bytes) -> bytes:
    digest = hashlib.sha256(name.encode() + b"\n" + body).hexdigest()
    return f"{_FORMAT} {digest}\n".encode()


def _open(*, make: bool = False) -> Folder | None:
    """Open the cache folder, if stored numbers may be used and the folder is the user's own."""
    path = cache_folder() if uses_stored_numbers() else None
    if path is None:
        return None
    folder = None
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        folder = Folder.at(path)
        found = os.fstat(folder.descriptor)
    except (OSError, ValueError):
        return None
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        folder.close()
        return None
    return folder


def _body(folder: Folder, name: str) -> bytes | None:
    """Read what a file keeps; None if it is not what was written."""
    descriptor = folder.open_descriptor(name)
    try:
        found = os.fstat(descriptor)
        has_other_names = found.st_nlink > 1  # none at all: another process has just replaced it
        if has_other_names or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return None
        whole = read_descriptor(descriptor, MAX_FILE_BYTES, folder.where(name))
    finally:
        os.close(descriptor)
    end = whole.find(b"\n", 0, 200) + 1
    return whole[end:] if whole[:end] == _head(name, whole[end:]) else None


def _write(folder: Folder, name: str, whole: bytes) -> None:
    descriptor = folder.create(name, 0o600)
    try:
        rest = memoryview(whole)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def _mark_used(folder: Folder, name: str) -> None:
    with suppress(OSError):  # a folder on a read-only disk is read all the same
        os.utime(name, dir_fd=folder.descriptor, follow_symlinks=False)


def _remove(folder: Folder, name: str, identity: Identity | None = None) -> None:
    with suppress(OSError, EsperError):  # a folder, or on a read-only disk: it is not believed, wherever it is
        folder.unlink(name, identity)


def _make_room(folder: Folder) -> None:
    """Remove the files that were not used for longest, if there are too many, and those that nobody finished."""
    files: list[tuple[float, int, str]] = []
    now = time.time()
    for name in folder.names():
        found = folder.stat(name)
        if found is None:
            continue
        if name.startswith(_ASIDE):
            if abs(now - found.st_mtime) > _ABANDONED_SECS:
                _remove(folder, name)
        elif not stat.S_ISDIR(found.st_mode):
            files.append((found.st_mtime, found.st_size, name))
    total, count = sum(size for _, size, _ in files), len(files)
    if total <= MAX_BYTES and count <= MAX_FILES:
        return
    for _, size, name in sorted(files):
        if total <= _LEFT * MAX_BYTES and count <= _LEFT * MAX_FILES:
            return
        _remove(folder, name)
        total, count = total - size, count - 1
