"""The record of the attempt that goes on: what stands in `attempts/NNNN.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esper_recorder.keeping import durable
from esper_recorder.writing.journal import Journal
from esper_recorder.writing.opening import OpenedRank
from esper_recorder.writing.tally import MAX_REASON, Tally
from esper_schemas.run.names import attempt_name
from esper_schemas.run.records import Attempt, EndStatus, now


class AttemptRecord:
    """Keeps the record of an attempt up to date. It belongs to the thread that owns the journal.

    Attributes:
        end: How the attempt ended, and why; None while it goes on.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.end: tuple[EndStatus, str | None] | None = None
        self._written = attempt

    def set_end(self, status: EndStatus, reason: str | None) -> None:
        """The attempt has ended; the next `write` says so."""
        self.end = (status, " ".join(reason.split())[:MAX_REASON] if reason else None)

    def note_import(self, imported: Mapping[str, Any]) -> None:
        """Keep which log the rows came from; written with the next `write`."""
        self._written = replace(self._written, imported=dict(imported))

    def move(self, attempt: Attempt) -> None:
        """Go on as the record of another attempt: the run was taken away, and recording goes on elsewhere."""
        self._written = attempt

    def lacks(self, tally: Tally) -> bool:
        """Whether something was lost that the record does not say yet."""
        return (tally.dropped_rows, tally.refused_values) != (self._written.dropped_rows, self._written.refused_values)

    def write(self, opened: OpenedRank, journal: Journal, tally: Tally) -> None:
        """Write the record.

        Raises:
            OSError: the disk refused, or the run is no longer ours (ESTALE).
        """
        status, reason = self.end or (None, None)
        record = replace(
            self._written,
            ended=now() if status else None,
            status=status,
            reason=reason,
            last_seq=journal.last_seq,
            rows=journal.rows,
            dropped_rows=tally.dropped_rows,
            last_drop_reason=tally.drop_reason,
            refused_values=dict(tally.refused_values),
        )
        opened.lock.check()
        durable.replace(opened.folder, attempt_name(record.attempt), record.to_bytes())
        self._written = record
