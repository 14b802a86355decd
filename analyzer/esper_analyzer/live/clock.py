"""The clock of a replay: how many rows have happened by now, at the recorded times or at a fixed rate."""

from __future__ import annotations

import numpy as np
import polars as pl

REPLAY_SECS = 25.0
"""Duration of a replay for which no speed is given."""

AT_ONCE_SECS = 2.0
"""Duration of a replay "as fast as possible", which is still slow enough to see."""

_Secs = np.ndarray[tuple[int], np.dtype[np.float64]]


class Clock:
    """The position in a replay. Time passes only in `advance`.

    Attributes:
        position: number of rows that have happened.
        playing: whether time passes.
        speed: how many times faster than recorded.
        rate: rows per second, if the rate is fixed.
        real: whether rows happen at their recorded times rather than at a fixed rate.
    """

    def __init__(self, times: pl.Series, speed: float | None = None) -> None:
        """Replay rows that happened at these times in seconds (Float64, rising); `speed` 0 is as fast as possible."""
        self._times: _Secs = times.to_numpy()
        self.total = len(times)
        span = float(self._times[-1]) if self.total else 0.0
        self.position = 0
        self.playing = True
        self.real = speed != 0.0 and span > 0.0
        self.speed = speed or max(span / REPLAY_SECS, 1e-3)
        self.rate = max(self.total / (AT_ONCE_SECS if speed == 0.0 else REPLAY_SECS), 1.0)
        self._secs = 0.0
        self._rows = 0.0

    def advance(self, secs: float) -> None:
        """Let time pass, unless the replay is paused; it stops at the end."""
        if not self.playing:
            return
        if self.real:
            self._secs += secs * self.speed
            self.position = int(np.searchsorted(self._times, self._secs, side="right"))
            self._rows = float(self.position)
        else:
            self._rows = min(self._rows + secs * self.rate, float(self.total))
            self.position = int(self._rows)
            self._secs = self.recorded_secs
        self.playing = self.position < self.total

    def seek(self, position: int) -> None:
        """Go to the moment after so many rows."""
        self.position = max(0, min(position, self.total))
        self._secs, self._rows = self.recorded_secs, float(self.position)

    def toggle(self) -> None:
        """Play or pause; at the end, play from the beginning."""
        if not self.playing and self.position >= self.total:
            self.seek(0)
        self.playing = not self.playing

    def scale(self, factor: float) -> None:
        """Multiply the speed, or the rate, by a factor."""
        if self.real:
            self.speed = min(max(self.speed * factor, 1e-3), 1e9)
        else:
            self.rate = min(max(self.rate * factor, 0.1), 1e9)

    def toggle_timing(self) -> None:
        """Switch between the recorded times and a fixed rate."""
        self.real = not self.real and self.total > 0 and float(self._times[-1]) > 0.0

    @property
    def recorded_secs(self) -> float:
        """Recorded seconds from the first row to the newest that has happened."""
        return float(self._times[self.position - 1]) if self.position else 0.0

    @property
    def pace(self) -> str:
        """The speed, in words."""
        return f"{self.speed:.3g}× recorded" if self.real else f"{self.rate:.3g} updates/s"


def replay_times(wall_time: pl.Series) -> pl.Series:
    """Return the seconds from the first row to each row; long pauses are shortened, and no time runs backwards."""
    gaps = wall_time.diff().dt.total_microseconds().fill_null(0).cast(pl.Float64) / 1e6
    usual = gaps.filter(gaps > 0.0).median()
    longest = 100.0 * usual if isinstance(usual, float) else 0.0
    return gaps.clip(0.0, longest).cum_sum()
