"""JSON however it is laid out: objects over several lines, arrays that do not end, and tables as pandas writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import balance, import_log

from esper_recorder.importing.json_lines import MAX_LINE_BYTES

ROWS: list[dict[str, Any]] = [
    {"step": 128 * (place + 1), "losses": {"value_loss": 2.5 - place, "policy_loss": -0.25 * place}, "note": "a } {"}
    for place in range(3)
]
FLAT: list[dict[str, float]] = [{"step": row["step"], **row["losses"]} for row in ROWS]
COLUMNS: dict[str, list[float]] = {key: [row[key] for row in FLAT] for key in FLAT[0]}
NAMES, CELLS = list(COLUMNS), [list(row.values()) for row in FLAT]

LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
PRETTY = "".join(json.dumps(row, indent=2) + "\n" for row in ROWS)

LOGS = {
    "one on each line": LINES,
    "over several lines": PRETTY,
    "all on one line": LINES.replace("\n", ""),
    "without an indent": "".join(json.dumps(row, indent=0) + "\n" for row in ROWS),
    "commas between": LINES.replace("}\n", "},\n"),
    "array": json.dumps(ROWS),
    "array with an item on each line": "[\n" + LINES.replace("}\n", "},\n") + "]\n",
    "array that does not end": json.dumps(ROWS, indent=2).removesuffix("]"),
    "byte order mark": f"\ufeff{PRETTY}",
    "Windows": PRETTY.replace("\n", "\r\n"),
    "records": json.dumps(FLAT),
    "split": json.dumps({"columns": NAMES, "index": [0, 1, 2], "data": CELLS}),
    "index": json.dumps({str(row["step"]): row["losses"] for row in ROWS}),
    "columns": json.dumps({key: {str(at): cell for at, cell in enumerate(COLUMNS[key])} for key in COLUMNS}),
    "columns by step": json.dumps(
        {key: dict(zip(COLUMNS["step"], COLUMNS[key], strict=True)) for key in COLUMNS if key != "step"}
    ),
    "columns beside others": json.dumps({**COLUMNS, "seed": 1, "args": {"lr": 0.1}}),
    "ClearML": json.dumps(
        {"losses": {key: {"name": key, "x": COLUMNS["step"], "y": COLUMNS[key]} for key in NAMES if key != "step"}}
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_json_is_read_however_it_is_laid_out(name: str, tmp_path: Path) -> None:
    """All records with their steps, and nothing is unreadable."""
    log = tmp_path / "own.json"
    log.write_bytes(LOGS[name].encode())
    done = import_log(log, "--map", "step=env_steps", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "runs" / "own")
    assert [(row["env_steps"], row["value_loss"], row["policy_loss"]) for row in rows] == [
        (128, 2.5, 0.0),
        (256, 1.5, -0.25),
        (384, 0.5, -0.5),
    ]
    assert balance(done)["not readable"] == "none"


@pytest.mark.parametrize(
    ("text", "steps", "where"),
    [
        (PRETTY[:-20], [128, 256], "lines 17 to 22 (torn: the file ends in the middle of it)"),
        (
            PRETTY[:60] + "\n" + PRETTY,
            [128, 256, 384],
            "lines 1 to 5 (torn: another object begins in the middle of it)",
        ),
        (LINES[:30] + "\n" + LINES, [128, 256, 384], "line 1 (torn: another object begins in the middle of it)"),
        (LINES[:30] + LINES, [256, 384], "line 1 (torn: another object begins in the middle of it)"),
        (PRETTY + "killed\n" + PRETTY, [128, 256, 384] * 2, "line 25 (not JSON)"),
        ('{"a": "' + '\\"' * 1_000_000 + "\n" + LINES, [128, 256, 384], "line 1 (torn: another object begins"),
        (PRETTY.replace('"a } {"', "a", 1), [256, 384], "lines 1 to 8 (not JSON)"),
        ('{"a": [\n' + f'"{"x" * 1000}",\n' * (MAX_LINE_BYTES // 1000) + LINES, [128, 256, 384], "longer than"),
    ],
    ids=["end", "restarted", "line", "glued", "words", "quotes", "no JSON", "endless"],
)
def test_of_damaged_json_the_rest_is_read(text: str, steps: list[int], where: str, tmp_path: Path) -> None:
    """What is torn is named with its lines, and costs no other object."""
    log = tmp_path / "own.json"
    log.write_text(text)
    done = import_log(log, "--map", "step=env_steps", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["env_steps"] for row in rows_of(tmp_path / "runs" / "own")] == steps
    assert where in balance(done)["not readable"]


def test_columns_of_another_length_are_named(tmp_path: Path) -> None:
    """A loop that keeps lists has one for its episodes, too."""
    log = tmp_path / "history.json"
    log.write_text(json.dumps({**COLUMNS, "returns": [1.0, 2.0]}))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["keys left out"] == "returns (a list of 2, not of 3)"


def test_a_list_of_episodes_is_not_read_in_place_of_a_log(tmp_path: Path) -> None:
    """However long it is, and whether it ends or not."""
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "episodes.json").write_text(json.dumps([{"reward": 1.0, "length": 20}] * 50_000)[:-1])
    (folder / "progress.csv").write_text("value_loss,policy_loss\n1,2\n3,4\n")
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "training")) == 2


def test_objects_over_several_lines_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is there once its last line is."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    log, run = tmp_path / "live.json", tmp_path / "runs" / "r"
    middle = PRETTY.index("}\n{") + 30
    log.write_text(PRETTY[:middle])
    with followed(log, run) as found:
        found.await_line("following")
        found.await_rows(1)
        with log.open("a") as file:
            file.write(PRETTY[middle:])
        found.await_rows(3)
    assert found.account.unreadable.count == 0
