"""A folder of runs as its reader has it: sound and broken ones, restarts, repeated updates, two ranks, a killed one."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.engines.page import VIEWS, blocks
from tests.waiting import HANG_SECS, PATIENT

from esper_recorder import Recorder

UPDATES = 300
SEEDS = 6

KILLED = """
import os, signal
from esper_recorder import Recorder
recorder = Recorder.open("runs", run_id="killed", config={"lr": 3e-4, "seed": 0})
for update in range(40):
    recorder.record(update=update, policy_loss=-0.01, value_loss=0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def row(update: int, rng: random.Random, *, is_broken: bool = False) -> dict[str, Any]:
    """An update of a run that learns, or of one whose critic and policy fail in the middle; sums of it are exact."""
    fails = is_broken and update > UPDATES // 2
    return {
        "update": update,
        "policy_loss": -0.01,
        "value_loss": 4.0 if fails else 1 + rng.randrange(8) / 64,
        "explained_variance": (rng.randrange(8) - 8) / 4096 if fails else min(0.875, round(update / 64) / 4),
        "episode_return_mean": 8.0 if fails else update / 8 + rng.randrange(8) / 8,
        "env_steps": 2048 * (update + 1),
    }


def record(root: Path, name: str, rows: Iterable[dict[str, Any]], **options: Any) -> None:
    """Record rows into the run `name`, as one attempt."""
    with Recorder.open(root, run_id=name, strict=True, env="CartPole-v1", **options) as recorder:
        for values in rows:
            recorder.record(**values)


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/` in it and, beside that, the verdicts as the page has them written."""
    folder = tmp_path_factory.mktemp("reader")
    runs, rng = folder / "runs", random.Random(0)
    for seed in range(SEEDS):
        extras = {"reward/distance": 0.25} if seed % 2 else {}
        sound = [row(update, rng) | {"extras": extras} for update in range(UPDATES)]
        broken = [row(update, rng, is_broken=True) for update in range(UPDATES)]
        record(runs, f"sound-{seed}", sound, config={"lr": 3e-4, "seed": seed, "net": {"hidden": [64, 64]}})
        record(runs, f"broken-{seed}", broken, config={"lr": 3e-2, "seed": seed, "schedule": "constant"})
    config = {"lr": 3e-4, "seed": 7}
    record(runs / "sweep", "sound-0", [row(update, rng) for update in range(50)], config={"lr": "linear"})

    resumed = {"segment_rows": 32, "config": config}
    record(runs, "resumed", [row(update, rng) for update in range(200)], **resumed)
    record(runs, "resumed", [row(update, rng) for update in range(120, 300)], resume="must", **resumed)
    record(runs, "resumed", [row(update, rng) for update in range(100, 150)], resume="must", **resumed)

    again = [row(update, rng) for update in [*range(50), 20, *range(40, 60), 59, 59]]
    record(runs, "repeats", again, segment_rows=16, config=config)
    with contextlib.ExitStack() as ranks:
        for rank in (0, 1):
            writer = Recorder.open(runs, run_id="ranks", rank=rank, world_size=2, config=config)
            ranks.enter_context(writer)
            for update in range(50):
                writer.record(**row(update, rng) | {"value_loss": rank + 1 / (1 + update)})
    special = [1.5, math.nan, math.inf, -math.inf, -0.0, 0.5]
    record(runs, "special", [row(at, rng) | {"value_loss": loss} for at, loss in enumerate(special)], config=config)
    killed = subprocess.run([sys.executable, "-c", PATIENT + KILLED], cwd=folder, check=False, timeout=HANG_SECS)
    assert killed.returncode == -signal.SIGKILL

    (command,) = blocks(VIEWS, "sh")
    judged = f"{sys.executable} -m esper_analyzer {command.removeprefix('esper-analyze ')}"
    subprocess.run(["bash", "-euc", judged], cwd=folder, check=True, timeout=HANG_SECS)
    return folder
