"""`Explanation`: what moved first before an update, as one object, whose fields are the keys of `esper-explain/1`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from esper_analyzer.explaining.band import Direction
from esper_analyzer.strict_json import strict
from esper_schemas.metric.metrics import Level

FORMAT = "esper-explain/1"


@dataclass(frozen=True, slots=True)
class ExplainedAlert:
    """The alert that is explained; the fields are those of `Alert`."""

    rule: str
    metric: str
    level: Level
    update: int
    since: int
    message: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A metric that left its own band.

    Attributes:
        metric: its name.
        is_extra: whether it is not in the metrics table.
        source: `updates` for a column of the rows, `black box` for a number that only the minibatches have.
        update: the update in which it left its band.
        minibatch: the minibatch of that update in which it left, from 0; None if no black box tells.
        direction: where it went: `up`, `down` or `not finite`.
        deviations: how far it went, in robust deviations from what was usual. Infinite if it is not finite, or if it
            had been constant.
        usual: median of the values before.
        low, high: the band that it left.
        value: its first value outside the band.
        peak, peak_update: its farthest value and that one's update.
        lasts: whether it was still outside the band at the update that is explained.
        is_apart: whether it left before the moment at which most metrics did; see `moment`.
    """

    metric: str
    is_extra: bool
    source: str
    update: int
    minibatch: int | None
    direction: Direction
    deviations: float
    usual: float
    low: float
    high: float
    value: float
    peak: float
    peak_update: int
    lasts: bool
    is_apart: bool = False

    @property
    def was_constant(self) -> bool:
        """Whether it had one value in all updates that its band was made of."""
        return self.low == self.high


@dataclass(frozen=True, slots=True)
class Explanation:
    """What moved first before an update of a run.

    Attributes:
        run_id, path: the run.
        rank: the rank whose rows were read.
        update: the update that is explained. Later rows were not read.
        alert: the alert that chose the update; None if the update was asked for.
        since: first update that was looked at.
        sentences: the answer in words, most important first.
        moved: the metrics that left their bands from `since` on, in the order in which they did. Metrics of one update
            are in the order in which the update computes them, and then the farthest first. Those that left apart from
            the rest follow after the others, and durations and memory are last.
        steady: the metrics that stayed in their bands.
        not_judged: metrics that were measured too rarely to have a band.
        is_damaged: whether files of the run are damaged; the rows that can be read were used.
    """

    run_id: str
    path: str
    rank: int
    update: int
    alert: ExplainedAlert | None
    since: int
    sentences: Sequence[str]
    moved: Sequence[Moved]
    steady: Sequence[str]
    not_judged: Sequence[str]
    is_damaged: bool
    format: str = field(default=FORMAT)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain dictionaries and lists, `format` first; NaN and infinities are floats."""
        return {"format": self.format, "question": "what moved first", **asdict(self)}

    def to_json(self) -> str:
        """Return the explanation as strict JSON in ASCII: NaN and infinities are strings."""
        return json.dumps(strict(self.to_dict()), indent=2, allow_nan=False)
