"""Writes the file that a person named with `-o`: it is whole in the end, or still what it was before."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_DESCRIPTORS = (Path("/dev/stdout"), Path("/dev/stderr"), Path("/dev/fd"), Path("/proc"))
"""These names, and those below them, may lead to a file that somebody has open, and writes to."""


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file to write. It gets the name `target` when the block is left, once all of it is on the disk.

    If the block is left by an error or by Ctrl-C, `target` is what it was before. A file that is replaced keeps its
    permissions, and a link to it stays a link. A pipe, a device, and a file in a folder that takes no other file are
    written in place.

    Raises:
        OSError: the file cannot be written; the error names `target`.
    """
    place = _behind_links(target)
    with _naming(target):
        before = _mode(place)
        if not _can_replace(place, before):
            with place.open("wb") as file:
                yield file
            return
        aside = place.with_name(f".esper-{secrets.token_hex(8)}.partial")
        try:
            with aside.open("xb") as file:
                yield file
                file.flush()
                if before is not None:
                    os.fchmod(file.fileno(), stat.S_IMODE(before))
                os.fsync(file.fileno())
            aside.replace(place)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def _behind_links(target: Path) -> Path:
    if any(target.absolute().is_relative_to(folder) for folder in _DESCRIPTORS):
        return target
    try:
        return target.resolve()
    except (OSError, RuntimeError):  # links in a circle: opening it says so
        return target


def _mode(place: Path) -> int | None:
    """Type and permissions of what is there; None if nothing is."""
    try:
        return place.stat().st_mode
    except FileNotFoundError:
        return None


def _can_replace(place: Path, mode: int | None) -> bool:
    if any(place.is_relative_to(folder) for folder in _DESCRIPTORS):
        return False
    return mode is None or (stat.S_ISREG(mode) and os.access(place.parent, os.W_OK | os.X_OK))


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Let an error of the disk name the file that the person named."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None
