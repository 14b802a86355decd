"""What does not move: how long, and how far, a run goes on while its return or its policy stays; part of `course`.

Each number is a sum over the updates since the last one that ended such a stretch. Both forms give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from esper_analyzer.judging.returns import PROGRESS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Flags: TypeAlias = "NDArray[np.bool_]"
Row = Mapping[str, float | None]

MOST_KL = 0.02
"""One update counts as no more nats of KL divergence than this, so that a spike does not decide."""

CEILING = 0.98
"""An entropy is at its ceiling where it is this share of its highest so far, or more."""

LEAST_ENTROPY = 0.05
"""A highest entropy of so many nats, or less, is no ceiling."""

FIRST_RETURNS = 5
"""The first returns of a run are judged by the median of so many measured updates."""

SAME_LENGTH = 1.2
"""Episodes up to so many times as long as in the first update are no longer than those."""

STANDS_OUT = 4.0
"""A fall below the first returns counts if it is so many times the noise."""

MOVED_KL, MOVED_ENTROPY = 5e-4, 1e-3
"""Nats of KL divergence in all, or of entropy, that a policy moves in far fewer than 40 updates if it is trained."""

IDLE_LOSS = 1e-6
"""The size of a policy loss up to which ratios of 1 and normalised advantages explain it: nothing was applied."""


class SumWhile:
    """The sum of weights since a condition last failed; 0 where it fails."""

    __slots__ = ("_base", "_total")

    def __init__(self) -> None:
        self._total, self._base = 0.0, 0.0

    def step(self, holds: bool, weight: float) -> float:
        """Take in one row with a weight of at least 0; return the sum."""
        self._total += weight
        if not holds:
            self._base = self._total
        return self._total - self._base

    def extend(self, holds: Flags, weights: Floats) -> Floats:
        """As `step`, for rows."""
        totals = np.concatenate([[self._total], weights]).cumsum()[1:]
        bases = np.maximum.accumulate(np.concatenate([[self._base], np.where(holds, -np.inf, totals)]))[1:]
        self._total, self._base = float(totals[-1]), float(bases[-1])
        return np.asarray(totals - bases)


class Standstill:
    """How long and how far a run goes on without a rise of its return; the numbers are by `NAMES`.

    The return *does not rise* where `rise_lately` is below `PROGRESS` and the return is not always the same. All are
    null until `rise_lately` is known.

    - `unrisen`: measured updates, one after another, in which it does not rise.
    - `path_unrisen`: how far the policy has moved in these updates: the sum of √(2·KL), its length in the metric of
      the Fisher information, to which KL divergence is half of the square. Null where KL was not measured.
    - `entropy_at_ceiling`: updates in which it does not rise and the entropy stays within 2 % of its highest so far.
      Null where no entropy was measured. An entropy that never differs, as of actions with a fixed deviation, says
      nothing, and counts as not at its ceiling.
    - `return_at_lowest`: measured updates, one after another, at the lowest return so far, after there were others.
    - `return_below_first`: (first − highest of the last `BELOW` smoothed ones) / |first|, of the first returns. 0 where
      that is not well above noise, and where episodes are longer than in the first update, since only short ones have
      ended then. Null where lengths were not measured.
    - `return_is_lowest`: 1 where the smoothed return is the lowest return so far, as most of the newest ones then are;
      else 0.
    """

    NAMES = (
        "unrisen",
        "path_unrisen",
        "entropy_at_ceiling",
        "return_at_lowest",
        "return_below_first",
        "return_is_lowest",
    )

    READS = (
        "episode_return_mean",
        "episode_length_mean",
        "kl_divergence",
        "entropy",
        "rise_lately",
        "return_unmoved",
        "return_noise",
        "return_high",
        "return_now",
    )
    """Columns from which they are made; the last five are of `returns.Returns`."""

    def __init__(self) -> None:
        self._unrisen, self._path, self._ceiling, self._at_lowest = SumWhile(), SumWhile(), SumWhile(), SumWhile()
        self._lowest, self._highest = math.inf, -math.inf
        self._lowest_entropy, self._highest_entropy = math.inf, -math.inf
        self._length, self._first_length = math.nan, math.nan
        self._firsts: list[float] = []  # the first measured returns
        self._first = math.nan

    def step(self, row: Row) -> tuple[float | None, ...]:
        """Take in one row with `READS`; return the numbers in the order of `NAMES`."""
        rise, unmoved = row["rise_lately"], row["return_unmoved"]
        is_still = rise is not None and rise < PROGRESS and unmoved == 0.0
        earned, length = row["episode_return_mean"], row["episode_length_mean"]
        kl, entropy = row["kl_divergence"], row["entropy"]
        if length is not None and math.isfinite(length):
            self._length = length
            if math.isnan(self._first_length):
                self._first_length = length
        is_measured, is_lowest = False, True
        if earned is not None and math.isfinite(earned):
            is_measured, is_lowest = True, self._take_return(earned)
        at_lowest = self._at_lowest.step(is_lowest, is_measured)
        path = ceiling = None
        if kl is not None and math.isfinite(kl):
            path = self._path.step(is_still, math.sqrt(2.0 * min(abs(kl), MOST_KL)))
        elif not is_still:
            self._path.step(False, 0.0)
        if entropy is not None and math.isfinite(entropy):
            ceiling = self._ceiling.step(self._take_entropy(entropy) and is_still, 1.0)
        elif not is_still:
            self._ceiling.step(False, 0.0)
        unrisen = self._unrisen.step(is_still, is_measured)
        if rise is None:
            return (None,) * 6
        below_first, now = self._below_first(row["return_high"], row["return_noise"]), row["return_now"]
        is_at_lowest = 1.0 if now is not None and now <= self._lowest else 0.0
        return unrisen, path, ceiling, at_lowest, below_first, is_at_lowest

    def extend(self, columns: Mapping[str, Floats]) -> list[Floats]:
        """As `step`, for rows; one array for each of `NAMES`, NaN where there is no number."""
        earned, length, kl, entropy, rise, unmoved, noise, high, now = (columns[name] for name in self.READS)
        is_still = (rise < PROGRESS) & (unmoved == 0.0)
        is_measured, has_kl, has_entropy = np.isfinite(earned), np.isfinite(kl), np.isfinite(entropy)
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.where(has_kl, np.sqrt(2.0 * np.minimum(np.abs(kl), MOST_KL)), 0.0)
            path = np.where(has_kl, self._path.extend(is_still, steps), np.nan)
            at_ceiling = ~has_entropy | self._all_at_ceiling(np.where(has_entropy, entropy, np.nan))
            ceiling = self._ceiling.extend(is_still & at_ceiling, has_entropy.astype(np.float64))
            unrisen = self._unrisen.extend(is_still, is_measured.astype(np.float64))
            at_lowest, lowest = self._all_at_lowest(earned, is_measured)  # which takes in the first returns
            below_first = self._all_below_first(length, high, noise)
            is_at_lowest = (now <= lowest).astype(np.float64)
            found = [unrisen, path, np.where(has_entropy, ceiling, np.nan), at_lowest, below_first, is_at_lowest]
        return [np.where(np.isnan(rise), np.nan, one) for one in found]

    def _all_at_ceiling(self, entropy: Floats) -> Flags:
        lowest = np.fmin.accumulate(np.append(self._lowest_entropy, entropy))[1:]
        highest = np.fmax.accumulate(np.append(self._highest_entropy, entropy))[1:]
        self._lowest_entropy, self._highest_entropy = float(lowest[-1]), float(highest[-1])
        return (np.maximum(lowest, LEAST_ENTROPY) < highest) & (entropy >= CEILING * highest)

    def _all_at_lowest(self, earned: Floats, is_measured: Flags) -> tuple[Floats, Floats]:
        """The measured updates at the lowest return, and that return, after each row."""
        for value in earned[is_measured][: FIRST_RETURNS - len(self._firsts)].tolist():
            self._take_first(value)
        lowest = np.minimum.accumulate(np.append(self._lowest, np.where(is_measured, earned, np.inf)))[1:]
        highest = np.maximum.accumulate(np.append(self._highest, np.where(is_measured, earned, -np.inf)))[1:]
        self._lowest, self._highest = float(lowest[-1]), float(highest[-1])
        is_lowest = ~is_measured | ((earned <= lowest) & (lowest < highest))
        return self._at_lowest.extend(is_lowest, is_measured.astype(np.float64)), lowest

    def _all_below_first(self, length: Floats, high: Floats, noise: Floats) -> Floats:
        rows = np.flatnonzero(np.isfinite(length))
        known = np.append(self._length, length[rows])
        if len(rows) and math.isnan(self._first_length):
            self._first_length = float(known[1])
        self._length = float(known[-1])
        now = known[np.searchsorted(rows, np.arange(len(length)), side="right")]
        fall, size = self._first - high, abs(self._first)
        stands_out = (fall > STANDS_OUT * noise) & (now <= SAME_LENGTH * self._first_length)
        below = np.where(stands_out, fall / size if size > 0.0 else 0.0, 0.0)
        below[np.isnan(now) | np.isnan(high) | np.isnan(noise)] = np.nan
        return below

    def _take_entropy(self, entropy: float) -> bool:
        """Take in an entropy; tell whether it is at its ceiling."""
        if entropy < self._lowest_entropy:
            self._lowest_entropy = entropy
        if entropy > self._highest_entropy:
            self._highest_entropy = entropy
        highest = self._highest_entropy
        return entropy >= CEILING * highest and max(self._lowest_entropy, LEAST_ENTROPY) < highest

    def _take_return(self, earned: float) -> bool:
        """Take in a return; tell whether it is the lowest one so far, of several."""
        if len(self._firsts) < FIRST_RETURNS:
            self._take_first(earned)
        if earned > self._highest:
            self._highest = earned
        if earned > self._lowest:
            return False
        self._lowest = earned
        return earned < self._highest

    def _take_first(self, earned: float) -> None:
        self._firsts.append(earned)
        if len(self._firsts) == FIRST_RETURNS:
            self._first = sorted(self._firsts)[FIRST_RETURNS // 2]

    def _below_first(self, high: float | None, noise: float | None) -> float | None:
        if high is None or noise is None or math.isnan(self._length):
            return None
        fall, size = self._first - high, abs(self._first)
        stands_out = fall > STANDS_OUT * noise and self._length <= SAME_LENGTH * self._first_length
        return fall / size if stands_out and size > 0.0 else 0.0


class PolicyMotion:
    """Updates in all of which the policy stayed where it began, so far; 0 once it moved.

    Only updates count in which KL divergence and entropy were measured. The policy moved once the KL divergences add up
    to `MOVED_KL`, or the entropy is `MOVED_ENTROPY` away from its first value. In an *idle* update the entropy says
    nothing, since some trainers estimate it from the sampled actions, as SB3 does under gSDE. An update is idle if KL
    divergence is exactly 0, nothing was clipped, and the policy loss is at most `IDLE_LOSS`: that of ratios of 1. A KL
    divergence of 0 alone may be one that the trainer does not compute.
    """

    READS = ("kl_divergence", "entropy", "clip_fraction", "policy_loss")

    def __init__(self) -> None:
        self._count, self._moved, self._first, self._has_moved = 0, 0.0, math.nan, False

    def step(self, row: Row) -> float | None:
        """Take in one row with `READS`; return the number, None in a row that does not count."""
        kl, entropy = row["kl_divergence"], row["entropy"]
        if kl is None or entropy is None or not (math.isfinite(kl) and math.isfinite(entropy)):
            return None
        if not self._count:
            self._first = entropy
        self._count += 1
        if not self._has_moved:
            self._moved += abs(kl)
            is_far = abs(entropy - self._first) >= MOVED_ENTROPY
            self._has_moved = self._moved >= MOVED_KL or (is_far and not (kl == 0.0 and _is_idle(row)))
        return 0.0 if self._has_moved else float(self._count)

    def extend(self, columns: Mapping[str, Floats]) -> Floats:
        """As `step`, for rows; NaN in those that do not count."""
        kl, entropy, clipped, loss = (columns[name] for name in self.READS)
        found = np.full(len(kl), np.nan)
        rows = np.flatnonzero(np.isfinite(kl) & np.isfinite(entropy))
        if not len(rows):
            return found
        if self._has_moved:
            found[rows] = 0.0
            return found
        if not self._count:
            self._first = float(entropy[rows[0]])
        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.concatenate([[self._moved], np.abs(kl[rows])]).cumsum()[1:]
            is_idle = (kl[rows] == 0.0) & (clipped[rows] == 0.0) & (np.abs(loss[rows]) <= IDLE_LOSS)
            far = (np.abs(entropy[rows] - self._first) >= MOVED_ENTROPY) & ~is_idle
        has_moved = np.logical_or.accumulate((moved >= MOVED_KL) | far)
        found[rows] = np.where(has_moved, 0.0, self._count + np.arange(1, len(rows) + 1))
        self._count, self._moved, self._has_moved = self._count + len(rows), float(moved[-1]), bool(has_moved[-1])
        return found


def _is_idle(row: Row) -> bool:
    """Whether nothing was clipped, and the policy loss is that of ratios of 1."""
    loss = row["policy_loss"]
    return row["clip_fraction"] == 0.0 and loss is not None and abs(loss) <= IDLE_LOSS
