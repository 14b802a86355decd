"""The table at the end of a torture run: one line for each way of breaking things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from tests.crash.oracle import Outcome


@dataclass(slots=True)
class Line:
    """What was done, how often, and what it cost.

    Attributes:
        fault: the way of breaking things.
        states: how many states, kills or scans were tried.
        acknowledged: rows that had to be there, over all of them.
        lost: rows that were not.
        wrong: rows that were read and never recorded so, came twice or out of order.
        broken: states in which any promise was broken.
        must_fail: it is a mutant or a naive control, which shows that the harness can see a failure.
        secs: how long it took.
        first_complaint: the first promise that was broken.
    """

    fault: str
    must_fail: bool = False
    states: int = 0
    acknowledged: int = 0
    lost: int = 0
    wrong: int = 0
    broken: int = 0
    secs: float = 0.0
    first_complaint: str = ""

    def count(self, outcome: Outcome, where: object = "") -> None:
        """Take in one state; `where` names it in a complaint."""
        self.states += 1
        self.acknowledged += outcome.acknowledged
        self.lost += outcome.lost
        self.wrong += outcome.wrong
        if not outcome.is_good:
            self.broken += 1
            words = outcome.complaints or [f"{outcome.lost} rows lost, {outcome.wrong} wrong"]
            self.first_complaint = self.first_complaint or f"{where}: {words[0]}"

    @property
    def verdict(self) -> str:
        """How it went, in words."""
        if self.must_fail:
            return f"fails, as it must ({self.broken} times)" if self.broken else "DOES NOT FAIL"
        return "holds" if not self.broken else f"BROKEN: {self.first_complaint}"

    def check(self) -> None:
        """The assertion that every test of the harness ends in."""
        assert self.states, f"{self.fault}: nothing was tried"
        assert bool(self.broken) == self.must_fail, f"{self.fault}: {self.verdict}"


@dataclass(slots=True)
class Ledger:
    """The lines of a session."""

    lines: list[Line] = field(default_factory=list)

    def begin(self, fault: str, *, must_fail: bool = False) -> Line:
        """Add a line, to be filled."""
        line = Line(fault, must_fail)
        self.lines.append(line)
        return line

    @contextmanager
    def line(self, fault: str, *, must_fail: bool = False) -> Iterator[Line]:
        """Add a line, to be filled in the block; its time is that of the block."""
        line = self.begin(fault, must_fail=must_fail)
        began = perf_counter()
        try:
            yield line
        finally:
            line.secs += perf_counter() - began

    def table(self) -> Iterator[str]:
        """The lines of text that are printed."""
        head = ("fault", "states", "acknowledged", "lost", "wrong", "secs", "verdict")
        body = [
            (
                line.fault,
                f"{line.states:,}",
                f"{line.acknowledged:,}",
                f"{line.lost:,}",
                f"{line.wrong:,}",
                f"{line.secs:.1f}",
                line.verdict,
            )
            for line in sorted(self.lines, key=lambda line: line.must_fail)
        ]
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        yield _join(head, widths)
        yield "-" * min(150, sum(widths) + 2 * len(widths))
        for entry in body:
            yield _join(entry, widths)


def _join(cells: Iterable[str], widths: list[int]) -> str:
    """Numbers to the right, words to the left."""
    aligned = [
        cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()
