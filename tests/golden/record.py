"""Records golden runs: `python -m tests.golden.record NAME…`, only at the version that they are golden for.

The files in `esper_schemas/testing` and `reports/` were recorded by version 0.1.0. Whatever a later version changes, it
must read them as 0.1.0 did; so they are not recorded anew when a test on them fails. Host, process and boot are
replaced by neutral ones.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner
from tests.golden import golden

from esper_recorder import Recorder, ValueLossDefinition
from esper_recorder.cli import main
from esper_schemas.testing.golden import RUNS

_EVENTS = Path(__file__).parents[1] / "recorder" / "importing" / "data" / "esper_lite_2025-12-07_081426.events.jsonl"
_DEFINITION = ValueLossDefinition(clipping="none", reduction="all minibatches", targets_normalised=True)
_START = 1_760_000_000_000_000  # of wall_time, in microseconds
_PAYLOAD_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]


def row(update: int, **changed: Any) -> dict[str, Any]:
    """An update of a run that learns; every value follows from the number of the update."""
    wobble = math.sin(update * 1.7)
    return {
        "update": update,
        "policy_loss": -0.02 + 0.005 * wobble,
        "value_loss": 4.0 * math.exp(-update / 15) + 0.2 + 0.05 * wobble,
        "entropy": 1.3 * math.exp(-update / 80),
        "kl_divergence": 0.01 + 0.004 * wobble,
        "clip_fraction": 0.12 + 0.03 * wobble,
        "explained_variance": 0.9 - math.exp(-update / 20),
        "pre_clip_grad_norm": 1.5 + 0.2 * wobble,
        "episode_return_mean": 200 * (1 - math.exp(-update / 25)),
        "env_steps": (update + 1) * 2048,
        "learning_rate": 3e-4,
        "wall_time": _START + update * 500_000,
        "elapsed_secs": update * 0.5,
        **changed,
    }


def open_recorder(root: Path, name: str, **options: Any) -> Recorder:
    """A recorder of the run `name`, with small segments."""
    described = {"trainer": "golden", "env": "CartPole-v1", "device": "cpu", "config": {"seed": 1, "gamma": 0.99}}
    defaults = {"segment_rows": 20, "git_commit": "", "value_loss_definition": _DEFINITION}
    return Recorder.open(root, run_id=name, **{**described, **defaults, **options})


def record(recorder: Recorder, *rows: dict[str, Any]) -> None:
    """Record rows; one that is dropped is only counted."""
    for one in rows:
        recorder.record(**one)


def kill(recorder: Recorder) -> None:
    """Die by SIGKILL, once all that can be sealed is sealed."""
    folder = recorder.path / "rank-0000" / "active"
    while len(list(folder.iterdir())) > 1:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


# ------------------------------------------------------------------ what a killed process records


def killed(root: Path, name: str) -> None:
    """27 updates, the last 7 of them in the active file."""
    recorder = open_recorder(root, name)
    record(recorder, *map(row, range(27)))
    kill(recorder)


# ------------------------------------------------------------------ the runs


def finished(root: Path) -> None:
    """The built-in trainer, 30 small updates."""
    small = ["--updates", "30", "--num-envs", "8", "--rollout-steps", "32", "--checkpoint-updates", "0"]
    opened = partial(Recorder.open, segment_rows=20)
    with patch("esper_recorder.train.command.Recorder.open", opened):
        result = CliRunner().invoke(main, ["train", *small, "--out", str(root), "--run-id", "finished"])
    assert result.exit_code == 0, result.output


def crashed(root: Path) -> None:
    """A process that was killed while it recorded."""
    in_child(killed, root, "crashed")


def torn(root: Path) -> None:
    """As `crashed`, and a power loss took the end of the last row."""
    in_child(killed, root, "torn")
    (active,) = (root / "torn" / "rank-0000" / "active").glob("*.arrows")
    os.truncate(active, active.stat().st_size - 1000)


def resumed(root: Path) -> None:
    """Killed at update 26, resumed from update 15, which retires the rows from there on."""
    in_child(killed, root, "resumed")
    with open_recorder(root, "resumed", resume="must", segment_rows=50) as recorder:
        record(recorder, *(row(update, value_loss=1.0 / update) for update in range(15, 45)))


def nonfinite(root: Path) -> None:
    """Every kind of value that is no ordinary number, and both ends of the integers."""
    odd = [math.nan, _PAYLOAD_NAN, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    with open_recorder(root, "nonfinite") as recorder:
        record(recorder, *map(row, range(18)))
        record(recorder, *(row(18 + i, value_loss=value, policy_loss=-value) for i, value in enumerate(odd)))
        record(recorder, row(25, env_steps=2**63 - 1, kl_divergence=math.nan), row(26, env_steps=-(2**63)))
        record(recorder, row(27, explained_variance=-math.inf), row(28))


def two_ranks(root: Path) -> None:
    """Two ranks, of which the second stops earlier and worse."""
    for rank, updates in ((0, 32), (1, 28)):
        with open_recorder(root, "two_ranks", rank=rank, world_size=2, segment_rows=50) as recorder:
            record(recorder, *(row(i, explained_variance=0.8 - rank * 0.04 * i) for i in range(updates)))


def extras_halfway(root: Path) -> None:
    """A metric of the user's own that joins at update 12, and a second one at update 22."""
    with open_recorder(root, "extras_halfway") as recorder:
        record(recorder, *map(row, range(12)))
        record(recorder, *(row(i, my_metric=i / 4) for i in range(12, 22)))
        record(recorder, *(row(i, my_metric=i / 4, another=math.nan if i == 24 else -i) for i in range(22, 30)))


def dropped(root: Path) -> None:
    """Rows that could not be stored: the first, two in a row, the last of a segment, the last of the run."""
    with open_recorder(root, "dropped", segment_rows=15) as recorder:
        for i in range(30):
            record(recorder, row(i, value_loss="no number") if i in (0, 7, 8, 17, 29) else row(i))


def skipped(root: Path) -> None:
    """Updates that the trainer skipped, with every reason."""
    with open_recorder(root, "skipped", segment_rows=50) as recorder:
        for i in range(30):
            skip = {"skipped": True, "skip_reason": i % 6, "policy_loss": None, "value_loss": None}
            record(recorder, row(i, **skip) if 10 <= i < 16 else row(i, skipped=False))


def repaired(root: Path) -> None:
    """A sealed segment and an attempt record that were damaged, then `esper-rec repair`."""
    with open_recorder(root, "repaired", segment_rows=10) as recorder:
        record(recorder, *map(row, range(30)))
    folder = root / "repaired" / "rank-0000"
    path = folder / "segments" / "00000001.parquet"
    data = bytearray(path.read_bytes())
    data[500] ^= 0x10
    path.write_bytes(data)
    (folder / "attempts" / "0000.json").unlink()
    result = CliRunner().invoke(main, ["repair", str(root / "repaired")])
    assert result.exit_code == 0, result.output


def failed(root: Path) -> None:
    """A training that ended by an exception."""
    with suppress(RuntimeError), open_recorder(root, "failed", segment_rows=50) as recorder:
        record(recorder, *map(row, range(12)))
        raise RuntimeError("the loss is not finite")


def interrupted(root: Path) -> None:
    """A training that a person interrupted before 10 updates; its trainer declares no value loss."""
    options = {"segment_rows": 50, "value_loss_definition": None}
    with suppress(KeyboardInterrupt), open_recorder(root, "interrupted", **options) as recorder:
        record(recorder, *map(row, range(6)))
        raise KeyboardInterrupt


def imported(root: Path) -> None:
    """The events of a real run of esper-lite."""
    result = CliRunner().invoke(main, ["import", str(_EVENTS), "--out", str(root), "--run-id", "imported"])
    assert result.exit_code == 0, result.output


RECORD: tuple[Callable[[Path], None], ...] = (
    *(finished, crashed, torn, resumed, nonfinite, two_ranks, extras_halfway),
    *(dropped, skipped, repaired, failed, interrupted, imported),
)


# ------------------------------------------------------------------ recording


@contextmanager
def neutral() -> Iterator[None]:
    """Nothing that is recorded meanwhile names this machine, its folders or its boot."""
    holder = {"pid": 1, "host": "recorder", "locked_at": _START / 1e6, "boot_id": None}
    with (
        patch("socket.gethostname", lambda: "recorder"),
        patch("esper_recorder.keeping.lock._holder", lambda: holder),
        patch("esper_recorder.writing.opening._git_commit", lambda: None),
    ):
        yield


def _neutrally(task: Callable[..., None], *arguments: object) -> None:
    with neutral():
        task(*arguments)


def in_child(task: Callable[..., None], *arguments: object) -> None:
    """Do a task that kills its own process."""
    child = multiprocessing.get_context("spawn").Process(target=_neutrally, args=(task, *arguments))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL, child.exitcode


def record_runs(names: Collection[str]) -> None:
    """Record the runs of these names, then what is read in them."""
    assert set(names) <= {make.__name__ for make in RECORD}, names
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for make in RECORD:
            name = make.__name__
            if name not in names:
                continue
            _neutrally(make, root)
            shutil.rmtree(RUNS / name, ignore_errors=True)
            shutil.copytree(root / name, RUNS / name)
            for report, options in golden.report_names(name).items():
                golden.store_report(report, *golden.read_report(root / name, *options))
            golden.store_rows(name, golden.read_all_rows(root / name))
            golden.store_expected(name, golden.read_expected(root / name))


if __name__ == "__main__":
    record_runs(sys.argv[1:])
