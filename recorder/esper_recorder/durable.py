"""File steps that survive a power loss: written aside, synced, renamed, folder synced.

Every durable step of the recorder goes through these few functions, so that a test can watch them all.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_new(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing what is there, and sync it; the name itself is not synced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Put a whole file in place of `path`, so that a reader sees the old or the new bytes and nothing between."""
    aside = path.with_name(path.name + ".tmp")
    write_new(aside, data)
    rename(aside, path)


def create(path: Path, data: bytes) -> None:
    """As `replace`, but only if there is no such file yet.

    Raises:
        FileExistsError: there is one.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    write_new(aside, data)
    try:
        os.link(aside, path)
    finally:
        aside.unlink()
    sync_folder(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename and sync the folders of both names."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def unlink(path: Path) -> None:
    """Remove a file, which may be gone already, and sync its folder."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, syncing the parent of each that is new."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
