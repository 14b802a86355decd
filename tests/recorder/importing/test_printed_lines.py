"""Console output in words of a loop's own: keys with numbers, on one line for each update or on several."""

from __future__ import annotations

import gzip
import pprint
from pathlib import Path

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import balance, import_log

RETURNS = [10.0, 12.5, 11.25]

ONE_LINE = {
    "pipes": "Update {n}/3 | steps {s} | value_loss {v:.4f} | policy_loss {p:.4f} | return {r:.2f}\n",
    "colons": "[update {n}] Value Loss: {v:.4f}, Policy Loss: {p:.4f}, Return: {r:.2f} ({n}s)\n",
    "equals": "update={n} value_loss={v} policy_loss={p} return={r}\n",
    "gaps": "iter {n} value_loss {v} policy_loss {p} return {r}\n",
    "logging": "2026-01-01 12:00:00,123 INFO ppo.py:12 value_loss: {v} policy_loss: {p} return: {r}\n",
    "logging of JSON": '2026-01-01T12:00:00 [INFO] {{"value_loss": {v}, "policy_loss": {p}, "return": {r}}}\n',
    "dicts": "{{'value_loss': {v}, 'policy_loss': {p}, 'return': {r}, 'name': 'a'}}\n",
    "dicts of texts": "{{'value_loss': '{v}', 'policy_loss': '{p}', 'return': '{r}'}}\n",
    "dicts of tensors": "{{'value_loss': tensor({v}, device='cuda'), 'policy_loss': np.float32({p}), 'return': {r}}}\n",
    "colours": "\x1b[32mvalue_loss\x1b[0m: {v} policy_loss: {p} return: {r}\r\n",
    "progress bar": " 10%|#   | 1/10 [00:01<00:10]\rvalue_loss: {v}, policy_loss: {p}, return: {r}\n",
    "units": "value_loss={v}, policy_loss={p}, return={r}, clip={c}%, steps=1.5M, time=3.2s\n",
}


def printed(line: str) -> str:
    """What a loop of three updates prints."""
    return "Using cpu device\n" + "".join(
        line.format(n=n, s=128 * n, v=2.5 - n, p=-0.25 * n, r=value, c=12.5) for n, value in enumerate(RETURNS)
    )


@pytest.mark.parametrize("name", ONE_LINE)
def test_a_line_for_each_update(name: str, tmp_path: Path) -> None:
    """Each line is an update, however its keys and numbers are set."""
    log = tmp_path / "train.log"
    log.write_bytes(printed(ONE_LINE[name]).encode())
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["not imported"] == "other lines 1"
    assert "the value loss is an assumption" in balance(done)["note"]
    rows = rows_of(tmp_path / "runs" / "train")
    assert [(row["value_loss"], row["policy_loss"]) for row in rows] == [(2.5, 0.0), (1.5, -0.25), (0.5, -0.5)]
    key = "Return" if name == "colons" else "return"
    assert [row[key] for row in rows] == RETURNS
    assert "ppo.py" not in done.stdout
    if name == "units":
        assert [(row["clip"], row["steps"], row["time"]) for row in rows] == [(0.125, 1.5e6, 3.2)] * 3


@pytest.mark.parametrize("first", ["value_loss", "return"])
def test_an_update_on_several_lines(first: str, tmp_path: Path) -> None:
    """A block of lines is one update whichever of them is the first, and the last one counts, too."""
    lines = {"value_loss": "  value_loss: {v}\n", "policy_loss": "  policy_loss: {p}\n", "return": "  return: {r}\n"}
    block = "".join([lines.pop(first), *lines.values()])
    log = tmp_path / "train.log.gz"
    log.write_bytes(gzip.compress(printed(f"Update\n{block}").encode()))
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "runs" / "r")
    assert [(row["value_loss"], row["policy_loss"], row["return"]) for row in rows] == [
        (2.5, 0.0, 10.0),
        (1.5, -0.25, 12.5),
        (0.5, -0.5, 11.25),
    ]


@pytest.mark.parametrize("cell", ["0,5", "[0.5, 0.6]", "tensor([0.5, 0.6])", "1.2.3", "0x1f", "12ms"])
def test_what_is_no_single_number_is_not_half_read(cell: str, tmp_path: Path) -> None:
    """A decimal comma, a list or an unknown unit makes no other number."""
    log = tmp_path / "train.log"
    log.write_text(printed(f"value_loss: {{v}} policy_loss: {{p}} mine: {cell}\n"))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert all("mine" not in row for row in rows_of(tmp_path / "runs" / "train"))


def test_not_finite_and_torn(tmp_path: Path) -> None:
    """A loss that is NaN or infinite stays so, and the line in which a killed trainer stopped is left out."""
    log = tmp_path / "train.log"
    log.write_text("value_loss: 1 policy_loss: 2\nvalue_loss: nan policy_loss: -inf\nvalue_loss: 3 policy_loss: 1")
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "line 3 (torn" in balance(done)["not readable"]
    rows = rows_of(tmp_path / "runs" / "train")
    assert [repr((row["value_loss"], row["policy_loss"])) for row in rows] == ["(1.0, 2.0)", "(nan, -inf)"]


def test_losses_of_other_names_are_named(tmp_path: Path) -> None:
    """The error names the keys that may be the losses, and with --map the log is read."""
    log = tmp_path / "train.log"
    log.write_text(printed("step {s}: v_loss={v} pg_loss={p}\n"))
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--map v_loss=value_loss --map pg_loss=policy_loss" in done.stderr
    options = ("--map", "v_loss=value_loss", "--map", "pg_loss=policy_loss", "--map", "step=env_steps")
    done = import_log(log, *options, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["env_steps"] for row in rows_of(tmp_path / "runs" / "train")] == [0, 128, 256]


@pytest.mark.parametrize("text", ["vf_loss_coef: 0.5\nvf_loss_coef: 1\n", "value_loss: 0.5\n", "a loss\n" * 9])
def test_settings_and_notes_are_no_log(text: str, tmp_path: Path) -> None:
    """A loss must come twice, and a coefficient is none."""
    log = tmp_path / "notes.txt"
    log.write_text(text)
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "found text that begins" in done.stderr


def test_a_folder_is_read_by_its_other_log(tmp_path: Path) -> None:
    """Printed lines, which have few digits, are read only where the file is named."""
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "out.log").write_text(printed(ONE_LINE["equals"]))
    (folder / "progress.csv").write_text("value_loss,policy_loss\n1,2\n3,4\n")
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "training")) == 2


def test_printed_lines_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update is there once its line is."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    log, run = tmp_path / "live.log", tmp_path / "runs" / "r"
    text = printed(ONE_LINE["equals"])
    log.write_text(text)
    with followed(log, run) as found:
        found.await_line("following")
        found.await_rows(3)
        with log.open("a") as file:
            file.write(text)
        found.await_rows(6)
    assert found.account.unreadable.count == 0


def test_numbers_in_other_forms_are_left_out_by_name(tmp_path: Path) -> None:
    """A decimal comma, or a unit that nobody declared, is half read by none; the balance names the key."""
    log = tmp_path / "train.log"
    log.write_text("value_loss=0.5 policy_loss=0.1 kl=0,5 took: 12ms return=3.0\n" * 3)
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    why = "(numbers in a form that is not read, on 3 lines)"
    assert balance(done)["keys left out"] == f"kl {why}, took {why}"


@pytest.mark.parametrize("end", ["", "\n"])
def test_dicts_are_read_one_by_one_wherever_they_end(end: str, tmp_path: Path) -> None:
    """A list of dicts on one line, and dicts over several lines; a bracket at the end tells that nothing is missing."""
    rows = [
        {"step": 128 * n, "value_loss": 0.5 + n, "policy_loss": -0.25, "a longer name of a number": 1.0} for n in (1, 2)
    ]
    for place, text in enumerate((repr(rows), pprint.pformat(rows), "\n".join(map(pprint.pformat, rows)))):
        log = tmp_path / f"dicts_{place}.log"
        log.write_text(text + end)
        done = import_log(log, "--map", "step=env_steps", root=tmp_path / "runs")
        assert done.exit_code == 0, done.output
        found = rows_of(tmp_path / "runs" / log.stem)
        assert [(row["env_steps"], row["value_loss"]) for row in found] == [(128, 1.5), (256, 2.5)]
        assert balance(done)["not readable"] == "none"


def test_a_table_above_the_printed_lines_is_not_the_log(tmp_path: Path) -> None:
    """A job may print what its GPU has before it trains."""
    log = tmp_path / "slurm-1.out"
    gpu = "begin\nindex, memory.used, memory.total\n0, 512, 81920\n"
    log.write_text(gpu + printed(ONE_LINE["equals"]))
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "r")) == 3
    assert balance(done)["not imported"] == "other lines 4"
