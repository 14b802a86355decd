from __future__ import annotations

import pytest

from esper_schemas import METRICS, Bands, Metric
from esper_schemas.metric.catalogue import DECLARED, LOSS_RATIO, leading
from esper_schemas.metric.levels import LEVELS, PALETTE, level_at, severity_of
from esper_schemas.metric.metrics import GENERAL_MEANING, MAX_SHORT


@pytest.mark.parametrize(
    ("name", "title", "short"),
    [
        ("novelty", "Novelty", "Novelty"),
        ("state_novelty", "State novelty", "State no."),
        ("kl_of_gpu", "KL of GPU", "KL of GPU"),
        ("q", "Q", "Q"),
    ],
)
def test_names_are_made_from_that_of_the_column(name: str, title: str, short: str) -> None:
    """A metric that declares no title has its name as one, and a short name that fits a narrow column."""
    metric = Metric(name, "float64", "what it is")
    assert (metric.title, metric.short) == (title, short)
    assert metric.meaning == ""


def test_a_metric_with_thresholds_means_something() -> None:
    """A metric with thresholds has a general meaning where it declares none, and its own where it does."""
    assert Metric("novelty", "float64", "what it is", bands=Bands()).meaning == GENERAL_MEANING
    assert Metric("novelty", "float64", "what it is", bands=Bands(), meaning="Look out.").meaning == "Look out."
    assert [name for name, metric in METRICS.items() if metric.meaning == GENERAL_MEANING] == []


def test_what_is_shown_first_has_one_order_and_fits() -> None:
    """No two metrics have the same place, title or short name; the short ones fit their columns."""
    places = [metric.order for metric in leading()]
    assert places == list(range(1, len(places) + 1))
    assert [metric.name for metric in leading("losses")] == ["value_loss", "policy_loss", LOSS_RATIO]
    assert len({metric.title for metric in DECLARED.values()}) == len(DECLARED)
    assert len({metric.short for metric in leading()}) == len(places)
    assert max(len(metric.short) for metric in DECLARED.values()) <= MAX_SHORT


def test_declarations_fit_together() -> None:
    """Each metric has a group, gauges have ends, and what is shown elsewhere is a metric that is shown first."""
    for metric in DECLARED.values():
        assert metric.group != "other", metric.name
        assert metric.gauge is None or (metric.order is not None and metric.gauge[0] < metric.gauge[1]), metric.name
        assert not metric.headline or (metric.order is not None and metric.name in METRICS), metric.name
        assert not metric.chart or DECLARED[metric.chart].order is not None, metric.name
        assert not metric.symptom or metric.bands is not None, metric.name


def test_levels_have_one_order_and_each_a_look_of_its_own() -> None:
    """Unknown is below healthy, critical above all; no two levels look alike anywhere."""
    assert LEVELS == ("unknown", "healthy", "warning", "critical")
    assert [severity_of(level) for level in LEVELS] == [-1, 0, 1, 2]
    assert tuple(map(level_at, range(-1, 3))) == LEVELS
    assert set(PALETTE) == set(LEVELS)
    for part in ("style", "mark", "sign", "color", "light", "dark"):
        assert len({getattr(look, part) for look in PALETTE.values()}) == len(LEVELS), part
