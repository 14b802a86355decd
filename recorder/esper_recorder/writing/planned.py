"""The rows that a plan fits: of a known kind, encoded and written at once, in the thread of the trainer."""

from __future__ import annotations

from time import perf_counter, time_ns
from typing import Any

from esper_recorder.writing.background import BackgroundWriter
from esper_recorder.writing.disk_health import SLOW_WRITE_SECS
from esper_recorder.writing.foreign import is_of_signal_handler
from esper_recorder.writing.unplanned import UnplannedRows


class PlannedRows:
    """Records the rows of known kinds while the disk is well: the fast path of `Recorder.record`.

    The caller holds the lock of `background`.

    Args:
        background: the other half of the recorder.
        unplanned: takes a row over that the disk refuses.
        started: when the recorder was opened, by `perf_counter`.
        fill_in_times: whether `wall_time` and `elapsed_secs` are filled in where a row has none.
    """

    def __init__(
        self, background: BackgroundWriter, unplanned: UnplannedRows, started: float, fill_in_times: bool
    ) -> None:
        self._background = background
        self._unplanned = unplanned
        self._started = started
        self._fill_in_times = fill_in_times

    def record(self, names: tuple[str, ...], values: tuple[Any, ...]) -> bool | None:
        """Write a row.

        Returns:
            Whether it is on the disk; None if no plan fits, or the disk is not well, and nothing was done.
        """
        background = self._background
        writer = background.journal.writer
        if writer is None or not background.direct:
            return None
        if not self._fill_in_times and not {"wall_time", "elapsed_secs"} <= set(names):
            return None  # a plan would fill them in
        kind = (names, tuple(map(type, values)))
        plan = writer.plan if kind == writer.kind else writer.plan_for(kind)  # to compare costs less than to hash
        seq = background.next_seq
        if plan is None or writer.last_seq + 1 != seq:
            return None
        began = perf_counter()
        try:
            message = plan(values, (seq, time_ns() // 1000, began - self._started))
        except Exception as error:
            if is_of_signal_handler(error):
                raise
            return None  # not as usual after all
        background.next_seq = seq + 1
        try:
            writer.append(message, seq)
        except OSError as error:
            return self._unplanned.buffer_after(error, self._unplanned.as_row(names, values, seq))
        if writer.is_full:
            background.journal.retire()
            background.notify()
        if perf_counter() - began > SLOW_WRITE_SECS:
            background.take_over()
        return True
