"""The command `esper-analyze`: each of its commands parses, calls one function of the package, and prints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import polars as pl
from rich.text import Text

from esper_analyzer import tail as screens
from esper_analyzer.overview import overview_lines
from esper_analyzer.report_text import report_lines
from esper_analyzer.run import Run, open_run
from esper_analyzer.style import Style, clean, write_lines
from esper_schemas.errors import EsperError, NotARunError, RunDamagedError, UsageError

FINE, WRONG_USAGE, DAMAGED, INTERRUPTED = 0, 2, 3, 130

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    """A group whose every failure is one clear line and the exit code that belongs to it."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        sys.exit(self._exit_code(args, prog_name, extra))

    def _exit_code(self, args: Sequence[str] | None, prog_name: str | None, extra: dict[str, Any]) -> int:
        try:
            code = super().main(args, prog_name, **{**extra, "standalone_mode": False})
            sys.stdout.flush()
        except (KeyboardInterrupt, click.Abort):
            return INTERRUPTED
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return WRONG_USAGE
        except click.ClickException as error:
            click.echo(f"esper-analyze: {clean(' '.join(error.format_message().split()))}", err=True)
            return WRONG_USAGE
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit has nowhere to go
            return FINE
        except (EsperError, OSError) as error:
            text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
            click.echo(f"esper-analyze: {clean(' '.join(text.split()))}", err=True)
            return DAMAGED if isinstance(error, RunDamagedError) else WRONG_USAGE
        except pl.exceptions.PolarsError as error:
            click.echo(f"esper-analyze: a segment cannot be read ({clean(' '.join(str(error).split()))})", err=True)
            return DAMAGED
        return code if isinstance(code, int) else FINE


def _version() -> str:
    try:
        return version("esper-recorder")
    except PackageNotFoundError:
        return "unknown"


def root_option(command: _Command) -> _Command:
    """`--root`: the folder of runs."""
    return click.option(
        "--root", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of runs."
    )(command)


def run_options(command: _Command) -> _Command:
    """`--run`, `--root` and `--rank`: which run is meant."""
    run = click.option("--run", "-r", help="Path of a run, or its name under --root; the latest run if not given.")
    rank = click.option("--rank", default="0", show_default=True, help="Rank to read: a number, or `all`.")
    return run(root_option(rank(command)))


def chosen_run(run: str | None, root: Path) -> Run:
    """The run that is meant; when none was named, say on standard error which one was taken."""
    opened = open_run(run, root)
    if run is None:
        click.echo(f"latest run: {clean(opened.path)}", err=True)
    return opened


def awaited_run(run: str | None, root: Path, interval: float) -> Run:
    """As `chosen_run`, but a run that is not there yet is waited for; says so once, on standard error."""
    said = False
    while True:
        try:
            return chosen_run(run, root)
        except NotARunError:
            if not said:
                click.echo(f"waiting for {f'run {clean(run)}' if run else 'a run'} under {clean(root)}", err=True)
            said = True
            time.sleep(interval)


def chosen_rank(rank: str, *, or_all: bool = False) -> int | None:
    """The number of the rank that is meant; None for `all`, where that can be."""
    if rank == "all" and or_all:
        return None
    if not rank.isdecimal():
        allowed = "a number or `all`" if or_all else "the number of one rank (this screen shows one at a time)"
        raise UsageError(f"--rank must be {allowed}, found {clean(rank)!r}")
    return int(rank)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="esper-analyze")
def main() -> None:
    """Read recorded PPO runs: is the critic learning?"""


@main.command()
@root_option
def runs(root: Path) -> None:
    """List the runs under a folder. Example: esper-analyze runs --root runs"""
    write_lines(overview_lines(root))


@main.command()
@run_options
@click.option(
    "--interval",
    default=screens.INTERVAL_SECS,
    show_default=True,
    type=click.FloatRange(0.01, 3600),
    help="Seconds between looks at the run.",
)
@click.option("--once", is_flag=True, help="Print one frame and end.")
@click.option("--wait", is_flag=True, help="Wait for the run if it is not there yet.")
def tail(run: str | None, root: Path, rank: str, interval: float, once: bool, wait: bool) -> int:
    """Watch a run while it is recorded. Example: esper-analyze tail --run my-run"""
    number = chosen_rank(rank) or 0
    opened = awaited_run(run, root, interval) if wait else chosen_run(run, root)
    damage = screens.once(opened, number) if once else screens.follow(opened, number, interval=interval)
    return DAMAGED if damage else FINE


@main.command()
@run_options
@click.option(
    "--speed",
    type=click.FloatRange(0.0),
    help="How many times faster than recorded; 0 is as fast as possible. Default: such that it takes 25 seconds.",
)
def replay(run: str | None, root: Path, rank: str, speed: float | None) -> None:
    """Show a recorded run from its beginning. Example: esper-analyze replay --run my-run --speed 10"""
    screens.replay(chosen_run(run, root), chosen_rank(rank) or 0, speed=speed)


@main.command()
@run_options
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write to.")
def report(run: str | None, root: Path, rank: str, form: str, output: Path | None) -> int:
    """Report on a run. Example: esper-analyze report --run my-run --format json"""
    made = chosen_run(run, root).report(chosen_rank(rank, or_all=True))
    lines: list[Text] = [Text(made.to_json())] if form == "json" else list(report_lines(made))
    if output is not None:
        output.write_text("".join(f"{line.plain}\n" for line in lines), encoding="utf-8")
    elif form == "json":
        text = lines[0].plain + "\n"
        sys.stdout.write(text if Style.of(sys.stdout).unicode else made.to_json(ascii_only=True) + "\n")
    else:
        write_lines(lines)
    return DAMAGED if made.is_damaged else FINE
