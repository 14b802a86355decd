"""Runs in the object stores of Google and Microsoft: every command reads them as it reads those on a disk."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.object_store.proxy import Asked, Proxy
from tests.object_store.servers import Server
from tests.object_store.stored import analyze, assert_ends_in_one_line, put_folder
from tests.object_store.uploads import faults, files, keys, objects, record_run, start_upload, upload

from esper_analyzer.serving.runs_folder import RunsFolder
from esper_schemas.run.store import StoreUrl
from esper_schemas.testing import golden

COMMANDS = (
    ["runs", "ROOT"],
    ["fleet", "ROOT", "--format", "csv"],
    ["report", "ROOT/finished"],
    ["check", "--run", "finished", "--root", "ROOT"],
    ["explain", "ROOT/finished", "ROOT/resumed", "--format", "json"],
    ["compare", "ROOT/finished", "ROOT/resumed/"],
    ["tail", "--once", "ROOT/finished"],
    ["export", "ROOT/resumed", "-o", "OUT.csv"],
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with two runs, one of them with three attempts."""
    for name in ("finished", "resumed"):
        golden.copy_run(name, tmp_path / "sweep")
    return tmp_path / "sweep"


@pytest.fixture
def proxy(cloud: Server, runs: Path) -> Iterator[Proxy]:
    """A store with these runs behind a proxy."""
    put_folder(cloud, runs, "golden")
    with Proxy(cloud) as between:
        yield between


def _is_rows(asked: Asked) -> bool:
    return "segments" in asked.path and asked.method == "GET"


def _filled(words: list[str], root: object, out: str) -> list[str]:
    return [word.replace("ROOT", str(root)).replace("OUT", out) for word in words]


@pytest.mark.slow
def test_every_command_answers_as_for_the_folder(proxy: Proxy, cloud: Server, runs: Path, tmp_path: Path) -> None:
    """What each prints and writes is the same, but for the place, and rows are read in ranges."""
    for words in COMMANDS:
        made = []
        for out, root in (("out-0", runs.name), ("out-1", cloud.url("golden"))):
            done = analyze(proxy.environment(), *_filled(words, root, out), cwd=tmp_path)
            assert done.returncode == 0, (words, done.stderr)
            said = (done.stdout + done.stderr).replace(str(root), "ROOT").replace(out, "OUT")
            made.append(said)
        assert made[0] == made[1], words
    assert (tmp_path / "out-0.csv").read_bytes() == (tmp_path / "out-1.csv").read_bytes()
    assert any(asked.range for asked in proxy.asked)


@pytest.mark.slow
def test_the_server_for_agents_reads_it(
    cloud: Server, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are found below the URL, and a column of their rows is read."""
    for name, value in cloud.variables().items():
        monkeypatch.setenv(name, value)
    put_folder(cloud, runs, "golden")
    folder = RunsFolder(StoreUrl.parse(cloud.url("golden")))
    rows = folder.run("finished").updates().select("update").collect().height
    assert rows > 0
    assert faults(cloud, "golden/finished", monkeypatch) == (rows, [])


@pytest.mark.slow
def test_uploads_that_are_killed(cloud: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaves whole objects, and the next one adds what is missing."""
    run = record_run(tmp_path, rows=100)
    whole = files(run, "runs/")
    for _ in range(3):
        target = len(keys(cloud)) + random.randint(1, len(whole) // 3)
        process = start_upload(cloud, run, cloud.url("runs"))
        while process.poll() is None and len(keys(cloud)) < target:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert all(data == whole[key] or "/attempts/" in key for key, data in objects(cloud).items())
    assert upload(cloud, run, cloud.url("runs")).returncode == 0
    assert objects(cloud) == whole
    assert faults(cloud, "runs/mine", monkeypatch) == (100, [])


def test_two_recordings_at_once(cloud: Server, tmp_path: Path) -> None:
    """Of two recordings of one name, one is there and whole, and the other is refused."""
    runs = [record_run(tmp_path / name, rows=50) for name in ("one", "other")]
    both = [start_upload(cloud, run, cloud.url("runs")) for run in runs]
    said = [process.communicate()[1] for process in both]
    codes = [process.wait() for process in both]
    assert sorted(codes) == [0, 2], said
    assert objects(cloud) == files(runs[codes.index(0)], "runs/")


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS[:2] + COMMANDS[-1:], ids=lambda words: words[0])
def test_a_connection_that_breaks_in_the_rows(
    words: list[str], proxy: Proxy, cloud: Server, runs: Path, tmp_path: Path
) -> None:
    """A command ends in one line, without a secret in it, and leaves no file that it began."""
    proxy.trouble = lambda asked: "half" if _is_rows(asked) else None
    done = analyze(proxy.environment(), *_filled(words, cloud.url("golden"), "out"), cwd=tmp_path)
    assert_ends_in_one_line(done, cloud, "the connection broke")
    assert list(tmp_path.glob("*out*")) == []


def test_what_is_not_there(cloud: Server, runs: Path, tmp_path: Path) -> None:
    """No bucket, no run and no server are told apart, by what reads and by what uploads."""
    put_folder(cloud, runs, "credentials")  # whose name is no cause of an error
    url = cloud.url("credentials/finished")
    nobody = url.replace("bucket", "nobody")
    for place, said in ((nobody, "there is no such bucket"), (cloud.url("credentials/absent"), "is not an Esper run")):
        assert_ends_in_one_line(analyze(cloud.environment(), "report", place, cwd=tmp_path), cloud, said)
    done = upload(cloud, runs / "finished", nobody)
    assert (done.returncode, done.stderr.count("\n"), "no such bucket" in done.stderr) == (2, 1, True), done.stderr
    cloud.kill()
    done = analyze(cloud.environment(), "report", url, cwd=tmp_path)
    (address,) = [name for name, value in cloud.variables().items() if value.startswith("http")]
    said = f"the store at 127.0.0.1:{cloud.port} does not answer; check the network, and {address}"
    assert_ends_in_one_line(done, cloud, said)


def test_credentials(start_server: Callable[[str], Server], runs: Path, tmp_path: Path) -> None:
    """The environment alone has them: without them, and with those of somebody else, one line says so."""
    cloud = start_server("azurite")  # the other takes any
    url = put_folder(cloud, runs / "finished", "finished")
    for key, said in ((None, "no credentials were found"), ("b3RoZXI=", "the store refuses access")):
        variables = {name: value for name, value in cloud.environment().items() if name != "AZURE_STORAGE_ACCOUNT_KEY"}
        variables |= {} if key is None else {"AZURE_STORAGE_ACCOUNT_KEY": key}
        done = analyze(variables, "report", url, cwd=tmp_path)
        assert_ends_in_one_line(done, cloud, said)
    assert (
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
        in analyze(
            {name: value for name, value in variables.items() if not name.startswith("AZURE_")},
            "runs",
            url,
            cwd=tmp_path,
        ).stderr
    )
