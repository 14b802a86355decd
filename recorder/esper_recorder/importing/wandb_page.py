"""The names of columns as the web page of W&B exports them: `RUN - KEY`, with the extremes of what is drawn beside."""

from __future__ import annotations

from collections.abc import Sequence

from esper_schemas.errors import UsageError

_BETWEEN = " - "
_EXTREMES = ("__MIN", "__MAX")
_SHOWN = 10


def keys_of_page(header: Sequence[str], wanted: str | None) -> list[str] | None:
    """Return the key of each column of one run, empty for what is not of it; None if no such page wrote the header.

    Args:
        header: The names of the columns.
        wanted: Which run; None if there has to be one only.

    Raises:
        UsageError: the run is not there, or there are several and none is wanted, or it has one number only.
    """
    names = set(header)
    drawn = {name for name in header if _BETWEEN in name and all(f"{name}{end}" in names for end in _EXTREMES)}
    if not drawn:
        return None
    runs = list(dict.fromkeys(name.rpartition(_BETWEEN)[0] for name in header if name in drawn))
    shown = ", ".join(run[:50] for run in runs[:_SHOWN]) + (", …" if len(runs) > _SHOWN else "")
    if wanted is not None and wanted not in runs:
        raise UsageError(f"--source-run: it has no run {wanted!a}; found {shown}")
    if wanted is None and len(runs) > 1:
        raise UsageError(f"it has columns of several runs: {shown}; choose one with --source-run")
    of_run = f"{runs[0] if wanted is None else wanted}{_BETWEEN}"
    extremes = {f"{name}{end}" for name in drawn for end in _EXTREMES}

    def key_of(name: str) -> str:
        if name in extremes or (name in drawn and not name.startswith(of_run)):
            return ""
        return name.removeprefix(of_run) if name in drawn else name

    return [key_of(name) for name in header]
