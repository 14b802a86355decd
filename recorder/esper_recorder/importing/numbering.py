"""Numbers updates, beside the numbers that a trainer gives them."""

from __future__ import annotations

from copy import copy

from esper_recorder.importing.account import Account, Named

MAX_STEPS = 2**63
_FEW = 5  # trainings that one log may have, one after another
_MIXED = 4  # of so many updates one goes back, in rows of two runs

_MOST_NAMED = 5  # jumps


class Numbering:
    """Numbers updates 0, 1, 2 …, or from 1 if the trainer's own numbers begin with 1.

    The trainer's number and `update` are the same as long as the trainer's number rises by one. Where it does not, as
    when a training is continued, `update` goes on counting, and the account says so.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._last: int | None = None
        self._last_of_trainer: float | None = None
        self._jumps = Named()

    def copy(self) -> Numbering:
        """Return a numbering that goes on from here by itself, and notes nothing."""
        made = copy(self)
        made._jumps = Named()
        return made

    def next(self, of_trainer: float | None) -> int:
        """Return the number of the next update."""
        if self._last is None:
            self._last = 1 if of_trainer == 1 else 0
        else:
            self._last += 1
            before = self._last_of_trainer
            if before is not None and of_trainer is not None and of_trainer != before + 1:
                self._jumps.add(f"{of_trainer:g} after {before:g} at update {self._last}")
        self._last_of_trainer = of_trainer
        return self._last

    def note(self, name: str) -> None:
        """Say in the account where the trainer's numbers, kept as `name`, did not rise by one."""
        if self._jumps.count:
            self._jumps.first = self._jumps.first[:_MOST_NAMED]
            self._account.notes.append(f"{name} does not rise by 1 everywhere ({self._jumps}); update counts on")


def describe_falls(falls: Named, updates: int, after: str = "") -> tuple[str, str]:
    """Return where the step falls in so many updates, for a note, and what the log then seems to be."""
    if falls.count <= _FEW:
        return f"{after}{falls}", ""
    where = f"{falls.count:,} times, first {after}{falls.first[0]}"
    if falls.count >= updates - 1:
        return where, "the rows seem to be in reversed order, the last one first; sort them by their step"
    if falls.count * _MIXED > updates:
        return where, "the rows of several runs seem to be mixed; import each run from a log of its own"
    return where, ""


def as_steps(number: float | None) -> int | None:
    """Return a number as a count of steps; None if it cannot be one."""
    if number is None or not 0 <= number < MAX_STEPS or number != int(number):
        return None
    return int(number)
