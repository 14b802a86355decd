"""What the tests on other people's run folders share: a recorded run, a place to break copies of it, processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.ground import Ground
from tests.hostile.server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The process that commands are forked from."""
    folder = Path(tempfile.mkdtemp(prefix="esper-answers-"))  # pytest's own folders are closed to others
    folder.chmod(0o755)
    server = Server(folder)
    yield server
    server.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def recorded(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained for 3 updates, resumed, and killed after 2 more and a black box; for copying.

    Every kind of file is in it, except what a repair leaves.
    """
    root = tmp_path_factory.mktemp("recorded")
    size = "--num-envs 4 --rollout-steps 16 --checkpoint-updates 1"
    for words in (
        f"esper-rec train {size} --run-id good --updates 3",
        "train-until-killed 2 train --resume --run-id good --updates 6",
    ):
        answer = server.ask([*words.split(), "--out", str(root)], cwd=root)[0]
        assert answer.code == 0 or answer.trouble == "ended with 0", answer
    return root / "good"


@pytest.fixture
def ground(recorded: Path, tmp_path: Path, server: Server) -> Iterator[Ground]:
    """A folder that everybody may look into, with the recorded run beside files that are none of its business."""
    folder = Path(tempfile.mkdtemp(prefix="esper-hostile-"))
    folder.chmod(0o755)
    yield Ground(folder, recorded, server)
    for place, folders, _ in os.walk(folder):  # what was made unreadable must be removable, not only by root
        for name in folders:
            if not Path(place, name).is_symlink():
                Path(place, name).chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture(params=["short", pytest.param("long", marks=[pytest.mark.torture, pytest.mark.timeout(1800)])])
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether to go through all states (`make torture`) or a sample of them (every run of the suite)."""
    return bool(request.param == "long")
