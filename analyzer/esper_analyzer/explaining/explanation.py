"""`Explanation`: what moved first before an update, as one object, whose fields are the keys of `esper-explain/1`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from esper_analyzer.explaining.band import Direction
from esper_analyzer.explaining.presence import Presence
from esper_analyzer.judging.trouble import RaisedAlert
from esper_analyzer.strict_json import strict
from esper_schemas.run.ending import Status

FORMAT = "esper-explain/1"

Chosen = Literal["asked", "broke off", "in force", "over", "nothing"]
"""Why an update is explained: see `Explanation.chosen`."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A metric that left its own band.

    Attributes:
        metric: its name.
        is_extra: whether it is not in the metrics table.
        source: `updates` for a column of the rows, `black box` for a number that only the minibatches have.
        update: the update in which it left its band.
        minibatch: the minibatch of that update in which it left, from 0; None if no black box tells.
        direction: where it went: `up`, `down` or `not finite`; `silent` if no update from this one on measured it, and
            `new` if none had before.
        deviations: how far it went, in robust deviations from what was usual. Infinite if it is not finite, if it had
            been constant, or if it is silent or new.
        usual: median of the values before; None if it is new. If it is silent, the last value.
        low, high: the band that it left; None if it is silent or new. So are `value` and `peak` if it is silent.
        value: its first value outside the band.
        peak, peak_update: its farthest value and that one's update.
        lasts: whether it was still outside the band at the update that is explained.
        is_apart: whether it left before the moment at which most metrics did; see `moment`.
        beside: metrics that say the same and left their bands together with it, in order; see `families`.
    """

    metric: str
    is_extra: bool
    source: str
    update: int
    minibatch: int | None
    direction: Direction | Presence
    deviations: float
    usual: float | None
    low: float | None
    high: float | None
    value: float | None
    peak: float | None
    peak_update: int
    lasts: bool
    is_apart: bool = False
    beside: tuple[Moved, ...] = ()

    @property
    def was_constant(self) -> bool:
        """Whether it had one value in all updates that its band was made of."""
        return self.low is not None and self.low == self.high


@dataclass(frozen=True, slots=True)
class Explanation:
    """What moved first before an update of a run.

    Attributes:
        run_id, path: the run.
        status, end_reason: the status of the ranks that were looked at, and why the last attempt ended; as of a report.
        is_imported: whether it is the log of another trainer, of whose end nothing is known.
        rank: the rank whose rows were read.
        update: the update that is explained. Later rows were not read.
        chosen: why this one: it was `asked` for, or an alert was raised in it that is `in force` after the newest row,
            or that is `over`; see `trouble_of`. It is `broke off` if the run ended in this update, which was never
            recorded, with a black box: `update` is the number that it would have had; see `broken_off`. Where there is
            nothing of these, it is `nothing`: `update` and `since` are the newest update, and the lists are empty.
        alert: the alert that chose the update; None if the update was asked for, or there is none.
        since: first update that was looked at.
        sentences: the answer in words, most important first.
        moved: the metrics that left their bands from `since` on, in the order in which they did. Metrics of one update
            are in the order in which the update computes them, and then the farthest first. Those that left apart from
            the rest follow after the others, and durations and memory are last. Of metrics that say the same, only the
            first is listed; the others are in its `beside`.
        steady: the metrics that stayed in their bands.
        not_judged: metrics that were measured too rarely to have a band.
        remarks: which reference runs the run was judged beside, and which not, where any were named.
        is_damaged: whether files of the run are damaged; the rows that can be read were used.
    """

    run_id: str
    path: str
    status: Status
    end_reason: str | None
    is_imported: bool
    rank: int
    update: int
    chosen: Chosen
    alert: RaisedAlert | None
    since: int
    sentences: Sequence[str]
    moved: Sequence[Moved]
    steady: Sequence[str]
    not_judged: Sequence[str]
    remarks: Sequence[str]
    is_damaged: bool
    format: str = field(default=FORMAT)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain dictionaries and lists, `format` first; NaN and infinities are floats."""
        return {"format": self.format, "question": "what moved first", **asdict(self)}

    def to_json(self) -> str:
        """Return the explanation as strict JSON in ASCII: NaN and infinities are strings."""
        return json.dumps(strict(self.to_dict()), indent=2, allow_nan=False)
