"""Offline runs of W&B: the history that it wrote, up to what is damaged or torn."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import balance, import_log, unpacked

from esper_recorder.importing.account import Account
from esper_recorder.importing.wandb_offline import BLOCK_BYTES, WandbRun

NAME = "wandb_cleanrl.wandb"
HEAD = b":W&B\xe1\xbe\x00"


def test_the_history_of_a_run_is_its_updates(tmp_path: Path) -> None:
    """The same numbers that Lightning logged of this training, to the last digit; the configuration in the header."""
    log = unpacked(NAME, tmp_path)
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["not readable"] == "none"
    import_log(unpacked("lightning_metrics.csv", tmp_path), root=tmp_path / "runs")
    rows, expected = (rows_of(tmp_path / "runs" / name) for name in ("wandb_cleanrl", "lightning_metrics"))
    times = {"wall_time", "elapsed_secs"}
    assert len(rows) == 195
    assert all(row["wall_time"] is not None for row in rows)
    assert repr([{name: row[name] for name in row if name not in times} for row in rows]) == repr(
        [{name: row[name] for name in row if name not in times} for row in expected]
    )
    header = json.loads((tmp_path / "runs" / "wandb_cleanrl" / "run.json").read_text())
    assert header["config"]["nested"] == {"a": 1}
    assert (header["config"]["learning_rate"], header["env"]) == (0.00025, "CartPole-v1")


def test_what_lies_before_a_tear_is_kept(tmp_path: Path) -> None:
    """A run that was killed ends anywhere; it is imported again when there is more of it."""
    log = unpacked(NAME, tmp_path)
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2 + 3])
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0
    assert "torn: the file ends in the middle of a record" in balance(done)["not readable"]
    assert 80 < len(rows_of(tmp_path / "runs" / "wandb_cleanrl")) < 115
    log.write_bytes(whole)
    assert import_log(log, root=tmp_path / "runs").exit_code == 0
    assert len(rows_of(tmp_path / "runs" / "wandb_cleanrl")) == 195


def test_a_damaged_record_costs_its_block(tmp_path: Path) -> None:
    """Its checksum tells; reading goes on with the next block, and the balance has the place."""
    log = unpacked(NAME, tmp_path)
    damaged = bytearray(log.read_bytes())
    damaged[2 * BLOCK_BYTES + 200] ^= 1
    log.write_bytes(damaged)
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0
    assert "fails its checksum; its block is passed over" in balance(done)["not readable"]
    assert 140 < len(rows_of(tmp_path / "runs" / "wandb_cleanrl")) < 195


def test_a_run_that_is_being_written_is_followed(tmp_path: Path) -> None:
    """Record by record, however the pieces end."""
    whole = unpacked(NAME, tmp_path).read_bytes()
    log, run = tmp_path / "run-1.wandb", tmp_path / "runs" / "r"
    log.write_bytes(whole[:50_000])
    with followed(log, run) as found:
        found.await_line("following")
        with log.open("ab") as file:
            for start in range(50_000, len(whole), 33_333):
                file.write(whole[start : start + 33_333])
                file.flush()
        found.await_rows(195)
    assert found.account.unreadable.count == 0


def record(data: bytes) -> bytes:
    """One whole record, as W&B frames it."""
    return struct.pack("<IHB", zlib.crc32(b"\x01" + data), len(data), 1) + data


def field(number: int, data: bytes) -> bytes:
    """A field of bytes, of a message of protobuf."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def history(**values: str) -> bytes:
    """A record of the history, with values in JSON."""
    items = b"".join(
        field(1, b"".join(field(2, part.encode()) for part in key.split("/")) + field(16, value.encode()))
        for key, value in values.items()
    )
    return record(field(2, items))


def points_of(log: Path, *records: bytes) -> tuple[list[dict[str, float]], Account]:
    """The points of a file of these records, and the account."""
    log.write_bytes(HEAD + b"".join(records))
    account = Account()
    points = list(WandbRun(log).points(lambda _size: None, account))
    return [dict(zip(found.keys, found.values, strict=True)) for found in points], account


def test_numbers_that_are_not_finite_and_nested_keys_are_read(tmp_path: Path) -> None:
    """W&B writes NaN as text; any other text, and a list, is named in the balance."""
    found, account = points_of(
        tmp_path / "a.wandb",
        history(**{"a/b": '"NaN"', "c": '{"d": "-Infinity", "e": 2}', "f": '"text"', "g": "[1]", "_step": "7"}),
        history(a="1", _runtime="2.5"),
    )
    assert repr(found) == "[{'a/b': nan, 'c/d': -inf, 'c/e': 2.0}, {'a': 1.0}]"
    assert set(account.left_out) == {"f", "g", "_runtime"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no records"),
        (bytes(100), "fails its checksum"),
        (record(b"\xff\xff\xff"), "a number is cut off"),
        (history(a="{nonsense"), "a record before offset"),
        (history(a="[" * 30_000), "a record before offset"),
        (record(b"x" * 100)[:50], "torn"),
        (struct.pack("<IHB", 0, 0xFFFF, 9), "torn"),
    ],
)
def test_a_file_that_is_no_history_is_one_line(data: bytes, said: str, tmp_path: Path) -> None:
    """Empty, garbage, damaged, or made to harm: exit code 2, and no run."""
    log = tmp_path / "run-1.wandb"
    log.write_bytes(HEAD + data)
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert said in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_folder_of_wandb_has_messages_beside_its_run(tmp_path: Path) -> None:
    """Its own messages are JSON lines, and `latest-run` is a link to the run: there is one log all the same."""
    run = tmp_path / "wandb" / "offline-run-20261127_210201-mav7qsil"
    (run / "logs").mkdir(parents=True)
    unpacked("wandb_cleanrl.wandb", run).rename(run / "run-mav7qsil.wandb")
    for folder in (run / "logs", run.parent):
        (folder / "debug-internal.log").write_text(
            '{"time": "2026-11-27", "level": "INFO", "msg": "stream: starting"}\n' * 2
        )
    (run.parent / "latest-run").symlink_to(run.name)
    done = import_log(tmp_path / "wandb", "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["trainer"] == "CleanRL"
    assert "not read: " not in done.stdout
    second = run.with_name("offline-run-20261127_220201-a1b2c3d4")
    shutil.copytree(run, second)
    done = import_log(tmp_path / "wandb", root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert f"pass one of the folders in it: {run.name}, {second.name}" in done.stderr
