"""The numbers of judging once more, in plain Python: slow, straight from their descriptions, and of whole runs.

A run is a dictionary column → values of all rows, None where nothing was measured. Each function `…_of` takes a run
and gives one value for each of its rows; no value depends on later rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import polars as pl
import pytest

from esper_analyzer.judging import course, goal, reference, returns, standstill
from esper_analyzer.judging.e_detector import FRACTIONS
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas.metric.catalogue import STAND_INS

Value = float | None
Columns = dict[str, list[Value]]

NAN, INF = math.nan, math.inf
MAD = 1.4826


# ---------------------------------------------------------------------- runs


def messy_run(rows: int, seed: int = 0) -> pl.DataFrame:
    """A run in which a good deal goes wrong: numbers of all sizes, zeros, nulls, NaN, infinities, skips, gaps."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"update": np.cumsum(rng.integers(1, 3, rows))}
    odd = {0.08: None, 0.09: NAN, 0.10: INF, 0.11: -INF, 0.13: 0.0}
    for name, dtype in SCHEMA.items():
        if dtype == pl.Float64:
            columns[name] = [
                next((what for bound, what in odd.items() if hole < bound), float(value))
                for hole, value in zip(rng.random(rows), rng.lognormal(-1.0, 1.0, rows), strict=True)
            ]
        elif name in ("nan_grad_count", "inf_grad_count"):
            columns[name] = [None if hole < 0.1 else int(20 * hole**8) for hole in rng.random(rows)]
    columns["policy_loss"] = [None if x is None else x * (-1.0) ** i for i, x in enumerate(columns["policy_loss"])]
    columns["value_loss"] = [None if x is None else abs(x) for x in columns["value_loss"]]
    columns["return_std"] = [None] * 3 + [None if x is None else abs(x) for x in columns["return_std"][3:]]
    columns["explained_variance"] = [None if x is None else 1.0 - 2.0 * x for x in columns["explained_variance"]]
    columns["log_prob_max"] = [  # densities, late in the run
        None if x is None else x if i > rows * 3 // 4 else -abs(x) for i, x in enumerate(columns["log_prob_max"])
    ]
    columns["entropy"] = [0.9, *(None if x is None or x < 0.0 else x for x in columns["entropy"][1:])]
    columns["episode_length_mean"] = [None if x is None else 4.0 * x for x in columns["episode_length_mean"]]
    columns["episode_return_mean"][: rows // 8] = [None] * (rows // 8)
    columns["skipped"] = [None if hole < 0.3 else bool(hole > 0.95) for hole in rng.random(rows)]
    for name in ("value_loss", "explained_variance", "return_std", "value_std", "entropy"):  # long holes, and rest
        start = int(rng.integers(rows // 4, rows // 2))
        columns[name][start : start + 25] = [None] * len(columns[name][start : start + 25])
    still = rows * 5 // 8
    columns["value_loss"][still : still + 60] = [0.25] * len(columns["value_loss"][still : still + 60])
    frame = pl.DataFrame(columns, schema_overrides={name: READ_TYPES[name] for name in columns}, strict=False)
    return frame.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in READ_TYPES.items() if name not in columns
    )


def real_run(rows: int, seed: int = 0, **changed: Sequence[Value]) -> pl.DataFrame:
    """A run as trainers record them: a noisy return that rises and falls again, and a critic that lags behind it.

    Args:
        rows, seed: number of updates, and seed of the noise.
        changed: columns that are given instead.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(rows) / rows
    level = 20.0 + 180.0 / (1.0 + np.exp(-14.0 * (time - 0.35))) - 150.0 / (1.0 + np.exp(-30.0 * (time - 0.85)))
    explained = np.tanh(4.0 * time) - 0.1 * np.abs(rng.normal(size=rows))
    std = 0.3 * level * rng.lognormal(0.0, 0.1, rows)
    columns: dict[str, Any] = {
        "update": range(rows),
        "skipped": [False] * rows,
        "policy_loss": rng.normal(-0.01, 0.01, rows),
        "value_loss": 0.5 * (1.0 - explained) * std**2,
        "explained_variance": explained,
        "return_std": std,
        "return_mean": 0.6 * level,
        "value_std": 0.9 * std * np.sqrt(np.clip(explained, 0.01, 1.0)),
        "entropy": 0.69 * (1.0 - 0.8 * time) + rng.normal(0.0, 0.01, rows),
        "clip_fraction": np.clip(rng.normal(0.12, 0.05, rows), 0.0, 1.0),
        "clip_range": [0.2] * rows,
        "ratio_max": 1.2 + rng.exponential(0.4, rows),
        "kl_divergence": rng.exponential(0.008, rows),
        "episode_return_mean": level + rng.normal(0.0, 0.1 * level),
        "episode_length_mean": level,
        **changed,
    }
    columns["episode_return_mean"] = [
        None if i < 3 or i % 7 == 5 else x for i, x in enumerate(columns["episode_return_mean"])
    ]
    frame = pl.DataFrame(columns, schema_overrides={name: READ_TYPES[name] for name in columns}, strict=False)
    return frame.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in READ_TYPES.items() if name not in columns
    )


def as_judged(run: pl.DataFrame) -> pl.DataFrame:
    """A run without what its skipped updates measured."""
    kept = ("update", "skipped", "skip_reason")
    return run.with_columns(pl.when(~pl.col("skipped").fill_null(False)).then(pl.exclude(kept)))


def columns_of(frame: pl.DataFrame) -> Columns:
    """A frame as lists of floats."""
    return {
        name: [None if value is None else float(value) for value in frame[name].to_list()]
        for name, dtype in frame.schema.items()
        if dtype.is_numeric() or dtype == pl.Boolean
    }


def same(found: Sequence[Value], expected: Sequence[Value], abs_: float = 1e-14) -> None:
    """Nulls where nulls are expected, NaN where NaN; else the same number to 12 digits, or but for `abs_`."""
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == other or (one is None) == (other is None), (i, one, other)
        assert one is None or one == pytest.approx(other, rel=1e-12, abs=abs_, nan_ok=True), (i, one, other)


# ---------------------------------------------------------------------- arithmetic


def divided(above: float, below: float) -> float:
    """A quotient as floats have it: dividing by zero gives an infinity or NaN."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return float(np.float64(above) / np.float64(below))


def squared(value: float) -> float:
    """A square as floats have it: infinite where it is too large."""
    return value * value


def finite(value: Value) -> Value:
    """The value, None if it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def finites(values: Sequence[Value]) -> list[Value]:
    """`finite` of every row."""
    return [finite(value) for value in values]


def summed(values: Sequence[float]) -> float:
    """Sum of tens, each added up from left to right: in another order, +1e300 and −1e300 would leave something else."""
    return reduce(add, [reduce(add, values[i : i + 10]) for i in range(0, len(values), 10)])


def median(values: Sequence[float]) -> float:
    """Median; of two in the middle the lower one and half of what is between them, as polars rounds it."""
    ordered, half = sorted(values), len(values) // 2
    lower, upper = ordered[(len(values) - 1) // 2], ordered[half]
    return lower if len(values) % 2 else lower + (upper - lower) * 0.5


def median_at(values: Sequence[Value], i: int, count: int, least: int) -> Value:
    """Median of what is there among the last `count` values up to and with the i-th."""
    there = [value for value in values[max(0, i - count + 1) : i + 1] if value is not None]
    return median(there) if len(there) >= least else None


def rolling(values: Sequence[Value], count: int, least: int) -> list[Value]:
    """`median_at` of every row."""
    return [median_at(values, i, count, least) for i in range(len(values))]


def before_of(values: Sequence[Value]) -> list[Value]:
    """Median of the 50 before, of at least 20."""
    return [None, *rolling(values, 50, 20)[:-1]]


def rows_of(columns: Columns, *names: str) -> list[tuple[Value, ...]]:
    """Some columns, row by row."""
    return list(zip(*(columns[name] for name in names), strict=True))


# ---------------------------------------------------------------------- the course


def spread_of_returns(columns: Columns) -> list[Value]:
    """`return_std` as it was recorded; else what value loss and explained variance make of it."""
    found: list[Value] = []
    for std, loss, explained in rows_of(columns, "return_std", "value_loss", "explained_variance"):
        loss, explained = finite(loss), finite(explained)
        if std is not None:
            found.append(finite(std))
        elif loss is None or explained is None or 1.0 - explained <= 1e-12:
            found.append(None)
        else:
            found.append(math.sqrt(2.0 * max(loss, 0.0) / (1.0 - explained)))
    return found


def usual_of(columns: Columns) -> list[Value]:
    """Root of the mean square of the spread so far."""
    spread = spread_of_returns(columns)
    found: list[Value] = []
    for i in range(len(spread)):
        squares = [squared(x) for x in spread[: i + 1] if x is not None and math.isfinite(squared(x))]
        found.append(math.sqrt(sum(squares) / len(squares)) if squares else None)
    return found


def explainable_of(columns: Columns) -> list[Value]:
    """1 where a critic could explain anything, or nothing says that it could not; else 0."""
    found: list[Value] = []
    measured = rows_of(columns, "return_std", "return_mean", "episode_length_mean")
    for spread, usual, (std, mean, length) in zip(spread_of_returns(columns), usual_of(columns), measured, strict=True):
        std, mean, length = finite(std), finite(mean), finite(length)
        nothing = [
            spread is not None and spread <= 1e-12,
            spread is not None and usual is not None and spread < 0.5 * usual,
            std is not None and mean is not None and std < 0.25 * abs(mean),
            length is not None and length < 1.5,
        ]
        found.append(float(not any(nothing)))
    return found


def explained_of(columns: Columns) -> list[Value]:
    """Explained variance where there is something to explain; a NaN says nothing."""
    explained = finites(columns["explained_variance"])
    return [value if could else None for value, could in zip(explained, explainable_of(columns), strict=True)]


def below_floor_of(columns: Columns) -> list[Value]:
    """The evidence against a mean of 0.1, of explained variance in [−1, 1]: a mean over bets, and at most 10^6."""
    statistic = [0.0] * len(FRACTIONS)
    found: list[Value] = []
    for i, explained in enumerate(explained_of(columns)):
        if explained is None or i < course.LEARNING_UPDATES:
            found.append(None)
            continue
        value = min(max(explained, -1.0), 1.0)
        for k, fraction in enumerate(FRACTIONS):
            factor = 1.0 + fraction / (1.0 - course.CRITIC_FLOOR) * (course.CRITIC_FLOOR - value)
            statistic[k] = min(factor * (1.0 + statistic[k]), len(FRACTIONS) * 1e6)
        mean = sum(statistic) / len(FRACTIONS)
        found.append(min(math.log10(mean), 6.0) if mean > 1.0 else 0.0)
    return found


def past_loss_of(columns: Columns) -> list[Value]:
    """The highest level of two finite losses one after another, or of the first; not what is 1000 times the rest."""
    found: list[Value] = []
    for i in range(len(columns["value_loss"])):
        losses = [x for x in finites(columns["value_loss"][:i]) if x is not None]
        highest: Value = None
        for level in [*losses[:1], *map(min, pairwise(losses))]:
            if level > 0.0 and (highest is None or highest < level < 10.0**course.EXPLOSION_DECADES * highest):
                highest = level
        found.append(highest)
    return found


def newest_loss_of(columns: Columns) -> list[Value]:
    """The newest finite value loss above 0 before each row."""
    losses = finites(columns["value_loss"])
    return [next((x for x in reversed(losses[:i]) if x is not None and x > 0.0), None) for i in range(len(losses))]


def relative_of(columns: Columns) -> list[Value]:
    """1 from the first negative entropy, or log-probability above 0, on; or from a first entropy below 0.59 on."""
    entropy, density = finites(columns["entropy"]), finites(columns["log_prob_max"])
    known = [[x for x in entropy[: i + 1] if x is not None] for i in range(len(entropy))]
    return [
        float(
            any(x < 0.0 for x in known[i])
            or (known[i][:1] < [0.59] and bool(known[i]))
            or any(x is not None and x > 0.0 for x in density[: i + 1])
        )
        for i in range(len(entropy))
    ]


def policy_unmoved_of(columns: Columns) -> list[Value]:
    """Updates with KL divergence and entropy, until KL adds up to 0.0005 or the entropy is 0.001 from its first.

    The entropy does not count where KL and clip fraction are 0 and the policy loss is below a millionth.
    """
    names = ("kl_divergence", "entropy", "clip_fraction", "policy_loss")
    rows = list(zip(*(finites(columns[name]) for name in names), strict=True))
    found: list[Value] = []
    for i, (kl, entropy, _, _) in enumerate(rows):
        if kl is None or entropy is None:
            found.append(None)
            continue
        seen = [row for row in rows[: i + 1] if row[0] is not None and row[1] is not None]
        first = seen[0][1]
        far = [
            abs(b - first) >= 1e-3 and not (a == 0 and clip == 0 and loss is not None and abs(loss) <= 1e-6)
            for a, b, clip, loss in seen
        ]
        found.append(float(len(seen)) if sum(abs(a) for a, *_ in seen) < 5e-4 and not any(far) else 0.0)
    return found


def windowed_ratio_of(columns: Columns) -> list[Value]:
    """Medians of ten over each other."""
    value = rolling(finites(columns["value_loss"]), 10, 5)
    policy = rolling([None if x is None else abs(x) for x in finites(columns["policy_loss"])], 10, 5)
    return [None if a is None or b is None else divided(a, b) for a, b in zip(value, policy, strict=True)]


def baseline_of(columns: Columns) -> list[Value]:
    """Median of the windowed ratio in rows 10 to 29, from row 30 on, if it is finite."""
    rows = len(columns["value_loss"])
    ratios = [x for x in windowed_ratio_of(columns)[10:30] if x is not None]
    base = median(sorted(ratios, key=lambda x: (math.isnan(x), x))) if ratios and rows > 30 else None
    return [None if i < 30 else finite(base) for i in range(rows)]


def rows_held(steps: Sequence[Value]) -> list[int]:
    """For each row, how many take 36,000 environment steps by the mean of all so far: 20 to 70, and 70 if unknown."""
    found, held = [], 70
    known = finites(steps)
    for row, now in enumerate(known):
        first = next((i for i, one in enumerate(known[: row + 1]) if one is not None), None)
        if now is not None and first is not None and first < row:
            taken = now - (known[first] or 0.0)
            held = min(max(math.ceil(36_000 * (row - first) / taken), 20), 70) if taken > 0.0 else 70
        found.append(held)
    return found


def outcome_of(values: Sequence[Value], steps: Sequence[Value] | None = None) -> Columns:
    """The numbers of `returns.Returns` for each row."""
    found: Columns = {name: [] for name in returns.Returns.NAMES}
    outcome, numbers = Outcome(), dict.fromkeys(found)
    held = rows_held([None] * len(values) if steps is None else steps)
    for row, value in enumerate(values):
        if (number := finite(value)) is not None:
            numbers = outcome.after(min(max(number, -1e300), 1e300), row, held[row])
        for name, of_name in found.items():
            of_name.append(numbers[name])
    return found


class Outcome:
    """What `Returns` describes, from all measured returns; each dictionary is by the number of measured ones."""

    def __init__(self) -> None:
        self.measured: list[float] = []
        self.rows: list[int] = []
        self.smoothed: dict[int, float] = {}
        self.level: dict[int, float] = {}
        self.noise: dict[int, float] = {}
        self.risen: dict[int, float] = {}
        self.in_noise: dict[int, float] = {}
        self.rises: list[float] = []
        self.was_clear = False

    def after(self, value: float, row: int, held: int) -> dict[str, Value]:
        """The numbers after one more measured return; a fall counts that has been held for so many rows."""
        measured, smoothed = self.measured, self.smoothed
        measured.append(value)
        self.rows.append(row)
        n = len(measured)
        found: dict[str, Value] = dict.fromkeys(returns.Returns.NAMES)
        found["return_unmoved"] = float(n if all(x == measured[0] for x in measured) else 0)
        found["return_rise"] = 0.0
        if n >= returns.FEWEST:
            smoothed[n] = median(measured[-returns.SMOOTHED :])
            self.noise[n] = self.noise_now()
        if n >= returns.SMOOTHED:
            self.level[n] = median(measured[-returns.LONG :])
            start_then = min(smoothed[k] for k in smoothed if k <= returns.START_RETURNS)
            self.risen[n] = max(self.level[n] - min(self.level.values()), (smoothed[n] - start_then) / returns.QUICK)
        if n < returns.START_RETURNS:
            return found
        start, noise = min(smoothed[k] for k in smoothed if k <= returns.START_RETURNS), self.noise[n]
        rise = max(self.risen.values())
        wanted = noise * math.sqrt(math.sqrt(math.sqrt(max(n / returns.LOOKED_AT, 1.0))))
        self.in_noise[n] = max(rise / wanted if noise > 0.0 else INF if rise > 0.0 else 0.0, self.slow_rise())
        self.rises.append(
            max(self.slow_rise(), self.risen[n] / wanted if noise > 0.0 else INF if self.risen[n] > 0.0 else 0.0)
        )
        found |= {"rise_lately": max(self.rises[-returns.LONG :]), "return_noise": noise}
        most = max(self.in_noise.values())
        is_stalled = most < returns.PROGRESS and noise > 0.0
        found |= {"return_start": start, "return_now": smoothed[n], "return_rise": most}
        above_lowest = sum(x > min(measured[:k]) for k, x in enumerate(measured) if k)
        found["return_stalled"] = float(above_lowest if is_stalled else 0)
        after = [smoothed[k] for k in smoothed if k > returns.START_RETURNS]
        levels = [min(after[i : i + returns.SMOOTHED]) for i in range(len(after) - returns.SMOOTHED + 1)]
        found["return_best"] = best = max(levels, default=None)
        if n >= returns.START_RETURNS + returns.BELOW and best is not None:
            of_all = list(smoothed.values())
            lately, gain = max(of_all[-returns.BELOW :]), best - start
            # The shortest end of the run with so many rows and 20 measured returns.
            ends = [k for k in smoothed if row - self.rows[k - 1] + 1 >= held and n - k + 1 >= 20]
            highest = max(smoothed[k] for k in smoothed if k >= max(ends, default=0))
            is_clear = gain > returns.CLEAR_GAIN * noise and gain > returns.LEAST_GAIN * max(abs(best), abs(start))
            self.was_clear = self.was_clear or is_clear
            for name, high in (("return_fall", highest), ("return_falling", max(of_all[-returns.SMOOTHED :]))):
                is_lost = self.was_clear and best - high > returns.CLEAR_LOSS * noise
                found[name] = (best - high) / gain if is_lost else 0.0
            stands_out = abs(start) > returns.CLEAR_GAIN * noise
            found["return_below_start"] = (start - lately) / abs(start) if stands_out else 0.0
            found["return_high"] = lately
        return found

    def slow_rise(self) -> float:
        """1.8 times the mean of 50 above the lowest one at least 50 before, in noise made from the mean change."""
        n, rows = len(self.measured), returns.SLOW
        if n < 2 * rows:
            return 0.0
        means = [summed(self.measured[k - rows : k]) / rows for k in range(rows, n + 1)]
        rise = means[-1] - min(means[:-rows])
        changes = [abs(b - a) for a, b in pairwise(self.measured)][-rows:]
        wanted = summed(changes) / rows * math.sqrt(math.pi) / 2.0 * max(n / returns.LOOKED_AT, 1.0) ** 0.125
        return 0.0 if rise <= 0.0 else 1.8 * rise / wanted if wanted > 0.0 else INF

    def noise_now(self) -> float:
        """The largest of three robust standard deviations."""
        rows = returns.NOISE_ROWS
        off = [abs(self.measured[k - 1] - now) for k, now in self.smoothed.items()][-rows:]
        changes = [abs(b - a) for a, b in pairwise(self.measured)][-rows:]
        tail = sorted(changes)[math.floor(returns.TAIL * (len(changes) - 1))]
        return max(
            MAD * max(median(off), median(changes) / math.sqrt(2.0)), tail / math.sqrt(2.0) * returns.TAIL_TO_STD
        )


def with_stand_ins(columns: Columns) -> Columns:
    """The columns with sliding means in place of what was never measured so far, and `return_slides`.

    A mean return is read with each fourth episode that has ended.
    """
    made = dict(columns)
    for name, sliding in STAND_INS.items():
        own = finites(columns[name])
        stands_in = [
            other is not None and all(x is None for x in own[: i + 1])
            for i, other in enumerate(finites(columns[sliding]))
        ]
        if name == "episode_return_mean":
            made["return_slides"] = [float(is_used) for is_used in stands_in]
            is_new = brings_episodes(columns, stands_in)
            stands_in = [is_used and new for is_used, new in zip(stands_in, is_new, strict=True)]
        pairs = zip(columns[name], columns[sliding], stands_in, strict=True)
        made[name] = [other if is_used else value for value, other, is_used in pairs]
    return made


def brings_episodes(columns: Columns, slides: Sequence[bool]) -> list[bool]:
    """Whether a fourth episode has ended since the row before; True where nobody knows."""
    found, before, ended = [], 0.0, 0.0
    lengths = columns["episode_length_sliding_mean"]
    for steps, length, is_mean in zip(finites(columns["env_steps"]), finites(lengths), slides, strict=True):
        if not is_mean or steps is None or length is None:
            found.append(True)
            continue
        fours = math.floor(ended / 4)
        ended += max(steps - before, 0) / max(length, 1)
        before = steps
        found.append(math.floor(ended / 4) > fours)
    return found


def mean_rise_of(columns: Columns) -> list[Value]:
    """`return_rise` of the mean return, in the rows before the first episode return."""
    rise = outcome_of(columns["return_mean"])["return_rise"]
    earned = [x is not None for x in finites(columns["episode_return_mean"])]
    return [None if any(earned[: i + 1]) else rise[i] for i in range(len(rise))]


def standstill_of(columns: Columns, outcome: Columns) -> Columns:
    """The numbers of `standstill.Standstill`, from the recorded columns and those of the outcome."""
    names = ("episode_return_mean", "episode_length_mean", "kl_divergence", "entropy")
    recorded = list(zip(*(finites(columns[name]) for name in names), strict=True))
    of_outcome = rows_of(outcome, "rise_lately", "return_unmoved", "return_noise", "return_high")
    now = outcome["return_now"]
    still = [rise is not None and rise < returns.PROGRESS and unmoved == 0.0 for rise, unmoved, *_ in of_outcome]
    found: Columns = {name: [] for name in standstill.Standstill.NAMES}
    ceiling: list[bool] = []
    lowest: list[bool] = []
    for i, (earned, _, kl, entropy) in enumerate(recorded):
        returned = [x for x, *_ in recorded[: i + 1] if x is not None]
        lengths = [x for _, x, *_ in recorded[: i + 1] if x is not None]
        entropies = [x for *_, x in recorded[: i + 1] if x is not None]
        most, least = max(entropies, default=0.0), min(entropies, default=0.0)
        is_high = entropy is None or (
            most > max(least, standstill.LEAST_ENTROPY) and entropy >= standstill.CEILING * most
        )
        ceiling.append(still[i] and is_high)
        lowest.append(earned is None or (earned == min(returned) and max(returned) > min(returned)))
        stretch = recorded[first_of(still[: i + 1]) : i + 1]
        found["unrisen"].append(float(sum(x is not None for x, *_ in stretch)))
        path = math.fsum(math.sqrt(2.0 * min(abs(x), standstill.MOST_KL)) for _, _, x, _ in stretch if x is not None)
        found["path_unrisen"].append(None if kl is None else path)
        at_ceiling = recorded[first_of(ceiling) : i + 1]
        found["entropy_at_ceiling"].append(
            None if entropy is None else float(sum(x is not None for *_, x in at_ceiling))
        )
        at_lowest = [x for x, *_ in recorded[first_of(lowest) : i + 1] if x is not None]
        found["return_at_lowest"].append(float(len(at_lowest)))
        found["return_is_lowest"].append(float(now[i] is not None and bool(returned) and now[i] <= min(returned)))
        *_, noise, high = of_outcome[i]
        if high is None or noise is None or not lengths:
            found["return_below_first"].append(None)
            continue
        first = median(returned[: standstill.FIRST_RETURNS])
        is_sure = first - high > standstill.STANDS_OUT * noise and lengths[-1] <= standstill.SAME_LENGTH * lengths[0]
        found["return_below_first"].append(divided(first - high, abs(first)) if is_sure and first else 0.0)
    for name in standstill.Standstill.NAMES:
        pairs = zip(found[name], of_outcome, strict=True)
        found[name] = [None if rise is None else value for value, (rise, *_) in pairs]
    return found


def first_of(holds: Sequence[bool]) -> int:
    """The first of the rows at the end in all of which something holds; the number of rows if there is none."""
    return max((i + 1 for i, one in enumerate(holds) if not one), default=0)


def error_beyond_returns_of(columns: Columns) -> list[Value]:
    """Decades of √(2·Lv) over the largest return so far, above 1 and above the highest of the first 20."""
    found: list[Value] = []
    shares: list[float] = []
    largest = 0.0
    for loss, scale, earned in rows_of(columns, "value_loss", "value_target_scale", "episode_return_mean"):
        loss, scale, earned = finite(loss), finite(scale), finite(earned)
        largest = max(largest, abs(earned or 0.0))
        share = NAN
        if loss is not None and loss >= 0.0 and largest > 0.0:
            share = math.sqrt(loss) * math.sqrt(2.0) * (1.0 if scale is None else scale) / largest
        if not math.isfinite(share):
            found.append(None)
            continue
        shares.append(share)
        usual = max(1.0, *shares[:20])
        found.append(None if len(shares) <= 20 else math.log10(share / usual) if share > usual else 0.0)
    return found


COURSE: dict[str, Callable[[Columns], list[Value]]] = {
    "age": lambda columns: [float(i + 1) for i in range(len(columns["update"]))],
    "usual_return_std": usual_of,
    "explainable": explainable_of,
    "explained": explained_of,
    "below_floor": below_floor_of,
    "past_value_loss": past_loss_of,
    "newest_value_loss": newest_loss_of,
    "error_beyond_returns": error_beyond_returns_of,
    "is_relative": relative_of,
    "policy_unmoved": policy_unmoved_of,
    "loss_ratio_baseline": baseline_of,
    "mean_rise": mean_rise_of,
    "return_slides": lambda columns: columns["return_slides"],
}
"""By column of the course; those of the return are made by `outcome_of`."""


def course_of(columns: Columns) -> Columns:
    """Every column of the course, without goal and references, of which `test_goal` and `test_reference` have it."""
    columns = with_stand_ins(columns)
    outcome = outcome_of(columns["episode_return_mean"], columns["env_steps"])
    made = {name: make(columns) for name, make in COURSE.items()} | outcome | standstill_of(columns, outcome)
    names = (*goal.GoalCourse.NAMES, *reference.ReferenceCourse.NAMES)
    nothing: Columns = {name: [None] * len(columns["update"]) for name in names}
    return {name: (made | nothing)[name] for name in course.COLUMNS}
