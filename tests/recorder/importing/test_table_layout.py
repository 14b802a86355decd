"""Tables as spreadsheets, pages and people write them: whatever is around the cells, the numbers are the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import balance, import_log

from esper_recorder.importing.table_layout import layout_of
from esper_recorder.importing.values import as_number, decimals_of

ReadRows = Callable[..., list[dict[str, Any]]]

ROWS: list[dict[str, Any]] = [
    {"step": 1024 * (place + 1), "value_loss": 2.5 - place, "policy_loss": -0.0625 * place, "steps_per_sec": 1200.5}
    for place in range(3)
]
EXPECTED = [(row["value_loss"], row["policy_loss"], row["steps_per_sec"]) for row in ROWS]


def table(delimiter: str = ",", decimals: str = ".", quoting: Any = csv.QUOTE_MINIMAL) -> str:
    """The rows as a table with a header."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerow(ROWS[0])
    for row in ROWS:
        writer.writerow([str(cell).replace(".", decimals) for cell in row.values()])
    return text.getvalue()


PLAIN, GERMAN = table(), table(";", ",")
HEADER, _, BODY = PLAIN.partition("\n")

TABLES = {
    "decimal commas in quotes": table(decimals=","),
    "all in quotes": table(decimals=",", quoting=csv.QUOTE_ALL),
    "semicolons": GERMAN,
    "thousands with points": GERMAN.replace("1200,5", "1.200,5").replace("1024;", "1.024;"),
    "thousands with narrow spaces": GERMAN.replace("1200,5", "1\u202f200,5"),
    "thousands with commas": PLAIN.replace("1200.5", '"1,200.5"'),
    "minus as in print": PLAIN.replace("-", "\u2212"),
    "separator for Excel": f"sep=;\n{GERMAN}",
    "title": f"My run: ppo, seed 1\n\n{PLAIN}",
    "title over the columns of a spreadsheet": f"My run,,,\n,,,\n{PLAIN}",
    "comment": f"# made by hand\n{PLAIN}",
    "comment with commas": f"# ppo, seed, lr, gamma\n{PLAIN}",
    "settings in comments": "".join(f"# setting {n}: {n}\n\n" for n in range(60)) + PLAIN,
    "comments between": PLAIN.replace("2048,", "# restarted\n2048,"),
    "header in a comment": f"# {PLAIN}",
    "numpy.savetxt": f"# {PLAIN}".replace(",", " "),
    "blank lines": f"\n\n{PLAIN}",
    "spaces": "".join(" ".join(f"{cell:>14}" for cell in line.split(",")) + " \n" for line in PLAIN.splitlines()),
    "bars": table("|"),
    "Markdown": "| {} |\n|---|:--|---|--:|\n".format(HEADER.replace(",", " | "))
    + "".join(f"| {row.replace(',', ' | ')} |\n" for row in BODY.splitlines()),
    "index of pandas": f",{HEADER}\n" + "".join(f"{at},{row}\n" for at, row in enumerate(BODY.splitlines())),
    "print of a data frame": "".join(
        " ".join(f"{cell:>14}" for cell in [at, *line.split(",")]) + "\n"
        for at, line in zip(["", 0, 1, 2], PLAIN.splitlines(), strict=True)
    ),
    "write.table of R": HEADER.replace(",", " ")
    + "\n"
    + "".join(f'"{at}" {line.replace(",", " ")}\n' for at, line in enumerate(BODY.splitlines(), 1)),
    "commas at the end of rows": f"{HEADER}\n" + BODY.replace("\n", ",,\n"),
    "missing cells": PLAIN.replace("step,", "note,step,").replace("\n1024", "\nN/A,1024").replace("\n2048", "\n-,2048"),
    "no end of the last line": table(quoting=csv.QUOTE_ALL).rstrip("\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_whatever_is_around_its_cells(name: str, tmp_path: Path) -> None:
    """All rows and all columns, and nothing is unreadable or left out."""
    log = tmp_path / "table.txt"
    rows = TABLES[name] if name != "missing cells" else TABLES[name].replace("\n3072", "\n,3072")
    log.write_text(rows, "utf-8")
    done = import_log(log, "--map", "step=env_steps", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    found = rows_of(tmp_path / "runs" / "table")
    assert [(row["value_loss"], row["policy_loss"], row["steps_per_sec"]) for row in found] == EXPECTED
    assert [row["env_steps"] for row in found] == [1024, 2048, 3072]
    assert (balance(done)["not readable"], balance(done)["keys left out"]) == ("none", "none")


@pytest.mark.parametrize("cut", [1, 2, 9])
def test_a_last_line_without_all_of_its_cells_is_torn(cut: int, tmp_path: Path) -> None:
    """Within a cell, and between two."""
    log = tmp_path / "table.csv"
    log.write_text(TABLES["no end of the last line"][:-cut])
    done = import_log(log, root=tmp_path / "runs")
    assert balance(done)["not readable"] == "line 4 (torn: it does not end)"
    assert len(rows_of(tmp_path / "runs" / "table")) == 2


@pytest.mark.parametrize(("name", "count"), [("title", 1), ("comments between", 1), ("header in a comment", 0)])
def test_lines_that_are_no_rows_are_counted(name: str, count: int, tmp_path: Path) -> None:
    """Titles and comments; the header is neither."""
    log = tmp_path / "table.csv"
    log.write_text(TABLES[name])
    done = import_log(log, root=tmp_path / "runs")
    assert balance(done)["not imported"] == (f"titles and comments {count}" if count else "none")


def test_a_number_that_may_be_two_is_left_out(tmp_path: Path) -> None:
    """Where no other cell tells what the comma is, `1,200` is 1.2 or 1200."""
    log = tmp_path / "table.csv"
    log.write_text('value_loss,policy_loss,kl\n1,2,"1,200"\n3,4,"1,300"\n')
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["keys left out"] == "kl (text, in 2 rows)"


@pytest.mark.parametrize(
    ("cells", "decimals"),
    [
        (["0.5", "1,200"], "point"),
        (["0,5", "1.200"], "comma"),
        (["1,200.5"], "point"),
        (["1.200,5"], "comma"),
        (["1.200", "7", "x"], None),
        (["1,200"], None),
        (["0,5", "0.5"], "unclear"),
        (["1,234e-05"], "comma"),
    ],
)
def test_cells_tell_what_separates_decimals(cells: list[str], decimals: str | None) -> None:
    """As far as they have no second reading."""
    assert decimals_of(cells) == decimals


@pytest.mark.parametrize(
    ("text", "decimals", "number"),
    [
        ("1.200", "comma", 1200.0),
        ("1.200", "point", 1.2),
        ("1.200", "unclear", 1.2),
        ("1,200", "point", 1200.0),
        ("1,200", "unclear", None),
        ("0,5", "unclear", 0.5),
        ("0,5", "point", None),
        ("0,5", None, None),
        ("1'200.5", "point", 1200.5),
        ("1.200.300,5", "comma", 1200300.5),
        ("1.5", "comma", 1.5),
        ("-∞", "comma", float("-inf")),
        ("2,5e-04", "comma", 2.5e-4),
        ("1,2,3", "comma", None),
    ],
)
def test_numbers_with_commas(text: str, decimals: Any, number: float | None) -> None:
    """What separates decimals decides; nothing is half read."""
    assert as_number(text, decimals) == number


@pytest.mark.parametrize(
    "text",
    [
        "value_loss 0.5 policy_loss 0.1\nvalue_loss 0.4 policy_loss 0.2\n",
        "The loss went down\nand then up again\n",
        "1,2,3\n4,5,6\n",
        "{'value_loss': 1, 'policy_loss': 2}\n",
        "a | b\n1 | 2\n",
        "one\n1\n",
    ],
)
def test_what_is_no_table(text: str) -> None:
    """Printed lines, prose, numbers without names, and bars without a loss."""
    assert layout_of(text.encode()) is None


def test_notes_with_a_table_are_not_read_in_place_of_a_log(tmp_path: Path) -> None:
    """A README has such; it is read where it is named, or nothing else is there."""
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "README.md").write_text(f"# Results\n\n{TABLES['Markdown']}")
    (folder / "progress.csv").write_text(PLAIN + "4096,1,2,3\n")
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "training")) == 4
    done = import_log(folder / "README.md", "--run-id", "notes", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "notes")) == 3


def test_a_table_with_a_title_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments that come while it is written are counted once."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    log, run = tmp_path / "live.csv", tmp_path / "runs" / "r"
    log.write_text(f"My run\n{PLAIN}")
    with followed(log, run) as found:
        found.await_line("following")
        found.await_rows(3)
        for text in ("# restarted\n", "4096,0.5", ",0.1,1\n"):
            with log.open("a") as file:
                file.write(text)
        found.await_rows(4)
    assert found.account.not_imported == {"titles and comments": 2}


def test_a_table_in_which_each_row_is_several_lines_is_one(tmp_path: Path) -> None:
    """A cell in quotes may have an end of a line, and its text is left out as any other."""
    log = tmp_path / "log.csv"
    log.write_text(PLAIN.replace("\n", ",note\n", 1).replace("1200.5\n", '1200.5,"a, b\nc"\n'))
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["value_loss"] for row in rows_of(tmp_path / "runs" / "r")] == [2.5, 1.5, 0.5]
    assert balance(done)["keys left out"] == "note (text, in 3 rows)"


def test_the_last_cell_of_a_cut_row_is_left_out(tmp_path: Path, read_rows: ReadRows) -> None:
    """It may lack digits; the cells before it count, and the balance names the line."""
    log = tmp_path / "own.csv"
    log.write_text("policy_loss,value_loss,entropy,lr\n-0.1,0.5,1.25,0.1\n-0.1,0.5,1.2\n-0.1,0.5,1.15,0.1\n", "utf-8")
    done = import_log(log, root=tmp_path / "runs")
    assert [row["entropy"] for row in read_rows(tmp_path / "runs" / "own")] == [1.25, None, 1.15]
    assert "the end of line 3 (3 cells, the header has 4" in balance(done)["not readable"]


def test_rows_without_their_empty_cells_at_the_end_are_whole(tmp_path: Path, read_rows: ReadRows) -> None:
    """Where a program leaves out such cells, rows keep all of their numbers, and are counted."""
    log = tmp_path / "own.csv"
    rows = [
        "policy_loss,value_loss,entropy,lr",
        "-0.1,0.5,1.25,0.1",
        "-0.1,0.5,1.2",
        "-0.1,0.5,1.15",
        "-0.1,0.5,1.1,0.1",
    ]
    log.write_text("\n".join(rows) + "\n", "utf-8")
    done = import_log(log, root=tmp_path / "runs")
    assert [row["entropy"] for row in read_rows(tmp_path / "runs" / "own")] == [1.25, 1.2, 1.15, 1.1]
    assert "rows with fewer cells than the header has: line 3, line 4" in balance(done)["note"]
