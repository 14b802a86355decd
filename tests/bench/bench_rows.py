"""What the benchmarks of recording share: the rows, calls that hand them over, and what the calls cost."""

from __future__ import annotations

import random
import statistics
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from esper_schemas import METRICS

SCALARS = [name for name, metric in METRICS.items() if metric.dtype == "float64" and name != "elapsed_secs"][:39]
RARE_CALLS = 1000
"""With fewer calls than this, their 99.9th percentile is only the longest of them."""

Call = Callable[[Sequence[object]], object]
Row = TypeVar("Row")


def float32_valued(rng: random.Random) -> float:
    """A positive number that is exact in float32, as numbers of a network are."""
    value: float = struct.unpack("f", struct.pack("f", rng.lognormvariate(0, 1)))[0]
    return value


def updates(count: int, seed: int) -> list[list[float]]:
    """`count` updates of 40 numbers: the index, and 39 float32-valued floats."""
    rng = random.Random(seed)
    return [[index, *(float32_valued(rng) for _ in SCALARS)] for index in range(count)]


def compiled(template: str, argument: str, names: Sequence[str], **scope: object) -> Call:
    """A function that hands local values over by name, as a line in a training loop does.

    `argument` is written once for each of `names`, with its index `i`, and takes the place of `{}` in `template`.
    """
    handed = ", ".join(argument.format(name=name, i=i) for i, name in enumerate(names))
    exec(f"def call(v): return {template.format(handed)}", scope)
    call: Call = scope["call"]  # type: ignore[assignment]
    return call


class Costs:
    """What calls of one kind cost their caller, in microseconds, over interleaved rounds."""

    def __init__(self) -> None:
        self._medians: list[float] = []
        self._calls: list[int] = []

    def add_round(self, call: Callable[[Row], object], rows: Iterable[Row]) -> None:
        """Time one call for each row."""
        spent = []
        for row in rows:
            began = time.perf_counter_ns()
            call(row)
            spent.append(time.perf_counter_ns() - began)
        self._medians.append(statistics.median(spent) / 1e3)
        self._calls += spent

    @property
    def median(self) -> float:
        """Median of the medians of the rounds."""
        return statistics.median(self._medians)

    @property
    def pauses(self) -> str:
        """The 99.9th percentile and the longest of all calls, as two columns of nine characters."""
        calls = sorted(self._calls)
        rare = f"{calls[int(0.999 * len(calls))] / 1e3:9,.0f}" if len(calls) >= RARE_CALLS else f"{'–':>9}"
        return f"{rare}{calls[-1] / 1e3:9,.0f}"
