"""Counts what an attempt has lost, rows dropped and values left out, and logs each reason once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esper_recorder.writing import log

MAX_REFUSED_NAMES = 100
"""Maximum number of metrics for which a run counts the values that could not be stored."""

MAX_REASON = 500
"""Maximum length of a recorded reason, in characters."""

_MAX_TOPICS = 100

_VARIES = re.compile(r"""'[^']*'|"[^"]*"|\[.*?\]|(?<![\w.])[-+]?\d[\w.+-]*""")
"""What differs between reasons of one kind: quoted text, lists and numbers that were found."""


class Tally:
    """The losses of one attempt. The caller of `drop` or `refuse` must hold the lock of the recorder.

    Args:
        path: returns the folder of the run, for log messages.

    Attributes:
        dropped_rows: number of rows dropped.
        drop_reason: why the last row was dropped, None if none was.
        refused_values: for each metric, the `count` of values left out and the `reason` for the last one.
    """

    def __init__(self, path: Callable[[], Path]) -> None:
        self.dropped_rows = 0
        self.drop_reason: str | None = None
        self.refused_values: dict[str, dict[str, Any]] = {}
        self._path = path
        self._topics: set[str] = set()

    def drop(self, reason: str) -> None:
        """Count a row that will not be written."""
        self.dropped_rows += 1
        self.drop_reason = reason
        self.say(f"drop: {_VARIES.sub('', reason)}", f"an update was dropped: {reason}")

    def refuse(self, name: str, reason: str) -> None:
        """Count a value that its column cannot store. The row is written without it."""
        known = self.refused_values.get(name)
        if known is not None or len(self.refused_values) < MAX_REFUSED_NAMES:
            count = 0 if known is None else known["count"]
            self.refused_values[name] = {"count": count + 1, "reason": reason[:MAX_REASON]}
        self.say(f"value: {name}", f"a value is left out: {reason}")

    def say(self, topic: str, message: str) -> None:
        """Log an error, once per topic."""
        if topic not in self._topics and len(self._topics) < _MAX_TOPICS:
            self._topics.add(topic)
            log.error("%s: %s", self._path(), message)

    def may_say_again(self, topic: str) -> None:
        """Let `say` log this topic once more."""
        self._topics.discard(topic)
