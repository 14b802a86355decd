"""The recorder: takes one PPO update at a time from the training loop and sees that it is never lost."""

from __future__ import annotations

import atexit
import difflib
import logging
import os
import struct
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, time_ns
from types import TracebackType
from typing import Any, Self

from esper_recorder.writing.background import SLOW_WRITE_SECS, BackgroundWriter, UpdateHook
from esper_recorder.writing.device_capture import DeviceCapture, PendingRow, take_device_tensors
from esper_recorder.writing.journal import Journal, RotationLimits
from esper_recorder.writing.opening import OpenedRank, Resume, environment_number, open_rank
from esper_recorder.writing.segment_writer import FILLED_IN
from esper_schemas.errors import PayloadError, UsageError
from esper_schemas.limits import MAX_SEGMENT_BYTES
from esper_schemas.metric.payload import METRICS, PPOUpdatePayload, merge_extras, validate
from esper_schemas.run.records import EndStatus, ValueLossDefinition
from esper_schemas.segment.active import column_types

log = logging.getLogger("esper_recorder")


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
        self.run_id = opened.identity.run_id
        self.rank = opened.identity.rank
        self.attempt = opened.attempt.attempt
        self._journal = Journal(opened.folder, opened.lock, opened.identity, limits)
        self._on_update = on_update
        self._strict = strict
        self._next_seq = opened.attempt.first_seq
        self._started = perf_counter()
        self._known: set[str] = set(column_types())
        self._capture: DeviceCapture | None = None
        self._background = BackgroundWriter(opened, self._journal, buffer_rows, on_update)
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
        git_commit: str | None = None,
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
            git_commit: Commit of the training code, "" if it is not known; by default that of the working directory.
            value_loss_definition: The trainer's definition of value loss. Undeclared means half the mean
                squared error, and is marked as assumed.
            resume: "never" refuses a run id that exists, "allow" adds an attempt to it if it does,
                "must" insists that it does.
            on_update: Called after each row with its values by column name, from the thread that wrote it: the
                caller's, or else the background's. In the order of the rows if one thread records. What it
                raises is logged, or raised again when `strict` and it ran in the caller's thread.
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
        if segment_bytes > MAX_SEGMENT_BYTES:
            raise UsageError(f"segment_bytes must be at most {MAX_SEGMENT_BYTES}, found {segment_bytes}")
        opened = open_rank(
            root,
            run_id=run_id,
            resume=resume,
            rank=environment_number("RANK", 0) if rank is None else rank,
            world_size=environment_number("WORLD_SIZE", 1) if world_size is None else world_size,
            described={"config": config, "trainer": trainer, "env": env, "device": device, "git_commit": git_commit},
            value_loss_definition=value_loss_definition,
        )
        limits = RotationLimits(segment_rows, segment_bytes, segment_secs)
        return cls(opened, limits=limits, buffer_rows=buffer_rows, on_update=on_update, strict=strict)

    def close(self, status: EndStatus = "finished", reason: str | None = None) -> None:
        """Write what is buffered, seal, record how the attempt ended, give the lock up. May be called again.

        It gives up on a disk that stays in trouble. Called by a signal handler that interrupts `record`, it returns
        before the rest is done; a later call, or the end of the program, waits for it.

        Args:
            status: "finished", "failed" or "interrupted".
            reason: One line on why, for a run that did not finish.
        """
        if self._background.close(status, reason):
            _open_recorders.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (isinstance(error, SystemExit) and not error.code):
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self.close("interrupted", "KeyboardInterrupt")
        else:
            self.close("failed", _describe(kind, error))

    def __repr__(self) -> str:
        state = "open" if self._background.closed is None else "closed"
        return f"<Recorder {self.path} rank {self.rank} attempt {self.attempt}, {state}>"

    @property
    def dropped_rows(self) -> int:
        """Rows of this attempt that were dropped so far."""
        return self._background.dropped_rows

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
        background = self._background
        with background.lock:
            if background.is_recording:
                return self._refuse_in_handler()
            background.is_recording = True
            try:
                if payload is not None or extras is not None:
                    metrics = self._merge(metrics, payload, extras)
                safe = self._record_plain(metrics)
                if safe is None:
                    metrics = {name: value for name, value in metrics.items() if value is not None}
                    safe = self._record_plain(metrics)
                if safe is None:
                    metrics, safe = self._record_with_care(metrics)
            except PayloadError as error:
                return self._refuse(error)
            finally:
                background.is_recording = False
        if safe and self._on_update is not None:
            self._call_hook(metrics)
        return safe

    def _record_plain(self, metrics: dict[str, Any]) -> bool | None:
        """The fast path: plain numbers in a known layout, onto a healthy disk; None if the row is not for it."""
        writer = self._journal.writer
        if writer is None or not self._background.direct:
            return None
        encode = writer.plain_encoder(tuple(metrics))
        seq = self._next_seq
        if encode is None or writer.last_seq + 1 != seq:
            return None
        began = perf_counter()
        metrics["seq"] = seq
        metrics["wall_time"] = time_ns() // 1000
        metrics["elapsed_secs"] = began - self._started
        try:
            message = encode(metrics)
        except (TypeError, struct.error):  # not plain after all
            for name in FILLED_IN:
                del metrics[name]
            return None
        self._next_seq = seq + 1
        try:
            writer.append(message, seq)
        except OSError as error:
            return self._buffer_after(error, metrics)
        if writer.is_full:
            self._journal.retire()
            self._background.notify()
        if perf_counter() - began > SLOW_WRITE_SECS:
            self._background.take_over()
        return True

    def _record_with_care(self, metrics: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Every other row: validated, perhaps on its way from a device, perhaps the first of its kind.

        Raises:
            PayloadError: the row cannot be stored.
        """
        background = self._background
        if background.closed is not None:
            raise PayloadError(f"nothing more can be recorded into {self.path}: {background.closed}")
        names = tuple(metrics)
        tensors = take_device_tensors(metrics)
        row = validate(metrics, arriving=tensors)
        pending = self._fetch(row, tensors) if tensors else PendingRow(row)
        began = perf_counter()
        row.setdefault("wall_time", time_ns() // 1000)
        row.setdefault("elapsed_secs", began - self._started)
        row["seq"] = self._next_seq
        self._next_seq += 1
        self._warn_of_likely_misspellings(row)
        if tensors or not background.direct:
            return row, background.buffer(pending)
        try:
            self._journal.append(row)
        except OSError as error:
            return row, self._buffer_after(error, row)
        if self._journal.writer is None:
            background.notify()  # there is a segment to seal
        else:
            self._journal.writer.learn(names)
        if perf_counter() - began > SLOW_WRITE_SECS:
            background.take_over()
        return row, True

    def _merge(self, metrics: dict[str, Any], payload: object, extras: object) -> dict[str, Any]:
        if payload is not None:
            if not isinstance(payload, PPOUpdatePayload):
                raise PayloadError(f"expected a PPOUpdatePayload or keywords, found {type(payload).__name__}")
            metrics |= payload.to_dict()
        if extras is not None:
            if not isinstance(extras, Mapping):
                raise PayloadError(f"extras must be a mapping of names to numbers, found {type(extras).__name__}")
            metrics |= merge_extras(metrics, extras)
        return metrics

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
        for name in row.keys() - self._known:
            self._known.add(name)
            if close := difflib.get_close_matches(name, METRICS, n=1, cutoff=0.85):
                log.warning("%s: %a is recorded as a metric of its own; did you mean %r?", self.path, name, close[0])

    # ------------------------------------------------------------------ when something goes wrong

    def _refuse(self, error: PayloadError) -> bool:
        """Drop a row that cannot be stored; its number is used up, so that the gap shows."""
        if self._strict:
            raise error
        if self._background.closed is None:
            self._next_seq += 1
        self._background.count_drop(str(error))
        return False

    def _refuse_in_handler(self) -> bool:
        """Drop a row of a signal handler that came in the middle of another row of the same thread."""
        error = PayloadError("record() was called by a signal handler while it was at work on another row")
        if self._strict:
            raise error
        self._background.count_drop(str(error))
        return False

    def _buffer_after(self, error: OSError, row: dict[str, Any]) -> bool:
        """The disk refused a row: it waits for the background. True if the row is on disk nevertheless."""
        if self._strict or error.errno is None:  # without a number it is no disk's, but a signal handler's
            raise error
        self._background.take_over()
        self._background.say_disk_trouble(error)
        if self._journal.last_seq >= row["seq"]:
            return True
        return self._background.buffer(PendingRow(row))

    def _call_hook(self, row: Mapping[str, Any]) -> None:
        assert self._on_update is not None
        try:
            self._on_update(row)
        except Exception as error:
            if self._strict:
                raise
            self._background.say("hook", f"on_update raised {type(error).__name__}: {error}")


def _describe(kind: type[BaseException], error: BaseException | None) -> str:
    try:
        return f"{kind.__name__}: {error}"
    except Exception:  # an exception's own text may fail; the run must be closed all the same
        return kind.__name__


_open_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for recorder in list(_open_recorders):
        recorder._background.abandon_in_child()
    _open_recorders.clear()


def _close_all_at_exit() -> None:
    """A script that ends without `close` still leaves a sealed run that says how it ended."""
    error = getattr(sys, "last_value", None)
    for recorder in list(_open_recorders):
        recorder.__exit__(type(error) if error is not None else None, error, None)


os.register_at_fork(after_in_child=_abandon_all_in_child)
atexit.register(_close_all_at_exit)
