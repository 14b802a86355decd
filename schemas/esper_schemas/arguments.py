"""How both commands are told which run they work on: RUN as an argument or as `--run`, with names for the shell."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from esper_schemas.cleaning import printable
from esper_schemas.errors import NotARunError, UsageError
from esper_schemas.run.finding import name_of, run_folders
from esper_schemas.run.store import is_url

_Command = TypeVar("_Command", bound=Callable[..., Any])

_MAX_NAMES = 1000
"""So many names are offered to a shell at most; more letters give fewer."""

_PLAIN = frozenset("._-/=,+@%")
"""What a completed name may have besides letters and digits. Anything else could act in a shell."""


def run_argument(required: bool = False) -> Callable[[_Command], _Command]:
    """Decorator that adds the argument RUN, and the option `--run`, which says the same; gives `run`.

    Args:
        required: whether the command works on no run by default; else `run` is None without either.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_one_name(*args: Any, named: str | None, run: str | None, **options: Any) -> Any:
            if named is not None and run is not None:
                raise UsageError(f"give the run once, as RUN or with --run; found {named!a} and {run!a}")
            chosen = run if named is None else named
            if required and chosen is None:
                raise click.MissingParameter(param_hint="'RUN'", param_type="argument")
            return command(*args, run=chosen, **options)

        default = "" if required else "  [default: the latest run]"
        option = click.option(
            "--run",
            "-r",
            metavar="RUN",
            help=f"The same as RUN: a path, a URL, or a name under --root.{default}",
            shell_complete=complete_run,
        )
        argument = click.argument(
            "named", metavar="RUN" if required else "[RUN]", required=False, shell_complete=complete_run
        )
        return argument(option(with_one_name))  # type: ignore[return-value]

    return decorate


def runs_argument(metavar: str = "RUN RUN…") -> Callable[[_Command], _Command]:
    """Decorator that adds several runs as arguments, and the option `--run`, which may be repeated; gives `names`.

    Args:
        metavar: how many runs the command takes, as its help shows it.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_all_names(*args: Any, named: Sequence[str], more: Sequence[str], **options: Any) -> Any:
            return command(*args, names=(*named, *more), **options)

        option = click.option(
            "--run",
            "-r",
            "more",
            metavar="RUN",
            multiple=True,
            help="The same as RUN: a path, a URL, or a name under --root. Repeat it.",
            shell_complete=complete_run,
        )
        argument = click.argument("named", nargs=-1, metavar=metavar, shell_complete=complete_run)
        return argument(option(with_all_names))  # type: ignore[return-value]

    return decorate


def complete_run(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a run under `--root`; where none begins so, let the shell complete a path.

    A URL, and a name under one, are not completed: no key press asks an object store.
    """
    root = context.params.get("root") or "runs"
    if is_url(incomplete):
        return []
    try:
        names = [] if is_url(root) else list(islice(_names(Path(root), incomplete), _MAX_NAMES))
    except NotARunError:
        names = []
    if names:
        return [CompletionItem(name) for name in names]
    return [CompletionItem(incomplete, type="file")]


def _names(root: Path, beginning: str) -> Iterator[str]:
    for path in run_folders(root):
        name = name_of(path, root)
        if name.startswith(beginning) and is_plain(name):
            yield name


def is_plain(name: str) -> bool:
    """Whether a name can be typed in a shell as it is: letters of any language, digits, and `._-/=,+@%`."""
    is_shown_as_it_is = name == printable(name) and not name.startswith("-")
    return is_shown_as_it_is and all(char.isalnum() or char in _PLAIN for char in name)
