"""The half of a recorder that the training loop does not wait for: writes what was buffered, syncs, seals, ends.

`Recorder` is the other half. Both share what stands in `BackgroundWriter`.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

from esper_recorder.writing import log
from esper_recorder.writing.attempt_record import AttemptRecord
from esper_recorder.writing.backlog import Backlog
from esper_recorder.writing.black_box import WAIT_SECS, BlackBox, write_due
from esper_recorder.writing.breakage import Breakage
from esper_recorder.writing.device_capture import PendingRow
from esper_recorder.writing.disk_health import DiskHealth
from esper_recorder.writing.foreign import describe
from esper_recorder.writing.journal import Journal
from esper_recorder.writing.opening import OpenedRank
from esper_recorder.writing.run_queue import RunQueue
from esper_recorder.writing.taken import move
from esper_recorder.writing.tally import Tally
from esper_schemas.errors import EsperError
from esper_schemas.run.records import EndStatus

SYNC_INTERVAL_SECS = 1.0
"""How often the background makes what was written safe against power loss."""

RETRY_SECS = 0.1
"""How long the background waits after a failed write before it tries again."""

_ROWS_AT_ONCE = 500

CLOSE_TIMEOUT_SECS = 10.0
"""How long `close` goes on trying to write what is buffered while the disk is in trouble; it waits twice as long for
the next row to be written or segment to be sealed."""

UpdateHook = Callable[[Mapping[str, float]], None]


class BackgroundWriter:
    """One thread, and all that it shares with the callers of `record`.

    Whoever holds `lock` may look at and change the attributes. While `direct`, holding it is also owning the journal;
    otherwise the thread owns the journal, and callers leave their rows in `backlog`. `direct` means that nothing
    waits there, the disk is well and the recorder is open; only the thread sets it.

    Attributes:
        journal: What is on disk.
        backlog: What the thread is behind with.
        lock: Re-entrant, so that a signal handler that closes the run cannot lock itself out.
        direct: Whether callers write themselves.
        is_recording: Whether the holder of the lock is in the middle of a row.
        closed: Why nothing more is taken, None while open.
        next_seq: The sequence number of the next row.
        tally: What this attempt has lost so far.
        if_not_closed: How the attempt has ended, and why, if nobody closes it; None if that tells nothing.
    """

    def __init__(
        self,
        opened: OpenedRank,
        journal: Journal,
        buffer_rows: int,
        on_update: UpdateHook | None,
        black_box: BlackBox,
    ) -> None:
        self.journal = journal
        self.journal.on_refused = self._refuse_name
        self.lock = threading.RLock()
        self.direct = True
        self.is_recording = False
        self.closed: str | None = None
        self.if_not_closed: tuple[EndStatus, str | None] | None = None
        self.next_seq = opened.attempt.first_seq
        self.tally = Tally(lambda: self.path)
        self.backlog = Backlog(self.lock, buffer_rows)
        self.opened = opened
        self._disk = DiskHealth()
        self._black_box = black_box
        self._on_update = on_update
        self._buffer_rows = buffer_rows
        self._record = AttemptRecord(opened.attempt)
        self._wanted_end: tuple[EndStatus, str | None] | None = None
        self._work = threading.Condition(self.lock)
        self._finished = threading.Event()  # a join that a signal interrupts takes the thread for ended (Python 3.11)
        self._thread = threading.Thread(target=self._run, name="esper-recorder", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there are too many
            self._record.set_end("failed", "no thread could be started")
            self._write_attempt()
            opened.close()
            raise

    @property
    def path(self) -> Path:
        """Folder of the run; another one once the run was taken away."""
        return self.opened.run.path

    # ------------------------------------------------------------------ called by the recorder, which holds the lock

    def notify(self) -> None:
        """There is a segment to seal."""
        self.backlog.note_unsealed(self.journal.unsealed)
        self._work.notify()

    def take_over(self) -> None:
        """The disk is slow or in trouble: from now on only the thread writes, until a write of its own is quick."""
        self.direct = False
        self._disk.note_slow_write()
        self._work.notify()

    def buffer(self, pending: PendingRow) -> bool:
        """Leave a row to the thread, which then writes all rows until it has caught up; False, as `record` says it."""
        if not self.backlog.add(pending):
            self.tally.drop(f"the buffer of {self._buffer_rows} rows is full")
            return False
        self.direct = False
        if len(self.backlog.rows) == 1:
            self._work.notify()
        return False

    def wait_until_caught_up(self) -> None:
        """Let the thread catch up before another row comes, within a bound, and not while the disk refuses."""
        if threading.current_thread() is not self._thread:  # where a hook records
            self.backlog.wait(lambda: self.closed is None and not self._disk.is_failing)

    def wait_for_black_box(self, written: threading.Event | None, secs: float | None = None) -> bool:
        """Have a black box written now, and wait for it; not for ever, and not in the thread that writes it.

        Args:
            written: what the trigger returned; None if nothing is to be written now.
            secs: how long to wait at most; None for `WAIT_SECS`.

        Returns:
            Whether it is on the disk.
        """
        if written is None:
            return False
        with self.lock:
            self._work.notify()
            is_in_thread = threading.current_thread() is self._thread
            cannot_wait = self.is_recording or is_in_thread or self._disk.refuses_black_boxes
        return not cannot_wait and written.wait(WAIT_SECS if secs is None else secs)

    def say_disk_trouble(self, error: OSError) -> None:
        """Log that writing failed."""
        self.tally.say("disk", f"writing failed ({error}); rows are buffered and writing is tried again")

    def _refuse_name(self, name: str, reason: str) -> None:
        with self.lock:
            self.tally.refuse(name, reason)

    # ------------------------------------------------------------------ closing

    def close(self, status: EndStatus, reason: str | None) -> bool:
        """End the attempt and wait until that is done, but not for a silent disk. A second call only waits.

        Returns:
            False without having waited, where that would last for ever: in the thread itself (a hook that closes),
            and in a signal handler that interrupts `record`, whose row must be done with first.
        """
        with self.lock:
            self._begin_to_end(status, reason)
            cannot_wait = self.is_recording or threading.current_thread() is self._thread
        if cannot_wait:
            return False
        done = self.backlog.done
        while not self._finished.wait(2 * CLOSE_TIMEOUT_SECS):
            if self.backlog.done == done:
                self.tally.say("close", "the disk does not answer; the end of the run could not be written")
                break
            done = self.backlog.done
        else:
            if self._thread.is_alive():  # what it still frees of Arrow would abort a process that ends meanwhile
                self._thread.join(CLOSE_TIMEOUT_SECS)
        return True

    def end_soon(self, status: EndStatus, reason: str) -> None:
        """As `close`, but without waiting for anything: for garbage collection, which may come at any moment."""
        self._wanted_end = self.if_not_closed or (status, reason)
        if self.lock.acquire(blocking=False):  # else the thread sees it within a second
            try:
                self._begin_to_end(*self._wanted_end)
            finally:
                self.lock.release()

    def _begin_to_end(self, status: EndStatus, reason: str | None) -> None:
        """Take nothing more, and let the thread end the attempt; the lock is held."""
        if self.closed is None:
            if status != "finished":
                broken = Breakage(status, status, reason or f"the attempt was closed as {status}")
                self._black_box.pull(broken, self.journal.last_seq + 1)
            self._record.set_end(status, reason)
            self.closed = "it is closed"
            self.direct = False
            self._work.notify_all()
            self.backlog.release()

    def note_import(self, imported: Mapping[str, Any]) -> None:
        """Keep in the record of the attempt which log its rows came from; written when the attempt ends."""
        with self.lock:
            self._record.note_import(imported)

    @property
    def is_finished(self) -> bool:
        """Whether the attempt has ended, and its files are closed."""
        return self._finished.is_set()

    def abandon_in_child(self) -> None:
        """In a forked child: the run belongs to the parent, and so does its lock."""
        self.lock = threading.RLock()
        self.backlog.abandon(self.lock)
        self._work = threading.Condition(self.lock)
        self._finished = threading.Event()
        self._finished.set()
        self.direct = self.is_recording = False
        self.closed = "it belongs to the process that opened it, and this is a forked child"
        self.journal.close_files()
        self.opened.close()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        kept_house_at = monotonic()
        try:
            self._run_queue = RunQueue()
            while self.closed is None:
                with self.lock:
                    is_in_trouble = self._disk.is_in_trouble
                    is_idle = not (self.backlog.rows or self.backlog.behind or self._black_box.has_due)
                    if self.closed is None and (is_in_trouble or is_idle):
                        until_sync = max(0.0, kept_house_at + SYNC_INTERVAL_SECS - monotonic())
                        self._work.wait(RETRY_SECS if is_in_trouble else until_sync)
                    if self._wanted_end is not None:
                        self._begin_to_end(*self._wanted_end)
                try:
                    self._disk.refuses_black_boxes = not write_due(self._black_box, self.opened, self.tally)
                    self._drain()
                    # Not after each row: rows from a device wake this thread, and to sync costs more than to write.
                    is_due = monotonic() - kept_house_at >= SYNC_INTERVAL_SECS
                    if is_due or is_in_trouble or self.journal.unsealed:
                        kept_house_at = monotonic()
                        self._keep_house()
                except Exception as error:  # whatever it is, later rows and the end of the run must still be written
                    self.tally.say("background", f"background work failed: {describe(type(error), error)}")
            self._finish()
        finally:
            self._run_queue.close()
            self.journal.close_files()
            self.opened.close()
            self._finished.set()

    def _drain(self) -> None:
        """Write what is buffered, many rows at a time, until it is empty or the disk refuses."""
        while True:
            with self.lock:
                if not self.backlog.rows:
                    self.direct = self._disk.is_well and self.closed is None
                    self.backlog.release_if_caught_up(self.journal.unsealed)
                    return
                waiting = list(islice(self.backlog.rows, _ROWS_AT_ONCE))
            rows = self.backlog.resolved(waiting, self._drop)
            count = len(rows)
            try:
                self._write(rows)
            except OSError as error:
                if error.errno == errno.ESTALE and self._go_elsewhere():
                    continue
                self._disk.is_failing = True
                self.say_disk_trouble(error)
                self.backlog.fetch()
                with self.lock:
                    self.backlog.release()  # nobody waits for a disk that refuses
                return
            with self.lock:
                for _ in range(count):
                    self.backlog.rows.popleft()
            self._disk.is_failing = False
            self.backlog.note_progress(count)
            for row in rows:
                self._black_box.pull_for(row, row["seq"])
                if self._on_update is not None:
                    self._call_hook(self._on_update, row)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Write these rows, and note how long the disk took. One that cannot be written at all is left out.

        Raises:
            OSError: the disk refused.
        """
        began, waited = perf_counter(), self._run_queue.secs()
        self.journal.append_possible(rows, self._drop)
        self._disk.note_write(perf_counter() - began - (self._run_queue.secs() - waited))

    def _drop(self, error: Exception) -> None:
        """Count a row that can never be written."""
        with self.lock:
            self.tally.drop(describe(type(error), error))

    def _call_hook(self, hook: UpdateHook, row: Mapping[str, Any]) -> None:
        try:
            hook(row)
        except BaseException as error:  # SystemExit too: this thread has rows to write
            self.tally.say("hook", f"on_update raised {describe(type(error), error)}")
        self._black_box.pull_if_critical(hook, row["seq"])

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
                self._disk.cannot_seal = False
                self.backlog.note_progress(1)
                self._drain()  # rows go before segments
                with self.lock:
                    self.backlog.release_if_caught_up(self.journal.unsealed)
                if monotonic() - synced_at >= SYNC_INTERVAL_SECS:
                    self._sync()
                    synced_at = monotonic()
        except OSError as error:
            if error.errno != errno.ESTALE or not self._go_elsewhere():
                self._disk.cannot_seal = True
                self.tally.say("seal", f"sealing failed ({error}) and is tried again; the rows stay readable")
        if self._record.lacks(self.tally):
            self._write_attempt()

    def _sync(self) -> None:
        """Make what was written so far safe against power loss, as far as the disk lets us."""
        writer = self.journal.writer
        try:
            self.opened.lock.check()  # what is written into a run that was taken away is safe from nothing
            self.journal.sync_retired()  # until they are sealed, their active files are all there is
            if writer is not None:
                writer.sync()
        except OSError as error:
            if error.errno == errno.ESTALE and self._go_elsewhere():
                return
            if writer is not None:  # what was not synced may be gone, and the kernel will not say so twice
                with self.lock:
                    writer.suspect = True
                    self.take_over()
            self.tally.say("sync", f"fsync failed ({error}); recording goes on in a new segment")

    def _go_elsewhere(self) -> bool:
        """The run was removed, or another recorder has it: go on in a run of its own, with all rows still at hand.

        Returns:
            False if that cannot be done now; rows wait in memory meanwhile.
        """
        with self.lock:
            self.direct = False  # from here on the journal is ours
        left = self.opened
        try:
            opened, journal = move(left, self.journal)
        except (EsperError, OSError) as error:
            self.tally.say(
                "taken",
                f"the run was removed or replaced, and none can be made beside it ({error}); rows wait",
            )
            return False
        with self.lock:
            self.journal.close_files()
            self.opened, self.journal = opened, journal
            self._record.move(opened.attempt)
            self.journal.on_refused = self._refuse_name
        left.close()
        self.tally.may_say_again("taken")
        log.error(
            "%s was removed or replaced while it was recorded; recording goes on in %s", left.run.path, opened.run.path
        )
        return True

    def _finish(self) -> None:
        """The end of the attempt: all that can be written is written, within a bounded time."""
        deadline = monotonic() + CLOSE_TIMEOUT_SECS
        while not self._is_finished():
            if monotonic() > deadline:
                break
            sleep(RETRY_SECS)
        if self.backlog.rows:
            for _ in self.backlog.rows:
                self.tally.drop("the disk was still in trouble when the run was closed")
            try:
                self._write_attempt()
            except OSError as error:
                self.tally.say("end", f"the end of the run could not be noted ({error})")

    def _is_finished(self) -> bool:
        """Write, seal and note what is left; False if it must be tried again."""
        try:
            self._drain()
            if self.backlog.rows:
                return False
            write_due(self._black_box, self.opened, self.tally, is_end=True)
            self.journal.retire()
            self._sync()
            while self.journal.seal_oldest():
                self.backlog.note_progress(1)
            self._write_attempt()
        except Exception as error:
            self.tally.say("seal", f"the run could not be sealed ({error}); its rows stay readable as they are")
            return isinstance(error, OSError) and error.errno == errno.ESTALE and not self._go_elsewhere()
        return True

    def _write_attempt(self) -> None:
        self._record.write(self.opened, self.journal, self.tally)
