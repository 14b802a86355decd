"""The course of a run: numbers that reach back to its first row, such as its start, its best and what is usual in it.

They are added as columns to rows that arrive in portions, or one by one, so that a run of any length can be continued
from a few numbers. Both forms give the same; a test holds them against each other. Numbers that look back at most
`signals.CONTEXT_ROWS` rows are in the modules `signals` and `steps`; the course of the return itself is in `returns`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import polars as pl

from esper_analyzer.judging import rolling, signals, steps
from esper_analyzer.judging.e_detector import EDetector
from esper_analyzer.judging.error_growth import ErrorGrowth
from esper_analyzer.judging.goal import GoalCourse
from esper_analyzer.judging.reference import ReferenceCourse, ReferenceRun
from esper_analyzer.judging.returns import Floats, Returns
from esper_analyzer.judging.stand_ins import StandIns, with_stand_ins
from esper_analyzer.judging.standstill import PolicyMotion, Standstill
from esper_schemas.metric.catalogue import STAND_INS

Row = dict[str, float | None]

EXPLOSION_DECADES = 3.0
"""A value loss so many decades above its own past is not counted as its past."""

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
        start, end = 0, 1
        while start < len(levels):  # in ever longer portions, as hardly any level is above all those before
            floor = 0.0 if math.isnan(self._highest) else self._highest
            for i in (start + np.flatnonzero(levels[start:end] > floor)).tolist():
                if self._take(float(levels[i])):
                    found[rows[i] + 1 :] = self._highest
            start, end = end, 2 * end
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
        counts = (values > 0.0) & (values < np.inf)
        known = np.concatenate([[self._newest], values[counts]])
        self._newest = float(known[-1])
        return known[:-1] if counts.all() else known[counts.cumsum() - counts]


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


_RISE = Returns.NAMES.index("return_rise")


COLUMNS = (
    "age",
    "usual_return_std",
    "explainable",
    "explained",
    "below_floor",
    "past_value_loss",
    "newest_value_loss",
    "error_beyond_returns",
    "is_relative",
    "policy_unmoved",
    "loss_ratio_baseline",
    "mean_rise",
    "return_slides",
    *Returns.NAMES,
    *Standstill.NAMES,
    *GoalCourse.NAMES,
    *ReferenceCourse.NAMES,
)
"""The columns that `Course` adds; all are Float64, but for `explainable`.

- `age`: updates so far, with this one.
- `usual_return_std`: the usual spread of the returns so far.
- `explainable` (Boolean): whether a critic could explain anything of the returns of this row.
- `explained`: the explained variance where it could.
- `below_floor`: the evidence of an e-detector that explained variance stays below `CRITIC_FLOOR`.
- `past_value_loss`, `newest_value_loss`: the highest level, and the newest value loss above 0, before this row.
- `error_beyond_returns`: by how many decades the critic's error has outgrown episodes; see `ErrorGrowth`.
- `is_relative`: 1 once the entropy has shown that its size says nothing; see `signals.is_relative`; else 0.
- `policy_unmoved`: updates in all of which the policy stayed where it began; 0 once it moved.
- `loss_ratio_baseline`: Lv/Lp in updates 10 to 29; known after these.
- `mean_rise`: the rise of `return_mean`, as long as no episode return was measured.
- `return_slides`: 1 where the return is a sliding mean, read or not; see `StandIns`; else 0.
- those of `Returns`, `Standstill`, `GoalCourse` and `ReferenceCourse`.
"""

TYPES = dict.fromkeys(COLUMNS, pl.Float64()) | {"explainable": pl.Boolean()}
"""Their types."""

READS = (
    "update",
    "env_steps",
    "return_std",
    "return_mean",
    "explained_variance",
    "episode_return_mean",
    "episode_length_mean",
    "value_loss",
    "value_target_scale",
    "policy_loss",
    "entropy",
    "log_prob_max",
    "kl_divergence",
    "clip_fraction",
    *STAND_INS.values(),
)
"""Columns from which they are made. What stands in for one of them is put there first."""


class Course:
    """Adds to each row the numbers of the course that were known when it was recorded.

    Args:
        return_goal: the goal of the episode return, if one was declared.
        references: sound runs of the same task.
    """

    def __init__(self, return_goal: float | None = None, references: Sequence[ReferenceRun] = ()) -> None:
        self._rows = 0
        self._usual, self._past, self._newest, self._relative = UsualStd(), PastLoss(), NewestLoss(), RelativeEntropy()
        self._motion, self._growth = PolicyMotion(), ErrorGrowth()
        self._floor = EDetector(floor=CRITIC_FLOOR, low=-1.0, high=1.0)
        self._returns, self._means, self._has_returns = Returns(), Returns(), False
        self._standstill, self._stand_ins = Standstill(), StandIns()
        self._goal, self._beside = GoalCourse(return_goal), ReferenceCourse(references)
        self._beginning: list[tuple[float | None, float | None]] = []  # losses, until the baseline is made of them
        self._ratio: float | None = None

    def step(self, row: Row) -> None:
        """Add `COLUMNS` to the next row, a dictionary of at least `READS`; None is not measured."""
        row["return_slides"] = self._stand_ins.step(row)
        spread = steps.return_spread(row)
        row["usual_return_std"] = usual = self._usual.step(spread)
        row["explainable"] = steps.has_something_to_explain(row, spread, usual)
        row["explained"] = explained = steps.explained_where_varied(row)
        is_judged = explained is not None and self._rows >= LEARNING_UPDATES
        row["below_floor"] = round(self._floor.step(explained), signals.DIGITS) if is_judged else None
        row["past_value_loss"] = self._past.step(row["value_loss"])
        row["newest_value_loss"] = self._newest.step(row["value_loss"])
        row["error_beyond_returns"] = self._growth.step(row)
        row["is_relative"] = self._relative.step(row["entropy"], row["log_prob_max"])
        row["policy_unmoved"] = self._motion.step(row)
        if self._rows < signals.BASELINE_ROWS[1]:
            self._begin([(row["value_loss"], row["policy_loss"])])
        row["loss_ratio_baseline"] = self._ratio if self._rows >= signals.BASELINE_ROWS[1] else None
        self._rows += 1
        row["age"] = float(self._rows)
        earned = row["episode_return_mean"]
        self._has_returns = self._has_returns or (earned is not None and math.isfinite(earned))
        row["mean_rise"] = None if self._has_returns else self._means.step(row["return_mean"])[_RISE]
        row.update(zip(Returns.NAMES, self._returns.step(earned, row["env_steps"]), strict=True))
        row.update(zip(Standstill.NAMES, self._standstill.step(row), strict=True))
        row.update(zip(GoalCourse.NAMES, self._goal.step(row), strict=True))
        row.update(zip(ReferenceCourse.NAMES, self._beside.step(row), strict=True))

    def extend(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the next rows of a run with `COLUMNS` added; see `extend_all`."""
        return extend_all([self], rows, [rows.height])

    def _extend(self, columns: Mapping[str, Floats], usual: Floats, explained: Floats, slides: Floats) -> list[Floats]:
        """The columns of the next rows, in their order, but for `explainable`.

        Args:
            columns: `READS`, by name.
            usual, explained, slides: `usual_return_std`, `explained` and `return_slides`.
        """
        last, first = signals.BASELINE_ROWS[1], self._rows
        if first < last:
            losses = (columns[name][: last - first].tolist() for name in ("value_loss", "policy_loss"))
            self._begin(list(zip(*losses, strict=True)))
        self._rows += len(usual)
        ratio = math.nan if self._ratio is None else self._ratio
        outcome = self._returns.extend(columns["episode_return_mean"], columns["env_steps"])
        with_outcome = {**columns, "explained": explained, **dict(zip(Returns.NAMES, outcome, strict=True))}
        return [
            np.arange(first + 1.0, self._rows + 1.0),
            usual,
            explained,
            self._below_floor(explained, first),
            self._past.extend(columns["value_loss"]),
            self._newest.extend(columns["value_loss"]),
            self._growth.extend(columns),
            self._relative.extend(columns["entropy"], columns["log_prob_max"]),
            self._motion.extend(columns),
            np.where(first + np.arange(len(usual)) >= last, ratio, np.nan),
            self._mean_rise(columns["return_mean"], columns["episode_return_mean"]),
            slides,
            *outcome,
            *self._standstill.extend(with_outcome),
            *self._goal.extend(with_outcome),
            *self._beside.extend(with_outcome),
        ]

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
            self._ratio = steps.loss_ratio_baseline(self._beginning)
            self._beginning = []


def extend_all(courses: Sequence[Course], rows: pl.DataFrame, heights: Sequence[int]) -> pl.DataFrame:
    """Return rows of several runs with `COLUMNS` added; what polars plans is planned once for all of them.

    Args:
        courses: one for each run.
        rows: the next rows of the first run, then those of the second, and so on.
        heights: how many rows of each.
    """
    places = [slice(end - height, end) for end, height in zip(accumulate(heights), heights, strict=True)]
    rows, slides = with_stand_ins([course._stand_ins for course in courses], rows, places)
    columns = {name: rolling.floats(rows[name]) for name in READS}
    spread = rolling.floats(rows.select(signals.return_spread()).to_series())
    usual = np.concatenate([course._usual.extend(spread[place]) for course, place in zip(courses, places, strict=True)])
    with_usual = rows.with_columns(usual_return_std=pl.Series(usual, nan_to_null=True))
    explainable = with_usual.select(signals.has_something_to_explain(pl.col("usual_return_std"))).to_series()
    explained = rolling.floats(rows.select(signals.explained_where_varied(pl.lit(explainable))).to_series())
    made = [
        course._extend(
            {name: values[place] for name, values in columns.items()}, usual[place], explained[place], slides[place]
        )
        for course, place in zip(courses, places, strict=True)
    ]
    numbers = map(np.concatenate, zip(*made, strict=True)) if len(made) > 1 else iter(made[0])
    added = [explainable if name == "explainable" else next(numbers) for name in COLUMNS]
    return rows.hstack([pl.Series(name, one, nan_to_null=True) for name, one in zip(COLUMNS, added, strict=True)])
