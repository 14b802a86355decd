"""The page about scripts that write to TensorBoard: its lines, as they stand there, record a real PPO."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.forked import TRAINING, run_module
from torch.utils.tensorboard import SummaryWriter

from esper_analyzer import open_run

PROJECT = Path(__file__).parents[3]
PAGE = (PROJECT / "recorder" / "ways_in" / "tensorboard_script.md").read_text(encoding="utf-8")
SCRIPT = PROJECT / "tests" / "adapters" / "scripts" / "ppo.py"

(COMMANDS,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(SNIPPET,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("line", COMMANDS.splitlines())
def test_each_command_records_the_script(line: str, tmp_path: Path) -> None:
    """All three updates, into the folder that the page names."""
    (tmp_path / "ppo.py").symlink_to(SCRIPT)
    program, *arguments = line.split()
    assert program == "esper-rec"
    done = run_module("esper_recorder", *arguments, imports=TRAINING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / ("recorded" if "--out" in line else "runs")).iterdir()
    assert open_run(run).updates().collect()["update"].to_list() == [0, 1, 2]
    assert len(list((tmp_path / "runs").glob("*/events.*"))) == 1
    assert list((tmp_path / "runs").glob("*/run.json")) == ([] if "--out" in line else [run / "run.json"])


def test_the_snippet_records_what_is_written_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a program of one's own; the last update comes out when the writer is closed."""
    monkeypatch.chdir(tmp_path)

    def train() -> None:
        with SummaryWriter("runs/mine") as writer:
            for step in range(3):
                for tag in ("value_loss", "policy_loss", "approx_kl", "clipfrac"):
                    writer.add_scalar(f"losses/{tag}", 0.5, step)

    names: dict[str, object] = {"train": train}
    exec(compile(SNIPPET, "page", "exec"), names)
    try:
        assert open_run("runs/mine").updates().collect()["value_loss"].to_list() == [0.5] * 3
        assert open_run("runs/mine").status() == "finished"
    finally:
        from esper_recorder.adapters.tensorboard import install

        install().close()
