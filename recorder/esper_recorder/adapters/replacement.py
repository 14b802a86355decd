"""A function in place of a method of one object, for trainers that have no hook where a number comes into being."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Replacement:
    """Puts a function in place of a method of this one object, until `undo` is called.

    Attributes:
        original: The method, for the function to call.
    """

    def __init__(self, owner: Any, name: str, function: Callable[..., Any]) -> None:
        self.original: Callable[..., Any] = getattr(owner, name)
        self._owner, self._name, self._function = owner, name, function
        self._before = vars(owner).get(name)
        vars(owner)[name] = function

    def undo(self) -> None:
        """Leave the object as it was, unless somebody else has put another function there since."""
        own = vars(self._owner)
        if own.get(self._name) == self._function:
            if self._before is None:
                del own[self._name]
            else:
                own[self._name] = self._before
