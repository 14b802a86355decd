"""`tail --on-alert`: run a command for each alert, one at a time, while the screen goes on."""

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
"""The most alerts that may wait; further ones are dropped and counted."""

COMMAND_SECS = 60.0
"""A command that takes longer than this is killed."""

CLOSE_SECS = 5.0
"""How long the tail waits at its end for commands that have not run yet."""

_SHELL = "/bin/sh"
_ERROR_BYTES = 200


class AlertCommand:
    """Run a shell command for each alert, in the order of the alerts and one at a time.

    The command reads the alert as one line of JSON from its standard input: the keys of an alert in the report, plus
    `run_id` and `path`. No text of an alert becomes part of the command line, so the shell never runs it.
    The output of the command is not shown, except the last line of a failed one. The command has its own session:
    Ctrl-C does not reach it, and it cannot write to the terminal's screen by accident.

    A command that fails raises nothing here; `notices` reports it.

    Args:
        command: the text for `/bin/sh -c`.
        run: where the alerts come from.
        command_secs, close_secs: time limits; see `COMMAND_SECS` and `CLOSE_SECS`.
    """

    def __init__(
        self,
        command: str,
        run: JudgedRun,
        *,
        command_secs: float = COMMAND_SECS,
        close_secs: float = CLOSE_SECS,
    ) -> None:
        self._command = command
        self._origin = {"run_id": run.header.run_id, "path": str(run.path)}
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
        """Queue the command for each of these alerts and return at once."""
        for alert in alerts:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="on-alert", daemon=True)
                self._worker.start()
            try:
                self._waiting.put_nowait(alert)
            except queue.Full:
                self._not_run += 1

    def notices(self) -> list[str]:
        """Return the problems of the commands since the last call, one line each."""
        lines: list[str] = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self._notices.get_nowait())
        return lines

    def close(self) -> None:
        """Wait up to `close_secs` for the remaining commands, then kill the running one. `notices` has the totals."""
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
            document = self._origin | asdict(alert)
            problem = self._run(json.dumps(strict(document)))
            if problem is None:
                continue
            self._failures += 1
            if self._failures == 1:
                self._notices.put(f"--on-alert: the command {problem}; the tail goes on")

    def _run(self, text: str) -> str | None:
        """Run the command with this line as its input. Return what went wrong, or None."""
        try:
            # not a pipe: a process that the command leaves behind could keep it open
            with tempfile.TemporaryFile() as errors:
                return self._outcome(text, errors)
        except OSError as error:
            return f"could not be started: {error.strerror}"

    def _outcome(self, text: str, errors: IO[bytes]) -> str | None:
        with subprocess.Popen(
            [_SHELL, "-c", self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ,  # and not what this process has told its libraries by `os.putenv`
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
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _ERROR_BYTES))
        last = errors.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
        return f"failed with exit code {process.returncode}" + (f" ({last})" if last else "")

    def _end(self) -> None:
        """Kill the running command and the processes that it started."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
