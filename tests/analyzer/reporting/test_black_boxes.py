"""Black boxes in the report: in its JSON and on a terminal. Markdown and HTML have their cases beside theirs."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.analyzer.black_box_runs import blown_up, plant, step, train
from tests.analyzer.reporting.test_report import read_strictly

from esper_analyzer import Report, open_run
from esper_analyzer.reporting.black_boxes import moved_line
from esper_analyzer.reporting.report import MAX_BLACK_BOXES
from esper_analyzer.reporting.text import report_lines
from esper_recorder import Recorder

Record = Callable[..., Path]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def section(lines: Sequence[str]) -> list[str]:
    """The lines of the section on black boxes."""
    start = lines.index("Black box")
    return list(lines[start : lines.index("", start)])


def shown(report: Report, columns: int = 80) -> list[str]:
    """The section on black boxes as text, for a terminal of so many columns."""
    return section([line.plain for line in report_lines(report, columns=columns)])


def heads(report: Report, columns: int = 80) -> list[str]:
    """The columns of the first table of minibatches."""
    return next(line for line in shown(report, columns) if "minibatch  " in line).split()


def test_the_json_has_the_black_boxes_with_their_last_minibatches(tmp_path: Path) -> None:
    """Ten minibatches each, oldest first, with the columns of the file; what is not finite is a string."""
    document = read_strictly(open_run(blown_up(tmp_path)).report())
    first, second = document["black_boxes"]
    last = first.pop("last")
    assert first.pop("written").endswith("+00:00")
    assert first == {
        "rank": 0, "file": "rank-0000/blackbox/00000003.parquet", "seq": 3, "update": 13, "after_update": None,
        "attempt": 0, "trigger": "not_finite", "reason": "value_loss is inf in minibatch 2", "minibatches": 15,
        "not_written": 0, "last_updates": [11] * 3 + [12] * 4 + [13] * 3,
    }  # fmt: skip
    assert [(entry["seq"], entry["minibatch"]) for entry in last] == [
        *((1, number) for number in range(1, 4)),
        *((2, number) for number in range(4)),
        *((3, number) for number in range(3)),
    ]
    assert last[-1].pop("elapsed_secs") > 0.0
    assert last[-1] == {
        "seq": 3, "minibatch": 2, "epoch": 2.0, "policy_loss": -0.1 * 3, "learning_rate": 3e-4, "reward_forward": "NaN",
        "value_loss": "Infinity",
    }  # fmt: skip
    assert (second["update"], second["after_update"], second["trigger"]) == (None, 14, "asked")
    assert document["black_boxes_left_out"] == 0


def test_the_text_shows_what_happened_before_it_broke(tmp_path: Path) -> None:
    """When, what, the file, what moved, and the minibatches: what moved is first, what never changed absent."""
    report = open_run(blown_up(tmp_path)).report()
    first, second = report.black_boxes
    told = [
        "Black box",
        f"  - Update 13, {first.written[:10]} {first.written[11:19]} UTC, not finite: value_loss is inf in",
        "    minibatch 2",
        "    rank-0000/blackbox/00000003.parquet, 15 minibatches",
        "    Moved: value_loss 11.10 → ∞, reward_forward 2.000 → NaN",
        "    update  epoch  minibatch  value_loss  reward_forward  policy_loss",
        "        11      1          1       11.10           2.000         -0.2",
        "        11      2          2       11.20           2.000         -0.3",
        "        11      2          3       11.30           2.000         -0.4",
        "        12      1          0       12.00           2.000         -0.1",
        "        12      1          1       12.10           2.000         -0.2",
        "        12      2          2       12.20           2.000         -0.3",
        "        12      2          3       12.30           2.000         -0.4",
        "        13      1          0       13.00           2.000         -0.1",
        "        13      1          1       13.10           2.000         -0.2",
        "        13      2          2           ∞             NaN         -0.3",
        "    1 more column in the file",
        f"  - After update 14, {second.written[:10]} {second.written[11:19]} UTC, asked: a look at it",
        "    rank-0000/blackbox/00000005.parquet, 20 minibatches",
    ]
    assert shown(report)[: len(told)] == told
    assert len(shown(report)) == len(told) + 1 + 1 + 10 + 1  # the table of the newest one


def test_the_table_fits_the_terminal(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 60 columns, and at 40, fewer columns are shown; the one that is not finite stays, however late it comes."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for number in range(12):
            usual = {f"my_own_number_{name}": float(number) for name in range(9)}
            step(recorder, number, value_loss=1.0, grad_norm=number / 7, ratio_max=1e-9 * number, **usual)
        step(recorder, 12, zz_loss=math.nan, value_loss=2.0)
    for columns in (200, 80, 60, 40):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = section(command("report", "--run", recorder.path).stdout.splitlines())
        assert max(map(len, lines)) <= min(columns, 80)
        (head,) = [line.split() for line in lines if "minibatch  " in line]
        assert head[:2] == ["epoch", "minibatch"]  # all are of one update
        assert "zz_loss" in head
        assert "learning_rate" not in head
    monkeypatch.setenv("COLUMNS", "60")
    assert heads(open_run(recorder.path).report(), 60) == ["epoch", "minibatch", "zz_loss", "policy_loss", "value_loss"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.1, 0.9, 1.0, 1.1], ""),  # noise
        ([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.1, 0.9, 1.0, 9.0], "Moved: loss 1.000 → 9.000"),
        ([1.0, 1.1, 0.9, 9.0, 0.95, 1.0, 1.1, 0.9, 1.0, 1.1], ""),  # it came back
        ([float(number) for number in range(10)], "Moved: loss 0 → 9.000"),
        ([2.0] * 10, ""),
        ([0.0] * 10, ""),
        ([1e308, -1e308] * 5, ""),
        ([-1.7e308] * 9 + [1.7e308], "Moved: loss -1.7e308 → 1.7e308"),
        ([1.0, math.inf, 1.0], "Moved: loss 1.000 → ∞"),
        ([None, math.nan, None], "Moved: loss NaN"),
        ([None, None, 1.0], ""),
        ([1.0, 2.0], ""),
    ],
)
def test_what_moved_is_named(record: Record, values: list[float | None], told: str) -> None:
    """The last value is far from the others for the steps between them, or a value is not finite."""
    path = record([{"update": 0}])
    plant(path, 0, {"loss": values})
    (box,) = open_run(path).report().black_boxes
    assert moved_line(box) == told


def test_only_a_few_of_the_numbers_that_moved_are_named(record: Record) -> None:
    """The rest are counted, and a name of many characters is cut; a number may be called update."""
    path = record([{"update": 0}])
    names = ["update", "x" * 100, "a", "b", "c", "grad_norm"]
    plant(path, 0, {name: [0.0, 0.0, 0.0, 1.0] for name in names})
    report = open_run(path).report()
    assert moved_line(report.black_boxes[0]) == (
        f"Moved: grad_norm 0 → 1.000, update 0 → 1.000, {'x' * 40}… 0 → 1.000, a 0 → 1.000, and 2 more"
    )
    assert heads(report) == ["minibatch", "grad_norm", "update", f"{'x' * 15}…", "a", "b", "c"]


def test_where_nothing_changed_the_main_columns_are_shown(record: Record) -> None:
    """A table without a column would tell nothing."""
    path = record([{"update": 0}])
    plant(path, 0, {"mine": [1.0], "value_loss": [2.0]})
    report = open_run(path).report()
    assert heads(report) == ["minibatch", "value_loss", "mine"]
    assert "more column" not in "".join(shown(report))


def test_an_attempt_that_broke_before_its_first_row(tmp_path: Path) -> None:
    """The report of a run without updates shows it too."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        step(recorder, 0, value_loss=math.nan)
    report = open_run(recorder.path).report()
    read_strictly(report)
    assert shown(report)[1].startswith("  - Before the first row of attempt 0, ")


def test_of_many_the_first_and_the_newest_are_listed(record: Record) -> None:
    """Those between are counted. Only the first and the newest have a table."""
    path = record([{"update": update} for update in range(40)])
    for seq in range(30):
        plant(path, seq, {"loss": [float(seq), seq + 0.5]}, not_written=seq)
    document = read_strictly(open_run(path).report())
    found = [box["seq"] for box in document["black_boxes"]]
    assert found == [0, *range(30 - MAX_BLACK_BOXES + 1, 30)]
    assert document["black_boxes_left_out"] == 10
    lines = shown(open_run(path).report())
    assert lines[:6] == [
        "Black box",
        "  - Update 0, 2026-01-02 03:04:05 UTC, asked: planted",
        "    rank-0000/blackbox/00000000.parquet, 2 minibatches",
        "    minibatch  loss",
        "            0     0",
        "            1   0.5",
    ]
    assert lines[6] == "  … and 10 more"
    assert " ".join(lines[8:10]).split()[1:] == ["2", "minibatches;", "the", "same", "in", "11", "later", "updates"]
    assert sum("minibatch  " in line for line in lines) == 2


@pytest.mark.hostile
def test_texts_and_names_of_somebody_else_cannot_act(record: Record) -> None:
    """Controls, marks that reverse a line, and megabytes of text: cleaned, cut, and within the width."""
    nasty = "\x1b[31m\n::error::x\r\u202e\u200b"
    path = record([{"update": 0}])
    plant(path, 0, {nasty: [1.0, math.nan], "長" * 80: [1.0, 2.0]}, reason=nasty + "x" * 1_000_000, trigger=nasty)
    plant(path, 1, {}, reason="", written="1" * 1_000_000)
    report = open_run(path).report()
    assert [len(box.last) for box in report.black_boxes] == [2, 0]
    lines = [line.plain for line in report_lines(report)]
    text = "\n".join(lines)
    assert text.replace("\n", "").isprintable()
    assert "::error" not in text
    assert len(text) < 10_000
    assert all(line.cell_len <= 80 for line in report_lines(report))
    assert len(report.to_json()) < 60_000


def test_a_run_without_black_boxes_has_no_section(record: Record) -> None:
    """An empty list, and no word about it on the terminal."""
    report = open_run(record([{"update": 0}])).report()
    document = read_strictly(report)
    assert (document["black_boxes"], document["black_boxes_left_out"]) == ([], 0)
    assert not any("lack box" in line.plain for line in report_lines(report))


def test_ranks_are_reported_together(tmp_path: Path) -> None:
    """A report on all ranks has the black boxes of all, and one on a rank has its own."""
    for rank in (0, 1):
        with Recorder.open(tmp_path, run_id="r", rank=rank, world_size=2, resume="allow") as recorder:
            train(recorder, [0, 1])
            step(recorder, 0, value_loss=math.inf)
    run = open_run(recorder.path)
    assert [(box.rank, box.after_update) for box in run.report(None).black_boxes] == [(0, 1), (1, 1)]
    assert [box.file for box in run.report(1).black_boxes] == ["rank-0001/blackbox/00000002.parquet"]
