"""The console of both commands: output, messages, progress bars, and how failures become exit codes.

Data goes to standard output and messages go to standard error; `printable` cleans both. A command is a `Group` that
`command_group` makes. Every failure in it prints one line, `<command>: …`, and ends with a code of `ExitCode`.
"""

from __future__ import annotations

import os
import select
import shutil
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
"""Environment variable: if it is set, the traceback of an error is printed before its line."""

_BAR_STEPS = 500
"""Most times that a progress bar moves. A step can be one line of a file with millions of lines."""


class TerminatedError(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt, it ends a command so that files and terminals are left in order."""


# ------------------------------------------------------------------ data and messages


def tell(*lines: str) -> None:
    """Clean lines for people and write them to standard output; see `write`."""
    write("".join(f"{printable(line)}\n" for line in lines))


def write(text: str) -> None:
    """Write text to standard output, for a command whose exit code is its answer.

    If the reader closes the pipe, the rest of the text is dropped and the command goes on. Characters that the encoding
    of the output lacks are written as escapes.

    Raises:
        OSError: writing failed, for another reason than a closed pipe.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)


def has_reader(stream: TextIO) -> bool:
    """Whether somebody may still read what is written to a stream; False once the reader of a pipe has left."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # it is no file
        return True
    poll = select.poll()
    poll.register(descriptor, 0)  # a pipe without a reader is reported all the same
    return not poll.poll(0)


def output_width() -> int:
    """The width of the terminal that standard output is, in characters: COLUMNS if that is set; 80 without one."""
    return shutil.get_terminal_size((80, 24)).columns


def say(line: str) -> None:
    """Clean one line and write it to standard error. A closed pipe is no error."""
    _say_raw(printable(" ".join(line.split())))


def _say_raw(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:
        _forget(sys.stderr)


def _forget(stream: TextIO) -> None:
    """Send a stream to the null device. Otherwise Python would flush it again at exit, fail, and exit with 120."""
    with suppress(OSError, ValueError):  # a stream in a test has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _open_standard_streams() -> None:
    """Make sure that descriptors 0 to 2 are open. Otherwise a file of a run could get one, and receive the messages."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (stays open until exit)


# ------------------------------------------------------------------ progress


def talk_console() -> Console:
    """A rich console on standard error. A closed pipe does not end the command, as it would in rich."""
    from rich.console import Console

    class Talk(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            _forget(sys.stderr)

    return Talk(stderr=True)


def can_redraw(console: Console) -> bool:
    """Whether this console can redraw a line: it is a terminal that is not dumb. FORCE_COLOR alone is not enough."""
    return console.is_terminal and console.file.isatty() and not console.is_dumb_terminal


def make_bar(console: Console, *columns: ProgressColumn, transient: bool = False) -> Progress:
    """Make a progress bar with these columns, by default those of rich. All progress bars come from here."""
    from rich.progress import Progress

    return Progress(*columns, console=console, transient=transient, refresh_per_second=8)


@contextmanager
def progress(what: str, total: int, *, at_least: int, is_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show the progress of some work; yields the function to call with the amount done since the last call.

    A bar is shown only if standard error is a terminal and `total` is large enough. It disappears at the end.

    Args:
        what: the work, such as `verifying segments`.
        total: the amount of work.
        at_least: the smallest `total` for which a bar is shown.
        is_bytes: whether the amounts are bytes.
    """
    # Check for a terminal first, because rich loads slowly.
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


def command_group(name: str, *, data_errors: Callable[[], ErrorTypes] = tuple) -> Callable[[Callable[..., Any]], Group]:
    """Decorator that turns a function into a command group with `--help`, `-h` and `--version`.

    Args:
        name: name of the command; its messages begin with it.
        data_errors: returns the types of error that mean damaged data, besides `RunDamagedError`. It is called only
            when a command fails with another error, because the libraries that have these types load slowly.
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
        installed = version("esper-recorder")
    except PackageNotFoundError:
        installed = "unknown"
    click.echo(f"{context.find_root().command.name}, version {installed}")
    context.exit()


class Group(click.Group):
    """A group of commands. Each failure prints one line on standard error and ends with the matching exit code.

    A command returns its exit code, or None for success. If the reader of standard output closes the pipe, the command
    ends with 0; one that writes with `write` or `tell` goes on. Use `command_group` to make a group.

    Attributes:
        data_errors: returns the types of error that mean damaged data, besides `RunDamagedError`.
    """

    def __init__(self, *args: Any, data_errors: Callable[[], ErrorTypes] = tuple, **kwargs: Any) -> None:
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
        """As in click, but a closed pipe while `--help` is printed does not end with 1."""
        with _early_end():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As in click, but a closed pipe does not end with 1."""
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
        """Report the error that ended the command; return the matching exit code."""
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
        is_ours = isinstance(error, (EsperError, OSError))
        data_errors = () if is_ours else self.data_errors()
        if is_ours or isinstance(error, data_errors):
            say(f"{self.name}: {describe_error(error, data_errors)}")
            return ExitCode.of_error(error, data_errors)
        say(f"{self.name}: {describe_defect(error)}; {TRACEBACK}=1 shows where it happened. Please report it.")
        return ExitCode.DEFECT


def describe_defect(error: BaseException) -> str:
    """An unexpected error in one line, with the line of our code that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "esper_" in frame.filename]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"a defect of Esper: {type(error).__name__}{where}: {str(error)[:500]}"


@contextmanager
def _early_end() -> Iterator[None]:
    """Set the exit code of an early end before click does: click ends a closed pipe with 1, which means a verdict."""
    try:
        yield
    except BrokenPipeError:
        _forget(sys.stdout)
        raise click.exceptions.Exit(ExitCode.FINE) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Make the first SIGTERM raise `TerminatedError`; a second one ends the process at once."""
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
