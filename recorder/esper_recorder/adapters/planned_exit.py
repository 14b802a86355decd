"""`sys.exit(0)` in the middle of `learn`, which has no hook for its own end: seen where it passes on its way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from esper_recorder.adapters.replacement import Replacement


class PlannedExit:
    """Watches methods that a trainer calls for a `SystemExit` without a failure, until `close` is called.

    Args:
        calls: objects, each with the names of its methods. One that takes no function of ours is not watched.
        note: called when such an exception passes; it goes on as it is.
    """

    def __init__(self, calls: Sequence[tuple[object, Sequence[str]]], note: Callable[[], None]) -> None:
        self._note = note
        self._replaced: list[Replacement] = []
        for owner, names in calls:
            for name in names:
                with suppress(AttributeError, TypeError):
                    self._replaced.append(Replacement(owner, name, self._watched(getattr(owner, name))))

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **keywords: Any) -> Any:
            try:
                return method(*arguments, **keywords)
            except SystemExit as error:
                if not error.code:
                    self._note()
                raise

        return watched

    def close(self) -> None:
        """Leave every object as it was."""
        for replaced in self._replaced:
            replaced.undo()
