"""A training that blows up, and is killed at once: the minibatches before that are in the run."""

from __future__ import annotations

import math
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.forked import TRAINING, run_code
from tests.waiting import PATIENT

from esper_schemas import RunDirectory
from esper_schemas.examining.run import examine_run
from esper_schemas.run.names import black_boxes
from esper_schemas.segment.black_box import BlackBox, read_black_box

# The built-in trainer. From minibatch 30 of update 2 on, the value network's last layer is made 200 times as large
# before each step, so that the value loss rises until float32 overflows; it is killed when `minibatch` has returned.
BROKEN_TRAINING = (
    PATIENT
    + """
import math, os, signal, sys
import torch
from esper_recorder import Recorder
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import CartPole
from esper_recorder.train.ppo import PPO
from esper_recorder.train.trainer import Trainer

made, step = 0, PPO._step
def broken(self, *arguments):
    global made
    made += 1
    if made > 2 * 40 + 30:
        with torch.no_grad():
            list(self.model.value.parameters())[-1].mul_(1000.0).add_(1000.0)
    return step(self, *arguments)
PPO._step = broken

class Killed(Recorder):
    def minibatch(self, **numbers):
        super().minibatch(**numbers)
        if not math.isfinite(float(numbers["value_loss"])):
            os.kill(os.getpid(), signal.SIGKILL)

config = PPOConfig(num_envs=8, rollout_steps=64, epochs=10, minibatches=4, updates=5, value_clip=None)
device = torch.device("cpu")
trainer = Trainer(config, CartPole(8, seed=0, device=device), device)
with Killed.open(sys.argv[1], run_id="r") as recorder:
    trainer.train(recorder)
"""
)


def boxes(run: Path) -> list[BlackBox]:
    """The black boxes of a run."""
    with RunDirectory(run).rank(0).open() as rank:
        return [read_black_box(rank, name) for name in black_boxes(rank)]


def damage(run: Path) -> list[str]:
    """What an examination of every row says is damaged."""
    with RunDirectory(run).open() as folder:
        checks = examine_run(folder, run.name, "rows").ranks
    return [fault.message for check in checks for fault in check.all_faults if fault.is_damage]


def test_a_real_training_that_blows_up_and_is_killed(tmp_path: Path) -> None:
    """The minibatch that overflowed is there, and how the loss rose before."""
    done = run_code(BROKEN_TRAINING, tmp_path, imports=TRAINING)
    assert done.returncode == -signal.SIGKILL, done.stderr
    [box] = boxes(tmp_path / "r")
    assert damage(tmp_path / "r") == []
    rows = box.minibatches.to_pylist()
    assert [(row["seq"], row["minibatch"]) for row in rows[:80]] == [(seq, n) for seq in range(2) for n in range(40)]
    last = rows[-1]
    assert (last["seq"], last["epoch"]) == (2, last["minibatch"] // 4 + 1)
    assert box.record.trigger == "not_finite"
    assert box.record.reason == f"value_loss is {last['value_loss']} in minibatch {last['minibatch']}"
    assert last["minibatch"] > 30
    rising = [row["value_loss"] for row in rows if row["seq"] == 2 and row["minibatch"] >= 29]
    assert math.isfinite(rising[0])
    assert rising[:-1] == sorted(rising[:-1])
    assert rising[-2] > 1e6 * rising[0]


# One incident after the other, each in a run of its own; a line through the pipe when `minibatch` has returned.
INCIDENTS = (
    PATIENT
    + """
import math, os, sys
from esper_recorder import Recorder

for number in range(1000):
    recorder = Recorder.open(sys.argv[1], run_id=f"r{number}")
    for step in range(600):
        recorder.minibatch(policy_loss=0.1, value_loss=1.0 + step, grad_norm=0.5)
    recorder.minibatch(value_loss=math.inf)
    os.write(1, b"%d\\n" % number)
    recorder.record(update=0, skipped=True, skip_reason=1)
    recorder.close("failed", "it blew up")
"""
)


@pytest.mark.parametrize(
    "kills", [pytest.param(6, id="short"), pytest.param(120, id="long", marks=pytest.mark.torture)]
)
def test_a_black_box_is_whole_or_not_there(tmp_path: Path, kills: int) -> None:
    """Killed at any moment: no half file, and every one that was acknowledged."""
    rng = random.Random(7)
    acknowledged = 0
    for number in range(kills):
        root = tmp_path / str(number)
        with subprocess.Popen([sys.executable, "-c", INCIDENTS, root], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            said = [child.stdout.readline()]
            time.sleep(rng.uniform(0.0, 0.2))
            child.kill()
            said += child.stdout.readlines()
        count = sum(line.endswith(b"\n") for line in said)
        for run in sorted(root.iterdir()):
            assert damage(run) == []
            if int(run.name[1:]) < count:
                assert [box.record.reason for box in boxes(run)] == ["value_loss is inf in minibatch 600"]
                assert boxes(run)[0].minibatches.num_rows == 512
        acknowledged += count
    assert acknowledged >= kills
