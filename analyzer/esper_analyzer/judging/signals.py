"""Signals: numbers derived from the raw metrics of a run, each one a polars expression over its updates.

An expression looks at a row and at earlier rows, never ahead, so a signal means the same in a live run as in a
finished one. Rows must be in the order of their updates. Columns are those of the metrics table. A signal is null
where a column that it needs was not measured, and NaN or infinite where it would divide by zero; the rules treat that
as unknown. No window is longer than `CONTEXT_ROWS`, so this many earlier rows are enough to judge a new one.

The module `rules` decides what counts as a warning or critical.
"""

from __future__ import annotations

import polars as pl

CONTEXT_ROWS = 100
"""Number of earlier rows that a signal may look at; the spike score looks at all of them."""

WINDOW = 10
LONG_WINDOW = 50
CORRELATION_WINDOW = 30
START_ROWS = 10
"""The first rows of a run, which show the returns of an untrained policy."""

BASELINE_ROWS = (10, 30)
"""The rows of a run, counted from 0, from which the baseline of Lv/Lp is computed."""

MIN_SPREAD = 0.5
"""Explained variance counts only where returns vary at least this much, relative to the usual variation of the run."""

_MAD_TO_STD = 1.4826  # of a normal distribution
_TINY = 1e-12


# ---------------------------------------------------------------------- skipped updates


def skipped_of_three() -> pl.Expr:
    """How many of the last three updates were skipped (Int64); 0 where this one was not."""
    skipped = pl.col("skipped").fill_null(False).cast(pl.Int64)
    return skipped * skipped.rolling_sum(3, min_samples=1)


# ---------------------------------------------------------------------- the critic


def usual_return_std() -> pl.Expr:
    """Root of the mean variance of the returns over the run so far: the usual variation of this run."""
    square = pl.col("return_std") ** 2
    variance = pl.when(square.is_finite()).then(square)
    return (variance.cum_sum() / variance.cum_count()).sqrt().forward_fill().alias("usual_return_std")


def critic_error(usual: pl.Expr | None = None) -> pl.Expr:
    """Normalised value loss, 2·Lv / Var(value targets): 1 is the error of a critic that predicts their mean.

    Unlike the value loss it does not depend on the scale of the rewards. Lv is the unclipped half-MSE if it was
    recorded, else the value loss. The targets are returns divided by `value_target_scale`. Their variance counts as
    at least the usual one of the run, because a solved task leaves hardly any variance to explain.

    Args:
        usual: expression for the usual standard deviation of the returns; `usual_return_std()` by default.
    """
    loss = pl.col("value_loss_unclipped").fill_null(pl.col("value_loss"))
    std = pl.col("return_std").clip(usual_return_std() if usual is None else usual)
    scale = pl.col("value_target_scale").fill_null(1.0)
    return pl.when(pl.col("return_std").is_finite() & (std > _TINY)).then(2.0 * loss * (scale / std) ** 2)


def explained_where_varied(usual: pl.Expr | None = None) -> pl.Expr:
    """Explained variance where there is variance to explain, else null.

    There is variance to explain where the returns vary at least half as much as usual in the run. NaN becomes null.
    """
    std, value = pl.col("return_std"), pl.col("explained_variance")
    varied = (std >= MIN_SPREAD * (usual_return_std() if usual is None else usual)).fill_null(True)
    return pl.when(varied & value.is_finite()).then(value)


def value_spread() -> pl.Expr:
    """Standard deviation of the critic's predictions over that of the returns.

    Near 0 the critic predicts the same value for every state: it has collapsed, or has not started to learn. Null
    where one of the two is not finite, and where the returns do not vary.
    """
    value_std, std = pl.col("value_std"), pl.col("return_std")
    return pl.when((std > _TINY) & (value_std + std).is_finite()).then(value_std / std)


def unscaled_value_loss(loss: pl.Expr | None = None) -> pl.Expr:
    """The value loss where no recorded metric tells its scale; only then do absolute bounds apply.

    Null where it is not finite or negative, which is wrong on any scale.

    Args:
        loss: `finite("value_loss")`; computed from the frame by default.
    """
    loss = finite("value_loss") if loss is None else loss
    alone = pl.col("return_std").is_null() & pl.col("explained_variance").is_null()
    return pl.when(alone & (loss >= 0.0)).then(loss)


def value_collapse(loss: pl.Expr | None = None, spread: pl.Expr | None = None) -> pl.Expr:
    """How far the spread of the predictions is below its maximum of 50 updates while the value loss falls (0 to 1).

    If the loss falls because the predictions shrink towards one number, the critic is not learning. 0 while the loss
    rises.

    Args:
        loss, spread: medians of 10 updates of value loss and `value_spread()`; computed from the frame by default.
    """
    loss = smoothed("value_loss") if loss is None else loss
    spread = median_of(value_spread()) if spread is None else spread
    share = spread / spread.rolling_max(LONG_WINDOW, min_samples=1)
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
    """Median of the windowed Lv/Lp in updates 10 to 29 of a run, from a frame that begins with it; one value."""
    first, end = BASELINE_ROWS
    return windowed_loss_ratio().slice(first, end - first).median()


# ---------------------------------------------------------------------- the policy


def return_below_start(start: pl.Expr | None = None, size: pl.Expr | None = None) -> pl.Expr:
    """How far the return has fallen below that of the untrained policy, relative to its size; negative where it rose.

    Compares the median of 10 updates with `return_start()`.

    Args:
        start, size: `return_start()` and `return_size()`; by default they are computed from the frame, which must then
            begin with the run.
    """
    start = _from(START_ROWS, return_start()) if start is None else start
    size = _from(START_ROWS, return_size()) if size is None else size
    return (start - finite("episode_return_mean").rolling_median(WINDOW, min_samples=3)) / size


def return_start() -> pl.Expr:
    """Median episode return of the first 5 updates of a run, from a frame that begins with it; one value."""
    return finite("episode_return_mean").head(START_ROWS // 2).median()


def return_size() -> pl.Expr:
    """The size that a fall of the return is relative to, from a frame that begins with the run; one value.

    This is the size of `return_start()`. It is null if that is less than 5 times the noise of the first 10 updates,
    because noise alone can make returns near zero fall. The noise is 1.4826 / √6 times the median size of the second
    differences, so a return that rises steadily has none.
    """
    bend = finite("episode_return_mean").head(START_ROWS).diff().diff()
    noise = _MAD_TO_STD / 6**0.5 * bend.abs().median()
    size = return_start().abs()
    return pl.when(size >= 5.0 * noise.fill_null(0.0)).then(size)


def clipped_in_bulk() -> pl.Expr:
    """Clip fraction where no ratio is far beyond the clip range, else 0.

    In a sound update the ratios start at 1, and the few that reach the clip have long tails. If many are just beyond
    the clip, and none far beyond, they were there from the first minibatch on: the rollout is not from this policy.
    """
    near = pl.col("ratio_max") <= 1.0 + 2.5 * pl.col("clip_range")
    return near.cast(pl.Float64) * pl.col("clip_fraction")


def discrete_entropy() -> pl.Expr:
    """Entropy, null where a negative entropy or a positive log-probability shows that the actions are continuous."""
    is_density = (pl.col("log_prob_max") > 0.0).fill_null(False) | (pl.col("entropy") < 0.0)
    return pl.when(~is_density).then("entropy")


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
    return (discrete_entropy() if entropy is None else entropy).rolling_mean(WINDOW // 2)


def entropy_collapse_risk(entropy: pl.Expr | None = None, horizon: int = 20) -> pl.Expr:
    """How near the entropy is to collapse (0.1 nats), from 0 to 1: at its present speed, 1 is within 20 updates.

    Args:
        entropy: as for `entropy_velocity`.
        horizon: updates to look ahead.
    """
    entropy = mean_entropy() if entropy is None else entropy
    left = (entropy - 0.1).clip(_TINY)
    return (-horizon * entropy_velocity(entropy) / left).clip(0.0, 1.0)


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
    return value.rolling_median(WINDOW, min_samples=WINDOW // 2)


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
    usual = _MAD_TO_STD * deviation.shift(1).abs().rolling_median(LONG_WINDOW, min_samples=20)
    return deviation / usual.clip(0.01 * middle.abs())


def median_before(metric: str, value: pl.Expr | None = None) -> pl.Expr:
    """Median of the finite values in the 50 updates before each row; null where there are fewer than 20."""
    value = finite(metric) if value is None else value
    return value.shift(1).rolling_median(LONG_WINDOW, min_samples=20)


def plateau(metric: str, value: pl.Expr | None = None, middle: pl.Expr | None = None) -> pl.Expr:
    """Range of the last 50 values over the median before them; near 0 the metric does not move. Null with fewer.

    Args:
        metric, value, middle: as for `spike_score`.
    """
    value = finite(metric) if value is None else value
    middle = median_before(metric) if middle is None else middle
    return (value.rolling_max(LONG_WINDOW) - value.rolling_min(LONG_WINDOW)) / middle.abs()


def _from(row: int, value: pl.Expr) -> pl.Expr:
    """One value for all rows from `row` on, null before: a number made from a run's beginning."""
    return pl.when(pl.int_range(pl.len()) >= row).then(value)
