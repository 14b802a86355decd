"""Further runs in the chart of the screen: how each looks, and where it is on the axis of the run in front."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from esper_analyzer.live.picture import Picture
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.places import Ruler

LOOKS = (("bright_yellow", 11, "o"), ("bright_magenta", 13, "x"), ("bright_green", 10, "+"), ("bright_blue", 12, "%"),
         ("white", 15, "&"))  # fmt: skip
"""Colour, its number, and character in ASCII of each further run; none is red."""

_NEARLY = 6  # decimals of an update; what is nearer than that to a whole one is that one


@dataclass(slots=True)
class Other:
    """A further run in the chart: its name, and its state so far."""

    name: str
    picture: Picture = field(default_factory=lambda: Picture("opening"))

    def span(self, ruler: Ruler) -> tuple[int, int] | None:
        """Return its first and last update as those of the run in front; None if none is known on that run's axis."""
        own, span = self.picture.places.ruler(ruler.by), self.picture.span
        if own is None or span is None:
            return None
        return _floor(ruler.update_at(own.at(span[0]))), _ceil(ruler.update_at(own.at(span[1])))

    def beside(self, metric: str, limits: tuple[int, int], ruler: Ruler) -> tuple[Buckets, Ruler] | None:
        """Return the buckets of a metric between two updates of the run in front, and the axis; None without them."""
        own = self.picture.places.ruler(ruler.by)
        if own is None:
            return None
        first, last = _floor(own.update_at(ruler.at(limits[0]))), _ceil(own.update_at(ruler.at(limits[1])))
        found = self.course(metric, (first, last))
        return None if found is None else (found, own)

    def course(self, metric: str, limits: tuple[int, int]) -> Buckets | None:
        """Return the buckets of a metric between two updates; None if they have not been read."""
        detail, history = self.picture.detail, self.picture.history
        if metric in history.names:
            return history.of(metric, *limits)
        return detail.history.of(metric, *limits) if detail is not None and detail.metric == metric else None

    def lacks(self, metric: str) -> bool:
        """Whether the course of a metric has to be read."""
        is_read = self.picture.detail is not None and self.picture.detail.metric == metric
        return self.picture.rows > 0 and metric not in self.picture.history.names and not is_read


def _floor(update: float) -> int:
    return math.floor(round(update, _NEARLY))


def _ceil(update: float) -> int:
    return math.ceil(round(update, _NEARLY))
