"""Rows as sources yield them: complete ones, and those of an update that is not over."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""One update: column -> number."""


class SoFar(Row):
    """The row of an update to which values may still be added. The complete row of the same update follows."""


ANEW = SoFar()
"""Yielded by a log that is followed before it is read from its beginning again; no row."""
