"""What counts as broken: the numbers of a minibatch or a row that pull a trigger of the black box."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from esper_schemas.metric.metrics import SKIP_REASONS
from esper_schemas.run.records import Trigger

_COUNTS = ("nan_grad_count", "inf_grad_count")


class Breakage(NamedTuple):
    """What broke. Two of one `kind` are alike: the next black box because of that has to wait."""

    trigger: Trigger
    kind: str
    reason: str


@lru_cache(maxsize=4096)
def _watched_as(name: str) -> str:
    """Why a number with this name must be finite: it is a loss, or something of a gradient; "" if it need not be."""
    lower = name.lower()
    return "gradient" if "grad" in lower else "loss" if "loss" in lower else ""


def not_finite(numbers: Mapping[str, Any], where: str) -> Breakage | None:
    """The first loss that is not finite, or else the first number of a gradient.

    Mixed precision makes gradients overflow now and then in a sound training, so these are a kind of their own.
    """
    found = None
    for name, value in numbers.items():
        kind = _watched_as(name)
        if kind and value is not None and not math.isfinite(value) and (found is None or kind == "loss"):
            found = Breakage("not_finite", kind, f"{name} is {float(value)} in {where}")
            if kind == "loss":
                break
    return found


def broken_by(row: Mapping[str, Any]) -> Breakage | None:
    """What a row says that broke."""
    if row.get("skipped"):
        reason = SKIP_REASONS.get(row.get("skip_reason") or 0, "no reason given")
        return Breakage("skipped", "skipped", f"the update was skipped: {reason}")
    if row.get("amp_overflow"):
        return Breakage("skipped", "overflow", "mixed precision overflowed")
    for name in _COUNTS:
        if row.get(name):
            return Breakage("not_finite", "gradient", f"{name} is {int(row[name])}")
    return not_finite(row, "the row of the update")
