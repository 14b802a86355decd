"""Logs that no trainer we know writes: in words of the metrics table, in words of their own, and of several runs."""

from __future__ import annotations

import bz2
import io
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.recorder.importing.logs import balance, import_log

ReadRows = Callable[..., list[dict[str, Any]]]

ROWS = [
    {"env_steps": 128 * (place + 1), "value_loss": 2.5 - place, "policy_loss": -0.25 * place, "mine": float(place)}
    for place in range(3)
]


def csv_of(rows: list[dict[str, Any]], prefix: str = "", delimiter: str = ",") -> str:
    """A table with a header; every column has the prefix."""
    lines = [delimiter.join(f"{prefix}{key}" for key in rows[0])]
    lines += [delimiter.join(str(cell) for cell in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The same table as columns."""
    return {key: [row[key] for row in rows] for key in rows[0]}


TABLES = {
    "plain.csv": csv_of(ROWS),
    "prefix.csv": csv_of(ROWS, "losses/"),
    "words.csv": csv_of(
        [{key.replace("_", " ").title(): cell for key, cell in row.items()} for row in ROWS], "Losses/"
    ),
    "units.csv": csv_of(
        [{f"{key} (mean)" if "loss" in key else key: cell for key, cell in row.items()} for row in ROWS]
    ),
    "dashes.jsonl": "".join(
        json.dumps({key.replace("_", "-"): cell for key, cell in row.items()}) + "\n" for row in ROWS
    ),
    "semicolons.csv": csv_of(ROWS, delimiter=";"),
    "commas.csv": csv_of(ROWS, delimiter=";").replace(".", ","),
    "tensors.csv": csv_of([{**row, "value_loss": f"tensor({row['value_loss']})"} for row in ROWS]),
    "lines.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "texts.jsonl": "".join(json.dumps({key: str(cell) for key, cell in row.items()}) + "\n" for row in ROWS),
    "list.json": json.dumps(ROWS),
    "pretty.json": json.dumps(ROWS, indent=2),
    "trainer_state.json": json.dumps({"global_step": 3, "best_metric": None, "log_history": ROWS}, indent=2),
    "columns.json": json.dumps(columns_of(ROWS)),
    "pandas.json": json.dumps({key: dict(enumerate(column)) for key, column in columns_of(ROWS).items()}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_log_in_words_of_the_metrics_table_is_read(name: str, tmp_path: Path, read_rows: ReadRows) -> None:
    """However the table is written, its columns are ours by their names, and its value loss is an assumption."""
    log = tmp_path / name
    log.write_text(TABLES[name])
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    rows = read_rows(tmp_path / "runs" / "r")
    assert [(row["env_steps"], row["value_loss"], row["policy_loss"]) for row in rows] == [
        (128, 2.5, 0.0),
        (256, 1.5, -0.25),
        (384, 0.5, -0.5),
    ]
    assert "the value loss is an assumption" in balance(done)["note"]
    header = json.loads((tmp_path / "runs" / "r" / "run.json").read_text())
    assert (header["trainer"], header["value_loss_definition"]["assumed"]) == ("unknown trainer", True)


@pytest.mark.parametrize(
    ("header", "found", "options"),
    [
        ("vf_loss,pg_loss,x", "3 keys and not both (vf_loss, pg_loss, x)", "vf_loss=value_loss --map pg_loss=policy_"),
        ("LossVF,Actor Loss,x", "not both (LossVF, Actor Loss, x)", "LossVF=value_loss --map 'Actor Loss=policy_loss'"),
        ("critic1_loss,critic2_loss", "not both (critic1_loss, critic2_loss)", "KEY=value_loss --map KEY=policy_loss"),
        ("a/value_loss,b/value_loss,pi_loss", "3 keys and not both", "KEY=value_loss --map pi_loss=policy_loss"),
        ("reward,x", "2 keys and neither (reward, x)", "KEY=value_loss --map KEY=policy_loss"),
        ("train/value_loss,train/policy_loss,train/entropy_loss", "3 keys and not both", "is from A2C"),
    ],
)
def test_the_error_names_the_losses_as_far_as_it_can(header: str, found: str, options: str, tmp_path: Path) -> None:
    """What may be a loss by its words comes first; nothing is taken for a loss, and A2C is not taken for PPO."""
    log = tmp_path / "some.csv"
    log.write_text(f"{header}\n" + ",".join("1" for _ in header.split(",")) + "\n")
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert found in done.stderr
    assert options in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("cell", ["nan", "NaN", "-nan(ind)", "1.#QNAN", "-1.#IND", "tensor(nan, device='cuda:0')"])
def test_a_loss_that_is_nan_in_whatever_words_is_nan(cell: str, tmp_path: Path, read_rows: ReadRows) -> None:
    """Otherwise the update would be refused, and the run would seem to end soundly before it."""
    log = tmp_path / "some.tsv"
    log.write_text(
        csv_of([*ROWS, {**ROWS[-1], "env_steps": 512, "value_loss": cell, "mine": "1.#INF"}], delimiter="\t")
    )
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    last = read_rows(tmp_path / "runs" / "r")[-1]
    assert last["env_steps"] == 512
    assert last["value_loss"] is None or math.isnan(last["value_loss"])
    assert balance(done)["refused"] == "none"


ONE_AFTER_ANOTHER = [{"seed": seed, **row} for seed in (1, 2) for row in ROWS]
ALTERNATING = [{"seed": seed, **row} for row in ROWS for seed in (1, 2)]


@pytest.mark.parametrize("rows", [ONE_AFTER_ANOTHER, ALTERNATING], ids=["one after another", "alternating"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "json"])
def test_several_runs_in_one_table_are_not_read_as_one(
    rows: list[dict[str, Any]], ending: str, tmp_path: Path, read_rows: ReadRows
) -> None:
    """The error names the column and two runs; --source-run chooses one, and one that is not there is refused."""
    log = tmp_path / f"some.{ending}"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    log.write_text({"csv": csv_of(rows), "jsonl": lines, "json": json.dumps(rows)}[ending])
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "rows of several runs: seed is '1', and then '2'; choose one with" in done.stderr
    assert import_log(log, "--source-run", "2", "--run-id", "r", root=tmp_path / "runs").exit_code == 0
    assert [row["env_steps"] for row in read_rows(tmp_path / "runs" / "r")] == [128, 256, 384]
    done = import_log(log, "--source-run", "3", "--run-id", "other", root=tmp_path / "runs")
    assert done.exit_code == 2
    assert "it has no run '3'; found 1, 2" in done.stderr


def test_a_seed_for_each_update_makes_no_other_run(tmp_path: Path) -> None:
    """A value that changes while the steps rise says nothing of another run."""
    log = tmp_path / "some.csv"
    log.write_text(csv_of([{"seed": place, **row} for place, row in enumerate(ROWS)]))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("names", "likely"),
    [
        (["reward/mean", "mine"], "reward/mean"),
        (["reward_std", "ep_rew_mean", "step_reward"], "ep_rew_mean"),
        (["Episode Reward", "mean_reward"], "Episode Reward"),
        (["returns_std", "return_max", "reward_scale", "eval/return", "regret"], None),
    ],
)
def test_a_return_that_nobody_named_is_asked_for(names: list[str], likely: str | None, tmp_path: Path) -> None:
    """The balance says which key may be it, and how to name it; once it is named, it says nothing."""
    path = tmp_path / "log.jsonl"
    rows = [{**row, **dict.fromkeys(names, float(place))} for place, row in enumerate(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = balance(import_log(path, root=tmp_path / "asked"))["note"]
    assert ("return of the episodes" in asked) == (likely is not None)
    if likely is not None:
        named = f"{likely}=episode_return_mean"
        assert f"--map {shlex.quote(named)}, or" in asked
        done = import_log(path, "--map", named, root=tmp_path / "named")
        assert "return of the episodes" not in balance(done)["note"]


def test_steps_that_begin_anew_are_noted(tmp_path: Path) -> None:
    """Two trainings in one log are read as one, which nobody may have meant: the balance says where they meet."""
    log = tmp_path / "some.csv"
    log.write_text(csv_of([*ROWS, *ROWS]))
    assert "the step falls (384 to 128)" in balance(import_log(log, root=tmp_path / "runs"))["note"]


def test_the_step_of_a_record_of_wandb_is_that_of_tensorboard(tmp_path: Path, read_rows: ReadRows) -> None:
    """Where W&B was handed the points of TensorBoard, `_step` counts its records, and `global_step` is the step."""
    losses = {f"losses/{name}": 0.5 for name in ("value_loss", "policy_loss", "approx_kl", "clipfrac")}
    log = tmp_path / "history.jsonl"
    log.write_text("".join(json.dumps({"_step": n, "global_step": 512 * n, **losses}) + "\n" for n in (1, 2)))
    assert import_log(log, "--run-id", "r", root=tmp_path / "runs").exit_code == 0
    assert [row["env_steps"] for row in read_rows(tmp_path / "runs" / "r")] == [512, 1024]


def test_a_folder_whose_files_are_compressed_says_so(tmp_path: Path) -> None:
    """The name of the file, and what to do."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "progress.csv.bz2").write_bytes(bz2.compress(csv_of(ROWS).encode()))
    done = import_log(tmp_path / "logs", root=tmp_path / "runs")
    assert done.exit_code == 2
    assert "found progress.csv.bz2, which is bzip2 data; decompress it first" in done.stderr


def test_a_document_without_a_table_is_one_short_line(tmp_path: Path) -> None:
    """Each of its lines is no JSON, which says nothing to a person."""
    log = tmp_path / "config.json"
    log.write_text(json.dumps({"a": {"b": 1}, "c": [1, 2]}, indent=1))
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith("found one JSON document, without a table that has a loss\n")


def test_settings_are_no_table(tmp_path: Path) -> None:
    """A document with lists of objects, but without a loss, lies beside many a log, and is not read for it."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "config.json").write_text(json.dumps({"layers": [{"size": 64}, {"size": 64}]}, indent=1))
    (tmp_path / "logs" / "progress.csv").write_text(csv_of(ROWS))
    done = import_log(tmp_path / "logs", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output


def test_an_array_without_names_says_what_to_do(tmp_path: Path) -> None:
    """ElegantRL keeps its numbers in `recorder.npy`."""
    log = tmp_path / "recorder.npy"
    np.save(log, np.arange(12.0).reshape(2, 6))
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "an array of NumPy, whose columns have no names; write it as CSV with a header" in done.stderr


LATE = [
    {"value_loss": 2.0, "policy_loss": -0.5, "mine": 1.0} | ({} if place < 4 else {"train/entropy": 0.25 * place})
    for place in range(6)
]
"""Six updates, of which only the last two have an entropy."""


def parquet_of(rows: list[dict[str, Any]]) -> bytes:
    """A Parquet file, with null for what a row lacks."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(rows[-1]) | row for row in rows]), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("keys.jsonl", "".join(json.dumps(row) + "\n" for row in LATE)),
        ("nulls.jsonl", "".join(json.dumps(dict.fromkeys(LATE[-1]) | row) + "\n" for row in LATE)),
        ("document.json", json.dumps(LATE)),
        ("cells.csv", csv_of([dict.fromkeys(LATE[-1], "") | row for row in LATE])),
        ("lines.txt", "".join(" ".join(f"{key}={cell}" for key, cell in row.items()) + "\n" for row in LATE)),
        ("rows.parquet", parquet_of(LATE)),
    ],
)
def test_a_metric_whose_first_number_is_late_is_that_metric(
    name: str, text: str | bytes, tmp_path: Path, read_rows: ReadRows
) -> None:
    """A key becomes the metric that it is named after, whenever its first number comes."""
    log = tmp_path / name
    log.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["entropy"] for row in read_rows(tmp_path / "runs" / "r")] == [None] * 4 + [1.0, 1.25]
    assert balance(done)["train/entropy"].startswith("entropy  (named so by the log")


def test_a_late_metric_that_two_keys_of_one_update_are_named_after_is_read_of_neither(
    tmp_path: Path, read_rows: ReadRows
) -> None:
    """Whichever comes first; and once a key is that metric, a later one is none."""
    both = [
        row | ({"eval/entropy": 9.0, "b/clip_fraction": 0.5} if place > 4 else {}) for place, row in enumerate(LATE)
    ]
    both[4] |= {"a/clip_fraction": 0.1}
    both[4]["eval/entropy"] = 9.0
    log = tmp_path / "both.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in both))
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    rows = read_rows(tmp_path / "runs" / "r")
    assert [row["entropy"] for row in rows] == [None] * 6
    assert [row["clip_fraction"] for row in rows] == [None] * 4 + [0.1, None]
    found = balance(done)
    assert found["train/entropy"].startswith("train/entropy  (extra")
    assert found["b/clip_fraction"].startswith("b/clip_fraction  (extra")


def test_a_late_key_becomes_no_metric_that_a_person_chose_a_key_for(tmp_path: Path, read_rows: ReadRows) -> None:
    """What is given with --map comes first, also if it is the step."""
    log = tmp_path / "log.jsonl"
    rows = [{"step": 100 * place + 100, **row} for place, row in enumerate(LATE)]
    rows[5]["env_steps"] = 7
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--map", "mine=entropy", "--map", "step=env_steps", "--run-id", "r"]
    done = import_log(log, *arguments, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    found = [(row["entropy"], row["env_steps"]) for row in read_rows(tmp_path / "runs" / "r")]
    assert found == [(1.0, 100 * place + 100) for place in range(6)]


def test_a_metric_that_is_left_out_is_noted(tmp_path: Path) -> None:
    """A column that is named as a metric, and has no numbers, is in a note of its own; any other text is not."""
    log = tmp_path / "own.csv"
    log.write_text("policy_loss,value_loss,clip_fraction,host\n-0.1,0.5,12%,a\n-0.2,0.4,13%,b\n", encoding="utf-8")
    note = balance(import_log(log, root=tmp_path / "runs"))["note"]
    assert "left out, although named as a number of the update: clip_fraction (text, in 2 rows)" in note
    assert "host" not in note


def test_the_numbers_of_an_unknown_trainer_are_noted_where_they_do_not_rise_by_one(
    tmp_path: Path, read_rows: ReadRows
) -> None:
    """Its column `update` is kept as an extra, and the balance says where a number is missing or comes twice."""
    rows = [{"update": number, **ROWS[0]} for number in (0, 1, 4, 4, 5)]
    log = tmp_path / "own.csv"
    log.write_text(csv_of(rows), encoding="utf-8")
    note = balance(import_log(log, root=tmp_path / "runs"))["note"]
    read = list(read_rows(tmp_path / "runs" / "own"))
    assert [row["update"] for row in read] == [0, 1, 2, 3, 4]
    assert "(4 after 1 at update 2, 4 after 4 at update 3); update counts on" in note
