from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from esper_analyzer import Verdict
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.verdict import RunFacts, conclude
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas import Level

SOUND = {"policy_loss": -0.01, "skipped": False}


def verdict(rows: Sequence[dict[str, Any]], before: int = 60, **facts: Any) -> Verdict:
    """The verdict on a run whose last rows these are; `before` of them, sound but for the returns, come first."""
    usual = {name: rows[0][name] for name in ("return_std", "value_target_scale") if rows and name in rows[0]}
    full = [{**usual, "value_loss": 0.05 + 0.01 * (i % 7)} for i in range(before)]
    full += [{"value_loss": 0.05 + 0.01 * (i % 7), **row} for i, row in enumerate(rows)]
    judge = Judge()
    if full:
        frame = pl.DataFrame(
            [{"update": i, **SOUND, **row} for i, row in enumerate(full)],
            schema_overrides=SCHEMA,
            infer_schema_length=None,
        )
        judge.advance(
            frame.with_columns(pl.lit(None, SCHEMA[name]).alias(name) for name in SCHEMA if name not in frame.columns)
        )
    return conclude(judge, RunFacts(**facts))


@pytest.mark.parametrize(
    ("rows", "level", "said"),
    [
        ([{}] * 10, "healthy", "absolute thresholds"),
        ([{"value_loss": 6.0}] * 10, "warning", "Value loss is 6.000 (> 5.000) since update 60."),
        ([{"value_loss": 21.0}] * 10, "critical", "Value loss is 21.00 (> 20.00) since update 60."),
        ([{}] * 9 + [{"value_loss": 21.0}], "healthy", "absolute"),
        ([{}] * 9 + [{"value_loss": math.nan}], "critical", "Value loss is NaN (not finite) at update 69."),
        ([{}] * 9 + [{"policy_loss": -math.inf}], "critical", "Policy loss is -inf (not finite) at update 69."),
        ([{}] * 9 + [{"value_loss": -0.1}], "critical", "Value loss is -0.1 (< 0) at update 69."),
        ([{"value_loss": math.nan}] + [{}] * 5, "critical", "Value loss was NaN (not finite) at update 60, and is"),
        ([{"value_loss": math.nan}] + [{}] * 12, "healthy", "absolute"),
        ([{}] * 9 + [{"value_loss": math.nan, "skipped": True, "skip_reason": 1}], "warning", "non-finite loss"),
        ([{}] * 9 + [{"skipped": True}], "warning", "An update was skipped at update 69."),
        ([{}] * 7 + [{"skipped": True}] * 3, "critical", "Three updates in a row were skipped at update 69."),
        ([{}] * 5 + [{"skipped": True}] * 3 + [{}] * 12, "healthy", "absolute"),
        ([{"return_std": 1.0, "value_loss": 0.49}] * 10, "healthy", "98 %"),
        ([{"return_std": 1.0, "value_loss": 0.51}] * 10, "warning", "is 102 % (> 100 %) since update 60."),
        ([{"return_std": 1.0, "value_loss": 1.01}] * 10, "critical", "is 202 % (> 200 %) since update 60."),
        ([{"return_std": 1.0}] * 3 + [{"return_std": 1.0, "value_loss": 1.01}] * 7, "healthy", "202 %"),
        ([{"return_std": 100.0, "value_loss": 900.0}] * 10, "healthy", "18 %"),
        ([{"return_std": 100.0, "value_loss": 0.9, "value_target_scale": 100.0}] * 10, "warning", "180 %"),
        ([{"return_std": 1.0, "value_loss": 9.0, "value_loss_unclipped": 0.1}] * 10, "healthy", "20 %"),
        ([{"explained_variance": 0.2, "value_loss": 30.0}] * 10, "warning", "where returns vary, is 0.2 (<= 0.3)"),
        ([{"explained_variance": 0.1, "value_loss": 30.0}] * 10, "critical", "where returns vary, is 0.1 (<= 0.1)"),
        ([{"explained_variance": math.nan}] * 10, "healthy", "No rule is broken"),
        ([{"return_std": 1.0, "value_std": 0.01}] * 10, "critical", "is 1 % (< 2 %)"),
        ([{"policy_loss": -1e-6}] * 10, "healthy", ""),
        ([{"kl_divergence": 0.05}] * 3, "warning", "KL divergence is 0.05 (> 0.03) since update 60."),
        ([{"kl_divergence": 0.02}] * 10, "healthy", ""),
        ([{"kl_divergence": 0.05}] * 2, "healthy", ""),
        ([{"entropy": 0.05}] * 10, "warning", "Entropy is 0.05"),
        ([{"entropy": 0.05, "log_prob_max": 1.5}] * 10, "healthy", ""),
        ([{"clip_fraction": 0.22, "ratio_max": 1.3, "clip_range": 0.2}] * 10, "critical", "is 22 % (>= 20 %)"),
        ([{"clip_fraction": 0.22, "ratio_max": 3.0, "clip_range": 0.2}] * 10, "healthy", ""),
    ],
)
def test_the_verdict_on_the_current_state(rows: list[dict[str, Any]], level: Level, said: str) -> None:
    """Each rule alone: its level, and a first reason that says what was found and since when."""
    found = verdict(rows)
    assert found.level == level
    assert said in found.reasons[0]


@pytest.mark.parametrize(
    ("row", "first"),
    [
        ({"value_loss": 100.0}, 18),
        ({"explained_variance": 0.0}, 36),
        ({"return_std": 1.0, "value_loss": 2.0}, 36),
        ({"return_std": 1.0, "value_std": 0.001}, 18),
        ({"value_loss": math.nan}, 1),
        ({"skipped": True}, 3),
    ],
)
def test_a_run_is_critical_from_here_on(row: dict[str, Any], first: int) -> None:
    """Thresholds wait for a warm-up of ten updates, what a critic explains for 28; what cannot be counts at once."""
    assert verdict([row] * (first - 1), before=0).level != "critical"
    assert verdict([row] * first, before=0).level == "critical"


def test_nothing_is_said_before_there_is_anything_to_say() -> None:
    """No rows, no losses and too few rows are each unknown, for a reason of their own."""
    assert (before := verdict([], before=0)).level == "unknown"
    assert before.reasons == ["Nothing has been recorded yet."]
    assert verdict([{"value_loss": None, "policy_loss": None}] * 20, before=0).reasons == ["No loss has been measured."]
    early = verdict([{}] * 10, before=0)
    assert early.level == "unknown"
    assert early.reasons == ["Only 10 updates so far; thresholds apply after the first 10."]
    assert verdict([{}] * 11, before=0).level == "healthy"


def test_a_solved_task_is_no_failure_of_the_critic() -> None:
    """Where returns hardly vary any more, their usual variance is the measure, and explained variance says nothing."""
    solved = [{"return_std": 0.1, "value_loss": 0.05, "explained_variance": -2.0, "value_std": 0.1}] * 20
    assert verdict(solved).level == "critical"
    learning = [{"return_std": 20.0, "value_loss": 5.0, "explained_variance": 0.9, "value_std": 19.0}] * 60
    assert verdict([*learning, *solved], before=0).level == "healthy"


@pytest.mark.parametrize(
    ("returns", "level"),
    [
        ([20.0, 21.0, 19.0, 20.0, 22.0] * 2 + [9.0] * 25, "critical"),
        ([20.0, 21.0, 19.0, 20.0, 22.0] * 2 + [18.0] * 25, "healthy"),
        ([20.0, 21.0, 19.0, 20.0, 22.0] * 2 + [200.0] * 20 + [150.0] * 20, "healthy"),
        ([-1200.0, -1300.0, -1250.0, -1100.0, -1200.0] * 2 + [-1700.0] * 30, "critical"),
        ([0.02, 0.0, 0.05, 0.0, 0.02] * 2 + [-0.05] * 30, "healthy"),
    ],
)
def test_a_policy_that_is_worse_than_at_the_start(returns: list[float], level: Level) -> None:
    """A return well below that of the untrained policy is critical, a lesser or a noisy one is not."""
    found = verdict([{"episode_return_mean": value} for value in returns], before=0)
    assert found.level == level
    if level == "critical":
        assert "below that of the untrained policy is" in found.reasons[0]


def test_the_ratio_of_the_losses_never_decides() -> None:
    """However far it is from its bounds, for however long."""
    assert verdict([{"policy_loss": 1e-9}] * 200).level == "healthy"
    assert verdict([{"policy_loss": 1e6, "value_loss": 0.01}] * 200).level == "healthy"


def test_reasons_are_ranked_and_data_that_is_lost_is_named() -> None:
    """The most severe reason comes first; gaps, drops and damage warn; remarks come last."""
    found = verdict(
        [{"kl_divergence": 0.5}] * 9 + [{"value_loss": math.nan}],
        missing=[(3, 3), (7, 9)],
        dropped=2,
        damage=1,
        remarks=["It is assumed."],
    )
    assert found.level == "critical"
    assert found.reasons[0].startswith("Value loss is NaN")
    assert found.reasons[1].startswith("KL divergence was 0.5 (> 0.03) at update 62. The policy moves far")
    assert "4 updates are missing: 3, 7 to 9." in found.reasons
    assert "The recorder had to drop 2 rows." in found.reasons
    assert found.reasons[-1] == "It is assumed."
    assert verdict([{}] * 10, missing=[(3, 3)]).level == "warning"


def test_the_worst_reason_comes_first_whichever_rule_gives_it(record: Callable[..., Path], command: Any) -> None:
    """A rule that warns stands above one that is critical in the table of rules, and below it in every verdict."""
    flat = {"return_std": 1.0, "value_std": 0.001}
    rows = [{"update": update, **flat} for update in range(60) if update != 30]
    path = record([*rows, {"update": 60, **flat, "skipped": True}])
    done = command("report", "--run", path, "--format", "json")
    found = json.loads(done.stdout)["verdict"]
    assert found["level"] == "critical"
    starts = ["The spread of the critic's predictions", "An update was skipped", "1 update is missing"]
    assert [reason[: len(start)] for reason, start in zip(found["reasons"], starts, strict=False)] == starts
    text = command("report", "--run", path).stdout
    assert 0 <= text.index(starts[0]) < text.index(starts[1]) < text.index(starts[2])
