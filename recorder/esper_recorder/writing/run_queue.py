"""How long a thread has waited for a processor, so that a busy machine is not taken for a slow disk."""

from __future__ import annotations

import os


class RunQueue:
    """The waits of the thread that makes it; the file of the system that tells is read again and again."""

    def __init__(self) -> None:
        try:
            self._descriptor: int | None = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self._descriptor = None

    def secs(self) -> float:
        """Seconds that the thread has waited for a processor so far; 0 where the system does not tell."""
        if self._descriptor is None:
            return 0.0
        try:
            return int(os.pread(self._descriptor, 128, 0).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
