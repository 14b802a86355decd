"""Does something with a module as soon as it is imported, without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from esper_recorder.writing import log
from esper_recorder.writing.foreign import describe


class AfterImport(MetaPathFinder):
    """Calls a function with each of some modules: at once if it is loaded, otherwise right after it was executed.

    The module is found, loaded and described by the finders and loaders that always do so. What the function raises is
    logged, and does not fail the import.

    Args:
        names: Full names of the modules.
        then: The function.
    """

    def __init__(self, names: Collection[str], then: Callable[[Any], None]) -> None:
        self._names = set(names)
        self._then = then
        sys.meta_path.insert(0, self)
        for name in names:
            module = sys.modules.get(name)
            if module is not None:
                self._call(module)

    def remove(self) -> None:
        """Call the function for no further module."""
        self._names.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as the other finders do, and have its loader call the function."""
        if fullname not in self._names:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        found = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        loader: Any = None if found is None else found.loader
        if loader is None:
            return found
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == fullname:
                self._call(module)

        try:
            loader.exec_module = exec_module  # the loader itself stays: others ask it for the source
        except AttributeError:
            log.warning("%s is imported in a way that cannot be watched: not recorded", fullname)
        return found

    def _call(self, module: ModuleType) -> None:
        if module.__name__ not in self._names:
            return
        try:
            self._then(module)
        except Exception as error:
            log.warning("%s is not as expected, and not recorded: %s", module.__name__, describe(type(error), error))
