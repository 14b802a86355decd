"""Tables of cases of which `make test` runs a part, and `make hostile` the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def shortened(cases: Iterable[T], name: Callable[[T], str]) -> list[Any]:
    """The cases for `parametrize`, with their names: one in three is always run, the others are hostile tests."""
    return [
        pytest.param(case, id=name(case), marks=() if number % 3 == 0 else pytest.mark.hostile)
        for number, case in enumerate(cases)
    ]
