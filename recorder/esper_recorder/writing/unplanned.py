"""The rows that no plan fits: validated, then written or buffered; and the rows that are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import perf_counter, time_ns
from typing import Any

from esper_recorder.writing import log
from esper_recorder.writing.background import BackgroundWriter
from esper_recorder.writing.backlog import MAX_UNSEALED
from esper_recorder.writing.device_capture import DeviceCapture, PendingRow, take_device_tensors
from esper_recorder.writing.disk_health import SLOW_WRITE_SECS
from esper_schemas.errors import PayloadError
from esper_schemas.metric.payload import METRICS, admit
from esper_schemas.segment.active import column_types


class UnplannedRows:
    """Records the rows that `Recorder` has no plan for: of a new kind, of a device, or with the disk in trouble.

    The caller of each method holds the lock of `background`.

    Args:
        background: the other half of the recorder.
        started: when the recorder was opened, by `perf_counter`.
        fill_in_times: whether `wall_time` and `elapsed_secs` are filled in where a row has none.
        strict: whether what goes wrong is raised.
    """

    def __init__(self, background: BackgroundWriter, started: float, fill_in_times: bool, strict: bool) -> None:
        self._background = background
        self._started = started
        self._fill_in_times = fill_in_times
        self._strict = strict
        self._known: set[str] = set(column_types())
        self._capture: DeviceCapture | None = None

    def record(self, names: tuple[str, ...], values: tuple[Any, ...]) -> tuple[dict[str, Any], bool]:
        """Validate and write a row.

        Returns:
            The row by column name, and whether it is on the disk.

        Raises:
            PayloadError: the row cannot be stored.
        """
        background = self._background
        if background.closed is not None:
            raise PayloadError(f"nothing more can be recorded into {background.path}: {background.closed}")
        metrics, refused = _distinct(names, values)
        tensors = take_device_tensors(metrics)
        row, of_values = admit(metrics, arriving=tensors)
        refused |= of_values
        if refused and self._strict:
            raise PayloadError(next(iter(refused.values())))
        pending = self._fetch(row, tensors) if tensors else PendingRow(row)
        began = perf_counter()
        if self._fill_in_times:
            self._fill_in(row)
        row["seq"] = background.next_seq
        background.next_seq += 1
        for name, reason in refused.items():
            background.tally.refuse(name, reason)
        self._warn_of_likely_misspellings(row)
        if tensors or not background.direct:
            return row, background.buffer(pending)
        try:
            background.journal.append(row)
        except OSError as error:
            return row, self.buffer_after(error, row)
        writer = background.journal.writer
        if writer is None:
            background.notify()  # there is a segment to seal
        elif not refused:
            writer.learn(names, tuple(map(type, values)))
        if background.journal.unsealed >= MAX_UNSEALED:
            background.notify()
        if perf_counter() - began > SLOW_WRITE_SECS:
            background.take_over()
        return row, True

    def as_row(self, names: Iterable[str], values: Iterable[Any], seq: int) -> dict[str, Any]:
        """Return the row that a plan has just encoded, number `seq`, by column name, with plain numbers."""
        row, _ = admit(dict(zip(names, values, strict=True)))
        self._fill_in(row)
        row["seq"] = seq
        return row

    def buffer_after(self, error: OSError, row: dict[str, Any]) -> bool:
        """Buffer a row that the disk refused; return True if the row is on the disk all the same."""
        if self._strict or error.errno is None:  # without a number it is no disk's, but a signal handler's
            raise error
        background = self._background
        background.take_over()
        background.say_disk_trouble(error)
        if background.journal.last_seq >= row["seq"]:
            return True
        return background.buffer(PendingRow(row))

    def refuse(self, error: PayloadError) -> bool:
        """Drop a row that cannot be stored. It uses up its number, so that the gap shows."""
        if self._strict:
            raise error
        if self._background.closed is None:
            self._background.next_seq += 1
        self._background.tally.drop(str(error))
        return False

    def refuse_in_handler(self) -> bool:
        """Drop a row that a signal handler records while it interrupts another row of the same thread."""
        error = PayloadError("record() was called by a signal handler while it was at work on another row")
        if self._strict:
            raise error
        self._background.tally.drop(str(error))
        return False

    def _fill_in(self, row: dict[str, Any]) -> None:
        row.setdefault("wall_time", time_ns() // 1000)
        row.setdefault("elapsed_secs", perf_counter() - self._started)

    def _fetch(self, row: dict[str, Any], tensors: Mapping[str, Any]) -> PendingRow:
        try:
            if self._capture is None:
                self._capture = DeviceCapture()
            return self._capture.begin(row, tensors)
        except RuntimeError as error:  # of the device: out of memory, a kernel that failed
            raise PayloadError(
                f"values could not be fetched from the device ({' '.join(str(error).split())})"
            ) from None

    def _warn_of_likely_misspellings(self, row: Mapping[str, Any]) -> None:
        new = row.keys() - self._known
        if not new:
            return
        import difflib  # seldom needed, so not imported with the package

        for name in new:
            self._known.add(name)
            if close := difflib.get_close_matches(name, METRICS, n=1, cutoff=0.85):
                path = self._background.path
                log.warning("%s: %a is recorded as a metric of its own; did you mean %r?", path, name, close[0])


def _distinct(names: Iterable[str], values: Iterable[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return name → value, and name → reason where a name was given twice."""
    metrics: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name, value in zip(names, values, strict=True):
        if value is None:
            continue
        if name in metrics:
            refused[name] = f"{name} was given twice, as a metric and in extras; the extra is left out"
        else:
            metrics[name] = value
    return metrics, refused
