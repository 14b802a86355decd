"""Tables and lines: CSV, JSON lines, Parquet and console output, whole, torn, and made to harm."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.recorder.importing.logs import balance, import_log, unpacked

from esper_recorder.importing.json_lines import MAX_LINE_BYTES

ReadRows = Callable[..., list[dict[str, Any]]]

MAPPING = ("--map", "vf=value_loss", "--map", "pg=policy_loss")
CSV = "vf,pg,note\n1.5,0.1,a\n2.5,0.2,b\n"


@pytest.mark.parametrize(
    ("content", "losses", "title", "text"),
    [
        (CSV, [1.5, 2.5], "keys left out", "note (text, in 2 rows)"),
        (CSV.replace(",", "\t"), [1.5, 2.5], "not readable", "none"),
        (CSV.replace("\n", "\r\n"), [1.5, 2.5], "not readable", "none"),
        (f"\ufeff{CSV}", [1.5, 2.5], "not readable", "none"),
        (CSV + "3.5,0.3,c", [1.5, 2.5], "not readable", "line 4 (torn: it does not end)"),
        (CSV + "3.5,0.3,c,d,e\n4.5,0.4\n", [1.5, 2.5, 4.5], "not readable", "line 4 (5 cells, the header has 3)"),
        (CSV + ",,\n", [1.5, 2.5], "not readable", "none"),
        (CSV + "nan,inf,\n", [1.5, 2.5, None], "not readable", "none"),
        (CSV + '3.5,0.3,"a\nb"\n4.5,0.4,\n', [1.5, 2.5, 3.5, 4.5], "not readable", "none"),
        (
            CSV + f'3.5,0.3,"{"x" * 2_000_000}\n4.5,0.4,\n',
            [1.5, 2.5, 4.5],
            "not readable",
            "field larger than field limit",
        ),
        (CSV + "3.5,0.3,\udcff\n", [1.5, 2.5, 3.5], "not readable", "none"),
        (CSV + '"3.5,0.3,c\n4.5,0.4,d\n', [1.5, 2.5], "not readable", "lines 4 to 5 (unexpected end of data)"),
        (CSV + "x" * MAX_LINE_BYTES + "y\n4.5,0.4,\n", [1.5, 2.5, 4.5], "not readable", "line 4 (longer than"),
        (CSV.replace(",", ", "), [1.5, 2.5], "not readable", "none"),
        (CSV.replace("note", "vf").replace("a", "7.5"), [7.5, 2.5], "note", "the header has 'vf' 2 times; the last"),
    ],
    ids=[
        *("plain", "tabs", "crlf", "bom", "torn", "wide", "blank", "nan", "quoted", "huge", "bytes"),
        *("open quote", "long line", "spaces", "twice"),
    ],
)
def test_any_csv_with_a_mapping(
    content: str, losses: list[float | None], title: str, text: str, tmp_path: Path, read_rows: ReadRows
) -> None:
    """Every whole row is read, and what could not be read is named."""
    log = tmp_path / "own.csv"
    log.write_bytes(content.encode("utf-8", "surrogateescape"))
    done = import_log(log, *MAPPING, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    found = [row["value_loss"] for row in read_rows(tmp_path / "runs" / "own")]
    assert [None if loss != loss else loss for loss in found] == losses
    assert text in balance(done)[title]


def test_parquet_with_a_mapping(tmp_path: Path, read_rows: ReadRows) -> None:
    """Integers and floats are numbers, nulls are absent, and other columns are left out with their type."""
    table = pa.table({"vf": [1.5, 2.5, None], "pg": [0.1, 0.2, 0.3], "step": [64, 128, 192], "name": ["a", "b", "c"]})
    log = tmp_path / "own.parquet"
    pq.write_table(table, log)
    done = import_log(log, *MAPPING, "--map", "step=env_steps", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["env_steps"] for row in read_rows(tmp_path / "runs" / "own")] == [64, 128]
    assert "name (string, no number)" in balance(done)["keys left out"]
    log.write_bytes(log.read_bytes()[:-20])
    done = import_log(log, *MAPPING, "--run-id", "torn", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it is no readable Parquet file" in done.stderr


def test_a_step_that_is_no_whole_number_is_an_extra(tmp_path: Path, read_rows: ReadRows) -> None:
    """The columns `step` and `_step` of any log are its step only where they can be one."""
    log = tmp_path / "own.csv"
    log.write_text("_step,vf,pg\n64,1.5,0.1\n64.5,2.5,0.2\n")
    done = import_log(log, *MAPPING, "--map", "step=env_steps", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    rows = read_rows(tmp_path / "runs" / "own")
    assert [(row["env_steps"], row.get("_step")) for row in rows] == [(64, None), (None, 64.5)]


def test_json_lines_of_verl(tmp_path: Path, read_rows: ReadRows) -> None:
    """The numbers of `data` by the step; the entropy of tokens and k1 are extras, and a torn last line is named."""
    records = [
        {
            "step": step,
            "data": {
                "critic/vf_loss": 0.25,
                "actor/pg_loss": -0.01,
                "actor/entropy": 0.06,
                "actor/ppo_kl": -0.001,
                "actor/pg_clipfrac": 0.01,
                "critic/vf_explained_var": 0.5,
                "critic/score/mean": 0.75,
                "critic/advantages/mean": 0.0,
                "response_length/mean": 512.0,
            },
        }
        for step in (1, 2, 3)
    ]
    log = tmp_path / "experiment.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"step": 4, "da')
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "line 4 (torn" in balance(done)["not readable"]
    rows = read_rows(tmp_path / "runs" / "experiment")
    assert [row["update"] for row in rows] == [1, 2, 3]
    row = rows[0]
    assert (row["value_loss"], row["value_loss_unclipped"], row["explained_variance"]) == (0.25, None, 0.5)
    assert (row["entropy"], row["entropy_per_token"]) == (None, 0.06)
    assert (row["kl_divergence"], row["approx_kl_k1"]) == (None, -0.001)
    assert (row["clip_fraction"], row["clip_active_fraction"]) == (None, 0.01)
    assert (row["episode_return_mean"], row["episode_length_mean"], row["env_steps"]) == (0.75, 512.0, None)
    definition = json.loads((tmp_path / "runs" / "experiment" / "run.json").read_text())["value_loss_definition"]
    assert (definition["factor"], definition["clipping"]) == (1.0, "max")


def test_console_lines_of_verl(tmp_path: Path, read_rows: ReadRows) -> None:
    """Behind what Ray and colours put in front, with NumPy's way of printing numbers; other lines are counted."""
    prefix = "\x1b[36m(TaskRunner pid=1234)\x1b[0m "
    numbers = "actor/pg_loss:-1.5e-05 - critic/vf_loss:np.float64(0.25) - val/acc/mean@1:0.5 - critic/vf_clipfrac:nan"
    lines = [
        "loading",
        f"{prefix}step:0 - val/acc/mean@1:0.25",
        f"{prefix}step:1 - {numbers}",
        f"step:2 - {numbers} ",
        "an error",
        f"step:3 - {numbers}"[:-8],
    ]
    log = tmp_path / "slurm-12.out"
    log.write_text("\n".join(lines))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["not imported"] == "other lines 2"
    assert "line 6 (torn" in balance(done)["not readable"]
    rows = read_rows(tmp_path / "runs" / "slurm-12.out")
    assert [(row["update"], row["step"], row["value_loss"], row["policy_loss"]) for row in rows] == [
        (1, 1.0, 0.25, -1.5e-05),
        (2, 2.0, 0.25, -1.5e-05),
    ]
    assert rows[0]["val/acc/mean@1"] == 0.375  # of step 0 and step 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "found an empty file"),
        ("a.csv", b"a,b\n", "it has no scalars"),
        ("a.csv", b"a,b\n1,2\n", "found 2 keys and neither (a, b)"),
        ("a.csv", b"x," * 6000 + b"\n1\n", "expected a header of 1 to 5,000 columns"),
        ("a.jsonl", b'{"a": {"b": 1}, "c": [1], "d": "x"}\n', "found 1 key and neither (a/b)"),
        ("a.jsonl", b'{"a": ' * 200, "it has no scalars"),
        ("a.jsonl", b'{"a": 1' + b"0" * 400 + b"}\n", "it has no scalars"),
        ("a.gz", b"\x1f\x8b\x08\x00" * 10, "found an empty file"),
        ("a.gz", gzip.compress(bytes(range(256))), "found binary data in gzip; decompress it first"),
        ("a.zst", b"\x28\xb5\x2f\xfd" * 10, "found zstd data; decompress it first"),
        ("a.bin", bytes(range(256)) * 10, "found binary data"),
        ("a.txt", b"hello\n", "found text that begins 'hello'"),
        ("a.parquet", b"PAR1" * 10, "it is no readable Parquet file"),
        ("a.out", b"step:1 - a:1\n", "found 1 key and neither (a)"),
        ("a.csv", b"\n \n", "found blank lines"),
        (
            "a.jsonl",
            b'{"vf": "high", "pg": [0.1]}\n',
            "it has no scalars, so there is no update; found pg (a list), vf (text)",
        ),
        ("0.monitor.csv", b'#{"t_start": 1, "env_id": "a"}\nr,l,t\n1,2,3\n', "a Monitor of Stable-Baselines3 logs"),
        (
            "a.xls",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "found an Excel sheet or another document of Office; save the sheet",
        ),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "found an HDF5 file; write its table as CSV or Parquet"),
        ("a.pkl", pickle.dumps([1.0]), "found a pickle, which is not opened since it can run any program"),
        ("a.feather", b"ARROW1\0\0", "found an Arrow or Feather file; write it as Parquet or CSV"),
        (
            "a.csv",
            "value_loss,policy_loss".encode("utf-16-le"),
            "found text in UTF-16 without a byte-order mark; save it",
        ),
        ("a.html", b"<!DOCTYPE html>\n<table>", "found a page in HTML or XML; save its table as CSV"),
        ("a.json", b"[[1.5, 128, 0.5], [2.5, 256, 0.4]]", "found rows of numbers in JSON, whose columns have no names"),
        (
            "a.txt",
            b"".join(b"\r%d%%|#| %d/9 [1.2it/s, value_loss=0.5, policy_loss=0.1]" % (n, n) for n in range(9)),
            "found a progress bar that writes over its own line; print a line for each update",
        ),
        (
            "a.txt",
            b"Update 0 policy_loss: -0,01 value_loss: 5,00\nUpdate 1 policy_loss: -0,02 value_loss: 4,97\n",
            "found printed lines with decimal commas",
        ),
        ("a.csv", "value_loss,policy_loss\n1,2\n".encode("utf-32"), "found text in UTF-32; save it as UTF-8"),
        (
            "a.csv",
            b"policy_loss,value_loss,n\n1,,2\n1,,3\n",
            "not both (policy_loss, n); not read: value_loss (empty in",
        ),
        ("a.csv", b"policy_loss,v_loss\n1,a\n1,b\n", "not read: v_loss (text, in 2 rows)"),
        ("a.csv", b"value_loss,policy_loss\r1,2\r3,4\r", "found a table whose lines end with a carriage return only"),
    ],
)
def test_what_cannot_be_imported_is_one_line(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    """Expected and found, exit code 2, and nothing on disk."""
    (tmp_path / name).write_bytes(content)
    done = import_log(tmp_path / name, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert expected in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["sb3_lunar_progress.csv", "sb3_lunar_progress.json"])
def test_zeros_that_a_power_loss_left_at_the_end_cost_nothing_else(name: str, tmp_path: Path) -> None:
    """The whole lines before them are imported, and the balance names the line that is not readable."""
    whole, torn = unpacked(name, tmp_path), tmp_path / f"torn_{name}"
    torn.write_bytes(whole.read_bytes() + bytes(4096))
    first, second = (balance(import_log(log, root=tmp_path / "runs")) for log in (whole, torn))
    assert second["updates"] == first["updates"] == "29 rows, from 0 to 28"
    assert first["not readable"] == "none"
    assert second["not readable"].startswith("line 3")


def test_a_folder_is_read_once_and_says_what_it_did_not_read(tmp_path: Path, read_rows: ReadRows) -> None:
    """Stable-Baselines3 logs one training in three ways: the text has all digits, and is read."""
    folder = tmp_path / "sb3"
    folder.mkdir()
    unpacked("sb3_lunar_progress.csv", folder).rename(folder / "progress.csv")
    unpacked("sb3_lunar.tfevents", folder).rename(folder / "events.out.tfevents.1795682578.vm.1.0")
    (folder / "best_model.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "read from progress.csv; not read: events.out.tfevents.1795682578.vm.1.0" in balance(done)["note"]
    assert len(read_rows(tmp_path / "runs" / "sb3")) == 29
    (folder / "PPO_1").mkdir()
    unpacked("sb3_lunar.tfevents", folder / "PPO_1")
    done = import_log(folder, "--run-id", "inner", root=tmp_path / "runs")
    assert "not read: the folders in it that have logs: PPO_1" in balance(done)["note"]
    (folder / "monitor.csv").write_text("r,l,t\n1.0,2,3.0\n")
    done = import_log(folder, "--run-id", "two", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it has 2 logs (monitor.csv, progress.csv); name one of them" in done.stderr


def test_files_beside_a_log_are_not_taken_for_it(tmp_path: Path, read_rows: ReadRows) -> None:
    """Tune writes `params.json` beside `result.json`, and a Monitor of Stable-Baselines3 logs episodes."""
    log = unpacked("rllib_tune_result.json", tmp_path)
    folder = tmp_path / "PPO_CartPole"
    folder.mkdir()
    (folder / "result.json").write_bytes(b"\xef\xbb\xbf" + log.read_bytes())
    (folder / "params.json").write_text(json.dumps({"lr": 0.1, "model": {"fcnet": [64, 64]}}, indent=2))
    (folder / "one_line.json").write_text('{"lr": 0.1}\n')
    (folder / "0.monitor.csv").write_text('#{"t_start": 1.0, "env_id": "CartPole-v1"}\nr,l,t\n1.0,2,3.0\n')
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "read from result.json; not read: one_line.json, params.json" in balance(done)["note"]
    assert len(read_rows(tmp_path / "runs" / "PPO_CartPole")) == 5
    (folder / "result.json").unlink()
    (folder / "params.json").unlink()
    done = import_log(folder, "--run-id", "one", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "found 1 key and neither (lr)" in done.stderr
    done = import_log(tmp_path / "runs" / "PPO_CartPole", "--run-id", "two", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "found a run of ours: esper-analyze report --run" in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--map", "value_loss"], "--map expects KEY=FIELD"),
        (["--map", "a=update"], "an import fills in update itself"),
        (["--value-loss-definition", "scale=2"], "with one of source, factor, clipping"),
        (["--value-loss-definition", "factor=half"], "factor expects a number above 0"),
        (["--value-loss-definition", "factor=0"], "factor expects a number above 0"),
        (["--value-loss-definition", "factor=nan"], "factor expects a number above 0"),
        (["--value-loss-definition", "clip_range=-inf"], "clip_range expects a number above 0"),
        (["--value-loss-definition", "clipping=some"], "clipping is one of max, clipped"),
        (["--value-loss-definition", "targets_normalised=1"], "expects true or false"),
    ],
)
def test_options_that_mean_nothing_are_one_line(options: list[str], expected: str, tmp_path: Path) -> None:
    """Each says what it expects, and nothing is imported."""
    log = unpacked("sb3_learn_twice_progress.csv", tmp_path)
    done = import_log(log, *options, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert expected in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("again", "rows", "header"),
    [
        ("vf,pg,note\n3.5,0.3,c\n", "3.5,0.3", "line 4"),
        ("\ufeffvf,pg,note\n3.5,0.3,c\n", "3.5,0.3", "line 4"),
        ("kl,pg,vf,note,lr\n9,0.3,3.5,c,1e-4\n", "3.5,0.3", "line 4"),
        ("pg,vf\n0.3,3.5\n", "3.5,0.3", "line 4"),
    ],
    ids=["the same", "behind a byte-order mark", "more columns in another order", "fewer columns"],
)
def test_a_header_that_comes_again_names_the_rows_below(
    again: str, rows: str, header: str, tmp_path: Path, read_rows: ReadRows
) -> None:
    """Two tables in one file are read one after another, each by its own header."""
    log = tmp_path / "log.csv"
    log.write_text(CSV + again, encoding="utf-8")
    done = import_log(log, "--run-id", "r", *MAPPING, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    vf, pg = map(float, rows.split(","))
    found = [(row["value_loss"], row["policy_loss"]) for row in read_rows(tmp_path / "runs" / "r")]
    assert found == [(1.5, 0.1), (2.5, 0.2), (vf, pg)]
    assert balance(done)["not readable"] == "none"
    assert f"the header comes again: {header}" in balance(done)["note"]


def test_texts_in_a_row_are_no_header(tmp_path: Path, read_rows: ReadRows) -> None:
    """A row whose cells are words, or the names of one column, is only a row without numbers."""
    log = tmp_path / "log.csv"
    log.write_text(CSV + "note,a,b\n3.5,0.3,note\n")
    done = import_log(log, "--run-id", "r", *MAPPING, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["value_loss"] for row in read_rows(tmp_path / "runs" / "r")] == [1.5, 2.5, 3.5]
    assert "the header comes again" not in balance(done).get("note", "")
