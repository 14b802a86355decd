"""How a run ended, or that it goes on: its status, and why, by the locks and the attempts of its ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from esper_schemas.cleaning import printable
from esper_schemas.errors import EsperError, NotARunError, StoreError
from esper_schemas.run.directory import StoredRun, has_writer, read_attempts
from esper_schemas.run.files import Folder
from esper_schemas.run.records import Attempt

Status = Literal["live", "stale", "finished", "failed", "interrupted", "crashed", "unknown"]

GOING_ON: frozenset[str] = frozenset({"live", "stale", "unknown"})
"""Statuses of a run that may still add rows."""

MAX_REASON = 200
"""Most characters of why a run ended, where a line may be longer than a terminal is wide."""

_WORST_FIRST: tuple[Status, ...] = ("crashed", "failed", "unknown", "stale", "live", "interrupted", "finished")


class Ending(NamedTuple):
    """The status of a run or of a rank, and why its last attempt ended.

    Attributes:
        status: its status.
        reason: why the last attempt ended, as it says itself: the exception of one that failed, or that nobody closed
            it; None where it does not say. The text may hold anything.
    """

    status: Status
    reason: str | None = None


def ending_of(run: StoredRun, rank: int | None, is_stale: Callable[[Folder], bool] = lambda _: False) -> Ending:
    """Return how a rank ended, or the rank with the worst status if None.

    Of several ranks with the worst status, the first that says why speaks.

    Args:
        run: the run.
        rank: the rank.
        is_stale: whether a rank with a writer has been silent for too long; by default, none is `stale`.

    Raises:
        StoreError: an object store does not answer, or refuses.
    """
    if rank is None:
        found = [ending_of(run, one.rank, is_stale) for one in run.ranks()] or [Ending("crashed")]
        worst = min((one.status for one in found), key=_WORST_FIRST.index)
        return Ending(worst, next((one.reason for one in found if one.status == worst and one.reason), None))
    is_written = None
    attempts: list[Attempt] = []
    try:
        with run.rank(rank).open() as folder:
            is_written = has_writer(folder)
            if is_written and isinstance(folder, Folder):
                return Ending("stale" if is_stale(folder) else "live")
            attempts = read_attempts(folder)
    except (FileNotFoundError, NotARunError):
        return Ending("crashed")
    except StoreError:
        raise
    except (EsperError, OSError):
        pass  # an examination reports this fault
    last = attempts[-1] if attempts else None
    if last is None or last.status not in _WORST_FIRST:  # not a status of an attempt that has ended
        return Ending("crashed" if is_written is False else "unknown")
    return Ending(last.status, last.reason)


def status_word(status: str, *, is_imported: bool) -> str:
    """Return the status of a run for people. Of the log of another trainer nobody knows whether it finished."""
    return "imported" if is_imported and status == "finished" else status


def describe_ending(status: str, reason: str | None, *, is_imported: bool = False) -> str:
    """Return the status of a run, and why it ended where that is known; one line that is safe to print."""
    word = status_word(status, is_imported=is_imported)
    if not reason:
        return word
    said = printable(reason)
    return f"{word}: {said if len(said) <= MAX_REASON else said[: MAX_REASON - 1] + '…'}"
