"""The course of the return: where it began, what it reached, and whether it moves; part of `course`."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from functools import reduce
from itertools import islice
from operator import add
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from esper_analyzer.judging import rolling, signals
from esper_analyzer.judging.hold import HELD, HELD_MEASURED, Hold
from esper_analyzer.judging.windows import Highest, Window, middle

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Rows: TypeAlias = "NDArray[np.int64]"
Values = Sequence[float]
_TEN = 10
_SQRT_2 = math.sqrt(2.0)

START_RETURNS = 15
"""The start of a run is judged from so many updates in which episodes ended; the first of them see only short ones."""

SMOOTHED, FEWEST = 10, 5
"""The return is smoothed by the median of so many measured updates, and of at least so many."""

LONG = 30
"""Progress is looked for in the median of so many measured updates, and of at least `SMOOTHED`."""

BELOW = 25
"""It is below its start if it was lower, smoothed, in so many measured updates one after another."""

SLOW, SLOW_WEIGHT = 50, 1.8
"""A slow rise is looked for in the mean of so many measured updates, which counts so many times, as it is steadier."""

MEAN_CHANGE_TO_STD = math.sqrt(math.pi) / 2.0
"""Standard deviation over the mean size of the changes from one value to the next, in a normal distribution."""

QUICK = 1.5
"""What the short median rises counts for so many times less, as it is noisier."""

NOISE_ROWS = 30
"""The noise of the return is judged from so many measured updates."""

TAIL, TAIL_TO_STD = 0.9, 1 / 1.6449
"""It is also judged from this quantile of the sizes of changes; in a normal distribution, that is 1.6449 of its std."""

_TAIL_RANK = int(TAIL * (NOISE_ROWS - 1)) + 1

LOOKED_AT = 60
"""From so many measured updates on, what counts as progress grows, since the maximum of noise grows with its rows."""

CLEAR_GAIN, LEAST_GAIN = 8.0, 0.1
"""A gain of the return is beyond doubt if it is so many times the noise, and such a share of the return's size."""

CLEAR_LOSS = 2.0
"""What is lost of a gain counts if it is so many times the noise, which a fall often raises."""

PROGRESS = 1.7
"""The return has made progress once it has risen by so many times its noise."""

LARGEST_RETURN = 1e300
"""A return beyond it, on either side, counts as it, so that differences and medians of returns are finite."""


class Returns:
    """Where the episode return began, what it reached and whether it moves, from the updates in which it was measured.

    Smoothed is the median of `SMOOTHED` measured updates. In rows without a measurement the numbers stay as they were.
    They are, by `NAMES`:

    - `return_start`: the lowest smoothed return of the first `START_RETURNS` measured updates; known after these. The
      lowest, since at first only short episodes have ended, and in many tasks those are the good ones.
    - `return_best`: the highest level below which the smoothed return did not fall in `SMOOTHED` measured updates one
      after another, after the start.
    - `return_now`: the smoothed return.
    - `return_rise`: how far the median of `LONG` measured updates has ever risen above its lowest one before, or the
      smoothed return above its start by `QUICK` times as much, in units of the noise of one, times the eighth root of
      measured updates / `LOOKED_AT` once that is above 1; its maximum so far. 0 until the start is known. Or
      `SLOW_WEIGHT` times how far the mean of `SLOW` is above the lowest one that shares no update with it, if that is
      more, in units of a noise made from the mean change in these updates.
    - `return_fall`: the part of the gain, best − start, that is lost: (best − highest of the last `HELD` updates, or of
      as many as took `hold.HELD_STEPS` environment steps if that is less, or of as many more as it takes to have
      `HELD_MEASURED` returns) / gain. 0 until the gain was beyond doubt once, and where the loss is not well above the
      noise.
    - `return_falling`: the same of the last `SMOOTHED` measured updates, so that it shows sooner.
    - `return_below_start`: (start − highest of the last `BELOW`) / |start|; 0 where the start is not well above noise.
    - `return_stalled`: measured updates without progress since the start of the run; 0 once there was progress, and for
      a return that does not vary. Updates at the lowest return so far do not count, since where a goal is seldom
      reached, most updates are there and show the policy nothing to learn from.
    - `return_unmoved`: measured updates in all of which the return was exactly the same; 0 once it was not.
    - `rise_lately`: as `return_rise`, but of the last `LONG` measured updates alone, so that a rise that was noise, or
      was lost, does not count for ever; known after the start.
    - `return_noise`: the noise, known after the start.
    - `return_high`: the highest smoothed return of the last `BELOW`; known as `return_below_start` is.

    The noise is the largest of three robust standard deviations over `NOISE_ROWS` measured updates: of the distance
    from the smoothed return, and, divided by √2, of the change from one to the next, by its median and by its `TAIL`,
    which is not 0 where most returns are 0.
    """

    NAMES = (
        "return_start",
        "return_best",
        "return_now",
        "return_rise",
        "return_fall",
        "return_falling",
        "return_below_start",
        "return_stalled",
        "return_unmoved",
        "rise_lately",
        "return_noise",
        "return_high",
    )

    def __init__(self) -> None:
        self._count, self._rows = 0, 0
        self._hold, self._held = Hold(), HELD
        self._keep([], [], [], [], [])
        self._means: deque[float] = deque(maxlen=SLOW)
        self._rises = Highest(LONG)
        self._start, self._best, self._has_gained = math.inf, -math.inf, False
        self._lowest, self._lowest_mean, self._rise, self._rise_in_noise = math.inf, math.inf, 0.0, 0.0
        self._first, self._is_unmoved = math.nan, True
        self._lowest_return, self._above_lowest = math.inf, 0  # measured updates above the lowest return before
        self._newest: tuple[float | None, ...] = (None,) * len(self.NAMES)

    def _keep(self, returns: Values, smoothed: Values, at: Sequence[int], off: Values, changes: Values) -> None:
        """Keep the newest of these values: as they came, in order, and added up, so that one more costs little."""
        self._smoothed_at = deque(at, HELD)  # the row of each smoothed return
        self._returns, self._changes, self._off = deque(returns, SLOW), deque(changes, SLOW), deque(off, NOISE_ROWS)
        self._smoothed, self._lately = Highest(HELD, smoothed), Highest(BELOW, smoothed)
        self._just_now = deque(smoothed, SMOOTHED)
        self._in_short, self._in_long = Window(SMOOTHED, returns), Window(LONG, returns)
        self._ordered_off, self._ordered_changes = Window(NOISE_ROWS, off), Window(NOISE_ROWS, changes)
        self._sum_of_returns, self._sum_of_changes = _SlowSum(returns), _SlowSum(changes)

    def step(self, value: float | None, steps: float | None = None) -> tuple[float | None, ...]:
        """Take in the return of one row, and the environment steps so far; return the numbers, in order of `NAMES`."""
        self._rows += 1
        self._held = self._hold.step(steps)
        if value is not None and math.isfinite(value):
            self._newest = self._measured(min(max(value, -LARGEST_RETURN), LARGEST_RETURN), self._rows)
        return self._newest

    def _measured(self, value: float, row: int) -> tuple[float | None, ...]:
        # Comparisons are written out, since each call of `min` and `max` costs as much as a whole line here.
        self._count = count = self._count + 1
        if count == 1:
            self._first = value
        elif self._is_unmoved and value != self._first:
            self._is_unmoved = False
        if value > self._lowest_return:
            self._above_lowest += 1
        elif value < self._lowest_return:
            self._lowest_return = value
        changes = self._ordered_changes.ordered
        if count > 1:
            change = abs(value - self._returns[-1])
            self._changes.append(change)
            self._ordered_changes.push(change)
            self._sum_of_changes.push(change)
        self._returns.append(value)
        self._sum_of_returns.push(value)
        in_short, in_long = self._in_short.push(value), self._in_long.push(value)
        if count < FEWEST:
            return self._beginning()
        smoothed, level = middle(in_short), middle(in_long)
        self._smoothed.push(smoothed)
        self._smoothed_at.append(row)
        self._lately.push(smoothed)
        self._just_now.append(smoothed)
        off = abs(value - smoothed)
        self._off.append(off)
        if count <= START_RETURNS and smoothed < self._start:
            self._start = smoothed
        noise, of_changes = middle(self._ordered_off.push(off)), middle(changes) / _SQRT_2
        noise = (of_changes if of_changes > noise else noise) * signals.MAD_TO_STD
        tail = changes[int(TAIL * (len(changes) - 1))] / _SQRT_2 * TAIL_TO_STD
        if tail > noise:
            noise = tail
        if count >= SMOOTHED:
            if level < self._lowest:
                self._lowest = level
            risen, of_smoothed = level - self._lowest, (smoothed - self._start) / QUICK
            if of_smoothed > risen:
                risen = of_smoothed
            if risen > self._rise:
                self._rise = risen
        if count < START_RETURNS:
            return self._beginning()
        if smoothed > self._best and count >= START_RETURNS + SMOOTHED:
            self._best = max(self._best, min(self._just_now))
        growth = math.sqrt(math.sqrt(math.sqrt(count / LOOKED_AT))) if count > LOOKED_AT else 1.0
        scale, slow_rise = noise * growth, self._slow_rise(growth)
        rise, rise_now = _over(self._rise, scale), _over(risen, scale)
        self._rise_in_noise = max(self._rise_in_noise, rise, slow_rise)
        rise_lately = self._rises.push(slow_rise if slow_rise > rise_now else rise_now)
        fall, falling, below, high = self._falls(smoothed, noise) if count >= START_RETURNS + BELOW else (None,) * 4
        return (
            self._start,
            self._best if self._best > -math.inf else None,
            smoothed,
            self._rise_in_noise,
            fall,
            falling,
            below,
            float(self._above_lowest) if self._rise_in_noise < PROGRESS and noise > 0.0 else 0.0,
            float(count) if self._is_unmoved else 0.0,
            rise_lately,
            noise,
            high,
        )

    def _beginning(self) -> tuple[float | None, ...]:
        """The numbers while the start is not known."""
        unmoved = float(self._count if self._is_unmoved else 0)
        return None, None, None, 0.0, None, None, None, None, unmoved, None, None, None

    def _slow_rise(self, growth: float) -> float:
        """Take in the mean of the newest measured updates; return how far it has risen, in units of noise."""
        if len(self._returns) < SLOW:
            return 0.0
        if len(self._means) == SLOW:
            self._lowest_mean = min(self._lowest_mean, self._means[0])
        mean = self._sum_of_returns.total() / SLOW
        self._means.append(mean)
        if not mean > self._lowest_mean:
            return 0.0
        noise = self._sum_of_changes.total() / SLOW * MEAN_CHANGE_TO_STD
        return _over(SLOW_WEIGHT * (mean - self._lowest_mean), noise * growth)

    def _falls(self, smoothed: float, noise: float) -> tuple[float, float, float, float]:
        best, gain = self._best, self._best - self._start
        if not self._has_gained:
            self._has_gained = gain > max(CLEAR_GAIN * noise, LEAST_GAIN * max(abs(best), abs(self._start)))
        least = CLEAR_LOSS * noise if self._has_gained else math.inf
        size, high = abs(self._start), self._lately.highest
        below = (self._start - high) / size if size > CLEAR_GAIN * noise else 0.0
        if best - smoothed <= least:  # nor is it lost in several updates, of which this is one
            return 0.0, 0.0, below, high
        lost, lost_lately = best - self._highest_held(), best - max(self._just_now)
        return lost / gain if lost > least else 0.0, lost_lately / gain if lost_lately > least else 0.0, below, high

    def _highest_held(self) -> float:
        """The highest smoothed return of the last `_held` rows and of at least `HELD_MEASURED` measured ones."""
        at = self._smoothed_at
        if at[-1] - at[0] < self._held:
            return self._smoothed.highest
        first = min(bisect_right(at, at[-1] - self._held + 1) - 1, len(at) - HELD_MEASURED)
        return max(islice(self._smoothed.values, first, None))

    @staticmethod
    def _highest_held_in(smoothed: Floats, at: Rows, held: Rows) -> Floats:
        """As `_highest_held`, for each smoothed return, in the rows `at`, of so many rows; NaN for the first ones."""
        if at[-1] - at[0] + 1 == len(at) and (held == HELD).all():  # measured in every row
            return rolling.extremes(np.maximum, smoothed, HELD)
        first = np.minimum(np.searchsorted(at, at - held + 1, side="right"), np.arange(len(at)) - HELD_MEASURED + 2)
        return rolling.highest_since(smoothed, first - 1, HELD)

    def extend(self, values: Floats, steps: Floats | None = None) -> list[Floats]:
        """As `step`, for values and steps [rows]; one array for each of `NAMES`, NaN where there is no number yet."""
        is_measured = np.isfinite(values)
        held = self._hold.extend(np.full(len(values), np.nan) if steps is None else steps)[is_measured]
        measured = np.clip(values[is_measured], -LARGEST_RETURN, LARGEST_RETURN)
        before = [math.nan if one is None else one for one in self._newest]
        at = self._rows + 1 + np.flatnonzero(is_measured)
        self._rows += len(values)
        found = [np.concatenate(parts) for parts in zip(*self._measured_all(before, measured, at, held), strict=True)]
        self._newest = tuple(None if math.isnan(one[-1]) else float(one[-1]) for one in found)
        if len(measured) == len(values):
            return [one[1:] for one in found]
        newest = is_measured.cumsum()
        return [one[newest] for one in found]

    def _measured_all(self, before: list[float], values: Floats, at: Rows, held: Rows) -> list[Sequence[Floats]]:
        """The numbers before and after each further measured value, by name, in parts that follow each other.

        Args:
            before: the numbers before.
            values: the measured values.
            at: their rows, from 1.
            held: what `_held` is in these.
        """
        head = values[: max(0, START_RETURNS + HELD - self._count)]  # where windows are not full, one by one
        found = [before]
        for value, row, self._held in zip(head.tolist(), at.tolist(), held.tolist(), strict=False):
            found.append([math.nan if one is None else one for one in self._measured(value, row)])
        rest = values[len(head) :]
        if not len(rest):
            return [[*np.array(found).T]]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return [[*np.array(found).T], self._rest(rest, at[len(head) :], held[len(head) :])]

    def _rest(self, values: Floats, at: Rows, held: Rows) -> list[Floats]:
        """The numbers after each further measured value, by name, where all windows are full."""
        rows = len(values)
        count = self._count + np.arange(1, rows + 1)
        returns = np.concatenate([self._returns, values])
        smoothed = rolling.medians(returns, SMOOTHED)[-rows:]
        all_smoothed = np.concatenate([self._smoothed.values, smoothed])
        changes = np.concatenate([self._changes, np.abs(np.diff(returns))[-rows:]])
        off = np.concatenate([self._off, np.abs(values - smoothed)])
        noise = np.maximum(
            rolling.medians(off, NOISE_ROWS)[-rows:], rolling.medians(changes, NOISE_ROWS)[-rows:] / _SQRT_2
        )
        noise *= signals.MAD_TO_STD
        (tail,) = rolling.ranked(changes[-rows - NOISE_ROWS + 1 :], NOISE_ROWS, (_TAIL_RANK, _TAIL_RANK))
        noise = np.maximum(noise, tail / _SQRT_2 * TAIL_TO_STD)
        growth = np.sqrt(np.sqrt(np.sqrt(np.maximum(count / LOOKED_AT, 1.0))))
        level = rolling.medians(returns, LONG)[-rows:]
        lowest_level = _so_far(np.minimum, self._lowest, level)
        risen = np.maximum(level - lowest_level, (smoothed - self._start) / QUICK)
        rise = _so_far(np.maximum, self._rise, risen)
        slow_rises = self._slow_rises(returns, changes, growth)
        in_noise = _so_far(np.maximum, self._rise_in_noise, np.maximum(_all_over(rise, noise * growth), slow_rises))
        rises = np.concatenate([self._rises.values, np.maximum(_all_over(risen, noise * growth), slow_rises)])
        rise_lately = rolling.extremes(np.maximum, rises, LONG)[-rows:]
        lowest = rolling.extremes(np.minimum, all_smoothed, SMOOTHED)[-rows:]
        best = _so_far(np.maximum, self._best, lowest)
        all_at = np.concatenate([self._smoothed_at, at])
        all_held = np.concatenate([np.full(len(all_at) - rows, HELD), held])  # of those before only the rows count
        highest = self._highest_held_in(all_smoothed, all_at, all_held)[-rows:]
        gain, size = best - self._start, abs(self._start)
        is_clear = gain > np.maximum(CLEAR_GAIN * noise, LEAST_GAIN * np.maximum(np.abs(best), size))
        has_gained = _so_far(np.maximum, float(self._has_gained), is_clear.astype(np.float64)) > 0.0
        lost, lost_lately = best - highest, best - rolling.extremes(np.maximum, all_smoothed, SMOOTHED)[-rows:]
        least = np.where(has_gained, CLEAR_LOSS * noise, np.inf)
        fall = np.where(lost > least, lost / gain, 0.0)
        falling = np.where(lost_lately > least, lost_lately / gain, 0.0)
        lately = rolling.extremes(np.maximum, all_smoothed, BELOW)[-rows:]
        below = np.where(size > CLEAR_GAIN * noise, (self._start - lately) / size, 0.0)
        is_unmoved = _so_far(np.minimum, float(self._is_unmoved), (values == self._first).astype(np.float64)) > 0.0
        lowest_return = _so_far(np.minimum, self._lowest_return, values)
        above_lowest = self._above_lowest + np.cumsum(values > np.append(self._lowest_return, lowest_return[:-1]))
        self._lowest_return, self._above_lowest = float(lowest_return[-1]), int(above_lowest[-1])
        stalled = ((in_noise < PROGRESS) & (noise > 0.0)) * above_lowest
        self._count = int(count[-1])
        self._lowest = float(lowest_level[-1])
        self._best, self._rise, self._rise_in_noise = float(best[-1]), float(rise[-1]), float(in_noise[-1])
        self._is_unmoved, self._has_gained = bool(is_unmoved[-1]), bool(has_gained[-1])
        self._keep(*(newest[-HELD:].tolist() for newest in (returns, all_smoothed, all_at, off, changes)))
        self._rises = Highest(LONG, rises[-LONG:].tolist())
        of_best = [np.full(rows, self._start), best, smoothed, in_noise, fall, falling, below]
        return [*of_best, stalled, is_unmoved * count, rise_lately, noise, lately]

    def _slow_rises(self, returns: Floats, changes: Floats, growth: Floats) -> Floats:
        """As `_slow_rise`, for as many rows as `growth` has, the last ones of `returns` and `changes`."""
        found = np.zeros(len(growth))
        means = _sums(returns)[-len(growth) :] / SLOW  # of the last rows, as many as have enough before them
        if not len(means):
            return found
        every = np.concatenate([self._means, means])
        lowest = np.minimum.accumulate(np.concatenate([[self._lowest_mean], every]))
        before = lowest[np.maximum(np.arange(len(self._means), len(every)) - SLOW + 1, 0)]
        self._means, self._lowest_mean = deque(every[-SLOW:].tolist(), SLOW), float(lowest[max(len(every) - SLOW, 0)])
        changed = _sums(changes)[-len(means) :]
        noise = np.concatenate([np.full(len(means) - len(changed), np.nan), changed]) / SLOW * MEAN_CHANGE_TO_STD
        rise = np.where(np.isfinite(before), np.maximum(means - before, 0.0), 0.0)
        found[len(found) - len(means) :] = _all_over(SLOW_WEIGHT * rise, noise * growth[len(found) - len(means) :])
        return found


class _SlowSum:
    """The sum of the newest `SLOW` values: of tens, each from left to right, so that it has the bits of `_sums`."""

    def __init__(self, values: Values) -> None:
        self._ten: deque[float] = deque(maxlen=_TEN)
        self._tens: deque[float] = deque(maxlen=SLOW - _TEN + 1)
        for value in values:
            self.push(value)

    def push(self, value: float) -> None:
        """Take in a value."""
        ten = self._ten
        ten.append(value)
        if len(ten) == _TEN:
            self._tens.append(reduce(add, ten))

    def total(self) -> float:
        """The sum; there must have been enough values."""
        tens = self._tens
        return tens[0] + tens[10] + tens[20] + tens[30] + tens[40]


def _sums(values: Floats) -> Floats:
    """The sum of each `SLOW` values one after another."""
    if len(values) < SLOW:
        return np.empty(0)
    tens = reduce(add, [values[i : len(values) - _TEN + 1 + i] for i in range(_TEN)])
    return np.asarray(reduce(add, [tens[i : len(values) - SLOW + 1 + i] for i in range(0, SLOW, _TEN)]))


def _over(rise: float, noise: float) -> float:
    return rise / noise if noise > 0.0 else math.inf if rise > 0.0 else 0.0


def _all_over(rise: Floats, noise: Floats) -> Floats:
    return np.where(noise > 0.0, rise / noise, np.where(rise > 0.0, np.inf, 0.0))


def _so_far(of_two: np.ufunc, before: float, values: Floats) -> Floats:
    """Return the extreme of `before` and of the values up to each one, which hardly ever changes in a long run."""
    if of_two(before, of_two.reduce(values)) == before:
        return np.full(len(values), before)
    found: Floats = of_two.accumulate(np.append(before, values))[1:]
    return found
