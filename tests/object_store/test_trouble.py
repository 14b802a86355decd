"""A store that does not answer, refuses, or breaks off ends a command in one line, without a secret in it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.conftest import Command
from tests.forked import Forked, start_module
from tests.object_store.proxy import Asked, Proxy
from tests.object_store.servers import Server
from tests.object_store.stored import analyze, assert_ends_in_one_line, put_folder, record, run_here
from tests.waiting import HANG_SECS

from esper_analyzer.cli import main as analyzer

COMMANDS = (
    ["esper-analyze", "report", "URL/mine", "--format", "html", "-o", "out.html"],
    ["esper-analyze", "report", "URL/mine", "--verify"],
    ["esper-analyze", "check", "URL/mine", "--format", "json", "-o", "out.json"],
    ["esper-analyze", "explain", "URL/mine", "--update", "20"],
    ["esper-analyze", "explain", "URL/other", "URL/mine"],
    ["esper-analyze", "compare", "URL/mine", "URL/other", "--format", "html", "-o", "out.html"],
    ["esper-analyze", "runs", "URL"],
    ["esper-analyze", "tail", "URL/mine"],
    ["esper-analyze", "tail", "URL/mine", "--once"],
    ["esper-analyze", "replay", "URL/mine", "--speed", "0"],
    ["esper-analyze", "export", "URL/mine", "-o", "out.csv", "--force"],
    ["esper-analyze", "fleet", "URL", "--format", "parquet", "-o", "out.parquet", "--workers", "1"],
    ["esper-rec", "verify", "URL/mine"],
)
"""Every command that reads rows of a run at a URL; but for `mcp`, see `test_agents.py`, and `upload`."""

CUTS = ("half", "reset", "gone")
"""Ways in which a store, or the network, ends in the middle of an answer; see `proxy.Trouble`."""


def _is_rows(asked: Asked) -> bool:
    return "/segments/" in asked.path


def _is_list(asked: Asked) -> bool:
    return "list-type" in asked.path


def _is_header(asked: Asked) -> bool:
    return "/run.json" in asked.path


def _is_attempt(asked: Asked) -> bool:
    return "/attempts/" in asked.path


def _is_seal(asked: Asked) -> bool:
    return "/seals/" in asked.path


def _is_states(asked: Asked) -> bool:
    return "/states/" in asked.path


@pytest.fixture
def url(moto: Server, tmp_path: Path) -> str:
    """The URL of a folder with two runs in a store."""
    for name in ("mine", "other"):
        put_folder(moto, record(tmp_path / "runs", name, 30, 10), f"runs/{name}")
    return moto.url("runs")


def _start(words: list[str], proxy: Proxy, folder: Path) -> Forked:
    """Start a command in a process of its own."""
    module = {"esper-analyze": "esper_analyzer", "esper-rec": "esper_recorder"}[words[0]]
    environment = {**proxy.environment(), "ESPER_CACHE_DIR": str(folder / "cache")}
    return start_module(module, *words[1:], environment=environment, cwd=folder)


class Place:
    """A folder that a command runs in, with what it is to write over.

    Attributes:
        folder: the folder.
        words: the words of the command.
    """

    def __init__(self, folder: Path, words: list[str], url: str) -> None:
        folder.mkdir()
        self.folder, self.words = folder, [word.replace("URL", url) for word in words]
        self._outputs = [folder / word for word in words if word.startswith("out.")]
        for output in self._outputs:
            output.write_text("of yesterday")

    def check(self, done: subprocess.CompletedProcess[str], server: Server, *said: str) -> None:
        """The command has ended in one line, and the file that `-o` names is what it was."""
        assert_ends_in_one_line(done, server, *said, program=self.words[0])
        assert [output.read_text() for output in self._outputs] == ["of yesterday"] * len(self._outputs)
        assert {path.name for path in self.folder.iterdir()} <= {"cache", *(path.name for path in self._outputs)}


def test_every_command_is_tried() -> None:
    """A new command that reads runs gets a row, too."""
    assert {words[1] for words in COMMANDS if words[0] == "esper-analyze"} | {"mcp"} == set(analyzer.commands)


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
def test_the_network_is_cut_in_the_rows(cut: str, url: str, moto: Server, tmp_path: Path) -> None:
    """Half of each answer with rows arrives, again and again: each command gives up after some tries."""
    for number, words in enumerate(COMMANDS):
        place = Place(tmp_path / str(number), words, url)
        with Proxy(moto) as proxy:
            proxy.trouble = partial(_trouble, cut, _is_rows)
            done = run_here(proxy.environment(), *place.words, cwd=place.folder)
            rows = [asked for asked in proxy.asked if _is_rows(asked)]
            assert 0 < len(rows) <= 2 * 3 * 3  # two runs of three segments, each tried thrice
        place.check(done, moto, "the connection broke" if cut != "gone" else "")


@pytest.mark.slow
def test_a_store_that_falls_silent(url: str, moto: Server, tmp_path: Path) -> None:
    """In the middle of the rows for each command, or before a list or a seal: each gives up after some tries.

    That takes some twenty seconds, and so all are asked at once.
    """
    cases = [
        *(("stalled", _is_rows, words) for words in COMMANDS),
        *(("silent", is_asked, COMMANDS[0]) for is_asked in (_is_list, _is_seal)),
    ]
    with ExitStack() as proxies:
        asked = []
        for number, (trouble, is_asked, words) in enumerate(cases):
            place, proxy = Place(tmp_path / str(number), words, url), proxies.enter_context(Proxy(moto))
            proxy.trouble = partial(_trouble, trouble, is_asked)
            asked.append((place, _start(place.words, proxy, place.folder), trouble))
        for place, process, trouble in asked:
            out, talk = process.communicate()
            done = subprocess.CompletedProcess(place.words, process.wait(), out, talk)
            place.check(done, moto, "the connection broke" if trouble == "stalled" else "does not answer")


def _trouble(trouble: str, is_asked: Callable[[Asked], bool], asked: Asked) -> str | None:
    return trouble if is_asked(asked) else None


TROUBLES: dict[str, tuple[Callable[[Asked], bool], str, str]] = {
    "the list breaks off": (_is_list, "half", "try again"),
    "the header breaks off": (_is_header, "half", "try again"),
    "an attempt is reset": (_is_attempt, "reset", "try again"),
    "a seal breaks off": (_is_seal, "half", "try again"),
    "column states are reset": (_is_states, "reset", "try again"),
    "the list is refused": (_is_list, "403", "refuses access"),
    "a seal is refused": (_is_seal, "403", "refuses access"),
    "too many requests": (_is_seal, "503", "fewer requests"),
    "an answer that makes no sense": (_is_rows, "409", "the store cannot be used"),
    "an error of the store": (_is_rows, "500", "error of its own"),
    "closed connections": (_is_list, "closed", "the connection broke"),
}


@pytest.mark.slow
def test_trouble_of_a_store(url: str, moto: Server, tmp_path: Path) -> None:
    """Whatever is asked for, and whatever goes wrong with it, is one line that says what it is, after a few tries."""
    for number, (when, trouble, said) in enumerate(TROUBLES.values()):
        place = Place(tmp_path / str(number), COMMANDS[0], url)
        with Proxy(moto) as proxy:
            proxy.trouble = partial(_trouble, trouble, when)
            place.check(run_here(proxy.environment(), *place.words, cwd=place.folder), moto, said)
            assert 0 < len([asked for asked in proxy.asked if when(asked)]) <= 3 * 3  # three seals, each tried thrice


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
    assert_ends_in_one_line(done, object_store, "the connection broke")
    done = analyze(object_store.environment(), "report", url, cwd=tmp_path)
    assert_ends_in_one_line(done, object_store, "does not answer", f"127.0.0.1:{object_store.port}")


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
            assert_ends_in_one_line(done, moto, "check the credentials in the environment")
        assert list(tmp_path.glob("*out*")) == []
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


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        *(
            ("AWS_ENDPOINT_URL", text, "must be the address of a store, such as https://HOST:PORT")
            for text in (
                "passw0rd",
                "localhost:9000",
                "http://",
                "http://h:99999",
                "ftp://h",
                "http://{h}",
                "http://[::1",
            )
        ),
        *(
            (name, text, "has a line break or another control character in it")
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")
            for text in ("passw0rd\n", "\x1bpassw0rd")
        ),
    ],
)
def test_variables_that_no_store_can_be_reached_by(name: str, text: str, said: str, tmp_path: Path) -> None:
    """A line names the variable and not its text; obstore would end the process in a panic."""
    given = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for words in (["esper-analyze", "runs", "s3://bucket"], ["esper-rec", "upload", tmp_path / "mine", "s3://bucket"]):
        if words[1] == "upload":
            record(tmp_path, "mine", 5, 10)
        done = run_here({**os.environ, **given, name: text}, *words, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert f"{name} {said}" in done.stderr
        assert "passw0rd" not in done.stderr


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
