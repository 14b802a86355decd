"""What the workers of the tests do; a worker finds it by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.waiting import HANG_SECS

Item = TypeVar("Item")
Result = TypeVar("Result")


class Piece(NamedTuple):
    """A number to be doubled, and what is to go wrong.

    Attributes:
        number: the number.
        log: a file to which each attempt adds a line with the number.
        dies: how many times the worker is killed over it.
        raises: whether it raises an error.
    """

    number: int
    log: Path
    dies: int = 0
    raises: bool = False


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function for each item of a batch."""
    return [function(item) for item in items]


def double(piece: Piece) -> int:
    """Double the number, and log it."""
    with piece.log.open("a") as log:
        log.write(f"{piece.number}\n")
    if attempts(piece.log).count(piece.number) <= piece.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    if piece.raises:
        raise ValueError(f"{piece.number} cannot be doubled")
    return 2 * piece.number


def attempts(log: Path) -> list[int]:
    """Return the numbers in the order in which they were worked on."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def polars_threads(_: int) -> int:
    """Return how many threads polars has in a worker."""
    import polars

    return polars.thread_pool_size()


def ends(code: int) -> None:
    """End the worker with an exit code."""
    os._exit(code)


def wait_for_ever(done: Path | None) -> None:
    """Make a file; without one, wait until somebody ends the worker."""
    if done is None:
        time.sleep(HANG_SECS)
    else:
        done.touch()


def names_itself(paths: Sequence[Path]) -> None:
    """Write the id of the worker into the first file, and wait until somebody ends it."""
    paths[0].write_text(str(os.getpid()))
    time.sleep(HANG_SECS)
