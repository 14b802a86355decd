"""Checkpoints that ask for more than there is: refused in one line, before anything is built or printed."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from tests.hostile.ground import Ground, call
from tests.hostile.server import ENOUGH_MB, Answer

from esper_recorder.train.config import PPOConfig, option_name

Content = dict[str, Any]

_KINDS = get_type_hints(PPOConfig)
WHOLE_NUMBERS = [name for name, kind in _KINDS.items() if int in (get_args(kind) or (kind,))]


def nested(depth: int) -> tuple[Any, ...]:
    """A small object that has 2 ** depth items when it is printed."""
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value, value)
    return value


def _in_config(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["config"].update(values)


def _in_state(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["state"].update(values)


def _at_top(**values: Any) -> Callable[[Content], None]:
    return lambda content: content.update(values)


CHANGES: dict[str, Callable[[Content], None]] = {
    "nested tuples as a hyper-parameter": _in_config(gamma=nested(60)),
    "nested tuples as the environment": _in_config(env=nested(60)),
    "nested tuples as the state": _at_top(state=nested(60)),
    "nested tuples as the next update": _in_state(next_update=nested(60)),
    "nested tuples as the model": _in_state(model=nested(60)),
    "nested tuples as the version": _at_top(version=nested(60)),
    "nested tuples as the device": _at_top(device=nested(60)),
    "nested tuples as the run": _at_top(run_uuid=nested(60)),
    "nested tuples beside the rest": _at_top(more=nested(60)),
    "a long name of an environment": _in_config(env="x" * 5_000_000),
    "hidden layers": _in_config(hidden_layers=10**8),
    "hidden units": _in_config(hidden_size=10**6, hidden_layers=100),
    "environments": _in_config(num_envs=10**7),
    "environments of Gymnasium": _in_config(env="Pendulum-v1", num_envs=10**5),
    "steps of a rollout": _in_config(rollout_steps=10**9),
    "environments times steps": _in_config(num_envs=10**5, rollout_steps=10**5),
    "minibatches": _in_config(num_envs=10**4, rollout_steps=10**4, minibatches=10**8),
    "threads": _in_config(threads=10**6),
    "a next update beyond every number": _in_state(next_update=10**30),
    "a tensor that takes no room": _in_state(generator=torch.zeros(1, dtype=torch.uint8).expand(10**12)),
    "a model that takes no room": _in_state(model={"policy.0.weight": torch.zeros(1).expand(10**6, 10**6)}),
}


def check_refused(answer: Answer) -> None:
    """One line, by exit code 2, without having taken much."""
    assert answer.code == 2, answer.said[:500]
    assert len(answer.err.splitlines()) == 1, answer.err[:500]
    assert len(answer.err) < 1000
    assert answer.peak_mb < ENOUGH_MB


def _save(run: Path, change: Callable[[Content], None]) -> None:
    path = run / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_checkpoint_that_asks_for_too_much_is_refused(ground: Ground, name: str) -> None:
    """What a checkpoint claims is held against bounds before it is built, and never printed whole."""
    run = ground.copy()
    _save(run, CHANGES[name])
    (answer,) = ground.ask(call("train", run))
    ground.check(answer)
    check_refused(answer)


PICKLES = {
    "a key that takes for ever to hash": b")" + 60 * b"r\x40\x42\x0f\x00j\x40\x42\x0f\x00\x86",  # that of `nested(60)`
    "a list that is 100,000 deep": 100_001 * b"]" + 100_000 * b"a",
}
"""Objects that Python takes long to make, or cannot pickle."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PICKLES)
def test_checkpoint_with_a_key_that_is_no_text_is_refused(ground: Ground, name: str) -> None:
    """A key that no dictionary can take is refused in one line, as everything else that is no checkpoint."""
    run = ground.copy()
    path, text = run / "checkpoint.pt", b"a name to be replaced"
    _save(run, _in_config(**{text.decode(): 1}))
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries:
            archive.writestr(entry, data.replace(b"X" + struct.pack("<I", len(text)) + text, PICKLES[name]))
    assert PICKLES[name] in path.read_bytes()
    (answer,) = ground.ask(call("train", run))
    ground.check(answer)
    check_refused(answer)


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_every_hyper_parameter_has_an_upper_bound(ground: Ground, name: str) -> None:
    """No hyper-parameter may be a trillion, in a checkpoint or on the command line."""
    run = ground.copy()
    lengths = {"total_steps": None, "updates": None} if name in ("total_steps", "updates") else {}
    _save(run, _in_config(**{**lengths, name: 10**12}))
    option = option_name(name)
    new = ("esper-rec", "train", "--out", run.parent, "--run-id", "new", "--updates", "1", option, str(10**12))
    again = ("esper-rec", "train", "--out", run.parent, "--run-id", "good", "--resume")
    for answer in ground.ask(new, again):
        ground.check(answer)
        check_refused(answer)
    assert not (run.parent / "new").exists()
