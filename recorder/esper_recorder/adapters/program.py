"""Runs somebody's script or module in this process, as `python SCRIPT` and `python -m MODULE` run it."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from esper_schemas.errors import UsageError


class Program:
    """A script or module that is ready to run: `sys.argv`, `sys.path` and `__main__` are what it expects.

    They stay so when it has ended, for its threads and for what it does at exit.
    """

    def __init__(self, code: CodeType, module: ModuleType) -> None:
        self._code = code
        self._module = module
        self._main_before = sys.modules["__main__"]  # kept alive: it is the command that runs this
        sys.modules["__main__"] = module

    @classmethod
    def of_script(cls, path: str, arguments: Sequence[str]) -> Program:
        """Prepare the script at `path`, as `python PATH ARGUMENTS...` does.

        Raises:
            UsageError: it is missing, a folder, unreadable or no Python source.
            SyntaxError: as Python raises it.
        """
        try:
            with Path(path).open("rb") as file:
                source = file.read()
        except IsADirectoryError:
            raise UsageError(f"expected a script, found the folder {path}; name a script in it, or -m MODULE") from None
        except OSError as error:
            raise UsageError(f"cannot read the script {path}: {error.strerror or error}") from None
        if b"\0" in source:
            raise UsageError(f"expected a Python script, found other bytes in {path}")
        sys.argv = [path, *arguments]
        _set_first_path(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120 (as Python does)
        file_name = os.path.abspath(path)  # noqa: PTH100
        code = compile(source, file_name, "exec", dont_inherit=True)
        return cls(code, _main(file_name, SourceFileLoader("__main__", file_name), None))

    @classmethod
    def of_module(cls, name: str, arguments: Sequence[str]) -> Program:
        """Prepare the module `name`, as `python -m NAME ARGUMENTS...` does.

        Raises:
            UsageError: there is no such module, or it cannot be run.
            Exception: whatever a package that contains it raises when it is imported.
        """
        sys.argv = ["-m", *arguments]
        _set_first_path(os.getcwd())  # noqa: PTH109 (a text)
        spec = _find(name)
        if spec.submodule_search_locations is not None:
            spec = _find(f"{name}.__main__", f"{name} is a package without __main__.py")
        loader: Any = spec.loader
        code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
        if code is None:
            raise UsageError(f"module {name} has no Python code to run")
        sys.argv[0] = spec.origin or name
        return cls(code, _main(spec.origin, loader, spec))

    def run(self) -> None:
        """Run it to its end; raises what it raises, `SystemExit` and `KeyboardInterrupt` included."""
        exec(self._code, self._module.__dict__)


def without_ours(error: BaseException) -> BaseException:
    """Return an exception whose traceback begins in the program that raised it, as it does under Python alone."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _is_ours(frame: FrameType) -> bool:
    is_import = frame.f_code.co_filename.startswith("<frozen ")
    return is_import or frame.f_globals.get("__name__", "").startswith("esper_recorder.adapters.")


def _set_first_path(folder: str) -> None:
    """Let imports look in `folder` first, in place of the folder of this command."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _find(name: str, otherwise: str = "") -> ModuleSpec:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        found = None
    except ValueError:  # a relative name, an empty one, or a module without a spec
        found = None
    if found is None:
        raise UsageError(otherwise or f"there is no module {name}; a script is named without -m, with its .py")
    return found


def _main(file_name: str | None, loader: Any, spec: ModuleSpec | None) -> ModuleType:
    module = ModuleType("__main__")
    package = None if spec is None else spec.parent
    module.__dict__.update(
        __file__=file_name,
        __loader__=loader,
        __spec__=spec,
        __package__=package,
        __cached__=None if spec is None else spec.cached,
        __builtins__=builtins,
        __annotations__={},
    )
    return module
