"""What each signal promises, on runs of a few numbers: scale-freeness, nulls, bounds, and what it is good for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from tests.analyzer.judging.plain import INF, NAN, Columns, Value, same

from esper_analyzer.judging import signals, steps
from esper_analyzer.reading.segment_index import SCHEMA


def values_of(expression: pl.Expr, **columns: Sequence[Value]) -> list[Value]:
    """An expression over Float64 columns of a frame; the others of a run are null, `update` counts from 0."""
    rows = len(next(iter(columns.values())))
    frame = pl.DataFrame({name: pl.Series(values, dtype=pl.Float64) for name, values in columns.items()})
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in columns]
    frame = frame.with_columns(missing).with_columns(update=pl.int_range(rows))
    return frame.select(expression.cast(pl.Float64)).to_series().to_list()


@pytest.mark.parametrize("scales_targets", [False, True])
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_critic_error_does_not_depend_on_the_scale_of_rewards(scales_targets: bool, factor: float) -> None:
    """Rewards × 1000: returns are × 1000, losses × 1e6 or, where targets are scaled, as before. Nor does the spread."""
    rng = np.random.default_rng(1)
    loss, std, value_std = rng.lognormal(size=(3, 60))
    before: dict[str, list[Value]] = {"value_loss": loss.tolist(), "return_std": std.tolist()}
    before |= {"value_std": value_std.tolist(), "value_target_scale": [2.0 if scales_targets else None] * 60}
    after: dict[str, list[Value]] = before | {"return_std": (factor * std).tolist()}
    after |= {"value_std": (factor * value_std).tolist()}
    if scales_targets:
        after |= {"value_target_scale": [2.0 * factor] * 60}
    else:
        after |= {"value_loss": (factor**2 * loss).tolist()}
    for signal in (signals.critic_error(), signals.value_spread()):
        found = values_of(signal, **after)
        same(found, values_of(signal, **before))
        assert sum(value is None for value in found) < 30


def test_critic_error_of_a_critic_that_predicts_the_mean_is_one() -> None:
    """Half-MSE = Var / 2, on raw and on scaled targets; the unclipped loss is preferred."""
    columns: Columns = {"return_std": [4.0] * 3, "value_loss": [8.0, 0.5, 99.0], "value_target_scale": [1.0, 4.0, 1.0]}
    assert values_of(signals.critic_error(), **columns, value_loss_unclipped=[None, None, 8.0]) == [1.0, 1.0, 1.0]


def test_critic_error_is_held_against_what_was_usual() -> None:
    """Once a task is solved its returns hardly vary; their usual variance stands in. Null without a finite one."""
    std: list[Value] = [None, 3.0, 3.0, 0.0, NAN, INF]
    found = values_of(signals.critic_error(), return_std=std, value_loss=[1.0] * 6)
    same(found, [None, 2 / 9, 2 / 9, 2 / 6, None, None])
    assert values_of(signals.critic_error(), return_std=[0.0, 0.0], value_loss=[1.0, 1.0]) == [None, None]
    same(values_of(signals.usual_return_std(), return_std=[*std, None, 1e200]), [None, 3, 3, *[math.sqrt(6)] * 5])


@pytest.mark.parametrize(("std", "mean", "error"), [(1e-7, -1.0, None), (1e-7, 1e-3, 200.0), (1e-7, None, 200.0)])
def test_critic_error_of_returns_that_differ_by_rounding_is_unknown(
    std: float, mean: float | None, error: float | None
) -> None:
    """Where all returns are −1 in float32, their deviation of 1e-7 is no variance that a critic could explain."""
    columns: Columns = {"return_std": [std], "return_mean": [mean], "value_loss": [1e-12]}
    (of_frame,) = values_of(signals.critic_error(), **columns)
    lacking = ("usual_return_std", "value_loss_unclipped", "value_target_scale")
    of_row = steps.critic_error({name: values[0] for name, values in columns.items()} | dict.fromkeys(lacking))
    expected = None if error is None else pytest.approx(error)
    assert of_frame == expected
    assert of_row == expected


def test_the_spread_of_returns_is_what_value_loss_and_explained_variance_make_of_it() -> None:
    """Where it was not recorded: 2 · 8 / (1 − 0.75) = 8², and 2 · 1 / (1 + 1) = 1²; null with a perfect critic."""
    found = values_of(
        signals.return_spread(),
        return_std=[3.0, NAN, None, None, None, None, None],
        value_loss=[8.0, 8.0, 8.0, 1.0, 1.0, INF, None],
        explained_variance=[0.75, 0.75, 0.75, -1.0, 1.0, 0.5, 0.5],
    )
    same(found, [3.0, None, 8.0, 1.0, None, None, None])


def test_there_is_something_to_explain_unless_something_says_no() -> None:
    """Returns that vary less than usual, by a small share of their mean, or not at all; and bandits."""
    found = values_of(
        signals.has_something_to_explain(),
        return_std=[2.0, 0.5, 2.0, 2.0, 0.0, None, 2.0, 2.0, NAN],
        return_mean=[4.0, 0.0, 9.0, -9.0, 0.0, 0.0, 0.0, 0.0, 99.0],
        episode_length_mean=[20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 1.0, None, 2.0],
    )
    assert found == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]


def test_explained_for_long_is_a_median_of_twenty_of_at_least_fourteen() -> None:
    """It takes more than half of them to move it, and more than six that are missing to take it away."""
    explained: list[Value] = [0.8] * 20 + [0.0] * 11 + [None] * 6 + [NAN]
    found = values_of(signals.explained_for_long(), explained_variance=explained)
    assert found[:13] == [None] * 13
    assert (found[13], found[28], found[30]) == (0.8, 0.8, 0.0)
    assert (found[36], found[37]) == (0.0, None)


def test_an_explosion_is_counted_in_decades_above_the_past() -> None:
    """Unless the critic explains the returns, or these have grown as much; null without a loss or a past."""
    found = values_of(
        signals.explosion(pl.col("past_value_loss")),
        value_loss=[1e4, 0.1, 1e4, 1e4, 1e4, NAN, 1.0],
        past_value_loss=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, None],
        explained_variance=[None, None, 0.3, -5.0, None, None, None],
        return_std=[None, None, None, None, 10.0, None, None],
    )
    same(found, [4.0, 0.0, 0.0, 4.0, 2.0, None, None])


def test_losses_are_zero_all_at_once_or_not_at_all() -> None:
    """Both exactly 0 from one update to the next is a mask; after ever smaller losses it is a perfect critic."""
    past, newest = pl.col("past_value_loss"), pl.col("newest_value_loss")
    found = values_of(
        signals.losses_are_zero(past, newest),
        value_loss=[0.0, 0.0, 0.0, 1e-9, 0.0, None],
        policy_loss=[0.0, -0.0, 0.0, 0.0, 0.1, 0.0],
        past_value_loss=[None, 1.0, 1.0, 1.0, 1.0, 1.0],
        newest_value_loss=[None, 0.5, 1e-5, 0.5, 0.5, 0.5],
    )
    assert found == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_explained_variance_counts_only_where_returns_vary() -> None:
    """Half of the usual spread is the least; where no spread is known it always counts."""
    std: list[Value] = [2.0, 2.0, 0.5, 2.0, None]
    found = values_of(signals.explained_where_varied(), return_std=std, explained_variance=[0.5, NAN, -3.0, -INF, 0.4])
    assert found == [0.5, None, None, None, 0.4]
    assert values_of(signals.explained_where_varied(), explained_variance=[0.2, None]) == [0.2, None]


def test_value_spread_needs_returns_that_vary() -> None:
    """No division by zero or by what is not finite; a collapsed critic has none."""
    found = values_of(
        signals.value_spread(), value_std=[1.0, 0.0, 1.0, 1.0, NAN, 1.0], return_std=[2.0, 2.0, 0.0, INF, 1.0, NAN]
    )
    assert found == [0.5, 0.0, None, None, None, None]


def test_value_collapse_is_how_far_the_spread_shrank_while_the_loss_fell() -> None:
    """A tenth of the spread is left: 0.9; the same with a rising loss: 0."""
    spread = [1.0] * 20 + [0.1] * 20
    falling = [2.0**-i for i in range(40)]
    columns: Columns = {"value_std": list(spread), "return_std": [1.0] * 40}
    assert values_of(signals.value_collapse(), value_loss=falling, **columns)[-1] == pytest.approx(0.9)
    assert values_of(signals.value_collapse(), value_loss=falling[::-1], **columns)[-1] == 0.0


def test_a_fall_is_unexplained_unless_explained_variance_rose_or_is_high() -> None:
    """From 1 to 0.25 is a fall of 0.75."""
    loss = [1.0] * 30 + [0.25] * 30
    rising = [i / 100 for i in range(60)]
    for explained, expected in ([0.2] * 60, 0.75), (rising, 0.0), ([0.6] * 60, 0.0):
        found = values_of(signals.unexplained_fall(), value_loss=loss, explained_variance=explained)
        assert found[-1] == pytest.approx(expected)
    assert values_of(signals.unexplained_fall(), value_loss=loss) == [None] * 60
    rises = values_of(signals.unexplained_fall(), value_loss=loss[::-1], explained_variance=[0.2] * 60)
    assert rises[-1] == pytest.approx(-3.0)


def test_the_windowed_ratio_survives_a_policy_loss_that_passes_through_zero() -> None:
    """One of ten that is next to nothing does not move it; its drift is relative to updates 10 to 29."""
    policy = [0.0 if i % 10 == 3 else (-1) ** i * 0.5 for i in range(60)]
    value = [1.0] * 40 + [7.0] * 20
    assert values_of(signals.windowed_loss_ratio(), value_loss=value, policy_loss=policy)[20] == pytest.approx(2.0)
    drift = values_of(signals.loss_ratio_drift(), value_loss=value, policy_loss=policy)
    assert drift[:30] == [None] * 30
    assert drift[35] == pytest.approx(1.0)
    assert drift[-1] == pytest.approx(7.0)


def test_clips_in_bulk_are_those_with_no_ratio_far_off() -> None:
    """1 + 2.5 · clip is the bound, inclusive."""
    found = values_of(
        signals.clipped_in_bulk(),
        ratio_max=[1.25, 1.3, None, NAN],
        clip_range=[0.1] * 4,
        clip_fraction=[0.4] * 4,
    )
    assert found == [0.4, 0.0, None, None]


def test_the_entropy_of_a_density_is_not_judged_as_one_of_discrete_actions() -> None:
    """A negative entropy, or a log-probability above 0, tells; and from then on it is one of a density for good."""
    density: list[Value] = [None, None, 0.3, -0.1, -0.1]
    assert values_of(signals.discrete_entropy(), entropy=[0.9, -0.2, 0.05, 0.05, None]) == [0.9] + [None] * 4
    assert values_of(signals.discrete_entropy(), entropy=[0.9, 0.05, 0.05, 0.05, None], log_prob_max=density) == [
        0.9, 0.05, None, None, None,
    ]  # fmt: skip
    assert values_of(signals.discrete_entropy(), entropy=[0.9, None, 0.05]) == [0.9, None, 0.05]


def test_a_policy_that_did_not_begin_fresh_is_not_judged_by_its_entropy() -> None:
    """0.3 nats per token at first are those of a language model; 0.69 are those of two actions."""
    assert values_of(signals.discrete_entropy(), entropy=[None, 0.3, 0.06, 0.9]) == [None] * 4
    assert values_of(signals.discrete_entropy(), entropy=[None, 0.69, 0.06, 0.9]) == [None, 0.69, 0.06, 0.9]


def test_collapse_risk_looks_twenty_updates_ahead() -> None:
    """At 0.01 nats per update from 0.7 it is 20 · 0.01 / 0.6; a rising or steady entropy has none, and no −0.0."""
    falling = values_of(signals.entropy_collapse_risk(), entropy=[1.0 - 0.01 * i for i in range(33)])
    assert falling[-1] == pytest.approx(20 * 0.01 / (0.70 - 0.1))
    assert falling[8] is None
    assert values_of(signals.entropy_collapse_risk(), entropy=[0.7 + 0.01 * i for i in range(20)])[-1] == 0.0
    steady = values_of(signals.entropy_collapse_risk(), entropy=[0.7] * 20)[-1]
    assert steady == 0.0
    assert values_of(signals.entropy_velocity(), entropy=[1.0 - 0.01 * i for i in range(33)])[-1] == pytest.approx(
        -0.01
    )


def test_correlation_of_entropy_and_clip_fraction() -> None:
    """Pearson's over 30 updates where both are there; null where one stands still, as constants or rounding do."""
    rng = np.random.default_rng(3)
    entropy, clip = rng.normal(size=(2, 50))
    found = values_of(signals.entropy_clip_correlation(), entropy=entropy.tolist(), clip_fraction=clip.tolist())
    expected = [
        float(np.corrcoef(entropy[max(0, i - 29) : i + 1], clip[max(0, i - 29) : i + 1])[0, 1]) for i in range(14, 50)
    ]
    same(found[14:], expected)
    assert found[:14] == [None] * 14
    still = values_of(signals.entropy_clip_correlation(), entropy=[0.1] * 50, clip_fraction=clip.tolist())
    assert still == [None] * 50
    line = [1.0 + 0.01 * i for i in range(50)]
    anti = values_of(signals.entropy_clip_correlation(), entropy=line, clip_fraction=[-x for x in line])[-1]
    assert anti == pytest.approx(-1.0)
    assert anti is not None
    assert anti >= -1.0


def test_a_spike_stands_out_from_the_fifty_before_and_rest_does_not_spike() -> None:
    """Ten of the usual deviations are a score of about 10; the last digit of a constant is none; too few: null."""
    losses = [1.0 + 0.1 * (-1) ** i for i in range(80)]
    score = values_of(signals.spike_score("value_loss"), value_loss=[*losses, 2.48])[-1]
    assert score == pytest.approx(10.0, abs=1.0)
    assert values_of(signals.spike_score("value_loss"), value_loss=[*losses, NAN])[-1] is None
    rest = values_of(signals.spike_score("value_loss"), value_loss=[*[1.0] * 80, 1.0 + 1e-9])[-1]
    assert rest == pytest.approx(0.0, abs=1e-6)
    assert values_of(signals.spike_score("value_loss"), value_loss=losses[:40]) == [None] * 40


def test_a_plateau_is_a_range_of_next_to_nothing() -> None:
    """Relative to the median; null with fewer than 50 values or where one is missing."""
    moving = values_of(signals.plateau("value_loss"), value_loss=[2.0 + 0.5 * (i % 2) for i in range(60)])
    assert moving[-1] == pytest.approx(0.5 / 2.25)
    assert moving[48] is None
    assert values_of(signals.plateau("value_loss"), value_loss=[2.0] * 60)[-1] == 0.0
    holes: list[Value] = [2.0] * 59 + [None]
    assert values_of(signals.plateau("value_loss"), value_loss=holes)[-1] is None


def test_skips_are_counted() -> None:
    """Skipped updates of the last three; null and false are not skipped."""
    frame = pl.DataFrame({"update": [3, 4, 7, 8], "skipped": [True, None, True, True]})
    assert frame.select(signals.skipped_of_three()).to_series().to_list() == [1, 0, 2, 2]
    assert frame.select(signals.skipped_of_three()).dtypes == [pl.Int64]
