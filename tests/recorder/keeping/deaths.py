"""A process that dies between any two steps of keeping rows, for the tests of recovery and repair."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Crash(BaseException):
    """The process is gone."""


@contextmanager
def dies_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that reaches the disk stops after so many steps, and nothing that comes later has any effect."""
    left = steps

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left <= 0:
                raise Crash
            left -= 1
            return real(*args, **kwargs)

        patched.setattr(os, name, step)

    with monkeypatch.context() as patched:
        for name in ("fsync", "rename", "unlink"):
            wrap(name)
        yield
