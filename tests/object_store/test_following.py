"""A run in an object store is followed as its segments come, and each tool of the server reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.object_store.proxy import Proxy
from tests.object_store.servers import Server
from tests.object_store.stored import analyze, put, put_folder, record
from tests.waiting import HANG_SECS, wait_until

from esper_analyzer.serving.runs_folder import RunsFolder
from esper_recorder import Recorder
from esper_schemas import NotARunError, UsageError
from esper_schemas.run.store import StoreUrl


def _tail(environment: dict[str, str], url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "esper_analyzer", "tail", url, "--interval", "0.2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until(process: subprocess.Popen[str], update: int) -> None:
    """Read lines until that of an update."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[:2] == ["update", str(update)]:
            return
    assert process.stderr is not None
    pytest.fail(process.stderr.read())


@pytest.mark.slow
def test_tail_shows_segments_as_they_come(moto: Server, tmp_path: Path) -> None:
    """Each new segment is shown once it is there, the last ones with the end of the run, and then tail ends."""
    folder = record(tmp_path / "runs", "mine", 40, 10)
    rank = "rank-0000"
    ended = (folder / rank / "attempts/0000.json").read_bytes()
    begun = ended.replace(b'"finished"', b"null")
    put(moto, "mine/run.json", (folder / "run.json").read_bytes())
    put(moto, f"mine/{rank}/attempts/0000.json", begun)
    process = None
    for number in range(4):
        for name in (f"segments/{number:08d}.parquet", f"seals/{number:08d}.json"):
            put(moto, f"mine/{rank}/{name}", (folder / rank / name).read_bytes())
        process = process or _tail(moto.environment(), moto.url("mine"))
        _until(process, 10 * number + 9)
    assert process is not None
    put(moto, f"mine/{rank}/attempts/0000.json", ended)
    _, errors = process.communicate(timeout=HANG_SECS)
    assert process.returncode == 0, errors
    assert errors.splitlines() == ["mine: unknown", "mine: finished", "mine: verdict unknown"]


@pytest.mark.slow
def test_tail_ends_with_its_store(moto: Server, tmp_path: Path) -> None:
    """If the store goes away, tail says so in one line and ends with exit code 2."""
    folder = record(tmp_path / "runs", "mine", 20, 10)
    url = put_folder(moto, folder, "mine")
    ended = (folder / "rank-0000/attempts/0000.json").read_bytes()
    put(moto, "mine/rank-0000/attempts/0000.json", ended.replace(b'"finished"', b"null"))
    with Proxy(moto) as proxy:
        process = _tail(proxy.environment(), url)
        _until(process, 19)
        proxy.trouble = lambda asked: "closed"
        _, errors = process.communicate(timeout=HANG_SECS)
    assert process.returncode == 2
    *said, error = errors.splitlines()
    assert said == ["mine: unknown"]
    assert error.startswith(f"esper-analyze: {url}")


def test_tail_reads_the_rows_of_a_killed_run(moto: Server, tmp_path: Path) -> None:
    """The rows that a killed recorder left in an active file are read, too, if somebody copied it."""
    recorder = Recorder.open(tmp_path / "runs", run_id="mine", segment_rows=10)
    for update in range(15):
        recorder.record(update=update, policy_loss=0.1, value_loss=0.2)
    wait_until((recorder.path / "rank-0000/seals/00000000.json").exists)
    url = put_folder(moto, recorder.path, "mine")
    recorder.close()
    done = analyze(moto.environment(), "tail", url, "--once", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "update 14" in done.stdout


def test_runs_of_a_server_for_agents(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mcp --root URL` reads the runs below the URL by their names, and nothing beside them."""
    for name, value in moto.variables().items():
        monkeypatch.setenv(name, value)
    put_folder(moto, record(tmp_path / "runs", "mine", 20, 10), "runs/sweep/mine")
    put_folder(moto, tmp_path / "runs/mine", "other/mine")
    folder = RunsFolder(StoreUrl.parse(moto.url("runs")))
    assert folder.run("sweep/mine").updates().collect().height == 20
    with pytest.raises(UsageError, match="absolute paths and"):
        folder.run("../other/mine")
    with pytest.raises(NotARunError, match="there is no run 'mine'"):
        folder.run("mine")
    with pytest.raises(UsageError, match="is a run"):
        RunsFolder(StoreUrl.parse(moto.url("other/mine")))
