"""Logs whose text is compressed or in UTF-16: the same numbers as of the plain text, whole, torn, damaged and live."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import DATA, balance, import_log, unpacked

from esper_recorder.importing.text_file import TextFile

Pack = Callable[[bytes], bytes]

PACKINGS: dict[str, Pack] = {
    "gzip": gzip.compress,
    "several members": lambda text: b"".join(gzip.compress(text[at : at + 999]) for at in range(0, len(text), 999)),
    "little endian": lambda text: text.decode().encode("utf-16"),
    "big endian": lambda text: codecs.BOM_UTF16_BE + text.decode().encode("utf-16-be"),
    "both": lambda text: gzip.compress(text.decode().encode("utf-16")),
}


def numbers(run: Path) -> list[dict[str, Any]]:
    """The rows of a run, comparable where a number is NaN."""
    return [{name: repr(value) for name, value in row.items()} for row in rows_of(run)]


@pytest.mark.parametrize("name", ["sb3_lunar_progress.csv", "sb3_lunar_progress.json", "lightning_metrics.csv"])
@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_a_packed_log_is_read_like_the_plain_one(name: str, pack: Pack, tmp_path: Path) -> None:
    """Number by number, and nothing of it is unreadable."""
    plain = unpacked(name, tmp_path)
    packed = tmp_path / f"packed_{name}"
    packed.write_bytes(pack(plain.read_bytes().replace(b"\n", b"\r\n")))
    first, second = (import_log(log, "--run-id", log.name, root=tmp_path / "runs") for log in (plain, packed))
    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    assert balance(second)["not readable"] == "none"
    assert numbers(tmp_path / "runs" / plain.name) == numbers(tmp_path / "runs" / packed.name)


def test_the_run_is_named_without_the_ending_of_gzip(tmp_path: Path) -> None:
    """As it is without the ending of its format."""
    done = import_log(DATA / "rllib_tune_progress.csv.gz", root=tmp_path)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "rllib_tune_progress" / "run.json").is_file()


@pytest.mark.parametrize("is_damaged", [False, True], ids=["torn", "damaged"])
def test_what_is_before_the_damage_is_read(is_damaged: bool, tmp_path: Path) -> None:
    """A trainer that is killed leaves a file of gzip without its end; the line that it stops in is named."""
    text = unpacked("lightning_metrics.csv", tmp_path).read_bytes()
    packer = zlib.compressobj(wbits=31)
    half = packer.compress(text[:20_000]) + packer.flush(zlib.Z_FULL_FLUSH)
    log = tmp_path / "own.csv.gz"
    log.write_bytes(half + (b"\xff" * 100 if is_damaged else b""))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    whole = text[:20_000].count(b"\n")
    assert balance(done)["not readable"] == f"line {whole + 1} (torn: it does not end)"
    assert len(rows_of(tmp_path / "runs" / "own")) == whole - 1


def test_a_bomb_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    """A line of many megabytes in a few kilobytes of gzip is unpacked in bounded pieces."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = tmp_path / "bomb.gz"
    million = bytes(1_000_000)
    bomb.write_bytes(b"".join(packer.compress(million) for _ in range(50)) + packer.flush())
    with TextFile(bomb) as text:
        sizes = []
        raw = text.stream.raw  # type: ignore[attr-defined]  # the stream below the buffer
        buffer = bytearray(10_000_000)
        while read := raw.readinto(buffer):
            sizes.append(read)
    assert 49_000_000 < sum(sizes) < 50_000_000  # without what is buffered
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize("pack", [PACKINGS["several members"], PACKINGS["little endian"]], ids=["gzip", "UTF-16"])
def test_a_packed_log_can_be_followed(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row comes as soon as its line is whole, wherever the file ends meanwhile."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    plain = unpacked("lightning_metrics.csv", tmp_path)
    content = pack(plain.read_bytes())
    log, run = tmp_path / "packed.csv", tmp_path / "runs" / "r"
    log.write_bytes(content[:9_001])
    with followed(log, run) as found:
        found.await_line("following")
        few = len(rows_of(run))
        for end in (20_000, 20_001, len(content)):
            log.write_bytes(content[:end]) if end == 20_000 else _append(log, content[log.stat().st_size : end])
        found.await_rows(195)
    assert 0 < few < 195
    assert found.account.unreadable.count == 0


def _append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)
