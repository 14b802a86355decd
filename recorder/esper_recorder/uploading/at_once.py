"""Makes several requests at once, and lets Ctrl-C through while they are under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

PATIENCE_SECS = 0.5
"""Ctrl-C waits so long for each call that is under way."""

_LOOK_SECS = 0.2
"""Ctrl-C is seen this often at the latest: where Polars was imported, the system goes on with a wait without an end."""

_Answer = TypeVar("_Answer")


def at_once(calls: Sequence[Callable[[], _Answer]]) -> list[_Answer]:
    """Make each call in a thread of its own; return the answers, or raise the first error when all are over.

    While obstore waits for a store, no signal reaches Python in the thread that asked. The threads are daemons, so that
    a request without an answer holds up neither Ctrl-C nor the end of the process.
    """
    answers: dict[int, _Answer] = {}
    errors: dict[int, BaseException] = {}

    def make(index: int) -> None:
        try:
            answers[index] = calls[index]()
        except BaseException as error:
            errors[index] = error

    threads = [threading.Thread(target=make, args=(index,), daemon=True) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK_SECS)
    except BaseException:
        for thread in threads:
            thread.join(PATIENCE_SECS)  # one that gets its answer while Python ends would abort the process
        raise
    for index in sorted(errors):
        raise errors[index]
    return [answers[index] for index in range(len(calls))]
