"""Runs that adapters record are uploaded as those of `Recorder.open(..., upload=URL)` are, with the same words."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.forked import TRAINING, run_module
from tests.object_store.servers import Server
from tests.object_store.uploads import files, objects
from tests.waiting import HANG_SECS

from esper_recorder.uploading import beside
from esper_schemas.errors import UsageError

pytestmark = pytest.mark.timeout(2 * HANG_SECS)

SCRIPT = """
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter("mine")
writer.add_hparams({"key": "t0ken"}, {})
for step in range(5):
    for tag in ("losses/value_loss", "losses/policy_loss", "losses/approx_kl", "losses/clipfrac", "charts/SPS"):
        writer.add_scalar(tag, 0.5, step)
writer.close()
"""

Train = Callable[[Path, str | None, list[str]], Path]


def _sb3(folder: Path, url: str | None, redact: list[str]) -> Path:
    from tests.adapters.sb3_runs import ROLLOUT, make_ppo

    from esper_recorder.adapters.sb3 import RecorderCallback

    callback = RecorderCallback(folder, run_id="mine", config={"key": "t0ken"}, upload=url, redact=redact)
    make_ppo().learn(ROLLOUT, callback=callback)
    return folder / "mine"


def _rsl_rl(folder: Path, url: str | None, redact: list[str]) -> Path:
    from tests.adapters.rsl_rl_runs import make_runner

    options: dict[str, Any] = {"config": {"key": "t0ken"}, "upload": url, "redact": redact, "also": None}
    make_runner(folder, options).learn(1)
    return folder / "runs/mine"


def _tensorboard(folder: Path, url: str | None, redact: list[str]) -> Path:
    from esper_recorder.adapters.tensorboard import install

    with install(upload=url, redact=redact), contextlib.chdir(folder):
        exec(SCRIPT, {})
    return folder / "mine"


@pytest.mark.parametrize("train", [_sb3, _rsl_rl, _tensorboard])
def test_run_of_an_adapter(train: Train, moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole run is in the store when the training returns, without the keys that are left out."""
    for name, value in moto.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(beside, "WAIT_SECS", HANG_SECS)
    run = train(tmp_path, moto.url("runs"), ["host", "config.key"])
    _check(moto, run)


def _check(server: Server, run: Path) -> None:
    """All files of the run are in the store, without what was left out."""
    assert b"t0ken" in (run / "run.json").read_bytes()
    there = objects(server)
    assert there.keys() == {key for key in files(run, "runs/") if "tfevents" not in key}
    header = json.loads(there["runs/mine/run.json"])
    assert "t0ken" not in str(header)
    assert header["host"] is None


@pytest.mark.parametrize("train", [_sb3, _rsl_rl, _tensorboard])
@pytest.mark.parametrize(
    ("url", "redact", "said"), [("/mnt", [], "the URL of an object store"), (None, ["host"], "give upload=URL too")]
)
def test_wrong_option(train: Train, url: str | None, redact: list[str], said: str, tmp_path: Path) -> None:
    """A wrong option is raised before the first step, and nothing is recorded."""
    with pytest.raises(UsageError, match=said):
        train(tmp_path, url, redact)
    assert list(tmp_path.rglob("run.json")) == []


def test_script(moto: Server, tmp_path: Path) -> None:
    """`esper-rec run --upload URL` uploads what an unchanged script records; a wrong URL is one line before it runs."""
    (tmp_path / "script.py").write_text(SCRIPT)
    wrong, right = (
        run_module(
            "esper_recorder", "run", "--upload", url, "--redact", "host", "--redact", "config.key", "script.py",
            imports=TRAINING, cwd=tmp_path, environment=moto.environment(),
        )
        for url in ("/mnt", moto.url("runs"))
    )  # fmt: skip
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert right.returncode == 0, right.stderr
    _check(moto, tmp_path / "mine")
