"""Logs through `logging`, and ignores whatever its handlers raise: they may be somebody else's."""

from __future__ import annotations

import logging
from contextlib import suppress

_log = logging.getLogger("esper_recorder")


def warning(message: str, *values: object) -> None:
    """Log something that may be unintended."""
    with suppress(Exception):
        _log.warning(message, *values)


def error(message: str, *values: object) -> None:
    """Log something that went wrong."""
    with suppress(Exception):
        _log.error(message, *values)
