"""File steps that survive a power loss: write aside, sync, rename, sync the folder.

Every durable step of the recorder goes through these functions, so a test can watch them all. Names are relative to an
open folder; see `esper_schemas.run.files`.
"""

from __future__ import annotations

import os
from pathlib import Path

from esper_schemas.run.files import Folder, Identity


def write_new(folder: Folder, name: str, data: bytes) -> None:
    """Write `data` to a new file, replacing any file of that name, and sync it. The name itself is not synced."""
    folder.unlink(name)
    descriptor = folder.create(name, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError as error:  # of a descriptor, so that it names no file
        error.filename = folder.where(name)
        raise
    finally:
        os.close(descriptor)


def replace(folder: Folder, name: str, data: bytes) -> None:
    """Replace the whole file `name`. A reader sees the old or the new bytes, and never a mixture."""
    aside = f"{name}.tmp"
    write_new(folder, aside, data)
    rename(folder, aside, name)


def create(folder: Folder, name: str, data: bytes) -> None:
    """Write the whole file `name` if nothing has that name yet.

    Raises:
        FileExistsError: something has that name.
    """
    aside = f"{name}.{os.getpid()}.tmp"
    write_new(folder, aside, data)
    try:
        folder.link(aside, name)
    finally:
        folder.unlink(aside)
    folder.sync(_folder_of(name))


def rename(folder: Folder, name: str, target: str) -> None:
    """Rename a file, and sync the folders of both names."""
    folder.rename(name, target)
    folder.sync(_folder_of(target))
    if _folder_of(name) != _folder_of(target):
        folder.sync(_folder_of(name))


def unlink(folder: Folder, name: str, identity: Identity | None = None) -> None:
    """Remove a file if it exists and has this `identity` (None: any), and sync its folder."""
    folder.unlink(name, identity)
    folder.sync(_folder_of(name))


def make_folder(folder: Folder, name: str) -> None:
    """Make a folder and its missing parents, and sync the parent of each new folder."""
    outer = _folder_of(name)
    if outer:
        make_folder(folder, outer)
    if folder.make_folder(name):
        folder.sync(outer)


def make_folders(path: Path) -> None:
    """Make the folder that a person named and its missing parents, as `make_folder` does."""
    missing: list[str] = []
    while not path.exists():
        missing.insert(0, path.name)
        path = path.parent
    with Folder.at(path) as folder:
        if missing:
            make_folder(folder, "/".join(missing))


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]
