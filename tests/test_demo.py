"""What `make demo` shows somebody who has just cloned the repository."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest
from rich.text import Text
from tests.colors import red_parts
from tests.recorder.train.test_learning import check_learned
from tests.test_docs import PROJECT
from tests.waiting import HANG_SECS


@pytest.mark.slow
def test_the_demo_shows_a_sound_run_and_catches_a_broken_one(tmp_path: Path) -> None:
    """A run that learns; no word critical, and nothing red but the number of Lv/Lp, before the broken one; then why."""
    ready = f"{sys.prefix}/.ready"
    command = ["-C", str(tmp_path), "-f", str(PROJECT / "Makefile"), f"VENV={sys.prefix}", "-o", ready, "demo"]
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "MAKEFLAGS", "RANK")}
    terminal = environment | {"TERM": "xterm-256color"}
    child = pexpect.spawn("make", command, env=terminal, dimensions=(24, 80), timeout=HANG_SECS, encoding="utf-8")
    said = str(child.read()).replace("\r\n", "\n")
    child.close()
    assert child.exitstatus == 0, said
    sound, broken = said.split("The same with a learning rate of 4e-8 instead of 4e-4")
    check_learned(Text.from_ansi(sound).plain, next(tmp_path.glob("runs/*/sound")))
    assert "healthy" in sound
    assert "critical" not in sound
    (ratio,) = red_parts(sound)
    assert float(ratio) > 0
    assert "typo is critical" in broken
    assert "Learning rate was 4.0e-8" in " ".join(Text.from_ansi(broken).plain.split())
    assert "***" not in said, "make itself reports an error"
