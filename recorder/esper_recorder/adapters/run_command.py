"""The command `esper-rec run` after option parsing: runs a script, and says what was recorded when it has ended."""

from __future__ import annotations

import atexit
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from esper_recorder.adapters.program import Program, without_ours
from esper_recorder.adapters.tensorboard import Recordings, install
from esper_recorder.adapters.written_log import WrittenLog
from esper_recorder.importing.point_log import Given
from esper_recorder.train.signals import Signals
from esper_recorder.writing.ending import ending_of
from esper_schemas.console import TerminatedError, say
from esper_schemas.errors import EsperError
from esper_schemas.exit_codes import ExitCode
from esper_schemas.run.records import EndStatus

FAILED = 1
"""The exit code of Python for a program that ends with an exception."""


def run_program(
    name: str,
    arguments: Sequence[str],
    *,
    is_module: bool,
    root: Path | None,
    given: Given,
    upload: str | None,
    redact: Sequence[str],
) -> int:
    """Run a script or module, and record its summary writers; return its exit code.

    The runs end at exit, after everything that the program does at exit, and what was recorded is said then.

    Raises:
        UsageError: there is nothing to run, or an option is not possible; nothing was run.
        SystemExit: as the program raised it.
    """
    recordings = install(root=root, mapping=given.mapping, definition=given.definition, upload=upload, redact=redact)
    try:
        program = (Program.of_module if is_module else Program.of_script)(name, arguments)
    except EsperError:
        recordings.close()
        raise
    except Exception as error:  # a syntax error, or what a package raises when it is imported
        recordings.close()
        _print_as_python(error)
        return FAILED
    _let_sigterm_end_children()
    recordings.on_open = lambda written: say(f"esper-rec: recording to {_shown(written)}")
    ending = _Ending(recordings)
    atexit.register(ending.at_exit)
    try:
        program.run()
    except SystemExit as error:
        ending.status, ending.reason = ending_of(type(error), error)
        raise
    except TerminatedError:
        ending.status, ending.reason = "interrupted", "SIGTERM"
        return ExitCode.TERMINATED
    except BaseException as error:
        ending.status, ending.reason = ending_of(type(error), error)
        _print_as_python(error)
        return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    return ExitCode.FINE


def _print_as_python(error: BaseException) -> None:
    """Print an exception that ended a program; it may have set `sys.excepthook`."""
    without_ours(error)
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception:
        traceback.print_exception(error)


def _let_sigterm_end_children() -> None:
    """Let SIGTERM end each forked child at once, as it does where no command of ours is at work.

    The signal is held back while a child is made: a handler that raises is not heard between the two.
    """
    masks = threading.local()

    def before() -> None:
        masks.kept = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.kept)

    def in_child() -> None:
        if getattr(signal.getsignal(signal.SIGTERM), "__module__", None) == TerminatedError.__module__:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        in_parent()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


class _Ending:
    """Ends the recordings when the process ends, and says what they are.

    Attributes:
        status, reason: How the program ended.
    """

    def __init__(self, recordings: Recordings) -> None:
        self.status: EndStatus = "finished"
        self.reason: str | None = None
        self._recordings = recordings
        self._pid = os.getpid()

    def at_exit(self) -> None:
        """Seal every run, whatever signal comes, and describe it."""
        if os.getpid() != self._pid:  # a forked child that ends like its parent
            return
        with (signals := Signals()).installed():
            signals.ignore()
            self._recordings.close(self.status, self.reason)
            for line in describe(self._recordings):
                say(line)


def describe(recordings: Recordings) -> list[str]:
    """Describe for a person what was recorded, what was not, and what to type next."""
    if not recordings.has_seen_writers:
        is_other_rank = os.environ.get("RANK", "0") != "0"
        return [] if is_other_rank else ["esper-rec: nothing was recorded: the program made no SummaryWriter"]
    lines = []
    for written in recordings.logs.values():
        if written.path is None:
            lines.append(f"esper-rec: {_short(written.folder)} was not recorded: {written.trouble}")
            continue
        end = f"; recording ended early: {written.trouble}" if written.trouble else ""
        lines.append(f"esper-rec: {_shown(written)}: {written.account.updates:,} updates of {written.trainer}{end}")
        lines += written.account.remarks()
        lines.append(f"Next: esper-analyze report --run {shlex.quote(_shown(written))}")
    return lines


def _shown(written: WrittenLog) -> str:
    return _short(str(written.path))


def _short(path: str) -> str:
    """A path as a person would type it here: relative where it is below the working directory."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path
