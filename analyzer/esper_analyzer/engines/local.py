"""Workers that are processes of this machine, each with a pipe to this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Self

from esper_analyzer.engines.engine import POLARS_THREADS, Ended, Engine

_REAP_SECS = 60.0
"""A process whose end of the pipe is closed is about to end; no longer than this is waited for it."""

_SIGNALS = frozenset(signal.valid_signals())


def cores() -> int:
    """Return how many processes can run at the same time, by the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalEngine(Engine):
    """Processes of this machine. Each is started when it is first needed, and ends with this process in any case.

    Args:
        workers: how many; by default one for each core that this process may use.
    """

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, range]] = {}

    def _begin(self, function: Callable[[Any], Any], items: Sequence[Any], batch: range) -> None:
        work = bytes(ForkingPickler.dumps((function, items)))
        worker = self._idle.pop() if self._idle else _Worker()
        self._busy[worker.pipe] = worker, batch
        worker.begin(work)

    def _wait(self) -> Ended:
        pipe = wait(list(self._busy))[0]
        assert isinstance(pipe, Connection)
        worker, batch = self._busy.pop(pipe)
        try:
            results, error = pipe.recv()
        except (EOFError, OSError):  # it died before it wrote, or while it did
            return Ended(batch, None, worker.cause_of_death())
        self._idle.append(worker)
        if error is not None:
            raise error
        return Ended(batch, results)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.kill()


class _Worker:
    """A process that waits for batches, and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._sending: threading.Thread | None = None
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        with theirs, _one_thread_each():
            self._process.start()

    def begin(self, work: bytes) -> None:
        """Send it work, which takes until the process has started if it is more than fits into the pipe."""
        self._sending = threading.Thread(target=self._send, args=(work,), daemon=True)
        self._sending.start()

    def _send(self, work: bytes) -> None:
        with suppress(OSError):  # it has died meanwhile, and `_wait` finds that out
            self.pipe.send_bytes(work)

    def cause_of_death(self) -> str:
        """Return how the process ended, once nothing comes from it any more."""
        self._process.join(_REAP_SECS)
        self.kill()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if -code in _SIGNALS else f"exit code {code}"

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        if self._sending is not None:
            self._sending.join()  # nobody is left to read what it writes
        self.pipe.close()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Start a process in which polars has one thread, since there is a process for each core."""
    before = os.environ.get(POLARS_THREADS)
    os.environ[POLARS_THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[POLARS_THREADS]
        else:
            os.environ[POLARS_THREADS] = before


def _work(pipe: Connection) -> None:
    """Answer batches until nobody sends any. Ctrl-C is for the process that started this one; it ends this one, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            function, items = pipe.recv()
            results, error = None, None
            try:
                results = function(items)
            except Exception as raised:
                error = raised
            pipe.send((results, error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
