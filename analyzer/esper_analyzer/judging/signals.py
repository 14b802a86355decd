"""Signals: numbers derived from the raw metrics of a run, each one a polars expression over its updates.

An expression looks at a row and at earlier rows, never ahead, so a signal means the same in a live run as in a
finished one. Rows must be in the order of their updates. Columns are those of the metrics table. A signal is null
where a column that it needs was not measured, and NaN or infinite where it would divide by zero; the rules treat that
as unknown. No window is longer than `CONTEXT_ROWS`, so this many earlier rows are enough to judge a new one. What
reaches further back is in `course`, and the same numbers for one row after another, without polars, are in `steps`.

The module `rules` decides what counts as a warning or critical.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from esper_analyzer.judging import rolling

CONTEXT_ROWS = 100
"""Number of earlier rows that a signal may look at; the spike score looks at all of them."""

WINDOW = 10
EXPLAINED_WINDOW, EXPLAINED_FEWEST = 20, 14
LONG_WINDOW = 50
CORRELATION_WINDOW = 30
COLLAPSE_HORIZON = 20
BASELINE_ROWS = (10, 30)
"""The rows of a run, counted from 0, from which the baseline of Lv/Lp is computed."""

MIN_SPREAD = 0.5
"""Explained variance counts only where returns vary at least this much, relative to the usual variation of the run."""

MIN_SHARE = 0.25
"""And where they vary by this share of their mean: a solved task leaves only what discounting makes of its returns."""

MIN_LENGTH = 1.5
"""And where episodes have more than one step: in a bandit there is no later return that a critic could predict."""

FRESH_ENTROPY = 0.59
"""A policy whose first entropy is below this many nats did not begin fresh."""

PERFECT = 1e-4
"""A value loss below this share of its highest level so far is that of a critic that has nothing left to learn."""

MAD_TO_STD = 1.4826  # of a normal distribution
TINY = 1e-12

ROUNDING = 1e-6
"""Returns that deviate by less than this share of their mean are all the same, but for the rounding of float32."""

DIGITS = 9
"""Decimals of logarithms, so that both forms of a signal give the same bits."""


# ---------------------------------------------------------------------- skipped updates


def skipped_of_three() -> pl.Expr:
    """How many of the last three updates were skipped (Int64); 0 where this one was not."""
    skipped = pl.col("skipped").fill_null(False).cast(pl.Int64)
    return skipped * (skipped + skipped.shift(1, fill_value=0) + skipped.shift(2, fill_value=0))


def losses_are_zero(past: pl.Expr, newest: pl.Expr) -> pl.Expr:
    """1 where value loss and policy loss are both exactly 0 all at once, as with a mask that is always false; else 0.

    A critic may come to be perfect, and then the advantages are 0, too. So it is 0 where the newest value loss above 0
    was below a ten-thousandth of the highest one already.

    Args:
        past, newest: the highest and the newest value loss before, `past_value_loss` and `newest_value_loss` of the
            course.
    """
    is_zero = (pl.col("value_loss") == 0.0) & (pl.col("policy_loss") == 0.0)
    is_sudden = (newest >= PERFECT * past).fill_null(True)
    return (is_zero & is_sudden).fill_null(False).cast(pl.Float64)


def explosion(past: pl.Expr) -> pl.Expr:
    """By how many decades the value loss is above its highest level so far, if that is not the returns' doing.

    0 where it is below, or where explained variance is above 0.2: then the critic still explains returns that have
    grown. Where the standard deviation of the returns was recorded, no more decades than the squared error is above
    twice the variance of the value targets. Null where the value loss is not finite, or has no past.

    Args:
        past: the highest level so far, `past_value_loss` of the course.
    """
    loss = finite("value_loss").clip(TINY)
    std = finite("return_std") / finite("value_target_scale").fill_null(1.0)
    beyond = _decades(pl.when((loss > past) & (std > TINY)).then(loss / std**2))
    explains = (finite("explained_variance") > 0.2).fill_null(False)
    known = pl.when(explains).then(0.0).otherwise(pl.min_horizontal(_decades(loss / past), beyond))
    return pl.when(loss.is_not_null() & past.is_not_null()).then(known.round(DIGITS))


# ---------------------------------------------------------------------- the critic


def return_spread() -> pl.Expr:
    """Standard deviation of the returns; where it was not recorded, what value loss and explained variance make of it.

    Lv = ½·mean((G − V)²) and EV = 1 − Var(G − V) / Var(G) give Var(G) ≈ 2·Lv / (1 − EV), on the scale of the value
    targets. Null where neither is known.
    """
    recorded, unexplained = pl.col("return_std"), 1.0 - finite("explained_variance")
    estimate = pl.when(unexplained > TINY).then((2.0 * finite("value_loss").clip(0.0) / unexplained).sqrt())
    return pl.when(recorded.is_null()).then(estimate).otherwise(finite("return_std")).alias("return_spread")


def usual_return_std() -> pl.Expr:
    """Root of the mean square of `return_spread()` over the run so far: the usual variation of this run."""
    square = return_spread() ** 2
    variance = pl.when(square.is_finite()).then(square)
    return (variance.cum_sum() / variance.cum_count()).sqrt().forward_fill().alias("usual_return_std")


def critic_error(usual: pl.Expr | None = None) -> pl.Expr:
    """Normalised value loss, 2·Lv / Var(value targets): 1 is the error of a critic that predicts their mean.

    Unlike the value loss it does not depend on the scale of the rewards. Lv is the unclipped half-MSE if it was
    recorded, else the value loss. The targets are returns divided by `value_target_scale`. Their variance counts as
    at least the usual one of the run, because a solved task leaves hardly any variance to explain. Null where the
    returns are all the same.

    Args:
        usual: expression for the usual standard deviation of the returns; `usual_return_std()` by default.
    """
    loss = pl.col("value_loss_unclipped").fill_null(pl.col("value_loss"))
    std = pl.max_horizontal(finite("return_std"), usual_return_std() if usual is None else usual)
    scale = pl.col("value_target_scale").fill_null(1.0)
    least = pl.max_horizontal(pl.lit(TINY), ROUNDING * finite("return_mean").abs())
    return pl.when(finite("return_std").is_not_null() & (std > least)).then(2.0 * loss * (scale / std) ** 2)


def has_something_to_explain(usual: pl.Expr | None = None) -> pl.Expr:
    """Whether a critic could explain anything of the returns of this row; true where nothing says that it could not.

    False where the returns vary less than half as much as usual in the run (a solved task), by less than a quarter of
    their mean (what discounting leaves of equal episodes), or not at all; and where episodes have one step (a bandit).

    Args:
        usual: as for `critic_error`.
    """
    spread = return_spread()
    usual = usual_return_std() if usual is None else usual
    varies = ((spread >= MIN_SPREAD * usual) & (spread > TINY)).fill_null(True)
    stands_out = (finite("return_std") >= MIN_SHARE * finite("return_mean").abs()).fill_null(True)
    return varies & stands_out & (finite("episode_length_mean") >= MIN_LENGTH).fill_null(True)


def explained_where_varied(explainable: pl.Expr | None = None) -> pl.Expr:
    """Explained variance where there is something to explain, else null; NaN becomes null.

    Args:
        explainable: `has_something_to_explain()`; computed from the frame by default.
    """
    explainable = has_something_to_explain() if explainable is None else explainable
    return pl.when(explainable).then(finite("explained_variance"))


def value_spread(explainable: pl.Expr | None = None) -> pl.Expr:
    """Standard deviation of the critic's predictions over that of the returns, where there is something to explain.

    Near 0 the critic predicts the same value for every state: it has collapsed, or has not started to learn. Null
    where one of the two is not finite.

    Args:
        explainable: `has_something_to_explain()`; computed from the frame by default.
    """
    explainable, std = has_something_to_explain() if explainable is None else explainable, finite("return_std")
    return pl.when((std > TINY) & explainable).then(finite("value_std") / std)


def explained_for_long(explained: pl.Expr | None = None) -> pl.Expr:
    """Median explained variance of the last 20 updates, where there is something to explain in at least 14 of them.

    Args:
        explained: `explained_where_varied()`; computed from the frame by default.
    """
    explained = explained_where_varied() if explained is None else explained
    return rolling.median(explained, EXPLAINED_WINDOW, EXPLAINED_FEWEST)


def value_collapse(loss: pl.Expr | None = None, spread: pl.Expr | None = None) -> pl.Expr:
    """How far the spread of the predictions is below its maximum of 50 updates while the value loss falls (0 to 1).

    If the loss falls because the predictions shrink towards one number, the critic is not learning. 0 while the loss
    rises.

    Args:
        loss, spread: medians of 10 updates of value loss and `value_spread()`; computed from the frame by default.
    """
    loss = smoothed("value_loss") if loss is None else loss
    spread = median_of(value_spread()) if spread is None else spread
    share = spread / rolling.extreme(spread, np.fmax, LONG_WINDOW)
    return (loss < loss.shift(WINDOW)).cast(pl.Float64) * (1.0 - share)


def unexplained_fall(loss: pl.Expr | None = None, explained: pl.Expr | None = None) -> pl.Expr:
    """The fraction by which the value loss fell in 30 updates in which explained variance did not rise.

    Negative where the loss rose, and 0 where explained variance is above 0.5 or has risen by 0.05, which is a sound
    reason for a falling loss. Null where returns vary too little for explained variance to be meaningful.

    Args:
        loss, explained: medians of 10 updates of value loss and `explained_where_varied()`; computed from the frame by
            default.
    """
    loss = smoothed("value_loss") if loss is None else loss
    explained = median_of(explained_where_varied()) if explained is None else explained
    unsound = (explained <= 0.5) & (explained.diff(CORRELATION_WINDOW) < 0.05)
    return unsound.cast(pl.Float64) * -loss.pct_change(CORRELATION_WINDOW)


# ---------------------------------------------------------------------- the losses against each other


def windowed_loss_ratio(value: pl.Expr | None = None) -> pl.Expr:
    """Median of the value loss over median of abs(policy_loss), of the last 10 updates each.

    Steadier than Lv/Lp of one update, because the policy loss passes through zero all the time.

    Args:
        value: median of 10 updates of the value loss; computed from the frame by default.
    """
    value = smoothed("value_loss") if value is None else value
    return value / median_of(finite("policy_loss").abs())


def loss_ratio_drift(value: pl.Expr | None = None, baseline: pl.Expr | None = None) -> pl.Expr:
    """Windowed Lv/Lp over the run's own baseline, its median in updates 10 to 29 of the run; null before that.

    Args:
        value: as for `windowed_loss_ratio`.
        baseline: the baseline; by default it is computed from the frame, which must then begin with the run.
    """
    return windowed_loss_ratio(value) / (
        _from(BASELINE_ROWS[1], loss_ratio_baseline()) if baseline is None else baseline
    )


def loss_ratio_baseline() -> pl.Expr:
    """Median of the windowed Lv/Lp in updates 10 to 29 of a run, from a frame that begins with it; one value.

    Null where it is not finite, as with policy losses of exactly 0.
    """
    first, end = BASELINE_ROWS
    median = windowed_loss_ratio().slice(first, end - first).median()
    return pl.when(median.is_finite()).then(median)


# ---------------------------------------------------------------------- the policy


def clipped_in_bulk() -> pl.Expr:
    """Clip fraction where no ratio is far beyond the clip range, else 0.

    In a sound update the ratios start at 1, and the few that reach the clip have long tails. If many are just beyond
    the clip, and none far beyond, they were there from the first minibatch on: the rollout is not from this policy.
    """
    near = finite("ratio_max") <= 1.0 + 2.5 * finite("clip_range")
    return near.cast(pl.Float64) * finite("clip_fraction")


def is_relative() -> pl.Expr:
    """Whether the entropy is far from 0 or near it says nothing of the policy, so far (Float64: 1 or 0).

    So it is once an entropy was negative, or a log-probability positive: the actions are continuous, and theirs is a
    density. And so it is where the first entropy was below that of a fresh policy over two actions, ln 2 = 0.69, by a
    tenth of a nat: the policy was trained before, as a language model is, of whose tokens 0.06 nats each are ordinary.
    """
    entropy = finite("entropy")
    is_density = (finite("log_prob_max") > 0.0).fill_null(False) | (entropy < 0.0).fill_null(False)
    was_trained = entropy.is_not_null().cum_max() & (entropy.drop_nulls().first() < FRESH_ENTROPY).fill_null(False)
    return (is_density.cum_max() | was_trained).cast(pl.Float64).alias("is_relative")


def discrete_entropy(relative: pl.Expr | None = None) -> pl.Expr:
    """Entropy where it is that of discrete actions under a policy that began fresh, else null; see `is_relative`.

    Args:
        relative: `is_relative()`; computed from the frame by default.
    """
    relative = is_relative() if relative is None else relative
    return pl.when(relative == 0.0).then(pl.col("entropy"))


def entropy_velocity(entropy: pl.Expr | None = None) -> pl.Expr:
    """Speed of the entropy in nats per update: the mean of 5 updates compared with that of the previous 5.

    Args:
        entropy: mean entropy of 5 updates, `mean_entropy()`; computed from the frame by default.
    """
    half = WINDOW // 2
    return (mean_entropy() if entropy is None else entropy).diff(half) / half


def mean_entropy(entropy: pl.Expr | None = None) -> pl.Expr:
    """Mean entropy of the last 5 updates, where the actions are discrete.

    Args:
        entropy: `discrete_entropy()`; computed from the frame by default.
    """
    entropy = discrete_entropy() if entropy is None else entropy
    value, total = pl.when(entropy.is_finite()).then(entropy), pl.lit(0.0)
    for rows in reversed(range(WINDOW // 2)):  # the rounding of rolling_mean depends on all rows before
        total = total + value.shift(rows)
    return total * (1.0 / (WINDOW // 2))  # as polars divides by a number


def entropy_collapse_risk(entropy: pl.Expr | None = None) -> pl.Expr:
    """How near the entropy is to collapse (0.1 nats), from 0 to 1: at its present speed, 1 is within 20 updates.

    Args:
        entropy: as for `entropy_velocity`.
    """
    entropy = mean_entropy() if entropy is None else entropy
    left = (entropy - 0.1).clip(TINY)
    return (-COLLAPSE_HORIZON * entropy_velocity(entropy) / left).clip(0.0, 1.0)


def entropy_clip_correlation(window: int = CORRELATION_WINDOW) -> pl.Expr:
    """Pearson correlation of entropy and clip fraction over the last `window` updates.

    If it is strongly negative while entropy falls, the policy hardens in steps that are too large. Null where one of
    the two hardly varies (by 1e-6 of its size), because that is rounding noise.
    """
    correlation = pl.rolling_corr("entropy", "clip_fraction", window_size=window, min_samples=window // 2)
    varies = [
        pl.col(name).rolling_std(window, min_samples=2) > 1e-6 * pl.col(name).abs().rolling_max(window, min_samples=2)
        for name in ("entropy", "clip_fraction")
    ]
    return pl.when(*varies).then(correlation.clip(-1.0, 1.0))


# ---------------------------------------------------------------------- any metric


def finite(metric: str) -> pl.Expr:
    """The values of a metric that are finite; the others are null."""
    value = pl.col(metric)
    return pl.when(value.is_finite()).then(value)


def nonfinite(metric: str) -> pl.Expr:
    """Whether a value is NaN or infinite; null where nothing was measured."""
    return ~pl.col(metric).is_finite()


def smoothed(metric: str) -> pl.Expr:
    """Median of a metric's finite values in the last 10 updates; null where there are fewer than 5."""
    return median_of(finite(metric))


def median_of(value: pl.Expr) -> pl.Expr:
    """Median of a number over the last 10 updates; null where fewer than 5 of them have one."""
    return rolling.median(value, WINDOW, WINDOW // 2)


def spike_score(metric: str, value: pl.Expr | None = None, middle: pl.Expr | None = None) -> pl.Expr:
    """Robust z-score of a value relative to the previous 50 updates, which must have at least 20 values.

    (x − median) / (1.4826 · MAD), after Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993). The
    deviations are from the moving median, and 1.4826 · MAD counts as at least 1 % of the median, so that rounding does
    not make a constant metric spike.

    Args:
        metric: name of the metric.
        value, middle: `finite(metric)` and `median_before(metric)`; computed from the frame by default.
    """
    middle = median_before(metric) if middle is None else middle
    deviation = (finite(metric) if value is None else value) - middle
    usual = MAD_TO_STD * rolling.median(deviation.shift(1).abs(), LONG_WINDOW, 20)
    return deviation / usual.clip(0.01 * middle.abs())


def median_before(metric: str, value: pl.Expr | None = None) -> pl.Expr:
    """Median of the finite values in the 50 updates before each row; null where there are fewer than 20."""
    value = finite(metric) if value is None else value
    return rolling.median(value.shift(1), LONG_WINDOW, 20)


def plateau(metric: str, value: pl.Expr | None = None, middle: pl.Expr | None = None) -> pl.Expr:
    """Range of the last 50 values over the median before them; near 0 the metric does not move. Null with fewer.

    Args:
        metric, value, middle: as for `spike_score`.
    """
    value = finite(metric) if value is None else value
    middle = median_before(metric) if middle is None else middle
    highest = rolling.extreme(value, np.maximum, LONG_WINDOW)
    return (highest - rolling.extreme(value, np.minimum, LONG_WINDOW)) / middle.abs()


def _from(row: int, value: pl.Expr) -> pl.Expr:
    """One value for all rows from `row` on, null before: a number made from a run's beginning."""
    return pl.when(pl.int_range(pl.len()) >= row).then(value)


def _decades(ratio: pl.Expr) -> pl.Expr:
    """log10 of a number, 0 below 1; null where it is null or NaN. Few are above 1, which saves most of the time."""

    def above_one(values: pl.Series) -> pl.Series:
        numbers = rolling.floats(values)
        found = np.where(np.isnan(numbers), np.nan, 0.0)
        return pl.Series(values.name, np.log10(numbers, out=found, where=numbers > 1.0), nan_to_null=True)

    return ratio.map_batches(above_one, return_dtype=pl.Float64())
