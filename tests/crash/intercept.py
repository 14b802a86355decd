"""Stands between the recorder and the system calls by which it changes files: to write them down, or to let them fail.

Every change that the recorder makes to a file goes through these functions of `os`, looked up when called.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("open", "write", "pwrite", "ftruncate", "fsync", "close", "rename", "link", "unlink", "mkdir")

Real = Callable[..., Any]
Handler = Callable[[str, Real, tuple[Any, ...]], Any]
"""Gets the name of a call, the call itself and its arguments, and answers in its place."""


@contextmanager
def intercepted(handler: Handler) -> Iterator[None]:
    """Within the block `handler` answers every call of `NAMES`, of any thread, one at a time."""
    lock = threading.RLock()
    real = {name: getattr(os, name) for name in NAMES}

    def stand_in(name: str) -> Real:
        def call(*args: Any, **options: Any) -> Any:
            with lock:
                if options:  # of other callers than the recorder, which gives none
                    return real[name](*args, **options)
                return handler(name, real[name], args)

        return call

    try:
        for name in NAMES:
            setattr(os, name, stand_in(name))
        yield
    finally:
        for name in NAMES:
            setattr(os, name, real[name])


class OpenFiles:
    """Which descriptors belong to files under a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[int, Path] = {}

    def inside(self, name: str, args: tuple[Any, ...]) -> bool:
        """Whether a call is about a file under the folder."""
        if name in ("write", "pwrite", "ftruncate", "fsync", "close"):
            return args[0] in self._paths
        return Path(os.fspath(args[0])).is_relative_to(self.root)

    def note(self, name: str, args: tuple[Any, ...], answer: Any) -> None:
        """Keep track of what was opened and closed."""
        if name == "open":
            self._paths[answer] = Path(args[0])
        elif name == "close":
            self._paths.pop(args[0], None)
