"""Detects that a bounded number falls below a floor, with a bound on how often it is wrong: an e-detector.

**What it computes.** The number X_t is in [low, high]. For a bet λ in [0, 1 / (high − floor)], the factor
E_t = 1 + λ·(floor − X_t) is never negative, and its mean given the past is at most 1 under the

    null hypothesis: E[X_t | everything before X_t] ≥ floor, for every t.

M_t = E_t·(1 + M_{t−1}) with M_0 = 0 is then a Shiryaev–Roberts e-detector: M_t − t is a supermartingale, so that
E[M_τ] ≤ E[τ] for every stopping time τ. The mean of several M, one for each bet, is one too. Small bets find small
falls, large bets find deep falls early. The mean over the bets is the *statistic*.

**What is guaranteed.** Under the null, let an alarm be raised when the statistic reaches a threshold A. Then

- the average run length to the first alarm is at least A updates, and
- within T updates there is a first alarm with a probability of at most T / A.

Both hold for any distribution and any dependence within the null, however often one looks. A rule that waits for
further evidence before it raises an alert alarms later still, and keeps both.

**Where nothing is guaranteed.** The null is about the mean *given the past*. A number with a memory, such as AR(1)
noise around the floor, has spells in which its mean given the past is below the floor although its overall mean is
not. An alarm in such a spell is right about the spell, but such alarms can come sooner than A on average.
`notebooks/benchmark/guarantee.py` measures by how much.

**Missing values** leave the statistic as it is, and do not count as updates. The guarantee holds as it stands if the
decision to observe X_t is predictable, which means that it is made from what was known before X_t: the factor is
then 1 where nothing is observed. If the decision uses anything from the same update, such as the spread of its
returns, the null must hold given that, too: E[X_t | everything before, what decided] ≥ floor whenever X_t is observed.
It fails if high values are the ones left out.

**The cap.** The statistic grows exponentially during a fall, and would take as long to recover as the fall lasted.
So each M is replaced by min(M, K·10**cap), where K is the number of bets. This keeps the guarantee for every threshold
A ≤ 10**cap. As long as no M has reached K·10**cap, nothing was changed. One that reaches it makes the mean at least
10**cap, and so at least A, by itself: the first alarm is raised at that update or was raised earlier. The first alarm
is therefore raised at the same update with the cap and without. After it, a lower M can only make alarms rarer.

**After an alarm** nothing is reset. From a statistic that has fallen to R < A, the average run length to the next
alarm is at least A − R. It takes a bounded number of good updates to get there, because of the cap.

Sources: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection" (2023),
for e-detectors, their run length and their mixtures; Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting" (2024), for the factor; Shekhar and Ramdas, "Reducing sequential change detection to sequential
estimation" (2024), for the same guarantee from confidence sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log10, sqrt
from typing import TYPE_CHECKING

import numpy as np

from esper_schemas.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FRACTIONS = (0.1, 0.2, 0.3, 0.4)
"""The bets, as fractions of the largest one that is allowed. The guarantee holds for every choice.

Larger bets find deep falls in about half of the time. But they also answer to short spells, so that outside the null,
in noise with a memory, they raise many more alarms. `notebooks/benchmark/guarantee.py` compares a few choices.
"""

MAX_CAP = 100.0
"""Up to this cap, products of two capped numbers and a factor are finite, so that no logarithms are needed."""

_BATCH = 65_536
"""Number of values that `EDetector.extend` works on at a time, which bounds its memory."""


class EDetector:
    """The evidence that the mean of a bounded number, given its past, has fallen below a floor.

    `step` and `extend` continue the same state and agree to about 1e-12, so that a run can be judged live, as a whole,
    or in any portions.

    Attributes:
        floor, low, high: the floor of the null hypothesis, and the bounds of the number; low ≤ floor < high.
        cap: the largest value that is returned; the guarantee holds for alarms at this value and below.
    """

    __slots__ = ("_bets", "_ceiling", "_statistics", "cap", "floor", "high", "low")

    def __init__(
        self, *, floor: float, low: float, high: float, fractions: Sequence[float] = FRACTIONS, cap: float = 6.0
    ) -> None:
        """Begin without any evidence.

        Args:
            floor, low, high, cap: see the attributes.
            fractions: the bets as fractions of 1 / (high − floor), each above 0 and at most 1.

        Raises:
            UsageError: a bound is not finite, the floor is not in [low, high), the cap is not in (0, 100], or there
                is no fraction or one outside (0, 1].
        """
        if not (isfinite(low) and isfinite(high) and low <= floor < high):
            found = f"floor {floor}, low {low}, high {high}"
            raise UsageError(f"floor must be at least low and below high, all finite; found {found}")
        if not 0 < cap <= MAX_CAP:
            raise UsageError(f"cap must be above 0 and at most {MAX_CAP:g}, found {cap}")
        if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
            raise UsageError(f"fractions must be one or more numbers above 0 and at most 1, found {list(fractions)}")
        self.floor, self.low, self.high, self.cap = floor, low, high, cap
        self._bets = [fraction / (high - floor) for fraction in fractions]
        self._ceiling = len(self._bets) * 10.0**cap
        self._statistics = [0.0] * len(self._bets)

    @property
    def level(self) -> float:
        """The statistic now, as `step` returned it last; 0 before the first value."""
        return self._level(sum(self._statistics) / len(self._bets))

    def step(self, value: float | None) -> float:
        """Add one value, and return log10 of the statistic.

        Args:
            value: the next value; beyond `low` and `high` it counts as that bound. None and NaN are missing.

        Returns:
            A number in [0, `cap`]. 5 means that under the null one waits for at least 1e5 values, on average, to see
            a 5. 0 stands for every statistic of at most 1, which is no evidence.
        """
        if value is None or value != value:  # NaN
            return self.level
        gap = self.floor - (self.low if value < self.low else self.high if value > self.high else value)
        statistics, ceiling, total = self._statistics, self._ceiling, 0.0
        for i, bet in enumerate(self._bets):  # a loop costs half of what comprehensions and calls of min do
            grown = (1.0 + bet * gap) * (1.0 + statistics[i])
            if grown > ceiling:
                grown = ceiling
            statistics[i] = grown
            total += grown
        return self._level(total / len(statistics))

    def extend(self, values: ArrayLike) -> NDArray[np.float64]:
        """As `step` for each of many values, at a fraction of the cost.

        Args:
            values: [n] the next values, in order, as Float64; NaN (and None) is missing.

        Returns:
            [n] what `step` would have returned for each value.

        Raises:
            UsageError: values have another shape than [n].
        """
        numbers = np.asarray(values, np.float64)
        if numbers.ndim != 1:
            raise UsageError(f"values must be one row of numbers, found an array of shape {numbers.shape}")
        is_observed = ~np.isnan(numbers)
        gaps = self.floor - np.clip(numbers[is_observed], self.low, self.high)
        statistics = np.empty(len(gaps) + 1)  # before the first value, and after each
        statistics[0] = sum(self._statistics) / len(self._bets)
        for start in range(0, len(gaps), _BATCH):
            batch = gaps[start : start + _BATCH]
            statistics[start + 1 : start + 1 + len(batch)] = self._advance(batch)
        last_observed = np.cumsum(is_observed)
        levels: NDArray[np.float64] = np.minimum(np.log10(np.maximum(statistics, 1.0)), self.cap)[last_observed]
        return levels

    def _level(self, statistic: float) -> float:
        return min(log10(statistic), self.cap) if statistic > 1.0 else 0.0

    def _advance(self, gaps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Advance the state by floor − value of some values [n]; return the statistic after each of them [n].

        What a row of values does to an M is always M → min(top, bottom + slope·M), because each single value is such a
        map (min(ceiling, E + E·M)), and one after another they are such a map again. So the values are cut into
        blocks of √n. First, the maps of all blocks are found side by side: `top` is where a block takes the ceiling,
        `bottom` where it takes 0. Then the state is led from block to block through these maps. Last, all blocks run
        side by side from their states. A loop in Python has √n turns, not n.

        Nothing overflows: `bottom` and `slope` are cut off at the ceiling. Where the slope is cut off, bottom ≥ slope
        has reached the ceiling, too, and the map is constant whatever its slope.
        """
        length = max(1, round(sqrt(len(gaps))))
        blocks = -(-len(gaps) // length)
        padded = np.zeros(blocks * length)
        padded[: len(gaps)] = gaps
        bets = np.array(self._bets)[:, None]
        side_by_side = np.ascontiguousarray(padded.reshape(blocks, length).T)
        factors = 1.0 + bets * side_by_side[:, None, :]  # [values of a block, bets, blocks]
        # Of each block: where it takes the ceiling, where it takes 0, and by how much what it takes counts.
        maps = np.empty((3, len(bets), blocks))
        maps[0], maps[1], maps[2] = self._ceiling, 0.0, 1.0
        top, bottom, slope = maps
        for factor in factors:
            maps[:2] += 1.0
            maps *= factor
            np.minimum(maps, self._ceiling, out=maps)
        starts = np.empty((len(bets), blocks))
        state = np.array(self._statistics)
        for block in range(blocks):
            starts[:, block] = state
            state = np.minimum(top[:, block], bottom[:, block] + slope[:, block] * state)
        grown, state_before = np.empty_like(starts), starts
        for factor in factors:  # each is replaced by the state after it
            np.add(state_before, 1.0, out=grown)
            factor *= grown
            np.minimum(factor, self._ceiling, out=factor)
            state_before = factor
        block, last = divmod(len(gaps) - 1, length)
        self._statistics = factors[last, :, block].tolist()
        after: NDArray[np.float64] = (factors.sum(axis=1) / len(bets)).T.reshape(-1)[: len(gaps)]
        return after
