"""Binary logs in gzip: read as they lie, like the same logs unpacked, and nothing is left of what was unpacked."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import DATA, balance, import_log, unpacked
from tests.recorder.importing.test_text_file import numbers

from esper_recorder.importing import unpacking


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize(
    "name", ["sb3_lunar.tfevents", "trackio_cleanrl.db", "mlflow.db", "wandb_cleanrl.wandb", "rsl_rl_two_learns"]
)
def test_it_is_read_like_the_unpacked_one(name: str, tmp_path: Path, temporary: Path) -> None:
    """A file, or a folder of files; the run has the same name and the same rows."""
    packed = DATA / name if (DATA / name).is_dir() else DATA / f"{name}.gz"
    first = import_log(packed, root=tmp_path / "packed")
    second = import_log(unpacked(name, tmp_path), root=tmp_path / "plain")
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    (run,), (other,) = (tmp_path / "packed").iterdir(), (tmp_path / "plain").iterdir()
    assert run.name == other.name
    assert numbers(run) == numbers(other) != []
    assert not [*temporary.iterdir()]


def test_a_table_of_parquet_is_read_too(tmp_path: Path) -> None:
    """As the CSV that it was made of."""
    table = pyarrow.csv.read_csv(unpacked("lightning_metrics.csv", tmp_path))
    pyarrow.parquet.write_table(table, tmp_path / "own.parquet")
    (tmp_path / "packed.parquet.gz").write_bytes(gzip.compress((tmp_path / "own.parquet").read_bytes()))
    done = import_log(tmp_path / "packed.parquet.gz", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "packed")) == 195


def test_of_a_torn_file_there_is_what_comes_before(tmp_path: Path) -> None:
    """The balance says where its content ends."""
    log = tmp_path / "torn.tfevents.gz"
    log.write_bytes((DATA / "sb3_lunar.tfevents.gz").read_bytes()[:-4000])
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "torn: the file ends in the middle of a record" in balance(done)["not readable"]
    assert 0 < len(rows_of(tmp_path / "runs" / "torn")) < 29


def test_a_copy_beside_the_log_is_not_read_twice(tmp_path: Path) -> None:
    """`gzip --keep` leaves both in the folder."""
    folder = tmp_path / "own"
    folder.mkdir()
    name = "events.out.tfevents.1795683577.vm.1.0"
    (folder / name).write_bytes(gzip.decompress((DATA / "sb3_lunar.tfevents.gz").read_bytes()))
    (folder / f"{name}.gz").write_bytes((DATA / "sb3_lunar.tfevents.gz").read_bytes())
    done = import_log(folder, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "runs" / "own")) == 29


def test_a_folder_that_is_followed_may_have_packed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before are in gzip, and the newest one is written."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    first, second = sorted((DATA / "rsl_rl_two_learns").iterdir())
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / first.name).write_bytes(first.read_bytes())
    with followed(folder, tmp_path / "runs" / "r") as found:
        found.await_line("following")
        before = len(rows_of(tmp_path / "runs" / "r"))
        (folder / second.name.removesuffix(".gz")).write_bytes(gzip.decompress(second.read_bytes()))
        found.await_rows(50)
    assert 0 < before < 50


def test_what_would_fill_the_disk_is_refused(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line that says what to do, and nothing is left."""
    monkeypatch.setattr(unpacking, "MOST_BYTES", 1000)
    done = import_log(DATA / "sb3_lunar.tfevents.gz", root=tmp_path / "runs")
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "expected at most 1,000 bytes in gzip; decompress it first" in done.output
    assert not [*temporary.iterdir()]
