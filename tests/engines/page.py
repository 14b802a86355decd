"""The page about SQL, block by block, and engines that run its blocks in environments of their own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import HANG_SECS

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "analyzer" / "SQL.md").read_text(encoding="utf-8")
ENVIRONMENTS = PROJECT / ".engines"

VIEWS, UPDATES = "The views", "The rows that count"


def blocks(section: str, kind: str = "sql") -> list[str]:
    """The blocks of one kind in a section of the page, in their order."""
    _, found, rest = PAGE.partition(f"\n## {section}\n")
    assert found, f"the page has no section {section!r}"
    text = rest.partition("\n## ")[0]
    return [
        re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        for indent, code in re.findall(rf"^( *)```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    ]


def questions() -> list[str]:
    """Every question of the page that any of its tables answers, without the semicolon."""
    asked = [*blocks("Which runs went critical?"), *blocks("Questions about rows")]
    return [question.strip().removesuffix(";") for question in asked]


def run_in(engine: str, program: str, folder: Path) -> list[Any]:
    """Run a program by the Python of an engine's environment, in `folder`; what it printed as lines of JSON.

    Without the environment the test fails: `make engines` makes it.
    """
    python = ENVIRONMENTS / engine / "bin" / "python"
    if not python.exists():
        pytest.fail(f"{engine} is not installed in {python.parents[1]}: run `make engines ENGINES={engine}`")
    done = subprocess.run(
        [python, "-c", program], cwd=folder, capture_output=True, text=True, timeout=2 * HANG_SECS, check=False
    )  # a virtual machine of Java starts slowly where others are at work
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
