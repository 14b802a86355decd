"""Stands between the recorder and the system calls by which it changes files: to write them down, or to let them fail.

Every change that the recorder makes to a file goes through these functions of `os`, looked up when called. It gives
names relative to a folder that it holds; a handler gets the whole path.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDERS: dict[str, tuple[str, ...]] = {
    "open": ("dir_fd",),
    "mkdir": ("dir_fd",),
    "unlink": ("dir_fd",),
    "rename": ("src_dir_fd", "dst_dir_fd"),
    "link": ("src_dir_fd", "dst_dir_fd"),
}
"""Calls on names, and the options in which they take the folders that their first arguments are in."""

_ON_DESCRIPTORS = ("write", "pwrite", "ftruncate", "fsync", "close", "dup")
NAMES = (*_FOLDERS, *_ON_DESCRIPTORS)

Real = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call, not done yet.

    Attributes:
        name: of the function of `os`.
        args: what it was called with; a path is absolute here, whatever it was given relative to.
        real: the function itself.
        given: the arguments as they were given, and `options` the keyword ones.
    """

    name: str
    args: tuple[Any, ...]
    real: Real
    given: tuple[Any, ...]
    options: dict[str, Any]

    def do(self) -> Any:
        """Do it."""
        return self.real(*self.given, **self.options)


Handler = Callable[[Call], Any]
"""Answers in the place of a call."""


@contextmanager
def intercepted(handler: Handler) -> Iterator[None]:
    """Within the block `handler` answers every call of `NAMES`, of any thread, one at a time."""
    lock = threading.RLock()
    real = {name: getattr(os, name) for name in NAMES}

    def stand_in(name: str) -> Real:
        def call(*given: Any, **options: Any) -> Any:
            with lock:
                return handler(Call(name, _whole(name, given, options), real[name], given, options))

        return call

    try:
        for name in NAMES:
            setattr(os, name, stand_in(name))
        yield
    finally:
        for name in NAMES:
            setattr(os, name, real[name])


def _whole(name: str, given: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments with absolute paths."""
    folders = _FOLDERS.get(name, ())
    assert len(given) >= max(1, len(folders)), f"os.{name} got its paths or its descriptor by keyword"
    paths = [_path(path, options.get(option)) for path, option in zip(given, folders, strict=False)]
    return (*paths, *given[len(paths) :])


def _path(name: Any, folder: int | None) -> Path:
    """A name in a folder that is held, or in the working folder, as an absolute path."""
    path = Path(os.fsdecode(name))
    if folder is None or path.is_absolute():
        return path.absolute()
    if sys.platform == "darwin":
        return Path(os.fsdecode(fcntl.fcntl(folder, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))) / path
    return Path(f"/proc/self/fd/{folder}").readlink() / path


class OpenFiles:
    """Which descriptors belong to files and folders under a folder, whose path must have no links in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._held: dict[int, tuple[int, int]] = {}

    def inside(self, call: Call) -> bool:
        """Whether a call is about a file under the folder."""
        if call.name in _ON_DESCRIPTORS:
            return self._held.get(call.args[0]) == _identity(call.args[0])
        return bool(call.args[0].is_relative_to(self.root))

    def note(self, call: Call, answer: Any) -> None:
        """Keep track of what was opened and closed.

        A descriptor may be closed unseen, as by a file object; so it is known by what it is of, too.
        """
        if call.name in ("open", "dup"):
            self._held[answer] = _identity(answer)
        elif call.name == "close":
            self._held.pop(call.args[0], None)


def _identity(descriptor: int) -> tuple[int, int]:
    """Which file a descriptor is of; of none, if it is closed already."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino
