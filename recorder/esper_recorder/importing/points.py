"""Scalar points: what every log comes down to, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from esper_recorder.importing.account import Account
from esper_recorder.importing.run_import import OnRead


class Points(NamedTuple):
    """Consecutive scalars of a log, in the order in which they were logged; the sequences are of one length.

    Attributes:
        keys: Name of each scalar.
        steps: The step that it was logged with; None where the log has no steps.
        times: When it was logged, in seconds since 1970, UTC; None where the log has no times.
        values: The numbers, as Python floats.
        begins_anew: Whether whoever wrote these points had written none before: what came earlier is complete.
        empty: The keys that have no number in this row of a table, though the row names them; None if the points are
            not those of one row.
    """

    keys: Sequence[str]
    steps: Sequence[int | None]
    times: Sequence[float | None]
    values: Sequence[float]
    begins_anew: bool = False
    empty: Sequence[str] | None = None


NOTHING_YET = Points((), (), (), ())
"""Yielded by a reader that follows its log, whenever it has read all that is there. It reads on when it is resumed."""


def of_record(
    values: Mapping[str, float],
    step: int | None = None,
    time: float | None = None,
    *,
    begins_anew: bool = False,
    empty: Sequence[str] | None = None,
) -> Points:
    """Return the points of one record, such as a line of a table: its numbers by key, all with one step and time."""
    count = len(values)
    return Points(list(values), [step] * count, [time] * count, list(values.values()), begins_anew, empty)


class PointReader(Protocol):
    """Reads one format of logs, from a file or from a folder of files.

    Attributes:
        what: What it reads, for messages, such as "scalars".
        config: Hyper-parameters that it has come across so far; always the same mapping.
    """

    what: str

    @property
    def config(self) -> Mapping[str, Any]: ...  # noqa: D102 (above)

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of the log in order, and note in the account what was not a point.

        While its log may still grow, the reader yields `NOTHING_YET` at the end of what there is, and then reads on.

        Raises:
            UsageError: the log is of another format after all.
            RewrittenError: the log is followed, and what was read of it is no longer there.
            OSError: it cannot be read.
        """
        ...
