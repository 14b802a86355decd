"""Uploads a run beside the recorder that writes it, in a process of its own, so that nothing of it delays the trainer.

The process is `esper-rec upload RUN URL --follow`. It sees from the lock of the rank when the recorder ends, however
that ends, so it uploads the rest even of a trainer that was killed. Whatever goes wrong with it is logged.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from esper_recorder.uploading.redaction import Redaction
from esper_recorder.writing import log
from esper_schemas.errors import UsageError
from esper_schemas.exit_codes import ExitCode
from esper_schemas.run.store import StoreUrl, check_installed

WAIT_SECS = 60.0
"""`Recorder.close` waits for the rest of the run to be uploaded for at most so many seconds."""

_KILLED = (-signal.SIGTERM, -signal.SIGKILL, ExitCode.INTERRUPTED, ExitCode.TERMINATED)

_running: set[subprocess.Popen[str]] = set()
"""The processes that were started here, so that one may go on after its recorder was closed or collected."""


def check_upload(url: str | None, redact: Sequence[str]) -> None:
    """Check what can be checked before a run is opened.

    Raises:
        UsageError: the URL, or a key, is not valid, keys are given without a URL, or obstore is not installed.
    """
    if url is None:
        raise UsageError("redact says what is left out of an upload; give upload=URL too")
    check_installed(StoreUrl.parse(url))
    Redaction.parse(redact)


class UploadBeside:
    """The process that uploads one rank of a run while it is recorded.

    Args:
        run: the folder of the run.
        rank: the rank that this process records.
        url: where the run is put.
        redact: keys that are left out.
    """

    def __init__(self, run: Path, rank: int, url: str, redact: Sequence[str]) -> None:
        self._run, self._url, self._owner = run, url, os.getpid()
        keys = [option for key in redact for option in ("--redact", key)]
        command = [sys.executable, "-P", "-m", "esper_recorder", "upload", str(run.absolute()), url]
        self._command = [*command, "--follow", "--rank", str(rank), *keys]
        self._process = self._start()

    def finish(self, run: Path) -> None:
        """Wait until the rest of the run is uploaded, now that it is closed, but not for ever. Raises nothing.

        A process that was killed is started once more: what ends a job often sends a signal to all of its processes.

        Args:
            run: the folder in which the run was closed.
        """
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return
        if run != self._run:
            log.warning("recording went on in %s, which is not uploaded; esper-rec upload does that", run)
        deadline = time.monotonic() + WAIT_SECS
        try:
            if process.wait(WAIT_SECS) in _KILLED and (again := self._start()) is not None:
                process = again
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s is not wholly uploaded to %s yet; that goes on by itself", self._run, self._url)
            return
        self._listener.join(WAIT_SECS)  # what it said comes first
        if code:
            log.warning(
                "%s is not wholly uploaded; the rest is by: esper-rec upload %s %s", self._run, self._run, self._url
            )

    def _start(self) -> subprocess.Popen[str] | None:
        """Start the process; None if that fails, which is logged."""
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C ends the trainer, and the upload goes on until all of the run is there
            )
        except OSError as error:
            log.warning("%s is not uploaded: %s cannot be started (%s)", self._run, sys.executable, error.strerror)
            return None
        _running.add(process)
        self._listener = threading.Thread(target=_listen, args=(process,), name="esper-upload", daemon=True)
        self._listener.start()
        return process


def _listen(process: subprocess.Popen[str]) -> None:
    """Log what a process says, until it ends."""
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            log.warning("%s", line.rstrip().removeprefix("esper-rec: "))
    process.wait()
    _running.discard(process)
