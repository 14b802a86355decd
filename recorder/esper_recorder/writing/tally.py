"""What an attempt has lost: rows dropped and values left out. Each is counted for the run, and logged once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from esper_recorder.writing import log

MAX_REFUSED_NAMES = 100
"""The run counts the values that could not be stored for at most this many metrics."""

MAX_REASON = 500
"""The run keeps this many characters of a reason."""

_MAX_TOPICS = 100


class Tally:
    """The losses of one attempt. Whoever counts holds the lock of the recorder.

    Args:
        path: returns the folder of the run, for log messages.

    Attributes:
        dropped_rows: rows that were dropped.
        drop_reason: why the last one was.
        refused_values: for each metric how many values were left out, and why the last one was.
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
        self.say(f"drop: {reason}"[:60], f"an update was dropped: {reason}")

    def refuse(self, name: str, reason: str) -> None:
        """Count a value that its column cannot store; the row is written without it."""
        known = self.refused_values.get(name)
        if known is not None or len(self.refused_values) < MAX_REFUSED_NAMES:
            count = 0 if known is None else known["count"]
            self.refused_values[name] = {"count": count + 1, "reason": reason[:MAX_REASON]}
        self.say(f"value: {name}"[:60], f"a value is left out: {reason}")

    def say(self, topic: str, message: str) -> None:
        """Log an error, once for each topic."""
        if topic not in self._topics and len(self._topics) < _MAX_TOPICS:
            self._topics.add(topic)
            log.error("%s: %s", self._path(), message)

    def may_say_again(self, topic: str) -> None:
        """Log this topic once more when it comes up again."""
        self._topics.discard(topic)
