from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from esper_analyzer import open_run
from esper_analyzer.drawing.metric_table import VERY_WIDE, WIDE, metric_row, table_head
from esper_analyzer.measuring.snapshot import MetricState
from esper_analyzer.measuring.trends import Trend, TrendLabel, long_trend_of, trend_of
from esper_analyzer.wording import TrendWords, level_word, limits, thresholds_of, trend_words
from esper_schemas import METRICS
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS

NAN = math.nan
LABELS = ("improving", "stable", "declining", "shifting", "broken", "unknown")


@pytest.mark.parametrize(
    ("metric", "values", "full", "narrow", "short", "tone"),
    [
        ("value_loss", [1.35**i for i in range(10)], "▲ +348% rising, worse", "▲ +348% worse", "▲ worse", "worse"),
        ("value_loss", [0.9**i for i in range(10)], "▼ -41% falling, better", "▼ -41% better", "▼ better", "better"),
        ("episode_return_mean", [*range(1, 11)], "▲ +167% rising, better", "▲ +167% better", "▲ better", "better"),
        ("explained_variance", [0.8] * 5 + [0.5] * 5, "▼ -38% falling, worse", "▼ -38% worse", "▼ worse", "worse"),
        ("policy_loss", [-2.0] * 5 + [-1.0] * 5, "▲ +50% rising, worse", "▲ +50% worse", "▲ worse", "worse"),
        ("kl_divergence", [0.9**i for i in range(10)], "▼ -41% falling", "▼ -41% falling", "▼ falling", ""),
        ("mine", [1.0] * 5 + [2.0] * 5, "▲ +100% rising", "▲ +100% rising", "▲ rising", ""),
        ("value_loss", [1.0] * 10, "→ +0.0% steady", "→ +0.0% steady", "→ steady", ""),
        ("value_loss", [1.0] * 5 + [0.95] * 5, "→ -5.0% steady", "→ -5.0% steady", "→ steady", ""),
        ("value_loss", [1.0] * 9 + [500.0], "◆ +100× unsteady", "◆ +100× unsteady", "◆ unsteady", ""),
        ("value_loss", [1.0] * 9 + [NAN], "✗ not finite", "✗ not finite", "✗ broken", "broken"),
        ("value_loss", [1.0] * 5, "", "", "", ""),
        ("learning_rate", [1.0] * 10, "", "", "", ""),
    ],
)
def test_a_trend_says_which_way_and_whether_that_is_better(
    metric: str, values: list[float], full: str, narrow: str, short: str, tone: str
) -> None:
    """Rising or falling, and better or worse where one direction is; or steady, unsteady, not finite."""
    words = trend_words(metric, trend_of(metric, values))
    assert (words.full, words.narrow, words.short, words.tone) == (full, narrow, short, tone)
    assert bool(words.sure) == ("rising" in full or "falling" in full)


def test_no_large_change_is_called_steady() -> None:
    """One outlier in thirty values is no trend, but by its line the loss grew fourfold: unsteady, not stable."""
    found = long_trend_of("value_loss", [1.0] * 29 + [7000.0])
    assert found.label == "stable"
    assert found.change is not None
    assert found.change > 1.0
    assert trend_words("value_loss", found) == TrendWords("◆ +424% unsteady", "◆ +424% unsteady", "◆ unsteady")
    huge = Trend("stable", 716.0, 0.3)
    assert trend_words("value_loss", huge).full == "◆ +716× unsteady"


def test_words_never_contradict_the_number() -> None:
    """For any values: rising is more than nothing, steady is below the threshold, and no word of the JSON is shown."""
    source = random.Random(0)
    seen = set()
    for _ in range(3000):
        metric = source.choice([*METRICS, LOSS_RATIO, "mine"])
        slope, spread = source.choice([-0.1, -0.02, 0.0, 0.02, 0.1]), source.choice([0.01, 0.3, 3.0])
        values = [source.lognormvariate(slope * i, spread) for i in range(source.choice([10, 30]))]
        for found in (trend_of(metric, values), long_trend_of(metric, values)):
            words = trend_words(metric, found)
            for text in (words.full, words.narrow, words.short):
                assert not set(text.replace(",", "").split()) & set(LABELS) - {"broken"}, text
            if found.change is None:
                continue
            threshold = METRICS[metric].trend_threshold if metric in METRICS else 0.2
            assert threshold is not None
            word = words.full.split()[2].rstrip(",")
            seen.add(word)
            if word == "steady":
                assert abs(found.change) < threshold
            else:
                assert abs(found.change) >= threshold - 1e-8
            if word in ("rising", "falling"):
                assert (word == "rising") == (found.change > 0)
                assert ("better" in words.full, "worse" in words.full) == (
                    found.label == "improving",
                    found.label == "declining",
                )
    assert seen == {"steady", "unsteady", "rising", "falling"}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("change", [-0.999, -0.05, 0.0, 0.0995, 9.99, 9999.0, 5.3e9, 1e300])
@pytest.mark.parametrize("sure", [0.0, 0.995])
def test_rows_are_aligned_whatever_the_trend(label: TrendLabel, change: float, sure: float) -> None:
    """The level begins in the same column as its heading, at every width from 40 cells on, and fits into it."""
    found = Trend(label, None if label in ("broken", "unknown") else change, sure)
    state = MetricState(0.5, [0.5] * 10, found, found, "healthy")
    for width in (40, 45, 46, 57, 58, 62, 63, WIDE - 1, WIDE, 80, VERY_WIDE - 1, VERY_WIDE, 120):
        head, row = table_head(width).plain, metric_row("value_loss", "V.Loss", state, width).plain
        if abs(change) < 1e100:
            assert row.index("healthy") == head.index("level"), (width, row)
            assert len(row) <= width
        broad = metric_row("value_loss", "V.Loss", state, width, median="0.5").plain
        assert broad.index("healthy") == head.index("level"), (width, broad)


def test_only_lv_lp_is_advisory() -> None:
    """Beyond its bounds Lv/Lp is advisory in every text; the words of all other levels and metrics stay."""
    assert [level_word(LOSS_RATIO, level) for level in ("unknown", "healthy", "warning", "critical")] == [
        "unknown", "healthy", "advisory", "advisory",
    ]  # fmt: skip
    assert level_word("value_loss", "critical") == "critical"
    said = thresholds_of(LOSS_RATIO, DEFAULT_THRESHOLDS[LOSS_RATIO])
    assert said == "advisory < 0.2 or > 5, above all < 0.1 or > 10"
    loss = DEFAULT_THRESHOLDS["value_loss"]
    assert thresholds_of("value_loss", loss) == str(loss)
    assert thresholds_of("mine", None) == limits(None) == ""
    assert limits(loss) == "limits > 5 or < 0.001, then > 20 or < 0"


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_no_page_uses_the_words_of_the_json(
    record: Callable[..., Path], command: Callable[..., CompletedProcess[str]], form: str
) -> None:
    """A rising loss, a falling one and Lv/Lp far beyond its bounds: rising, falling, advisory; the JSON has labels."""
    rows = [{"update": i, "value_loss": 0.1 * 1.1**i, "policy_loss": -1e-5 * 0.9**i} for i in range(40)]
    path = record(rows)
    said = command("report", "--run", path, "--format", form).stdout
    page = said if form != "html" else said[: said.index('<script type="application/octet-stream"')]
    page = page.split("</head>")[-1]
    assert "rising, worse" in page
    assert "advisory" in page
    assert re.findall(r".*\b(?:declining|improving|shifting|stable)\b.*", page) == []
    lines = [line for line in page.split("\n") if "Lv/Lp" in line and "decides nothing" not in line]
    assert lines
    assert not any("critical" in line or "❌" in line for line in lines)
    report = open_run(path).report()
    assert report.metrics["value_loss"].trend.label == "declining"
    assert report.ratio.health.level == "critical"
