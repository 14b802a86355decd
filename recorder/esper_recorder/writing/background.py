"""The half of a recorder that the training loop does not wait for: writes what was buffered, syncs, seals, ends.

`Recorder` is the other half. Both share what stands in `BackgroundWriter`.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic, perf_counter, sleep
from typing import Any

from esper_recorder.keeping import durable
from esper_recorder.writing.device_capture import PendingRow
from esper_recorder.writing.journal import Journal
from esper_recorder.writing.opening import OpenedRank
from esper_schemas.run.directory import attempt_name
from esper_schemas.run.records import EndStatus, now

log = logging.getLogger("esper_recorder")

SLOW_WRITE_SECS = 0.05
"""After a write slower than this, writing moves to the background until the disk is healthy again."""

SYNC_INTERVAL_SECS = 1.0
"""How often the background makes what was written safe against power loss."""

RETRY_SECS = 0.1
"""How long the background waits after a failed write before it tries again."""

CLOSE_TIMEOUT_SECS = 10.0
"""How long `close` goes on trying to write what is buffered while the disk is in trouble."""

MAX_REASON = 500
"""Characters that are kept of the reason why a run ended."""

UpdateHook = Callable[[Mapping[str, float]], None]


class BackgroundWriter:
    """One thread, and all that it shares with the callers of `record`.

    Whoever holds `lock` may look at and change the attributes. While `direct`, holding it is also owning the journal;
    otherwise the thread owns the journal, and callers leave their rows in `pending`. `direct` means that nothing
    is pending, the disk is well and the recorder is open; only the thread sets it.

    Attributes:
        journal: What is on disk.
        lock: Re-entrant, so that a signal handler that closes the run cannot lock itself out.
        direct: Whether callers write themselves.
        is_recording: Whether the holder of the lock is in the middle of a row.
        closed: Why nothing more is taken, None while open.
        dropped_rows: Rows of this attempt that were dropped so far.
    """

    def __init__(self, opened: OpenedRank, journal: Journal, buffer_rows: int, on_update: UpdateHook | None) -> None:
        self.journal = journal
        self.lock = threading.RLock()
        self.direct = True
        self.is_recording = False
        self.closed: str | None = None
        self.dropped_rows = 0
        self._healthy = True
        self._pending: deque[PendingRow] = deque()
        self._buffer_rows = buffer_rows
        self._on_update = on_update
        self._opened = opened
        self._record = opened.attempt  # what stands in attempts/NNNN.json
        self._end: tuple[EndStatus, str | None] | None = None
        self._drop_reason: str | None = None
        self._said: set[str] = set()
        self._work = threading.Condition(self.lock)
        self._finished = threading.Event()  # a join that a signal interrupts takes the thread for ended (Python 3.11)
        self._thread = threading.Thread(target=self._run, name="esper-recorder", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ called by the recorder, which holds the lock

    def notify(self) -> None:
        """There is a segment to seal."""
        self._work.notify()

    def take_over(self) -> None:
        """The disk is slow or in trouble: from now on only the thread writes."""
        self.direct = self._healthy = False

    def buffer(self, pending: PendingRow) -> bool:
        """Leave a row to the thread, which then writes all rows until it has caught up; False, as `record` says it."""
        if len(self._pending) >= self._buffer_rows:
            self.count_drop(f"the buffer of {self._buffer_rows} rows is full")
            return False
        self.direct = False
        if not self._pending:
            self._work.notify()
        self._pending.append(pending)
        return False

    def say_disk_trouble(self, error: OSError) -> None:
        """Log that writing failed."""
        self.say("disk", f"writing failed ({error}); rows are buffered and writing is tried again")

    def count_drop(self, reason: str) -> None:
        """Count a row that is not going to be written."""
        self.dropped_rows += 1
        self._drop_reason = reason
        self.say(f"drop: {reason}"[:60], f"an update was dropped: {reason}")

    def say(self, topic: str, message: str) -> None:
        """Log an error once for each topic; what is lost is counted in the run all the same."""
        if topic not in self._said and len(self._said) < 100:
            self._said.add(topic)
            log.error("%s: %s", self._opened.run.path, message)

    # ------------------------------------------------------------------ closing

    def close(self, status: EndStatus, reason: str | None) -> bool:
        """End the attempt and wait until that is done, but not for ever. A second call only waits.

        Returns:
            False without having waited, where that would last for ever: in the thread itself (a hook that closes),
            and in a signal handler that interrupts `record`, whose row must be done with first.
        """
        with self.lock:
            if self.closed is None:
                self._end = (status, " ".join(reason.split())[:MAX_REASON] if reason else None)
                self.closed = "it is closed"
                self.direct = False
                self._work.notify_all()
            cannot_wait = self.is_recording or threading.current_thread() is self._thread
        if cannot_wait:
            return False
        if not self._finished.wait(2 * CLOSE_TIMEOUT_SECS):
            self.say("close", "the disk does not answer; the end of the run could not be written")
        return True

    def abandon_in_child(self) -> None:
        """In a forked child: the run belongs to the parent, and so does its lock."""
        self.lock = threading.RLock()
        self._work = threading.Condition(self.lock)
        self._finished = threading.Event()
        self._finished.set()
        self.direct = self.is_recording = False
        self.closed = "it belongs to the process that opened it, and this is a forked child"
        self.journal.close_files()
        self._opened.close()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while self.closed is None:
                with self.lock:
                    if self.closed is None and (self.direct or not self._healthy):
                        self._work.wait(SYNC_INTERVAL_SECS if self.direct else RETRY_SECS)
                try:
                    self._drain()
                    self._keep_house()
                except Exception as error:  # whatever it is, later rows and the end of the run must still be written
                    self.say("background", f"background work failed: {type(error).__name__}: {error}")
            self._finish()
        finally:
            self.journal.close_files()
            self._opened.close()
            self._finished.set()

    def _drain(self) -> None:
        """Write what is buffered, until it is empty or the disk refuses."""
        while True:
            with self.lock:
                if not self._pending:
                    self.direct = self._healthy and self.closed is None
                    return
                pending = self._pending[0]
            row: dict[str, Any] | None = None
            try:
                row = pending.resolve()
                began = perf_counter()
                self.journal.append(row)
                self._healthy = perf_counter() - began <= SLOW_WRITE_SECS
            except OSError as error:
                self._healthy = False
                self.say_disk_trouble(error)
                self._fetch_waiting()
                return
            except Exception as error:  # this row can never be written, and must not block those behind it
                row = None
                with self.lock:
                    self.count_drop(f"{type(error).__name__}: {error}")
            with self.lock:
                self._pending.popleft()
            if row is not None and self._on_update is not None:
                self._call_hook(self._on_update, row)

    def _fetch_waiting(self) -> None:
        """Fetch what waiting rows still have on the device: its slots are far fewer than the rows that may wait."""
        with self.lock:
            waiting = list(self._pending)
        for pending in waiting:
            pending.fetch_now()

    def _call_hook(self, hook: UpdateHook, row: Mapping[str, Any]) -> None:
        try:
            hook(row)
        except BaseException as error:  # SystemExit too: this thread has rows to write
            self.say("hook", f"on_update raised {type(error).__name__}: {error}")

    def _keep_house(self) -> None:
        """Sync, rotate by age, seal, and note drops.

        Everything written is synced before a segment is sealed, and again when sealing many takes long, so that
        power loss costs no more while segments end faster than they are sealed.
        """
        with self.lock:
            self.journal.retire_if_old()
        self._sync()
        synced_at = monotonic()
        try:
            while self.journal.seal_oldest():
                if monotonic() - synced_at >= SYNC_INTERVAL_SECS:
                    self._sync()
                    synced_at = monotonic()
        except OSError as error:
            self.say("seal", f"sealing failed ({error}); it is tried again, and the rows stay readable meanwhile")
        if self.dropped_rows != self._record.dropped_rows:
            self._write_attempt()

    def _sync(self) -> None:
        """Make what was written so far safe against power loss, as far as the disk lets us."""
        writer = self.journal.writer
        try:
            self._opened.lock.check()  # what is written into a run that was taken away is safe from nothing
            self.journal.sync_retired()  # until they are sealed, their active files are all there is
            if writer is not None:
                writer.sync()
        except OSError as error:  # what was not synced may be gone, and the kernel will not say so twice
            if writer is not None:
                with self.lock:
                    writer.suspect = True
                    self.take_over()
            if error.errno != errno.ESTALE:
                self.say("sync", f"fsync failed ({error}); recording goes on in a new segment")
            else:
                self.say("taken", f"{error.strerror}; rows wait in memory from here on")

    def _finish(self) -> None:
        """The end of the attempt: all that can be written is written, within a bounded time."""
        deadline = monotonic() + CLOSE_TIMEOUT_SECS
        while not self._is_finished():
            if monotonic() > deadline:
                break
            sleep(RETRY_SECS)
        if self._pending:
            for _ in self._pending:
                self.count_drop("the disk was still in trouble when the run was closed")
            try:
                self._write_attempt()
            except OSError as error:
                self.say("end", f"the end of the run could not be noted ({error})")

    def _is_finished(self) -> bool:
        """Write, seal and note what is left; False if it must be tried again."""
        try:
            self._drain()
            if self._pending:
                return False
            self.journal.retire()
            self._sync()
            while self.journal.seal_oldest():
                pass
            self._write_attempt()
        except Exception as error:
            self.say("seal", f"the run could not be sealed ({error}); its rows stay readable as they are")
            return isinstance(error, OSError) and error.errno == errno.ESTALE  # the run is not ours any more
        return True

    def _write_attempt(self) -> None:
        status, reason = self._end or (None, None)
        record = replace(
            self._record,
            ended=now() if status else None,
            status=status,
            reason=reason,
            last_seq=self.journal.last_seq,
            rows=self.journal.rows,
            dropped_rows=self.dropped_rows,
            last_drop_reason=self._drop_reason,
        )
        self._opened.lock.check()
        durable.replace(self._opened.folder, attempt_name(record.attempt), record.to_bytes())
        self._record = record
