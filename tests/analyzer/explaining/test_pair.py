"""Where one run left another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.analyzer.conftest import Record
from tests.analyzer.explaining.sound import rows
from tests.conftest import Command

from esper_analyzer import open_run


def test_the_first_metric_beyond_the_noise_is_where_the_run_left(record: Record) -> None:
    """Runs that are the same up to an update part there; the update and the metrics are right, in order."""
    kept = open_run(record(rows(80), "kept"))
    made = list(rows(80, change=50, td_error_mean=4.0, learning_rate=1e-2))
    for update in range(55, 80):
        made[update]["value_loss"] = 8.0
    found = open_run(record(made, "left")).explain_against(kept)
    assert [(one.metric, one.update) for one in found.parted] == [
        ("learning_rate", 50),
        ("td_error_mean", 50),
        ("value_loss", 55),
    ]
    assert (found.by, found.aligned, found.first_difference) == ("steps", 80, 50)
    assert [one.at for one in found.parted] == [128 * 51, 128 * 51, 128 * 56]
    assert found.parted[1].direction == "up"
    assert found.parted[1].deviations > 20
    assert found.sentences[0].startswith("left left kept in update 50 (6528 environment steps): Learning rate was ")


def test_a_difference_within_the_noise_is_no_parting(record: Record) -> None:
    """Two seeds of one run differ from the first number on, and stay together."""
    one, other = open_run(record(rows(80), "one")), open_run(record(rows(80, seed=5), "other"))
    found = other.explain_against(one)
    assert (found.first_difference, [one.metric for one in found.parted]) == (0, [])
    assert found.sentences == [
        "The numbers differ from update 0 on, but other never left one: no difference is larger than its noise."
    ]


def test_the_same_run_twice_has_the_same_numbers(record: Record) -> None:
    """Equal numbers are said to be equal, NaN beside NaN too."""
    one, other = (open_run(record(rows(40, change=30, value_loss=float("nan")), name)) for name in ("one", "other"))
    found = other.explain_against(one)
    assert found.sentences == ["other has the same numbers as one in all 40 updates that they have in common."]


def test_a_single_value_outside_is_no_parting(record: Record) -> None:
    """The second run must be outside in most of the next updates."""
    kept, spiked = list(rows(80)), list(rows(80))
    spiked[40]["entropy"] = 9.0
    found = open_run(record(spiked, "spiked")).explain_against(open_run(record(kept, "kept")))
    assert found.parted == []
    assert found.first_difference == 40


def test_runs_with_other_steps_are_aligned_by_steps(record: Record) -> None:
    """A run with twice the rollout is held against the row of the other at the same environment steps."""
    kept = list(rows(80))
    made = [row | {"env_steps": 256 * (at + 1)} for at, row in enumerate(rows(60, seed=3, change=20, entropy=0.2))]
    found = open_run(record(made, "wide")).explain_against(open_run(record(kept, "kept")))
    assert (found.by, found.aligned) == ("steps", 40)
    assert [(one.metric, one.update, one.at) for one in found.parted] == [("entropy", 20, 256 * 21)]


def test_runs_without_steps_are_aligned_by_updates(record: Record) -> None:
    """Updates that only one of the runs has are left out."""
    kept = [row | {"env_steps": None} for row in rows(60)]
    made = [row for row in rows(90, change=30, kl_divergence=0.5) if row["update"] % 2]
    found = open_run(record(made, "odd")).explain_against(open_run(record(kept, "kept")))
    assert (found.by, found.aligned, found.parted[0].metric, found.parted[0].update) == (
        "updates",
        30,
        "kl_divergence",
        31,
    )


def test_the_command_takes_two_runs(record: Record, command: Command) -> None:
    """`explain A B` says where B left A, as text and as strict JSON."""
    one, other = record(rows(60), "one"), record(rows(60, change=40, entropy=float("nan")), "other")
    shown = command("explain", one, other)
    assert shown.returncode == 0
    assert "other left one in update 40" in " ".join(shown.stdout.split())
    assert max(map(len, shown.stdout.splitlines())) <= 80 or str(one) in shown.stdout
    done = command("explain", one, other, "--format", "json")
    document = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert document["question"] == "where the second run left the first"
    assert set(document) == {
        "format", "question", "runs", "rank", "by", "aligned", "first_difference", "sentences", "parted", "together",
        "only_first", "only_second", "is_damaged",
    }  # fmt: skip
    (parted,) = document["parted"]
    assert (parted["metric"], parted["value"], parted["direction"]) == ("entropy", "NaN", "not finite")


def test_the_largest_numbers_part_too(record: Record) -> None:
    """Values near the end of float64 are compared without a warning."""
    kept = open_run(record(rows(60), "kept"))
    found = open_run(record(rows(60, change=40, return_mean=1.7e308), "huge")).explain_against(kept)
    assert [(one.metric, one.update) for one in found.parted] == [("return_mean", 40)]
    assert [one.metric for one in kept.explain_against(open_run(found.runs[1])).parted][:1] == ["return_mean"]


def test_a_copy_is_named_by_its_path(record: Record, tmp_path: Path) -> None:
    """Two runs of one id are told apart by their paths, and the longer one may go on."""
    path = record(rows(30), "one")
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    (said,) = open_run(copy).explain_against(open_run(path)).sentences
    assert said == f"{copy} has the same numbers as {path} in all 30 updates that they have in common."
    longer = open_run(record(rows(50), "longer")).explain_against(open_run(path))
    assert longer.sentences == ["longer has the same numbers as one in all 30 updates that they have in common."]


def test_metrics_that_only_one_run_has_are_named(record: Record) -> None:
    """Extras that the other run lacks are not compared, and are named."""
    kept = open_run(record([row | {"my_bonus": 1.0} for row in rows(40)], "kept"))
    made = [{key: value for key, value in row.items() if key != "my_reward"} for row in rows(40)]
    found = open_run(record(made, "left")).explain_against(kept)
    assert (sorted(found.only_first), found.only_second) == (["my_bonus", "my_reward"], [])
    assert found.sentences[1].startswith("Only kept measured my_")


def test_what_came_back_and_what_always_differed_are_said(record: Record) -> None:
    """Two seeds differ from the first update on; a run that left and came back is said to have come back."""
    made = list(rows(80, seed=5))
    for update in range(30, 45):
        made[update]["entropy"] = 9.0
    found = open_run(record(made, "back")).explain_against(open_run(record(rows(80), "kept")))
    assert found.sentences[0].endswith("It has come back since.")
    assert found.sentences[-1] == "The numbers differ from the first update on, as those of two seeds do."
