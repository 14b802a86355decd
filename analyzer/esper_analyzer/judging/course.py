"""The course of a run: numbers that reach back to its first row, such as its start, its best and what is usual in it.

They are added as columns to rows that arrive in portions, or one by one, so that a run of any length can be continued
from a few numbers. Both forms give the same; a test holds them against each other. Numbers that look back at most
`signals.CONTEXT_ROWS` rows are in the modules `signals` and `steps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from esper_analyzer.judging import signals, steps
from esper_analyzer.judging.e_detector import EDetector

Row = dict[str, float | None]
Floats = NDArray[np.float64]

START_RETURNS = 15
"""The start of a run is judged from so many updates in which episodes ended; the first of them see only short ones."""

SMOOTHED, FEWEST = 10, 5
"""The return is smoothed by the median of so many measured updates, and of at least so many."""

LONG = 30
"""Progress is looked for in the median of so many measured updates, and of at least `SMOOTHED`."""

HELD = 25
"""A return has fallen if it was lower, smoothed, in so many measured updates one after another."""

QUICK = 1.5
"""What the short median rises counts for so many times less, as it is noisier."""

NOISE_ROWS = 30
"""The noise of the return is judged from so many measured updates."""

TAIL, TAIL_TO_STD = 0.9, 1 / 1.6449
"""It is also judged from this quantile of the sizes of changes; in a normal distribution, that is 1.6449 of its std."""

LOOKED_AT = 60
"""From so many measured updates on, what counts as progress grows, since the maximum of noise grows with its rows."""

CLEAR_GAIN, LEAST_GAIN = 8.0, 0.1
"""A gain of the return is beyond doubt if it is so many times the noise, and such a share of the return's size."""

PROGRESS = 1.7
"""The return has made progress once it has risen by so many times its noise."""

EXPLOSION_DECADES = 3.0
"""A value loss so many decades above its own past is not counted as its past."""

LARGEST_RETURN = 1e300
"""A return beyond it, on either side, counts as it, so that differences and medians of returns are finite."""

MOVED_KL, MOVED_ENTROPY = 5e-4, 1e-3
"""Nats of KL divergence in all, or of entropy, that a policy moves in far fewer than 40 updates if it is trained."""

LEARNING_UPDATES = 28
"""A critic has this many updates to learn before it is judged by what it explains."""

CRITIC_FLOOR = 0.1
"""The explained variance that a critic is expected to reach at least, wherever there is something to explain."""


class UsualStd:
    """Root of the mean square of what is finite so far; of standard deviations, the usual one."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def step(self, value: float | None) -> float | None:
        """Take in one value; return the number so far."""
        square = math.nan if value is None else value * value
        if math.isfinite(square):
            self._sum += square
            self._count += 1
        return math.sqrt(self._sum / self._count) if self._count else None

    def extend(self, values: Floats) -> Floats:
        """As `step`, for values [rows] (NaN: not measured); NaN where there is no number yet."""
        with np.errstate(over="ignore"):
            square = values**2
        counts = np.isfinite(square)
        # One running sum, so that rounding does not depend on the size of the portions.
        total = np.concatenate([[self._sum], np.where(counts, square, 0.0)]).cumsum()[1:]
        count = self._count + counts.cumsum()
        self._sum, self._count = float(total[-1]), int(count[-1])
        return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.nan)


class PastLoss:
    """The highest value loss before each row: a level of two rows one after another, explosions left out.

    The first row of all is a level by itself.
    """

    def __init__(self) -> None:
        self._highest = math.nan
        self._before = math.nan  # the newest finite value

    def step(self, value: float | None) -> float | None:
        """Take in one value; return the highest level before it."""
        highest = self._highest
        if value is not None and math.isfinite(value):
            self._take(min(value, self._before))  # at first that is the value, as nothing is below NaN
            self._before = value
        return None if math.isnan(highest) else highest

    def extend(self, values: Floats) -> Floats:
        """As `step`, for values [rows]."""
        rows = np.flatnonzero(np.isfinite(values))
        seen = np.concatenate([[self._before], values[rows]])
        levels = np.fmin(seen[1:], seen[:-1])  # at first that is the value
        found = np.full(len(values), self._highest)
        floor = self._highest if math.isfinite(self._highest) else 0.0
        for i in np.flatnonzero(levels > floor).tolist():
            if self._take(float(levels[i])):
                found[rows[i] + 1 :] = self._highest
        self._before = float(seen[-1])
        return found

    def _take(self, level: float) -> bool:
        """Take in a level; return whether it is the highest now."""
        is_first = math.isnan(self._highest)
        if not level > 0.0 or not (is_first or self._highest < level < self._highest * 10.0**EXPLOSION_DECADES):
            return False
        self._highest = level
        return True


class NewestLoss:
    """The newest value loss above 0 before each row."""

    def __init__(self) -> None:
        self._newest = math.nan

    def step(self, value: float | None) -> float | None:
        """Take in one value; return the newest one above 0 before it."""
        newest = self._newest
        if value is not None and 0.0 < value < math.inf:
            self._newest = value
        return None if math.isnan(newest) else newest

    def extend(self, values: Floats) -> Floats:
        """As `step`, for values [rows]."""
        with np.errstate(invalid="ignore"):
            rows = np.flatnonzero((values > 0.0) & (values < np.inf))
        known = np.concatenate([[self._newest], values[rows]])
        self._newest = float(known[-1])
        newest: Floats = known[np.searchsorted(rows, np.arange(len(values)), side="left")]
        return newest


class RelativeEntropy:
    """Whether the size of the entropy says nothing, as `signals.is_relative`: 1.0 from then on, else 0.0."""

    def __init__(self) -> None:
        self._is_relative, self._has_begun = False, False

    def step(self, entropy: float | None, density: float | None) -> float:
        """Take in the entropy and the highest log-probability of one row."""
        if entropy is not None and math.isfinite(entropy):
            fresh = -math.inf if self._has_begun else signals.FRESH_ENTROPY
            self._has_begun = True
            self._is_relative = self._is_relative or entropy < max(0.0, fresh)
        if density is not None and 0.0 < density < math.inf:
            self._is_relative = True
        return float(self._is_relative)

    def extend(self, entropy: Floats, density: Floats) -> Floats:
        """As `step`, for rows."""
        with np.errstate(invalid="ignore"):
            is_finite = np.isfinite(entropy)
            says = (is_finite & (entropy < 0.0)) | ((density > 0.0) & (density < np.inf))
        if not self._has_begun and is_finite.any():
            first = int(np.argmax(is_finite))
            says[first] |= bool(entropy[first] < signals.FRESH_ENTROPY)
            self._has_begun = True
        found = np.logical_or.accumulate(np.concatenate([[self._is_relative], says]))[1:]
        self._is_relative = bool(found[-1])
        return found.astype(np.float64)


class PolicyMotion:
    """Updates in all of which the policy stayed where it began, so far; 0 once it moved.

    Only updates count in which KL divergence and entropy were measured. The policy moved once the KL divergences add up
    to `MOVED_KL`, or the entropy is `MOVED_ENTROPY` away from its first value.
    """

    def __init__(self) -> None:
        self._count, self._moved, self._first, self._has_moved = 0, 0.0, math.nan, False

    def step(self, kl: float | None, entropy: float | None) -> float | None:
        """Take in one row; return the number, None in a row that does not count."""
        if kl is None or entropy is None or not (math.isfinite(kl) and math.isfinite(entropy)):
            return None
        if not self._count:
            self._first = entropy
        self._count += 1
        self._moved += abs(kl)
        self._has_moved = self._has_moved or self._moved >= MOVED_KL or abs(entropy - self._first) >= MOVED_ENTROPY
        return 0.0 if self._has_moved else float(self._count)

    def extend(self, kl: Floats, entropy: Floats) -> Floats:
        """As `step`, for rows; NaN in those that do not count."""
        found = np.full(len(kl), np.nan)
        rows = np.flatnonzero(np.isfinite(kl) & np.isfinite(entropy))
        if not len(rows):
            return found
        if not self._count:
            self._first = float(entropy[rows[0]])
        with np.errstate(over="ignore"):
            moved = np.concatenate([[self._moved], np.abs(kl[rows])]).cumsum()[1:]
            far = np.abs(entropy[rows] - self._first) >= MOVED_ENTROPY
        has_moved = np.logical_or.accumulate(np.concatenate([[self._has_moved], (moved >= MOVED_KL) | far]))[1:]
        found[rows] = np.where(has_moved, 0.0, self._count + np.arange(1, len(rows) + 1))
        self._count, self._moved, self._has_moved = self._count + len(rows), float(moved[-1]), bool(has_moved[-1])
        return found


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
      measured updates / `LOOKED_AT` once that is above 1; its maximum so far. 0 until the start is known.
    - `return_fall`: the part of the gain, best − start, that is lost: (best − highest of the last `HELD`) / gain. 0
      where the gain is not beyond doubt.
    - `return_below_start`: (start − highest of the last `HELD`) / |start|; 0 where the start is not well above noise.
    - `return_stalled`: measured updates without progress since the start of the run; 0 once there was progress, and for
      a return that does not vary.
    - `return_unmoved`: measured updates in all of which the return was exactly the same; 0 once it was not.

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
        "return_below_start",
        "return_stalled",
        "return_unmoved",
    )

    def __init__(self) -> None:
        self._count = 0
        self._returns: list[float] = []  # the newest ones, for windows; likewise in the next three
        self._smoothed: list[float] = []
        self._off: list[float] = []
        self._changes: list[float] = []
        self._start, self._best = math.inf, -math.inf
        self._lowest, self._rise, self._rise_in_noise = math.inf, 0.0, 0.0
        self._first, self._is_unmoved = math.nan, True
        self._newest: tuple[float | None, ...] = (None,) * len(self.NAMES)

    def step(self, value: float | None) -> tuple[float | None, ...]:
        """Take in one row; return the numbers in the order of `NAMES`."""
        if value is not None and math.isfinite(value):
            self._newest = self._measured(min(max(value, -LARGEST_RETURN), LARGEST_RETURN))
        return self._newest

    def _measured(self, value: float) -> tuple[float | None, ...]:
        self._count += 1
        if self._count == 1:
            self._first = value
        self._is_unmoved = self._is_unmoved and value == self._first
        if self._returns:
            _push(self._changes, abs(value - self._returns[-1]), NOISE_ROWS)
        _push(self._returns, value, LONG)
        if len(self._returns) < FEWEST:
            return self._beginning()
        smoothed, level = _median(self._returns[-SMOOTHED:]), _median(self._returns)
        _push(self._smoothed, smoothed, HELD)
        _push(self._off, abs(value - smoothed), NOISE_ROWS)
        if self._count <= START_RETURNS:
            self._start = min(self._start, smoothed)
        usual = max(_median(self._off), _median(self._changes) / math.sqrt(2.0)) * signals.MAD_TO_STD
        noise = max(usual, _tail(self._changes) / math.sqrt(2.0) * TAIL_TO_STD)
        if len(self._returns) >= SMOOTHED:
            self._lowest = min(self._lowest, level)
            self._rise = max(self._rise, level - self._lowest, (smoothed - self._start) / QUICK)
        if self._count < START_RETURNS:
            return self._beginning()
        if self._count >= START_RETURNS + SMOOTHED:
            self._best = max(self._best, min(self._smoothed[-SMOOTHED:]))
        wanted = noise * math.sqrt(math.sqrt(math.sqrt(max(self._count / LOOKED_AT, 1.0))))
        rise = self._rise / wanted if wanted > 0.0 else math.inf if self._rise > 0.0 else 0.0
        self._rise_in_noise = max(self._rise_in_noise, rise)
        fall, below = self._falls(noise) if self._count >= START_RETURNS + HELD else (None, None)
        unmoved = self._count if self._is_unmoved else 0
        stalled = self._count if self._rise_in_noise < PROGRESS and noise > 0.0 else 0
        best = self._best if math.isfinite(self._best) else None
        return self._start, best, smoothed, self._rise_in_noise, fall, below, float(stalled), float(unmoved)

    def _beginning(self) -> tuple[float | None, ...]:
        """The numbers while the start is not known."""
        return None, None, None, 0.0, None, None, None, float(self._count if self._is_unmoved else 0)

    def _falls(self, noise: float) -> tuple[float, float]:
        highest, gain = max(self._smoothed), self._best - self._start
        is_clear = gain > max(CLEAR_GAIN * noise, LEAST_GAIN * max(abs(self._best), abs(self._start)))
        fall = (self._best - highest) / gain if is_clear else 0.0
        size = abs(self._start)
        below = (self._start - highest) / size if size > CLEAR_GAIN * noise else 0.0
        return fall, below

    def extend(self, values: Floats) -> list[Floats]:
        """As `step`, for values [rows]; one array for each of `NAMES`, NaN where there is no number yet."""
        rows = np.flatnonzero(np.isfinite(values))
        before = np.array([[math.nan if one is None else one for one in self._newest]])
        measured = np.clip(values[rows], -LARGEST_RETURN, LARGEST_RETURN)
        found = np.concatenate([before, self._measured_all(measured)])
        position = np.searchsorted(rows, np.arange(len(values)), side="right")
        newest = found[-1].tolist()
        self._newest = tuple(None if math.isnan(one) else one for one in newest)
        return list(found[position].T)

    def _measured_all(self, values: Floats) -> NDArray[np.float64]:
        """The numbers [measured rows, names] after each further measured value."""
        if not len(values):
            return np.empty((0, len(self.NAMES)))
        head = values[: max(0, START_RETURNS + HELD - self._count)]  # where windows are not full, one by one
        found = [[math.nan if one is None else one for one in self.step(value)] for value in head.tolist()]
        rest = values[len(head) :]
        if not len(rest):
            return np.array(found)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.concatenate([np.array(found).reshape(-1, len(self.NAMES)), self._rest(rest)])

    def _rest(self, values: Floats) -> NDArray[np.float64]:
        """As `_measured_all`, where all windows are full, but those of the noise."""
        count = self._count + np.arange(1, len(values) + 1)
        returns = np.concatenate([self._returns, values])
        smoothed = _rolling(returns, SMOOTHED, "median")[len(self._returns) :]
        all_smoothed = np.concatenate([self._smoothed, smoothed])
        held = len(self._smoothed)
        changes = np.concatenate([self._changes, np.abs(np.diff(returns))[len(self._returns) - 1 :]])
        off = np.concatenate([self._off, np.abs(values - smoothed)])
        noise = np.maximum(
            _rolling(off, NOISE_ROWS, "median")[len(self._off) :],
            _rolling(changes, NOISE_ROWS, "median")[len(self._changes) :] / math.sqrt(2.0),
        )
        noise *= signals.MAD_TO_STD
        tail = _rolling(changes, NOISE_ROWS, "quantile")[len(self._changes) :] / math.sqrt(2.0)
        noise = np.maximum(noise, tail * TAIL_TO_STD)
        wanted = noise * np.sqrt(np.sqrt(np.sqrt(np.maximum(count / LOOKED_AT, 1.0))))
        level = _rolling(returns, LONG, "median")[len(self._returns) :]
        lowest_level = np.minimum.accumulate(np.concatenate([[self._lowest], level]))[1:]
        risen = np.maximum(level - lowest_level, (smoothed - self._start) / QUICK)
        rise = np.maximum.accumulate(np.concatenate([[self._rise], risen]))[1:]
        in_noise = np.where(wanted > 0.0, rise / wanted, np.where(rise > 0.0, np.inf, 0.0))
        in_noise = np.maximum.accumulate(np.concatenate([[self._rise_in_noise], in_noise]))[1:]
        lowest = _rolling(all_smoothed, SMOOTHED, "min")[held:]
        best = np.maximum.accumulate(np.concatenate([[self._best], lowest]))[1:]
        highest = _rolling(all_smoothed, HELD, "max")[held:]
        gain, size = best - self._start, abs(self._start)
        least = np.maximum(CLEAR_GAIN * noise, LEAST_GAIN * np.maximum(np.abs(best), size))
        fall = np.where(gain > least, (best - highest) / gain, 0.0)
        below = np.where(size > CLEAR_GAIN * noise, (self._start - highest) / size, 0.0)
        is_unmoved = np.logical_and.accumulate(np.concatenate([[self._is_unmoved], values == self._first]))[1:]
        stalled = np.where((in_noise < PROGRESS) & (noise > 0.0), count, 0)
        self._count = int(count[-1])
        self._returns = returns[-LONG:].tolist()
        self._lowest = float(lowest_level[-1])
        self._smoothed = all_smoothed[-HELD:].tolist()
        self._changes = changes[-NOISE_ROWS:].tolist()
        self._off = off[-NOISE_ROWS:].tolist()
        self._best, self._rise, self._rise_in_noise = float(best[-1]), float(rise[-1]), float(in_noise[-1])
        self._is_unmoved = bool(is_unmoved[-1])
        start = np.full(len(values), self._start)
        unmoved = np.where(is_unmoved, count, 0)
        return np.array([start, best, smoothed, in_noise, fall, below, stalled, unmoved]).T


_RISE = Returns.NAMES.index("return_rise")


def _push(window: list[float], value: float, size: int) -> None:
    window.append(value)
    if len(window) > size:
        del window[0]


def _median(values: list[float]) -> float:
    return steps.middle(sorted(values))


def _tail(values: list[float]) -> float:
    return sorted(values)[int(TAIL * (len(values) - 1))]


def _rolling(values: Floats, size: int, how: str) -> Floats:
    series = pl.Series(values)
    if how == "quantile":
        return series.rolling_quantile(TAIL, "lower", size, min_samples=1).to_numpy()
    rolled: Callable[..., pl.Series] = getattr(series, f"rolling_{how}")
    return rolled(size, min_samples=1).to_numpy()


COLUMNS = (
    "usual_return_std",
    "explainable",
    "explained",
    "below_floor",
    "past_value_loss",
    "newest_value_loss",
    "is_relative",
    "policy_unmoved",
    "loss_ratio_baseline",
    "mean_rise",
    *Returns.NAMES,
)
"""The columns that `Course` adds; all are Float64, but for `explainable`.

- `usual_return_std`: the usual spread of the returns so far.
- `explainable` (Boolean): whether a critic could explain anything of the returns of this row.
- `explained`: the explained variance where it could.
- `below_floor`: the evidence of an e-detector that explained variance stays below `CRITIC_FLOOR`.
- `past_value_loss`, `newest_value_loss`: the highest level, and the newest value loss above 0, before this row.
- `is_relative`: 1 once the entropy has shown that its size says nothing; see `signals.is_relative`; else 0.
- `policy_unmoved`: updates in all of which the policy stayed where it began; 0 once it moved.
- `loss_ratio_baseline`: Lv/Lp in updates 10 to 29; known after these.
- `mean_rise`: the rise of `return_mean`, as long as no episode return was measured.
- those of `Returns`.
"""

TYPES = dict.fromkeys(COLUMNS, pl.Float64()) | {"explainable": pl.Boolean()}
"""Their types."""

READS = (
    "return_std",
    "return_mean",
    "explained_variance",
    "episode_return_mean",
    "episode_length_mean",
    "value_loss",
    "policy_loss",
    "entropy",
    "log_prob_max",
    "kl_divergence",
)
"""Columns from which they are made."""


class Course:
    """Adds to each row the numbers of the course that were known when it was recorded."""

    def __init__(self) -> None:
        self._rows = 0
        self._usual, self._past, self._newest, self._relative = UsualStd(), PastLoss(), NewestLoss(), RelativeEntropy()
        self._motion = PolicyMotion()
        self._floor = EDetector(floor=CRITIC_FLOOR, low=-1.0, high=1.0)
        self._returns, self._means, self._has_returns = Returns(), Returns(), False
        self._beginning: list[tuple[float | None, float | None]] = []  # losses, until the baseline is made of them
        self._ratio: float | None = None

    def step(self, row: Row) -> None:
        """Add `COLUMNS` to the next row, a dictionary of at least `READS`; None is not measured."""
        row["usual_return_std"] = self._usual.step(steps.return_spread(row))
        row["explainable"] = steps.has_something_to_explain(row)
        row["explained"] = explained = steps.explained_where_varied(row)
        is_judged = explained is not None and self._rows >= LEARNING_UPDATES
        row["below_floor"] = round(self._floor.step(explained), signals.DIGITS) if is_judged else None
        row["past_value_loss"] = self._past.step(row["value_loss"])
        row["newest_value_loss"] = self._newest.step(row["value_loss"])
        row["is_relative"] = self._relative.step(row["entropy"], row["log_prob_max"])
        row["policy_unmoved"] = self._motion.step(row["kl_divergence"], row["entropy"])
        if self._rows < signals.BASELINE_ROWS[1]:
            self._begin([(row["value_loss"], row["policy_loss"])])
        row["loss_ratio_baseline"] = self._ratio if self._rows >= signals.BASELINE_ROWS[1] else None
        self._rows += 1
        earned = row["episode_return_mean"]
        self._has_returns = self._has_returns or (earned is not None and math.isfinite(earned))
        row["mean_rise"] = None if self._has_returns else self._means.step(row["return_mean"])[_RISE]
        row.update(zip(Returns.NAMES, self._returns.step(earned), strict=True))

    def extend(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the next rows of a run with `COLUMNS` (Float64) added."""
        columns = {name: rows[name].to_numpy() for name in READS}  # null becomes NaN
        last = signals.BASELINE_ROWS[1]
        if self._rows < last:
            self._begin(list(rows.select("value_loss", "policy_loss").head(last - self._rows).iter_rows()))
        first = self._rows
        known = first + np.arange(rows.height) >= last
        ratio = math.nan if self._ratio is None else self._ratio
        self._rows += rows.height
        usual = self._usual.extend(rows.select(signals.return_spread()).to_series().to_numpy())
        with_usual = rows.with_columns(usual_return_std=pl.Series(usual, nan_to_null=True))
        explainable = with_usual.select(signals.has_something_to_explain(pl.col("usual_return_std"))).to_series()
        explained = rows.select(signals.explained_where_varied(pl.lit(explainable))).to_series().to_numpy()
        made: list[Floats | pl.Series] = [
            usual,
            explainable,
            explained,
            self._below_floor(explained, first),
            self._past.extend(columns["value_loss"]),
            self._newest.extend(columns["value_loss"]),
            self._relative.extend(columns["entropy"], columns["log_prob_max"]),
            self._motion.extend(columns["kl_divergence"], columns["entropy"]),
            np.where(known, ratio, np.nan),
            self._mean_rise(columns["return_mean"], columns["episode_return_mean"]),
            *self._returns.extend(columns["episode_return_mean"]),
        ]
        return rows.hstack(
            [pl.Series(name, values, nan_to_null=True) for name, values in zip(COLUMNS, made, strict=True)]
        )

    def _below_floor(self, explained: Floats, first: int) -> Floats:
        """The evidence after each row that is judged; NaN in the others, and until the critic has had time to learn."""
        judged = np.where(np.arange(first, first + len(explained)) >= LEARNING_UPDATES, explained, np.nan)
        return np.where(np.isnan(judged), np.nan, self._floor.extend(judged).round(signals.DIGITS))

    def _mean_rise(self, means: Floats, earned: Floats) -> Floats:
        """The rise of the mean return in the rows before the first episode return; NaN in the others."""
        rise = np.full(len(means), np.nan)
        if self._has_returns:
            return rise
        measured = np.flatnonzero(np.isfinite(earned))
        before = int(measured[0]) if len(measured) else len(means)
        self._has_returns = bool(len(measured))
        if before:
            rise[:before] = self._means.extend(means[:before])[_RISE]
        return rise

    def _begin(self, losses: list[tuple[float | None, float | None]]) -> None:
        """Compute the baseline of Lv/Lp from the first rows of the run, once all of these have arrived."""
        self._beginning += losses
        if len(self._beginning) == signals.BASELINE_ROWS[1]:
            schema = {"value_loss": pl.Float64, "policy_loss": pl.Float64}
            frame = pl.DataFrame(self._beginning, schema=schema, orient="row")
            self._ratio = frame.select(signals.loss_ratio_baseline()).item()
            self._beginning = []
