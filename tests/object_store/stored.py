"""What the tests of reading share: runs that are put into a store, and the commands that read them."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest import mock

import obstore
from click.testing import CliRunner
from tests.object_store.servers import Server
from tests.object_store.uploads import client

from esper_analyzer.cli import main as analyzer
from esper_recorder import Recorder
from esper_recorder.cli import main as recorder
from esper_schemas.run.bucket import _BUCKETS

EXTRAS = tuple(f"extra_{number}" for number in range(20))


def record(root: Path, run_id: str, rows: int, segment_rows: int) -> Path:
    """Record a run that has twenty metrics of its own beside the losses; return its folder."""
    with Recorder.open(root, run_id=run_id, segment_rows=segment_rows, config={"lr": 0.001}) as recorder:
        record_rows(recorder, 0, rows)
    return recorder.path


def record_rows(recorder: Recorder, first: int, rows: int) -> None:
    """Record so many updates."""
    for update in range(first, first + rows):
        extras = {name: math.sin(update * (at + 1.1)) for at, name in enumerate(EXTRAS)}
        recorder.record(update=update, policy_loss=math.sin(update), value_loss=2 + math.cos(update), extras=extras)


def put(server: Server, name: str, data: bytes) -> None:
    """Put an object into the bucket of a server."""
    obstore.put(client(server), name, data)


def put_folder(server: Server, folder: Path, prefix: str) -> str:
    """Put the files of a run below a prefix, as they are, and return the URL."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "LOCK":
            put(server, f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return server.url(prefix)


def run_here(environment: Mapping[str, str], *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, with this environment alone, and nothing left of another; the first word is its
    name.
    """
    program, *arguments = map(str, words)
    main: Any = {"esper-analyze": analyzer, "esper-rec": recorder}[program]
    _BUCKETS.clear()
    with mock.patch.dict(os.environ, {**environment, "ESPER_CACHE_DIR": str(cwd / "cache")}, clear=True), chdir(cwd):
        done = CliRunner().invoke(main, arguments, prog_name=program)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return subprocess.CompletedProcess([program, *arguments], done.exit_code, done.stdout, done.stderr)


def analyze(environment: Mapping[str, str], *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `esper-analyze` in this process, see `run_here`."""
    return run_here(environment, "esper-analyze", *words, cwd=cwd)


def assert_ends_in_one_line(
    done: subprocess.CompletedProcess[str], server: Server, *words: str, program: str = "esper-analyze"
) -> None:
    """Exit code 2, one line on standard error, which has the words in it, nothing on standard output, and no secret."""
    assert (done.returncode, done.stdout) == (2, ""), (done.args, done.stderr)
    assert done.stderr.count("\n") == 1, (done.args, done.stderr)
    assert done.stderr.startswith(f"{program}: {server.scheme}://"), (done.args, done.stderr)
    assert "expected" not in done.stderr  # no damage is claimed
    for word in words:
        assert word in done.stderr, (done.args, done.stderr)
    for found in (server.secret, "S3RVER", "Signature", "Authorization"):
        assert found not in done.stderr + done.stdout
