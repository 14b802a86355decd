"""The recorder: takes one PPO update at a time from the training loop and sees that it is never lost."""

from __future__ import annotations

import atexit
import difflib
import logging
import os
import struct
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from esper_recorder import durable
from esper_recorder.device_capture import DeviceCapture, PendingRow, take_device_tensors
from esper_recorder.journal import Journal, RotationLimits
from esper_recorder.opening import OpenedRank, Resume, environment_number, now, open_rank
from esper_recorder.segment_writer import FILLED_IN
from esper_schemas.errors import EsperError, PayloadError, UsageError
from esper_schemas.payload import METRICS, PPOUpdatePayload, merge_extras, validate
from esper_schemas.row_message import column_types
from esper_schemas.run_files import EndStatus, ValueLossDefinition

log = logging.getLogger("esper_recorder")

SLOW_WRITE_SECS = 0.05
"""After a write slower than this, writing moves to the background until the disk is healthy again."""

SYNC_INTERVAL_SECS = 1.0
"""How often the background makes what was written safe against power loss."""

RETRY_SECS = 0.1
"""How long the background waits after a failed write before it tries again."""

CLOSE_TIMEOUT_SECS = 10.0
"""How long `close` goes on trying to write what is buffered while the disk is in trouble."""

UpdateHook = Callable[[Mapping[str, float]], None]


class Recorder:
    """Appends one row per PPO update to a run directory; see FORMAT.md for what is promised.

    Open it with `Recorder.open`; it is a context manager. `record` may be called from any thread. It writes
    in the caller's thread, in microseconds; only while the disk is in trouble, or while device tensors are
    on their way, rows wait in a bounded buffer and a background thread writes them. The same thread syncs
    and seals. Except with `strict=True`, nothing that goes wrong while recording is raised: rows that cannot
    be kept are dropped, counted, logged, and the count is written into the run.

    Attributes:
        path: Folder of the run.
        run_id: Name of the run.
        rank: This process's rank.
        attempt: 0, then 1 more for each resume.
    """

    def __init__(
        self,
        opened: OpenedRank,
        *,
        limits: RotationLimits,
        buffer_rows: int,
        on_update: UpdateHook | None,
        strict: bool,
    ) -> None:
        self.path: Path = opened.run.path
        self.run_id = opened.run_id
        self.rank = opened.rank.rank
        self.attempt = opened.attempt.attempt
        self._opened = opened
        self._journal = Journal(opened.rank, opened.run_id, self.attempt, opened.next_segment, opened.first_seq, limits)
        self._buffer_rows = buffer_rows
        self._on_update = on_update
        self._strict = strict
        self._next_seq = opened.attempt.first_seq
        self._started = time.perf_counter()
        self._record = opened.attempt  # what stands in attempts/NNNN.json
        self._dropped_rows = 0
        self._drop_reason: str | None = None
        self._said: set[str] = set()
        self._known: set[str] = set(column_types())
        # While `_direct`, whoever holds the lock owns the journal; otherwise the background thread does.
        self._lock = threading.RLock()  # so that a signal handler that closes the run cannot lock itself out
        self._work = threading.Condition(self._lock)
        self._direct = True
        self._healthy = True
        self._pending: deque[PendingRow] = deque()
        self._capture: DeviceCapture | None = None
        self._closed: str | None = None
        self._end: tuple[EndStatus, str | None] | None = None
        self._thread = threading.Thread(target=self._run, name="esper-recorder", daemon=True)
        self._thread.start()
        _open_recorders.add(self)

    # ------------------------------------------------------------------ opening and closing

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str] = "runs",
        *,
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        trainer: str | None = None,
        env: str | None = None,
        device: str | None = None,
        value_loss_definition: ValueLossDefinition | None = None,
        resume: Resume = "never",
        on_update: UpdateHook | None = None,
        strict: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        segment_rows: int = RotationLimits.rows,
        segment_bytes: int = RotationLimits.bytes,
        segment_secs: float = RotationLimits.secs,
        buffer_rows: int = 10_000,
    ) -> Self:
        """Open a run for recording, creating `root/run_id` unless it is resumed.

        Args:
            root: Folder of runs.
            run_id: Name of the run and of its folder; made from the time if absent.
            config: Hyper-parameters, stored in the header as JSON.
            trainer, env, device: Who trains what, where; stored in the header.
            value_loss_definition: The trainer's definition of value loss. Undeclared means half the mean
                squared error, and is marked as assumed.
            resume: "never" refuses a run id that exists, "allow" adds an attempt to it if it does,
                "must" insists that it does.
            on_update: Called after each row with its values by column name, in the order of the rows, from
                the thread that wrote it. What it raises is logged, or raised again when `strict`.
            strict: Raise what goes wrong while recording instead of going on; for tests.
            rank, world_size: Of this process; default from the environment (RANK, WORLD_SIZE), else 0 and 1.
            segment_rows, segment_bytes, segment_secs: A segment is sealed when it reaches any of these.
            buffer_rows: How many rows may wait while the disk is in trouble.

        Raises:
            UsageError: an argument is wrong.
            RunExistsError: the run exists and `resume` is "never".
            RunLockedError: another process is writing it.
            RunDamagedError: an earlier attempt left damage that must be looked at first.
            OSError: the run's folder cannot be created.
        """
        for name, value in (
            ("segment_rows", segment_rows),
            ("segment_bytes", segment_bytes),
            ("segment_secs", segment_secs),
            ("buffer_rows", buffer_rows),
        ):
            if not value > 0:
                raise UsageError(f"{name} must be greater than 0, found {value}")
        opened = open_rank(
            root,
            run_id=run_id,
            resume=resume,
            rank=environment_number("RANK", 0) if rank is None else rank,
            world_size=environment_number("WORLD_SIZE", 1) if world_size is None else world_size,
            described={"config": config, "trainer": trainer, "env": env, "device": device},
            value_loss_definition=value_loss_definition,
        )
        limits = RotationLimits(segment_rows, segment_bytes, segment_secs)
        return cls(opened, limits=limits, buffer_rows=buffer_rows, on_update=on_update, strict=strict)

    def close(self, status: EndStatus = "finished", reason: str | None = None) -> None:
        """Write what is buffered, seal, record how the attempt ended, give the lock up. May be called again.

        Args:
            status: "finished", "failed" or "interrupted".
            reason: One line on why, for a run that did not finish.
        """
        with self._lock:
            if self._closed is not None:
                return
            self._closed = "it is closed"
            self._end = (status, " ".join(reason.split()) if reason else None)
            self._work.notify_all()
        self._thread.join(2 * CLOSE_TIMEOUT_SECS)
        if self._thread.is_alive():
            log.error("%s: the disk does not answer; the end of the run could not be written", self.path)
        _open_recorders.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self.close("interrupted", "KeyboardInterrupt")
        else:
            self.close("failed", f"{kind.__name__}: {error}")

    def __repr__(self) -> str:
        state = "open" if self._closed is None else "closed"
        return f"<Recorder {self.path} rank {self.rank} attempt {self.attempt}, {state}>"

    @property
    def dropped_rows(self) -> int:
        """Rows of this attempt that were dropped so far."""
        return self._dropped_rows

    # ------------------------------------------------------------------ recording

    def record(
        self,
        payload: PPOUpdatePayload | None = None,
        /,
        *,
        extras: Mapping[str, Any] | None = None,
        **metrics: Any,
    ) -> bool:
        """Record one PPO update, given as a payload or by keyword (names of the metrics table).

        `update`, `policy_loss` and `value_loss` are required (the losses not if `skipped=True`). None means
        not measured. Zero-dimensional tensors are taken where numbers are; CUDA tensors are fetched in the
        background, and the caller never waits for them. `extras`, and any keyword that the table does not
        know, become float64 columns of their own.

        Returns:
            True when the row is safe against SIGKILL. False when it is buffered, or was dropped, which is
            counted and logged.

        Raises:
            PayloadError, OSError: only with `strict=True`.
        """
        with self._lock:
            try:
                if payload is not None:
                    metrics |= payload.to_dict()
                if extras is not None:
                    metrics |= merge_extras(metrics, extras)
            except PayloadError as error:
                return self._refuse(error)
            safe = self._record_plain(metrics)
            if safe is None:
                metrics = {name: value for name, value in metrics.items() if value is not None}
                safe = self._record_plain(metrics)
            if safe is None:
                metrics, safe = self._record_with_care(metrics)
        if safe and self._on_update is not None:
            self._call_hook(metrics)
        return safe

    def _record_plain(self, metrics: dict[str, Any]) -> bool | None:
        """The fast path: plain numbers in a known layout, onto a healthy disk; None if it is not for them."""
        writer = self._journal.writer
        if writer is None or not self._direct or self._closed is not None:
            return None
        encode = writer.plain_encoder(tuple(metrics))
        seq = self._next_seq
        if encode is None or writer.last_seq + 1 != seq or writer.suspect:
            return None
        began = time.perf_counter()
        metrics["seq"] = seq
        if "wall_time" not in metrics:
            metrics["wall_time"] = time.time_ns() // 1000
        if "elapsed_secs" not in metrics:
            metrics["elapsed_secs"] = began - self._started
        try:
            message = encode(metrics)
        except (TypeError, struct.error):  # not plain after all
            del metrics["seq"]
            return None
        self._next_seq = seq + 1
        try:
            writer.append(message, seq)
        except OSError as error:
            return self._buffer_after(error, metrics)
        self._journal.appended(writer)
        self._after_direct_write(began)
        return True

    def _record_with_care(self, metrics: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Every other row: validated, perhaps on its way from a device, perhaps the first of its kind."""
        if self._closed is not None:
            return {}, self._refuse(UsageError(f"nothing more can be recorded into {self.path}: {self._closed}"))
        names = tuple(name for name in metrics if name not in FILLED_IN)
        tensors = take_device_tensors(metrics)
        try:
            row = validate(metrics, arriving=tensors)
            pending = self._fetch(row, tensors) if tensors else PendingRow(row)
        except PayloadError as error:
            return {}, self._refuse(error)
        began = time.perf_counter()
        row.setdefault("wall_time", time.time_ns() // 1000)
        row.setdefault("elapsed_secs", began - self._started)
        row["seq"] = self._next_seq
        self._next_seq += 1
        self._warn_of_likely_misspellings(row)
        if tensors or not self._direct:
            return row, self._buffer(pending)
        try:
            self._journal.append(row)
        except OSError as error:
            return row, self._buffer_after(error, row)
        if self._journal.writer is not None:
            self._journal.writer.learn(names)
        self._after_direct_write(began)
        return row, True

    def _after_direct_write(self, began: float) -> None:
        if time.perf_counter() - began > SLOW_WRITE_SECS:
            self._direct = self._healthy = False
        if self._journal.writer is None:
            self._work.notify()  # there is a segment to seal

    def _fetch(self, row: dict[str, Any], tensors: Mapping[str, Any]) -> PendingRow:
        if self._capture is None:
            self._capture = DeviceCapture()
        return self._capture.begin(row, tensors)

    def _warn_of_likely_misspellings(self, row: Mapping[str, Any]) -> None:
        for name in row.keys() - self._known:
            self._known.add(name)
            if close := difflib.get_close_matches(name, METRICS, n=1, cutoff=0.85):
                log.warning("%s: %a is recorded as a metric of its own; did you mean %r?", self.path, name, close[0])

    # ------------------------------------------------------------------ when something goes wrong

    def _refuse(self, error: EsperError) -> bool:
        """Drop a row that cannot be stored; its number is used up, so that the gap shows."""
        if self._strict:
            raise error
        if self._closed is None:
            self._next_seq += 1
        self._count_drop(str(error))
        return False

    def _buffer(self, pending: PendingRow) -> bool:
        """Leave a row to the background thread, which then writes all rows until it has caught up."""
        if len(self._pending) >= self._buffer_rows:
            self._count_drop(f"the buffer of {self._buffer_rows} rows is full")
            return False
        if not self._pending:
            self._work.notify()
        self._direct = False
        self._pending.append(pending)
        return False

    def _buffer_after(self, error: OSError, row: dict[str, Any]) -> bool:
        if self._strict:
            raise error
        self._healthy = False
        self._say("disk", f"writing failed ({error}); rows are buffered and writing is tried again")
        return self._buffer(PendingRow(row))

    def _count_drop(self, reason: str) -> None:
        self._dropped_rows += 1
        self._drop_reason = reason
        self._say(f"drop: {reason}"[:60], f"an update was dropped: {reason}")

    def _say(self, topic: str, message: str) -> None:
        """Log an error once for each topic; what is lost is counted in the run all the same."""
        if topic not in self._said and len(self._said) < 100:
            self._said.add(topic)
            log.error("%s: %s", self.path, message)

    def _call_hook(self, row: Mapping[str, Any]) -> None:
        assert self._on_update is not None
        try:
            self._on_update(row)
        except Exception as error:
            if self._strict:
                raise
            self._say("hook", f"on_update raised {type(error).__name__}: {error}")

    # ------------------------------------------------------------------ the background thread

    def _run(self) -> None:
        while self._closed is None:
            with self._lock:
                if self._closed is None and (self._direct or not self._healthy):
                    self._work.wait(SYNC_INTERVAL_SECS if self._direct else RETRY_SECS)
            try:
                self._drain()
                self._keep_house()
            except Exception as error:  # whatever it is, later rows and the end of the run must still be written
                self._say("background", f"background work failed: {type(error).__name__}: {error}")
        self._finish()

    def _drain(self) -> None:
        """Write what is buffered, until it is empty or the disk refuses."""
        while True:
            with self._lock:
                if not self._pending:
                    self._direct = self._healthy
                    return
                pending = self._pending[0]
            began = time.perf_counter()
            row: dict[str, Any] | None = None
            try:
                row = pending.resolve()
                self._journal.append(row)
            except OSError as error:
                self._healthy = False
                self._say("disk", f"writing failed ({error}); rows are buffered and writing is tried again")
                return
            except Exception as error:  # this row can never be written, and must not block those behind it
                with self._lock:
                    self._count_drop(f"{type(error).__name__}: {error}")
                row = None
            self._healthy = time.perf_counter() - began <= SLOW_WRITE_SECS
            with self._lock:
                self._pending.popleft()
            if row is not None and self._on_update is not None:
                self._call_hook(row)

    def _keep_house(self) -> None:
        """Sync, rotate by age, seal, and note drops."""
        with self._lock:
            self._journal.retire_if_old()
            writer = self._journal.writer
        if writer is not None:
            try:
                writer.sync()
            except OSError as error:  # what was not synced may be gone, and the kernel will not say so twice
                writer.suspect = True
                self._say("sync", f"fsync failed ({error}); recording goes on in a new segment")
        try:
            self._journal.seal_retired()
        except OSError as error:
            self._say("seal", f"sealing failed ({error}); it is tried again, and the rows stay readable meanwhile")
        if self._dropped_rows != self._record.dropped_rows:
            self._write_attempt()

    def _finish(self) -> None:
        """The end of the attempt: all that can be written is written, within a bounded time."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_SECS
        while True:
            try:
                self._drain()
                if not self._pending:
                    self._journal.retire()
                    self._journal.seal_retired()
                    break
            except Exception as error:
                self._say("close", f"the run could not be sealed ({error}); its rows stay readable as they are")
                if not isinstance(error, OSError):
                    break
            if time.monotonic() > deadline:
                break
            time.sleep(RETRY_SECS)
        for _ in self._pending:
            self._count_drop("the disk was still in trouble when the run was closed")
        try:
            self._write_attempt()
        except OSError as error:
            self._say("end", f"the end of the run could not be noted ({error})")
        self._journal.close_files()
        self._opened.lock.release()

    def _write_attempt(self) -> None:
        status, reason = self._end or (None, None)
        self._record = replace(
            self._record,
            ended=now() if status else None,
            status=status,
            reason=reason,
            rows=self._journal.rows,
            dropped_rows=self._dropped_rows,
            last_drop_reason=self._drop_reason,
        )
        durable.replace(self._opened.rank.attempt_path(self.attempt), self._record.to_bytes())

    def _abandon_in_child(self) -> None:
        """In a forked child: the run belongs to the parent, and so does its lock."""
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._closed = "it belongs to the process that opened it, and this is a forked child"
        self._journal.close_files()
        self._opened.lock.release()


_open_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for recorder in list(_open_recorders):
        recorder._abandon_in_child()
    _open_recorders.clear()


def _close_all_at_exit() -> None:
    """A script that ends without `close` still leaves a sealed run that says how it ended."""
    error = getattr(sys, "last_value", None)
    for recorder in list(_open_recorders):
        recorder.__exit__(type(error) if error is not None else None, error, None)


os.register_at_fork(after_in_child=_abandon_all_in_child)
atexit.register(_close_all_at_exit)
