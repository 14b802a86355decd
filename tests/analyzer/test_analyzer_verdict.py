from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from esper_analyzer import SCHEMA, RunFacts, Verdict, judge
from esper_schemas import Level

SOUND = {"value_loss": 0.1, "policy_loss": -0.01, "skipped": False}


def verdict(rows: Sequence[dict[str, Any]], updates: int = 100, **facts: Any) -> Verdict:
    """The verdict on the last rows of a run of 100 updates."""
    full = [{"update": updates - len(rows) + i, **SOUND, **row} for i, row in enumerate(rows)]
    frame = pl.DataFrame(full, schema_overrides=SCHEMA, infer_schema_length=None)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in frame.columns]
    return judge(frame.with_columns(missing), RunFacts(updates=updates, **facts))


@pytest.mark.parametrize(
    ("rows", "level", "said"),
    [
        ([{}] * 10, "healthy", "absolute thresholds"),
        ([{"value_loss": 6.0}] * 10, "warning", "Value loss is 6"),
        ([{"value_loss": 21.0}] * 10, "critical", "Value loss is 21"),
        ([{}] * 9 + [{"value_loss": 21.0}], "healthy", "absolute"),
        ([{}] * 9 + [{"value_loss": math.nan}], "critical", "Value loss is not a number at update 99"),
        ([{}] * 9 + [{"policy_loss": -math.inf}], "critical", "Policy loss is -inf"),
        ([{}] * 9 + [{"value_loss": -0.1}], "critical", "squared error cannot be"),
        ([{}] * 9 + [{"value_loss": math.nan, "skipped": True, "skip_reason": 1}], "warning", "non-finite loss"),
        ([{}] * 9 + [{"skipped": True}], "warning", "Update 99 was skipped"),
        ([{}] * 7 + [{"skipped": True}] * 2 + [{}], "warning", "2 of the last 10"),
        ([{}] * 7 + [{"skipped": True}] * 3, "critical", "The last 3 updates, 97 to 99"),
        ([{}] * 5 + [{"skipped": True}] * 3 + [{}] * 2, "warning", "3 of the last 10"),
        ([{"return_std": 1.0, "value_loss": 0.49}] * 10, "healthy", "98 %"),
        ([{"return_std": 1.0, "value_loss": 0.51}] * 10, "warning", "102 %"),
        ([{"return_std": 1.0, "value_loss": 1.01}] * 10, "critical", "202 %"),
        ([{"return_std": 1.0}] * 3 + [{"return_std": 1.0, "value_loss": 1.01}] * 7, "warning", "202 %"),
        ([{"return_std": 100.0, "value_loss": 900.0}] * 10, "healthy", "18 %"),
        ([{"return_std": 100.0, "value_loss": 0.9, "value_target_scale": 100.0}] * 10, "warning", "180 %"),
        ([{"return_std": 1.0, "value_loss": 9.0, "value_loss_unclipped": 0.1}] * 10, "healthy", "20 %"),
        ([{"explained_variance": -0.1, "value_loss": 30.0}] * 10, "warning", "Explained variance is -0.1"),
        ([{"explained_variance": -1.1, "value_loss": 30.0}] * 10, "critical", "Explained variance is -1.1"),
        ([{"explained_variance": math.nan}] * 10, "healthy", "absolute"),
        ([{"policy_loss": -1e-6}] * 10, "healthy", ""),
        ([{"kl_divergence": 0.05}] * 8 + [{}] * 2, "warning", "KL divergence was critical in 8 of the last 10"),
        ([{"kl_divergence": 0.05}] * 7 + [{}] * 3, "healthy", ""),
        ([{"entropy": 0.05}] * 10, "warning", "Entropy"),
        ([{"entropy": 0.05, "log_prob_max": 1.5}] * 10, "healthy", ""),
        ([{"value_loss": None, "policy_loss": None}] * 10, "unknown", "No loss has been measured."),
        ([], "unknown", "Nothing has been recorded yet."),
    ],
)
def test_the_verdict_on_the_current_state(rows: list[dict[str, Any]], level: Level, said: str) -> None:
    """Each rule alone: its level, and a first reason that says what was found."""
    found = verdict(rows, 100 if rows else 0)
    assert found.level == level
    assert said in "".join(found.reasons[:1])


def test_a_warm_up_of_ten_updates() -> None:
    """Thresholds wait for ten updates; losses that are not finite, and skipped updates, do not."""
    assert verdict([{"value_loss": 100.0}] * 10, updates=10).level == "unknown"
    assert verdict([{"value_loss": 100.0}] * 10, updates=11).level == "warning"
    assert verdict([{"value_loss": 100.0}] * 10, updates=18).level == "critical"
    assert verdict([{"value_loss": math.nan}], updates=1).level == "critical"
    assert verdict([{"skipped": True}] * 3, updates=3).level == "critical"


def test_a_solved_task_is_no_failure_of_the_critic() -> None:
    """Where returns hardly vary any more, their usual variance is the measure, and explained variance says nothing."""
    rows = [{"return_std": 0.1, "value_loss": 0.05, "explained_variance": -2.0}] * 10
    assert verdict(rows).level == "critical"
    assert verdict(rows, return_std=20.0).level == "healthy"


def test_reasons_are_ranked_and_data_that_is_lost_is_named() -> None:
    """The most severe reason comes first; gaps, drops and damage warn; an assumed definition is mentioned last."""
    found = verdict(
        [{"kl_divergence": 0.5}] * 9 + [{"value_loss": math.nan}],
        missing=[(3, 3), (7, 9)],
        dropped=2,
        damage=1,
        definition_is_assumed=True,
    )
    assert found.level == "critical"
    assert found.reasons[0].startswith("Value loss is not a number")
    assert "4 updates are missing: 3, 7 to 9." in found.reasons
    assert "The recorder had to drop 2 rows." in found.reasons
    assert found.reasons[-1].endswith("is assumed.")
    assert verdict([{}] * 10, missing=[(3, 3)]).level == "warning"
