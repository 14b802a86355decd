"""Every block of Python and shell in the documents runs as it stands there, in the order of the page, twice over.

A page gets a folder with what its reader has: the runs that the README made, a script, and logs of other trainers. Its
Python blocks share their names, as in a session, and its shell blocks run in the same folder. The second pass is what
happens to somebody who pastes them again. A block that cannot run here has a comment before it that says why.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.test_docs import DOCUMENTS, PROJECT
from tests.waiting import HANG_SECS

LOGS = PROJECT / "tests/recorder/importing/data"
SCRIPTS = PROJECT / "tests/adapters/scripts"

BLOCK = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^>]+?) -->\n)?^(?P<indent> *)```(?P<kind>python|sh)\n(?P<code>.*?)^ *```",
    re.M | re.S,
)

NOT_RUN = {
    "CONTRIBUTING.md": 7,
    "README.md": 2,
    "analyzer/README.md": 2,
    "analyzer/SQL.md": 6,
    "notebooks/benchmark/README.md": 1,
    "recorder/IMPORTING.md": 2,
    "recorder/README.md": 2,
    "recorder/ways_in/hand_written.md": 1,
    "recorder/ways_in/rsl_rl.md": 2,
    "recorder/ways_in/tensorboard_script.md": 2,
}
"""How many blocks of each page are not run; each has its reason in the page."""


class Block(NamedTuple):
    """A block of a page.

    Attributes:
        kind: python or sh.
        code: without the indentation of a list.
        reason: why it is not run; empty if it is.
        line: of the page, from 1.
    """

    kind: str
    code: str
    reason: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """The blocks of Python and shell of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["kind"],
            re.sub(f"^{found['indent']}", "", found["code"], flags=re.M),
            (found["reason"] or "").strip(),
            text.count("\n", 0, found.start("kind")) + 1,
        )
        for found in BLOCK.finditer(text)
    ]


PAGES = {str(page.relative_to(PROJECT)): blocks_of(page) for page in DOCUMENTS}
RUN = {name: [block for block in blocks if not block.reason] for name, blocks in PAGES.items()}


def test_blocks_that_are_not_run_are_counted() -> None:
    """One more is a decision that this table shows."""
    found = {name: sum(bool(block.reason) for block in blocks) for name, blocks in PAGES.items()}
    assert {name: count for name, count in found.items() if count} == NOT_RUN


def as_program(blocks: list[Block], page: str) -> str:
    """A script that runs blocks of a page; names of Python go on from block to block."""
    lines = ["import subprocess", "names = {'__name__': '__main__'}"]
    for block in blocks:
        if block.kind == "python":
            padded = "\n" * (block.line) + block.code  # so that a traceback names the line of the page
            lines.append(f"exec(compile({padded!r}, {page!r}, 'exec'), names)")
        else:
            lines.append(f"done = subprocess.run(['bash', '-euo', 'pipefail', '-c', {block.code!r}])")
            lines.append(f"assert done.returncode == 0, 'line {block.line} of {page}: ' + str(done.returncode)")
    return "\n".join(lines)


def run_page(name: str, folder: Path, times: int = 1) -> None:
    """Run the blocks of a page in a folder, one after the other, so many times in one session."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", as_program(times * RUN[name], name)],
        cwd=folder,
        env={key: value for key, value in environment.items() if key not in ("RANK", "WORLD_SIZE")},
        capture_output=True,
        text=True,
        timeout=HANG_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has before the first block: logs of other trainers, and a script of their own."""
    folder = tmp_path_factory.mktemp("reader")
    log = folder / "logs/LunarLander-v3__ppo__1"
    log.mkdir(parents=True)
    (log / "events.out.tfevents.1.reader").write_bytes(gzip.decompress((LOGS / "sb3_lunar.tfevents.gz").read_bytes()))
    for run in ("a", "b"):
        (folder / "logs" / run).mkdir()
        shutil.copyfile(LOGS / "sb3_lunar_progress.csv", folder / f"logs/{run}/progress.csv")
    (folder / "own.csv").write_text("step,vf,pg\n" + "".join(f"{step},{1 / step},-0.01\n" for step in range(1, 40)))
    shutil.copyfile(SCRIPTS / "ppo.py", folder / "ppo.py")
    run_page("README.md", folder)
    logs = ("logs/a/progress.csv", "logs/b/progress.csv")
    subprocess.run([Path(sys.executable).parent / "esper-rec", "import", *logs], cwd=folder, check=True)
    return folder


@pytest.mark.notebooks
@pytest.mark.parametrize("name", sorted(name for name, blocks in RUN.items() if blocks))
def test_every_block_runs_as_pasted_twice(name: str, home: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """In a folder of its own, with what the README's blocks have made; with `--every` once."""
    folder = tmp_path / "reader"
    shutil.copytree(home, folder)
    is_once = name == "README.md" or pytestconfig.getoption("--every") > 1  # its first time made the folder
    run_page(name, folder, times=1 if is_once else 2)
