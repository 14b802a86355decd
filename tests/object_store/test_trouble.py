"""A store that does not answer, refuses, or breaks off ends a command in one line, without a secret in it."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import Command
from tests.object_store.proxy import Asked, Proxy
from tests.object_store.servers import Server
from tests.object_store.stored import analyze, assert_ends_in_one_line, put_folder, record
from tests.waiting import HANG_SECS

COMMANDS = {
    "report": ["report", "URL/mine", "--format", "html", "-o", "out.html"],
    "check": ["check", "URL/mine", "--format", "json", "-o", "out.json"],
    "explain": ["explain", "URL/mine", "--update", "20"],
    "compare": ["compare", "URL/mine", "URL/other", "--format", "html", "-o", "out.html"],
    "fleet": ["fleet", "URL", "--format", "parquet", "-o", "out.parquet"],
    "runs": ["runs", "URL"],
    "tail": ["tail", "URL/mine", "--once"],
    "export": ["export", "URL/mine", "-o", "out.csv"],
    "verified": ["report", "URL/mine", "--verify"],
}


def _is_rows(asked: Asked) -> bool:
    return "/segments/" in asked.path


def _is_list(asked: Asked) -> bool:
    return "list-type" in asked.path


def _is_seal(asked: Asked) -> bool:
    return "/seals/" in asked.path


@pytest.fixture
def proxy(moto: Server, tmp_path: Path) -> Iterator[Proxy]:
    """A store with two runs behind a proxy."""
    for name in ("mine", "other"):
        put_folder(moto, record(tmp_path / "runs", name, 30, 10), f"runs/{name}")
    with Proxy(moto) as between:
        yield between


@pytest.mark.parametrize("name", COMMANDS)
def test_a_connection_that_breaks_in_the_rows(name: str, proxy: Proxy, moto: Server, tmp_path: Path) -> None:
    """Half of each answer with rows arrives, again and again: the command gives up after some tries."""
    proxy.trouble = lambda asked: "half" if _is_rows(asked) else None
    filled = [word.replace("URL", moto.url("runs")) for word in COMMANDS[name]]
    done = analyze(proxy.environment(), *filled, cwd=tmp_path)
    assert_ends_in_one_line(done, moto, tmp_path, "/rank-0000/segments/")
    assert len([asked for asked in proxy.asked if _is_rows(asked)]) < 40


TROUBLES: dict[str, tuple[Callable[[Asked], bool], str, str]] = {
    "the list breaks off": (_is_list, "half", "try again"),
    "no answer to the list": (_is_list, "silent", "does not answer"),
    "no answer for a seal": (_is_seal, "silent", "does not answer"),
    "the list is refused": (_is_list, "403", "refuses access"),
    "a seal is refused": (_is_seal, "403", "refuses access"),
    "too many requests": (_is_seal, "503", "fewer requests"),
    "an error of the store": (_is_rows, "500", "error of its own"),
    "closed connections": (_is_list, "closed", "the connection broke"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_of_a_store(name: str, moto: Server, tmp_path: Path) -> None:
    """Each ends in one line that says what it is; a store that is silent, after a few tries of a few seconds."""
    when, trouble, said = TROUBLES[name]
    url = put_folder(moto, record(tmp_path / "runs", "mine", 30, 10), "mine")
    with Proxy(moto) as proxy:
        proxy.trouble = lambda asked: trouble if when(asked) else None
        done = analyze(proxy.environment(), "report", url, cwd=tmp_path)
        assert_ends_in_one_line(done, moto, tmp_path, said)
        assert len([asked for asked in proxy.asked if when(asked)]) <= 3 * 3  # three seals, each tried three times


def test_a_store_that_comes_back_is_read_on(moto: Server, tmp_path: Path) -> None:
    """One broken answer is asked for again, and nobody notices."""
    url = put_folder(moto, record(tmp_path / "runs", "mine", 30, 10), "mine")
    with Proxy(moto) as proxy:
        seen: set[Asked] = set()

        def once(asked: Asked) -> str | None:
            is_new = asked not in seen
            seen.add(asked)
            return "503" if is_new else None

        proxy.trouble = once
        done = analyze(proxy.environment(), "report", url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "30 updates" in done.stdout


def test_a_store_that_is_killed_in_between(object_store: Server, tmp_path: Path) -> None:
    """A server that dies when the rows are asked for, and is gone: connections are refused."""
    url = put_folder(object_store, record(tmp_path / "runs", "mine", 30, 10), "mine")
    with Proxy(object_store) as proxy:

        def kill(asked: Asked) -> str | None:
            if not _is_rows(asked):
                return None
            object_store.kill()
            return "closed"

        proxy.trouble = kill
        done = analyze(proxy.environment(), "report", url, cwd=tmp_path)
    assert_ends_in_one_line(done, object_store, tmp_path, "the connection broke")
    done = analyze(object_store.environment(), "report", url, cwd=tmp_path)
    assert_ends_in_one_line(done, object_store, tmp_path, "does not answer", f"127.0.0.1:{object_store.port}")


def test_what_is_not_there(
    object_store: Server, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing bucket, a missing run, and an empty prefix are told apart, each in one line."""
    for name, value in object_store.variables().items():
        monkeypatch.setenv(name, value)
    put_folder(object_store, record(tmp_path / "runs", "mine", 5, 10), "runs/mine")
    for words, said in (
        (["report", "s3://nobody/mine"], "s3://nobody"),
        (["runs", "s3://nobody"], "there is no such bucket"),
        (["report", object_store.url("runs/absent")], f"{object_store.url('runs/absent')} is not an Esper run"),
        (["report", object_store.url("runs")], "there is no s3://bucket/runs/run.json"),
        (["report", "absent", "--root", object_store.url("runs")], "no run absent under s3://bucket/runs (latest"),
        (["runs", object_store.url("nothing")], "there are no objects below s3://bucket/nothing"),
        (["tail", "--once", object_store.url("mine")], "is not an Esper run"),
    ):
        done = command(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert said in done.stderr, (words, done.stderr)
        assert object_store.secret not in done.stderr


def test_wrong_credentials(moto: Server, tmp_path: Path) -> None:
    """A key that the store does not know is refused; the line says where credentials come from, and names none."""
    url = put_folder(moto, record(tmp_path / "runs", "mine", 5, 10), "mine")
    checking = urllib.request.Request(
        f"{moto.endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(checking, timeout=HANG_SECS):  # from now on, moto checks keys and signatures
        pass
    try:
        for words in (["report", url], ["runs", moto.url()], ["export", url, "-o", "out.csv"]):
            done = analyze(moto.environment(), *words, cwd=tmp_path)
            assert_ends_in_one_line(done, moto, tmp_path, "check the credentials in the environment")
    finally:
        moto.kill()  # it lets nobody in any more


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://user:password@bucket/mine", "must have no user, password"),
        ("s3://bucket/mine?X-Amz-Signature=password", "must have no user, password"),
        ("https://example.org/mine", "found https://"),
        ("memory://mine", "found memory://"),
        ("s3://", "expected a bucket"),
        ("s3://bucket/../mine", "expected a bucket and names in it"),
    ],
)
def test_urls_that_name_no_place(url: str, said: str, command: Command) -> None:
    """They are refused before anything is asked of anybody, and passwords in them are not repeated."""
    for words in (["report", url], ["runs", url], ["report", "mine", "--root", url]):
        done = command(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "password@" not in done.stderr
        assert "=password" not in done.stderr


def test_without_obstore(tmp_path: Path) -> None:
    """Where obstore is not installed, the line says how to install it; a path needs none."""
    script = "import sys; sys.modules['obstore'] = None; from esper_analyzer.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, "report"]
    done = subprocess.run(
        [*command, "s3://bucket/mine"], capture_output=True, text=True, cwd=tmp_path, timeout=HANG_SECS, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs obstore, which is not installed: pip install 'esper-recorder[store]'" in done.stderr
    folder = record(tmp_path / "runs", "mine", 5, 10)
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=HANG_SECS, check=False)
    assert done.returncode == 0, done.stderr
