"""What an upload must not give away: credentials, wherever they come from, and the keys that are redacted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.object_store.servers import Server
from tests.object_store.uploads import ROWS, faults, files, objects, record_run, upload
from tests.waiting import HANG_SECS

pytestmark = pytest.mark.timeout(2 * HANG_SECS)

CONFIG = {"lr": 1e-3, "logger": {"token": "t0ken", "entity": "us"}, "env.path": "/home/me", "seed": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("object_store", "traceback"),
    [("moto", {}), ("s3rver", {"ESPER_TRACEBACK": "1"})],
    ids=["line", "traceback"],
    indirect=["object_store"],
)
def test_credentials_nowhere(object_store: Server, tmp_path: Path, traceback: dict[str, str]) -> None:
    """Keys and tokens of the environment stand in no file, no object, no output and no error, nor does a password."""
    run = record_run(tmp_path)
    given = {"AWS_SESSION_TOKEN": "s3ssiont0ken"} | traceback
    said = []
    for url in (
        "s3://bucket/runs",
        "s3://nosuchbucket/runs",
        "s3://user:passw0rd@bucket/runs",
        "s3://bucket/?k=passw0rd",
    ):
        done = upload(object_store, run, url, "--format", "json", environment=given)
        said += [done.stdout, done.stderr]
    wrong = {"AWS_ACCESS_KEY_ID": "AKIAWR0NG", "AWS_ENDPOINT_URL": object_store.endpoint}
    done = upload(object_store, run, "s3://bucket/wrong", environment=given | wrong)
    said += [done.stdout, done.stderr]
    with_password = object_store.endpoint.replace("//", "//me:passw0rd@")
    object_store.kill()
    for endpoint in (object_store.endpoint, with_password):
        done = upload(object_store, run, "s3://bucket/runs", environment=given | {"AWS_ENDPOINT_URL": endpoint})
        assert done.returncode == 2
        said += [done.stdout, done.stderr]
    object_store.start()
    done = upload(object_store, run, "s3://bucket/runs", environment=given)
    said += [done.stdout, done.stderr]
    everything = {**{str(number): text.encode() for number, text in enumerate(said)}, **objects(object_store)}
    everything |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for secret in (object_store.secret, "s3ssiont0ken", "passw0rd", "AKIAWR0NG"):
        found = [name for name, data in everything.items() if secret.encode() in data]
        assert found == [], f"{secret} is in {[everything[name] for name in found]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("object_store", "keys", "config", "nulls"),
    [
        ("moto", ["config.logger.token", "host"], {**CONFIG, "logger": {"entity": "us"}}, ["host"]),
        ("s3rver", ["commit", "config.env.path", "config.logger"], {"lr": 1e-3, "seed": 1}, ["git_commit"]),
        ("moto", ["config"], {}, []),
    ],
    indirect=["object_store"],
)
def test_redacted(
    object_store: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: list[str],
    config: dict[str, object],
    nulls: list[str],
) -> None:
    """Redacted keys are not in the store, whose run is sound and names them; the run on the disk keeps them."""
    run = record_run(tmp_path, config=CONFIG)
    before = files(run, "runs/")
    options = [option for key in keys for option in ("--redact", key)]
    assert upload(object_store, run, object_store.url("runs"), *options).returncode == 0
    assert files(run, "runs/") == before
    there = objects(object_store)
    header, local = json.loads(there["runs/mine/run.json"]), json.loads(before["runs/mine/run.json"])
    assert header == {**local, "config": config, **dict.fromkeys(nulls), "redacted": sorted(keys)}
    record = "runs/mine/rank-0000/attempts/0000.json"
    host = None if "host" in keys else local["host"]
    assert json.loads(there[record]) == {**json.loads(before[record]), "host": host}
    for key in ("runs/mine/run.json", record):
        del there[key], before[key]
    assert there == before
    assert faults(object_store, "runs/mine", monkeypatch) == (ROWS, [])
    again = upload(object_store, run, object_store.url("runs"), *options, "--format", "json")
    assert json.loads(again.stdout)["runs"][0]["new_objects"] == 0
    other = upload(object_store, run, object_store.url("runs"))
    assert (other.returncode, "again with the same --redact" in other.stderr) == (2, True)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            "config.logger.tokn",
            "no run has this key, so nothing is uploaded; keys of the config: config.env.path, config.",
        ),
        ("lr", "takes host, commit, config or config.KEY, found 'lr'; write config.lr"),
        ("config.", "takes host, commit, config or config.KEY, found 'config.'"),
    ],
)
def test_wrong_key(moto: Server, tmp_path: Path, key: str, said: str) -> None:
    """A key that would leave out nothing is an error, and nothing is uploaded."""
    run = record_run(tmp_path, config=CONFIG)
    done = upload(moto, run, moto.url("runs"), "--redact", key)
    assert (done.returncode, done.stderr.count("\n"), said in done.stderr) == (2, 1, True)
    assert objects(moto) == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("runs", "expected the URL of an object store, found a path"),
        ("https://example.com/runs", "expected the URL of an object store, found https://"),
        ("s3://", "expected a bucket"),
        ("s3://bucket/../runs", "expected a bucket and names in it"),
    ],
)
def test_wrong_url(moto: Server, tmp_path: Path, url: str, said: str) -> None:
    """A URL that names no place in an object store is an error of one line."""
    done = upload(moto, record_run(tmp_path), url)
    assert (done.returncode, done.stderr.count("\n"), said in done.stderr) == (2, 1, True)


def test_wrong_run(moto: Server, tmp_path: Path) -> None:
    """A run that is not there, two runs of one id, and several runs to follow are errors of one line each."""
    run, same = record_run(tmp_path), record_run(tmp_path / "other")
    second = record_run(tmp_path, "second")
    for arguments, said in (
        ((tmp_path / "none", moto.url("runs")), "no run"),
        ((run, same, moto.url("runs")), "have the same run id"),
        ((run, second, moto.url("runs"), "--follow"), "--follow follows one run, found 2"),
    ):
        done = upload(moto, *arguments)
        assert (done.returncode, done.stderr.count("\n"), said in done.stderr) == (2, 1, True), done.stderr
    assert objects(moto) == {}
