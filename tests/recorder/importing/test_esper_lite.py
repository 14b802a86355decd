"""Importing esper-lite: every value of the real runs, and whatever else can be in a file."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.esper_lite_events import GAP, SHORT, an_update, events_of, run_import, write

from esper_recorder.importing.json_lines import MAX_LINE_BYTES, read_lines
from esper_recorder.importing.other_files import describe_start

SAME_NAME = ("policy_loss", "value_loss", "entropy_coef", "clip_fraction", "ratio_std", "explained_variance")
SAME_NAME_EXTRAS = ("episodes_completed", "train_steps", "avg_accuracy", "rolling_avg_accuracy")
RENAMED = {
    "batch": "update",
    "avg_reward": "episode_return_mean",
    "entropy": "entropy_normalised",
    "approx_kl": "approx_kl_k1",
    "ratio_max": "ratio_max_minibatch_mean",
    "ratio_min": "ratio_min_minibatch_mean",
}
NOT_KNOWN = (
    "entropy",
    "kl_divergence",
    "ratio_max",
    "ratio_min",
    "early_stop_epoch",
    "env_steps",
    "episodes",
    "skipped",
)

ReadRows = Callable[..., list[dict[str, Any]]]


# ---------------------------------------------------------------------- the real runs


@pytest.mark.parametrize("file", [SHORT, GAP], ids=["short", "gap"])
def test_every_value_of_a_real_run_arrives_under_the_name_that_means_it(
    file: Path, tmp_path: Path, read_rows: ReadRows
) -> None:
    """Each update of the file is one row with the source's numbers, bit for bit, its number and its time."""
    done = run_import(file, root=tmp_path)
    assert done.exit_code == 0, done.output
    events = events_of(file)
    updates = [event for event in events if event["event_type"] == "PPO_UPDATE_COMPLETED"]
    rows = read_rows(tmp_path / file.name.removesuffix(".events.jsonl"))
    began = datetime.fromisoformat(events[0]["timestamp"])
    assert len(rows) == len(updates) > 0
    for row, event in zip(rows, updates, strict=True):
        at = datetime.fromisoformat(event["timestamp"])
        assert (row["wall_time"], row["elapsed_secs"]) == (at, (at - began).total_seconds())
        for name in (*SAME_NAME, *SAME_NAME_EXTRAS):
            assert row[name] == event["data"][name], name
        for key, name in RENAMED.items():
            assert row[name] == event["data"][key], name
        assert [row[name] for name in NOT_KNOWN] == [None] * len(NOT_KNOWN)
    assert set(updates[0]["data"]) == {*SAME_NAME, *SAME_NAME_EXTRAS, *RENAMED, "early_stop_epoch"}


def test_a_gap_of_the_source_stays_and_is_named(tmp_path: Path, read_rows: ReadRows) -> None:
    """Batch 20, which the real run lacks, is missing in the run too; the import says so, and why."""
    done = run_import(GAP, "--run-id", "gap", root=tmp_path)
    assert [row["update"] for row in read_rows(tmp_path / "gap")] == [*range(1, 20), *range(21, 25)]
    assert "\nmissing updates: 20; from 19 to 21 train_steps rises by 1: the trainer skipped" in done.stdout


def test_the_report_reads_an_imported_run(tmp_path: Path) -> None:
    """The report names the missing update, the trainer and a definition of value loss that is not assumed."""
    from esper_analyzer import open_run

    run_import(GAP, "--run-id", "gap", root=tmp_path)
    report = open_run(tmp_path / "gap").report().to_dict()
    assert (report["run"]["status"], report["run"]["trainer"]) == ("finished", "esper-lite")
    assert [tuple(gap) for gap in report["updates"]["missing"]] == [(20, 20)]
    assert (report["updates"]["rows"], report["updates"]["first"], report["updates"]["last"]) == (23, 1, 24)
    definition = report["run"]["value_loss_definition"]
    assert (definition["factor"], definition["clipping"], definition["assumed"]) == (1.0, "max", False)
    assert report["ratio"]["health"]["level"] == "critical"
    assert not report["integrity"]["faults"]


def test_what_was_not_imported_is_listed_with_its_count(tmp_path: Path) -> None:
    """The list names every other kind of event of the file and how many there were, and every key left out."""
    done = run_import(SHORT, root=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("not imported: ")]
    kinds = [event["event_type"] for event in events_of(SHORT)]
    expected = {f"{kind} {kinds.count(kind)}" for kind in set(kinds) - {"PPO_UPDATE_COMPLETED"}}
    assert set(line.removeprefix("not imported: ").split(", ")) == expected
    why = "belongs to the event, not to the update"
    assert f"keys left out: event_id ({why}), severity ({why})" in done.stdout
    assert "approx_kl            -> approx_kl_k1" in done.stdout


# ---------------------------------------------------------------------- what can be in a file


def test_lines_that_are_no_event_are_named(tmp_path: Path, read_rows: ReadRows) -> None:
    """A line that is no JSON, one that is no event and a torn last line are named by number; the rest is imported."""
    torn = json.dumps(an_update(3))[:-20]
    file = write(tmp_path / "e.jsonl", an_update(1), "{oops}\n", "\n", '{"a": 1}\n', an_update(2), torn)
    done = run_import(file, root=tmp_path)
    assert done.exit_code == 0
    assert (
        "not readable: line 2 (not JSON), line 4 (JSON, but not an event), line 6 (torn: the file ends" in done.stdout
    )
    assert [row["update"] for row in read_rows(tmp_path / "e")] == [1, 2]


def test_a_last_line_without_its_newline_counts_if_it_is_whole(tmp_path: Path, read_rows: ReadRows) -> None:
    """A whole event at the end of the file is a row, with or without the newline."""
    run_import(write(tmp_path / "e.jsonl", an_update(1), json.dumps(an_update(2))), root=tmp_path)
    assert [row["update"] for row in read_rows(tmp_path / "e")] == [1, 2]


def test_updates_that_cannot_be_rows_are_refused_with_the_reason(tmp_path: Path, read_rows: ReadRows) -> None:
    """Without a number, a loss, a time or data, an update is named with its line and is no row."""
    file = write(
        tmp_path / "e.jsonl",
        an_update(1),
        an_update(2, batch=...),
        an_update(3, value_loss="high"),
        an_update(4, policy_loss=...),
        an_update(5) | {"timestamp": "yesterday"},
        an_update(6) | {"data": [6]},
        an_update(7, batch=7.5),
        an_update(8),
    )
    done = run_import(file, root=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    reasons = ("2: batch", "3: value_loss", "4: policy_loss", "5: timestamp", "6: data", "7: update")
    assert all(f"line {reason}" in line for reason in reasons)
    assert [row["update"] for row in read_rows(tmp_path / "e")] == [1, 8]
    assert "missing updates: 2–7\n" in done.stdout


def test_keys_that_are_not_known_become_extras_or_are_named(tmp_path: Path, read_rows: ReadRows) -> None:
    """A further number is an extra, prefixed where the table has the name; text and lists are named as left out."""
    further = {
        "depth": 3,
        "kl_divergence": 0.5,
        "rank": 7,
        "note": "hi",
        "heads": [1],
        "huge": 10**400,
        "nothing": None,
    }
    done = run_import(write(tmp_path / "e.jsonl", an_update(1, **further)), root=tmp_path)
    (row,) = read_rows(tmp_path / "e")
    assert (row["depth"], row["esper_lite_kl_divergence"], row["esper_lite_rank"]) == (3.0, 0.5, 7.0)
    assert (row["kl_divergence"], row["rank"]) == (None, 0)
    assert "note (expected a number, found str)" in done.stdout
    assert "heads (expected a number, found list)" in done.stdout
    assert "huge (in part: " in done.stdout
    assert not {"note", "heads", "huge", "nothing"} & row.keys()


def test_the_ratios_of_a_later_version_are_not_taken_for_the_known_ones(tmp_path: Path, read_rows: ReadRows) -> None:
    """Where the keys show another version of the trainer, ratio_max keeps its name behind a prefix."""
    run_import(write(tmp_path / "e.jsonl", an_update(1, approx_kl=..., kl_divergence=0.01)), root=tmp_path)
    (row,) = read_rows(tmp_path / "e", columns=["esper_lite_ratio_max", "ratio_max", "ratio_max_minibatch_mean"])
    assert row == {"esper_lite_ratio_max": 1.1, "ratio_max": None, "ratio_max_minibatch_mean": None}


def test_numbers_that_stand_for_not_measured_become_null(tmp_path: Path, read_rows: ReadRows) -> None:
    """Explained variance of exactly 0 and the ratios 1, 1, 0, 0 of the recurrent policy are null; a real 0 is kept."""
    never = {"ratio_max": 1.0, "ratio_min": 1.0, "ratio_std": 0.0, "clip_fraction": 0.0, "explained_variance": 0.0}
    file = write(tmp_path / "e.jsonl", an_update(1, **never), an_update(2, clip_fraction=0.0))
    done = run_import(file, root=tmp_path)
    columns = [
        "ratio_max_minibatch_mean",
        "ratio_min_minibatch_mean",
        "ratio_std",
        "clip_fraction",
        "explained_variance",
    ]
    first, second = read_rows(tmp_path / "e", columns=columns)
    assert list(first.values()) == [None] * 5
    assert list(second.values()) == [1.1, 0.9, 0.05, 0.0, 0.4]
    assert "clip_fraction      -> clip_fraction  (in 1 of 2 updates)" in done.stdout


def test_nan_stays_nan(tmp_path: Path, read_rows: ReadRows) -> None:
    """A loss that was NaN in the source is NaN in the row."""
    run_import(write(tmp_path / "e.jsonl", an_update(1, value_loss=math.nan)), root=tmp_path)
    (row,) = read_rows(tmp_path / "e")
    assert math.isnan(row["value_loss"])


def test_a_batch_that_comes_again_is_named_and_the_last_one_counts(tmp_path: Path) -> None:
    """Both rows are kept, and the default view shows the second."""
    from esper_analyzer import open_run

    file = write(tmp_path / "e.jsonl", an_update(1), an_update(2), an_update(2, value_loss=9.0))
    done = run_import(file, root=tmp_path)
    assert "recorded twice, the last one counts: 2\n" in done.stdout
    assert open_run(tmp_path / "e").updates().collect()["value_loss"].to_list() == [2.0, 9.0]


def test_of_two_policies_in_one_file_only_the_first_is_imported(tmp_path: Path, read_rows: ReadRows) -> None:
    """Updates of another group have their own numbering: they are counted as not imported."""
    first, second = ({"group_id": group} for group in "AB")
    file = write(
        tmp_path / "e.jsonl", an_update(1) | first, an_update(1, value_loss=5.0) | second, an_update(2) | first
    )
    done = run_import(file, root=tmp_path)
    assert [row["value_loss"] for row in read_rows(tmp_path / "e")] == [2.0, 2.0]
    assert "not imported: PPO_UPDATE_COMPLETED of group B 1" in done.stdout


def test_hyper_parameters_reach_the_header(tmp_path: Path) -> None:
    """The data of TRAINING_STARTED is the run's config, with task and device in their own fields."""
    data = {"task": "cifar10", "policy_device": "cuda:0", "lr": 3e-4, "slot_ids": ["r0c0"]}
    started = {"event_type": "TRAINING_STARTED", "timestamp": "2025-12-06T00:00:30", "data": data}
    run_import(write(tmp_path / "e.jsonl", started, an_update(1)), root=tmp_path)
    header = json.loads((tmp_path / "e" / "run.json").read_text())
    assert header["config"] == {**data, "imported_from": "e.jsonl"}
    assert (header["trainer"], header["env"], header["device"]) == ("esper-lite", "cifar10", "cuda:0")


def test_a_line_of_any_length_is_skipped_in_pieces() -> None:
    """A line above the limit is named, and the one behind it is read."""
    lines = list(read_lines(io.BytesIO(b"x" * (MAX_LINE_BYTES + 5) + b'\n{"a": 1}\n')))
    assert [(line.number, line.value, bool(line.problem)) for line in lines] == [(1, None, True), (2, {"a": 1}, False)]
    assert lines[0].size == MAX_LINE_BYTES + 6


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", "an empty file"),
        (b"BZh91AY&SY", "bzip2 data; decompress it first"),
        (b"PAR1\x15\x00\x15", "binary data"),
        (b"\x89PNG\r\n\xff\xfe\xfa ..........", "a picture"),
        (b"\xff\xd8\xff\xe0 ..........", "binary data"),
        ("time/total,ä\n1,2\n".encode(), "text that begins 'time/total,\\xe4'"),
    ],
)
def test_what_a_file_is_instead_is_said(start: bytes, kind: str) -> None:
    """The error about a file of another kind says what was found."""
    assert describe_start(start) == kind
