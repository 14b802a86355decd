"""The log of another trainer, read as a run: `esper-rec import` makes the run, in a process of its own.

The analyzer never imports the recorder. The process ends with this one, whatever ends this one: its standard input is
a pipe whose other end only this process has, and it seals its run and ends when that pipe does. The run is made in a
temporary folder, which is removed in the end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from esper_analyzer.reading.run_reader import RunReader, locate_run
from esper_schemas.console import say
from esper_schemas.errors import EsperError, NotARunError, UsageError
from esper_schemas.run.directory import open_place
from esper_schemas.run.ending import GOING_ON
from esper_schemas.run.finding import candidates
from esper_schemas.run.names import HEADER_NAME, RANK_PREFIX
from esper_schemas.run.records import read_json
from esper_schemas.run.store import Place, StoreUrl, is_url

END_SECS = 30.0
"""How long the process may take to seal its run; then it is killed."""

_LOOK_SECS = 0.05
_DEEP = 3  # from a segment to its run
_DEEPEST = 5  # folders between what a person names and that of a log
_MOST_FOLDERS = 500  # so many below a folder are looked into, as esper-rec does
_OF_SACRED = {"experiment", "heartbeat", "host", "meta"}  # keys of its run.json
_SPEAKS_AS = "esper-rec: "
_HAS_CAUGHT_UP = f"{_SPEAKS_AS}following "
_NOTICES = (f"{_SPEAKS_AS}waiting: ", ": no update yet: ")
_OF_BALANCE = ("note: ", "refused: ", "not readable: ")  # what may change how a person takes the numbers
_SAID_ELSEWHERE = ("the value loss is an assumption", "hyper-parameters", ": none")


class LogChoice(NamedTuple):
    """How a log is read, as by the options of `esper-rec import`.

    Attributes:
        mapping: `KEY=FIELD` for keys that nobody else names.
        source_run: Which of several runs in the log.
    """

    mapping: tuple[str, ...] = ()
    source_run: str | None = None

    def options(self) -> list[str]:
        """The options, for a command line."""
        of_run = [] if self.source_run is None else [f"--source-run={self.source_run}"]
        return [*(f"--map={pair}" for pair in self.mapping), *of_run]

    def check_for_logs(self, *processes: LogImport | None) -> None:
        """Raise UsageError if something was chosen, and none of what was opened is a log."""
        if self.options() and not any(processes):
            raise UsageError(
                "--map and --source-run say how the log of another trainer is read, found an Esper run; leave them out"
            )


def find_log(run: str | None, root: Place) -> Path | None:
    """Return the log of another trainer that a person means by RUN; None if it is a run of ours, or nothing at all.

    Raises:
        UsageError: it is a part of a run, which the message names.
    """
    if run is None or is_url(run):  # logs are on this machine
        return None
    try:
        found = locate_run(run, root).path
        return found if not isinstance(found, StoreUrl) and _is_of_sacred(found) else None
    except NotARunError:
        for path in candidates(run, root):
            if isinstance(path, StoreUrl):
                continue
            if (whole := _run_around(path)) is not None:
                raise UsageError(f"{path} is a part of the run {whole}; pass the run") from None
            if _may_be_log(path) or _may_have_logs(path):
                return path
        return None
    except EsperError:
        return None  # a run, in whatever state


def _run_around(path: Path) -> Path | None:
    """The run of ours that a file or folder is a part of; None if it is of none."""
    for folder in path.parents[:_DEEP] if path.exists() else ():
        with suppress(EsperError):
            locate_run(folder)
            return None if _is_of_sacred(folder) else folder
    return None


def _is_of_sacred(folder: Path) -> bool:
    """Whether a folder is a run of Sacred, which has a `run.json`, too."""
    with suppress(EsperError, OSError), open_place(folder) as files:
        return read_json(files, HEADER_NAME).keys() >= _OF_SACRED
    return False


def _may_be_log(path: Path) -> bool:
    """Whether it is a file, or a folder with files in it. A named pipe is none of both.

    A folder with the folder of a rank is a run of ours, which gets its header, first under another name, in a moment.
    """
    with suppress(OSError):
        if path.is_dir():
            inside = list(path.iterdir())
            if any(inner.name.startswith(RANK_PREFIX) and inner.is_dir() for inner in inside):
                return False
            return any(inner.is_file() and inner.name != HEADER_NAME for inner in inside)
        return path.is_file()
    return path.exists()  # it may not be read, which esper-rec says


def _may_have_logs(folder: Path) -> bool:
    """Whether there may be a log of another trainer in a folder below it; esper-rec looks into their files."""
    level, looked_at = [folder], 0
    for _ in range(_DEEPEST + 1):
        below: list[Path] = []
        for one in level:
            with suppress(OSError):
                inside = [path for path in one.iterdir() if path.is_dir()]
                if any(path.name.startswith(RANK_PREFIX) for path in inside):
                    continue  # a run of ours without its header
                below += inside[: _MOST_FOLDERS - looked_at - len(below)]
        if any(map(_may_be_log, below)):
            return True
        level, looked_at = below, looked_at + len(below)
    return False


class LogImport:
    """A running `esper-rec import`.

    Args:
        log: The file or folder.
        folder: An empty folder for the run.
        choice: How it is read.
        is_followed: Whether the import goes on while the log is written.
    """

    def __init__(self, log: Path, folder: Path, choice: LogChoice, *, is_followed: bool) -> None:
        self._folder = folder
        self._is_followed = is_followed
        command = [sys.executable, "-P", "-m", "esper_recorder", "import", str(log.absolute())]
        options = ["--out", str(folder), "--until-eof", *choice.options(), *(["--follow"] if is_followed else [])]
        self._process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if is_followed else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C ends this process, and that one ends after it
        )
        self._lines: list[str] = []
        self._said = 0
        self._balance: list[str] = []
        self._listeners = [_listen(self._process.stderr, self._lines), _listen(self._process.stdout, self._balance)]

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_for_run(self) -> Path:
        """Return the run once everything that was in the log at first is in it.

        Raises:
            UsageError: the log cannot be imported.
        """
        is_ready = False
        while self.is_running and not is_ready:
            time.sleep(_LOOK_SECS)
            self._pass_on()
            found = self._run() if self._has_caught_up() else None
            is_ready = found is not None and RunReader(locate_run(found)).status() in GOING_ON  # no longer half made
        if not is_ready:
            self.check()
        found = self._run()
        if found is None:
            raise UsageError("esper-rec made no run of the log")
        return found

    def _has_caught_up(self) -> bool:
        return self._is_followed and any(line.startswith(_HAS_CAUGHT_UP) for line in self._lines)

    def _pass_on(self) -> None:
        """Say what the process says to a person while it waits."""
        for line in self._lines[self._said :]:
            if any(notice in line for notice in _NOTICES):
                say(line.removeprefix(_SPEAKS_AS))
            self._said += 1

    def _run(self) -> Path | None:
        for path in self._folder.iterdir():
            with suppress(EsperError):
                locate_run(path)
                return path
        return None

    def check(self) -> None:
        """Wait for the end of the process.

        Raises:
            UsageError: it ended with an error, which is the message.
        """
        code = self._process.wait(END_SECS)
        self._join()
        if code > 0:
            last = self._lines[-1] if self._lines else f"esper-rec ended with exit code {code}"
            raise UsageError(last.removeprefix(_SPEAKS_AS))
        if code < 0:
            raise UsageError(f"the import of the log was killed by signal {-code}")

    def end(self) -> None:
        """End the process, and wait until it has sealed its run."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._join()
        for pipe in (self._process.stderr, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _join(self) -> None:
        for listener in self._listeners:
            listener.join(END_SECS)

    def say_what_to_know(self) -> None:
        """Say what the balance of a finished import has that may change how a person takes the numbers."""
        for line in self._balance:
            if line.startswith(_OF_BALANCE) and not any(part in line for part in _SAID_ELSEWHERE):
                say(line)


def _listen(pipe: IO[str] | None, lines: list[str]) -> threading.Thread:
    """Return a running thread that collects the lines of a pipe; of no pipe, it collects none."""
    made = threading.Thread(target=lambda: lines.extend(line.rstrip("\n") for line in pipe or ()), daemon=True)
    made.start()
    return made


@contextmanager
def imported_log(log: Path, choice: LogChoice, *, is_followed: bool) -> Iterator[tuple[Path, LogImport]]:
    """Import a log into a temporary run, which is there inside the block; yields its path, and the import.

    Raises:
        UsageError: the log cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="esper-", ignore_cleanup_errors=True) as folder:
        process = LogImport(log, Path(folder), choice, is_followed=is_followed)
        try:
            try:
                path = process.wait_for_run()
            except UsageError as error:
                raise UsageError(
                    f"{log} is not an Esper run (it has no {HEADER_NAME}), nor a log that can be imported: {error}"
                ) from None
            kept = "esper-rec import --follow" if is_followed else "esper-rec import"
            say(f"{log} is the log of another trainer: imported into a temporary run; to keep one, use {kept}")
            process.say_what_to_know()
            yield path, process
        finally:
            process.end()
