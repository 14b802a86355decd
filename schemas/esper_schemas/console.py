"""The console of both commands: how each failure ends, where data and talk go, what a progress bar looks like.

Data goes to standard output and talk to standard error, both cleaned by `printable`. A command is a `Group` made by
`command_group`; every failure in it is one line `<command>: …` and the exit code that `ExitCode` has for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from esper_schemas.cleaning import printable
from esper_schemas.errors import EsperError, describe_error
from esper_schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

ErrorTypes = tuple[type[BaseException], ...]

TRACEBACK = "ESPER_TRACEBACK"
"""An environment variable; where it is set, the traceback of an error is printed before its line."""

_BAR_STEPS = 500
"""How often a progress bar moves at most: a step may be a line of a file, and there may be millions."""


class TerminatedError(BaseException):
    """SIGTERM arrived. It ends a command as KeyboardInterrupt does, so that files and terminals are left in order."""


# ------------------------------------------------------------------ data and talk


def tell(*lines: str) -> None:
    """Write lines for people to standard output, each cleaned; see `write`."""
    write("".join(f"{printable(line)}\n" for line in lines))


def write(text: str) -> None:
    """Write text to standard output, for a command whose exit code is its answer.

    A reader that leaves changes nothing: the rest of the text is dropped and the command goes on. Characters that the
    encoding of the output lacks are written as escapes.

    Raises:
        OSError: it cannot be written, for another reason than that its reader left.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)


def say(line: str) -> None:
    """Write one cleaned line to standard error; nobody needs to listen."""
    _say_raw(printable(" ".join(line.split())))


def _say_raw(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:
        _forget(sys.stderr)


def _forget(stream: TextIO) -> None:
    """Let what is written to a stream vanish from now on: else Python would try again at its end, and exit with 120."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _open_standard_streams() -> None:
    """Make sure that the descriptors 0 to 2 are open: else a file of a run would get such a number, and the talk."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (open to the end)


# ------------------------------------------------------------------ progress


def talk_console() -> Console:
    """A console of rich on standard error; a reader of it that leaves does not end the command, as rich would."""
    from rich.console import Console

    class Talk(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            _forget(sys.stderr)

    return Talk(stderr=True)


def can_redraw(console: Console) -> bool:
    """Whether a line of this console can be drawn anew: on a terminal that is not dumb; FORCE_COLOR makes none."""
    return console.is_terminal and console.file.isatty() and not console.is_dumb_terminal


def make_bar(console: Console, *columns: ProgressColumn, transient: bool = False) -> Progress:
    """A progress bar with these columns, or with those that rich takes; the only place that makes one."""
    from rich.progress import Progress

    return Progress(*columns, console=console, transient=transient, refresh_per_second=8)


@contextmanager
def progress(what: str, total: int, *, at_least: int, is_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how far something is; gives the function to call with how much was done since the last call.

    There is a bar on standard error where that is a terminal and there is enough to do, and it vanishes at the end.

    Args:
        what: what is done, such as `verifying segments`.
        total: how much there is to do.
        at_least: how much there must be to do for a bar to be worth it.
        is_bytes: whether the amounts are bytes.
    """
    # Whether it is a terminal at all is asked first, for rich loads slowly.
    if total < at_least or not sys.stderr.isatty() or not can_redraw(console := talk_console()):
        yield lambda _done: None
        return
    from rich.progress import BarColumn, DownloadColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if is_bytes else TaskProgressColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), amount, TimeRemainingColumn())
    with make_bar(console, *columns, transient=True) as bar:
        task, waiting = bar.add_task(printable(what), total=total), 0

        def advance(done: int) -> None:
            nonlocal waiting
            waiting += done
            if waiting * _BAR_STEPS >= total:
                bar.advance(task, waiting)
                waiting = 0

        yield advance


# ------------------------------------------------------------------ the command


def command_group(name: str, *, data_errors: ErrorTypes = ()) -> Callable[[Callable[..., Any]], Group]:
    """Make a function the group of a command, with `--help`, `-h` and `--version`.

    Args:
        name: what the command is called; its messages begin with it.
        data_errors: what a library raises where it cannot decode a run, beside `RunDamagedError`.
    """

    def decorate(function: Callable[..., Any]) -> Group:
        version = click.option(
            "--version",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
        )
        settings = {"help_option_names": ["-h", "--help"]}
        make = click.group(name, cls=Group, data_errors=data_errors, context_settings=settings)
        made: Group = make(version(function))
        return made

    return decorate


def _print_version(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if not is_asked or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("esper-recorder")
    except PackageNotFoundError:
        found = "unknown"
    click.echo(f"{context.find_root().command.name}, version {found}")
    context.exit()


class Group(click.Group):
    """A group of commands; each of its failures is one line on standard error and the exit code that belongs to it.

    A command returns its exit code, or None where all is fine. Where the reader of standard output leaves, the command
    ends with 0, unless it wrote by `write` or `tell`. `command_group` makes a group.

    Attributes:
        data_errors: what means damaged data, beside `RunDamagedError`.
    """

    def __init__(self, *args: Any, data_errors: ErrorTypes = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data_errors = data_errors

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run the command and end the process with its exit code."""
        _open_standard_streams()
        code = self._run(args, {"prog_name": prog_name or self.name, **extra, "standalone_mode": False})
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                _forget(stream)
        sys.exit(int(code))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click's, which would answer with 1 where nobody reads `--help`."""
        with _early_end():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, which would answer with 1 where the reader left."""
        with _early_end():
            return super().invoke(ctx)

    def _run(self, args: Sequence[str] | None, extra: dict[str, Any]) -> int:
        try:
            with _sigterm_raises():
                code = super().main(args, **extra)
                sys.stdout.flush()
        except SystemExit:
            raise
        except BaseException as error:
            return self._failed(error)
        return code if isinstance(code, int) else ExitCode.FINE

    def _failed(self, error: BaseException) -> ExitCode:
        """Say what ended the command; the exit code that belongs to it."""
        if isinstance(error, BrokenPipeError):
            _forget(sys.stdout)
            return ExitCode.FINE
        if isinstance(error, (KeyboardInterrupt, click.Abort)):
            return ExitCode.INTERRUPTED
        if isinstance(error, TerminatedError):
            return ExitCode.TERMINATED
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            _say_raw(error.format_message())
            return ExitCode.USAGE
        if isinstance(error, click.ClickException):
            say(f"{self.name}: {error.format_message()}")
            return ExitCode.USAGE
        if os.environ.get(TRACEBACK):
            lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
            _say_raw("\n".join(map(printable, lines)))
        if isinstance(error, (EsperError, OSError, *self.data_errors)):
            say(f"{self.name}: {describe_error(error, self.data_errors)}")
            return ExitCode.of_error(error, self.data_errors)
        say(f"{self.name}: {_describe_defect(error)}; {TRACEBACK}=1 shows where it happened. Please report it.")
        return ExitCode.DEFECT


def _describe_defect(error: BaseException) -> str:
    """An error that nobody expected, with the line of ours that it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "esper_" in frame.filename]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"a defect of Esper: {type(error).__name__}{where}: {str(error)[:500]}"


@contextmanager
def _early_end() -> Iterator[None]:
    """Give an early end its exit code before click does: for a reader that left, click has 1, which is a verdict."""
    try:
        yield
    except BrokenPipeError:
        _forget(sys.stdout)
        raise click.exceptions.Exit(ExitCode.FINE) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let a first SIGTERM raise `TerminatedError`; a second one ends the process at once."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # ignored, or somebody else's
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise TerminatedError

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
