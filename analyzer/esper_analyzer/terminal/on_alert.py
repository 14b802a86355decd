"""`tail --on-alert`: runs a command for each alert, one at a time, while the screen goes on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from types import TracebackType
from typing import IO, Self

from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.strict_json import strict

MAX_WAITING = 64
"""Alerts that wait for their turn; what comes on top of them is dropped, and counted."""

COMMAND_SECS = 60.0
"""A command that takes longer is ended."""

CLOSE_SECS = 5.0
"""How long the end of the tail waits for commands that have not run yet."""

_SHELL = "/bin/sh"
_SAID_BYTES = 200


class AlertCommand:
    """Runs a shell command for each alert, in the order of the alerts and never two at a time.

    The alert is one line of JSON on the command's standard input: the keys of an alert in the report, and `run_id`,
    `path` and `rank`. Nothing of an alert is ever part of the command line, so no text in it can be taken for code.
    What the command prints is not shown, except its last line where it fails. It has a session of its own: Ctrl-C
    does not reach it, and it cannot write to the terminal's screen by accident.

    Nothing here raises for what the command does or fails to do; `notices` tells of it.

    Args:
        command: what `/bin/sh -c` is given.
        run, rank: where the alerts come from.
        command_secs, close_secs: limits of time, see `COMMAND_SECS` and `CLOSE_SECS`.
    """

    def __init__(
        self,
        command: str,
        run: JudgedRun,
        rank: int,
        *,
        command_secs: float = COMMAND_SECS,
        close_secs: float = CLOSE_SECS,
    ) -> None:
        self._command = command
        self._origin = {"run_id": run.header.run_id, "path": str(run.path), "rank": rank}
        self._command_secs, self._close_secs = command_secs, close_secs
        self._waiting: queue.Queue[Alert | None] = queue.Queue(MAX_WAITING)
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False
        self._not_run = 0
        self._failures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def put(self, alerts: Iterable[Alert]) -> None:
        """Run the command for each of these alerts, later and elsewhere; returns at once."""
        for alert in alerts:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="on-alert", daemon=True)
                self._worker.start()
            try:
                self._waiting.put_nowait(alert)
            except queue.Full:
                self._not_run += 1

    def notices(self) -> list[str]:
        """What has to be said about the commands since the last call, one line each; nothing if all goes well."""
        found: list[str] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._notices.get_nowait())
        return found

    def close(self) -> None:
        """Wait a little for the commands that are left, end what still runs; `notices` then tells the sums."""
        if self._worker is None:
            return
        deadline = time.monotonic() + self._close_secs
        try:
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=self._close_secs)
                self._worker.join(max(0.0, deadline - time.monotonic()))
        finally:
            self._closing = True
            self._end()
            self._worker.join(1.0)
            self._worker = None
            self._sum_up()

    def _sum_up(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._not_run += self._waiting.get_nowait() is not None
        if self._failures > 1:
            self._notices.put(f"--on-alert: the command failed {self._failures} times in all")
        if self._not_run:
            self._notices.put(
                f"--on-alert: the command did not run for {self._not_run} alerts; they came too fast or too late"
            )

    def _work(self) -> None:
        while not self._closing and (alert := self._waiting.get()) is not None:
            told = self._origin | asdict(alert) | self._origin  # the alert does not know its rank
            problem = self._run(json.dumps(strict(told)))
            if problem is None:
                continue
            self._failures += 1
            if self._failures == 1:
                self._notices.put(f"--on-alert: the command {problem}; the tail goes on")

    def _run(self, text: str) -> str | None:
        """Run the command with this line as its input; what went wrong, or None."""
        try:
            with tempfile.TemporaryFile() as said:  # no pipe, which what the command leaves behind could hold open
                return self._outcome(text, said)
        except OSError as error:
            return f"could not be started: {error.strerror}"

    def _outcome(self, text: str, said: IO[bytes]) -> str | None:
        with subprocess.Popen(
            [_SHELL, "-c", self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        ) as process:
            self._process = process
            try:
                process.communicate(f"{text}\n".encode("ascii"), timeout=self._command_secs)
            except subprocess.TimeoutExpired:
                self._end()
                return f"was killed after {self._command_secs:g} s"
        if self._closing:
            return "was killed because it was still running when the tail ended"
        if process.returncode == 0:
            return None
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID_BYTES))
        last = said.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
        return f"failed with exit code {process.returncode}" + (f" ({last})" if last else "")

    def _end(self) -> None:
        """End the running command and all that it has started."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
