from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from typing import Any

import pytest
import torch

from esper_recorder.train.checkpoint import Checkpoint
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import CartPole
from esper_recorder.train.pickle_keys import has_plain_keys
from esper_recorder.train.trainer import Trainer

CPU = torch.device("cpu")


def doubled(times: int) -> Any:
    """A tuple of two that are one, and so on: few bytes, and two to the power of `times` parts to hash."""
    value: Any = (1,)
    for _ in range(times):
        value = (value, value)
    return value


def body(value: object) -> bytes:
    """The pickle of a value without its first and last opcode."""
    return pickle.dumps(value, 2)[2:-1]


@pytest.mark.parametrize("normalize", [True, False])
def test_a_checkpoint_has_plain_keys(normalize: bool) -> None:
    """What `torch.save` makes of a real trainer's state passes."""
    config = PPOConfig(num_envs=4, rollout_steps=8, updates=2, normalize_observations=normalize)
    trainer = Trainer(config, CartPole(4, seed=0, device=CPU), CPU)
    trainer.run_update(0)
    data = Checkpoint("uuid", config, "cpu", trainer.state_dict()).to_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        assert has_plain_keys(archive.read(name))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_values_may_be_nested(protocol: int) -> None:
    """Only keys are hashed: a value of any shape passes, where the protocol is one of `torch.save`."""
    assert has_plain_keys(pickle.dumps({"a": [doubled(60), {"b": ()}], "c": (1.5, None, True)}, protocol)) == (
        protocol < 4
    )


@pytest.mark.parametrize(
    "evil",
    [
        b"\x80\x02}" + body(doubled(60)) + b"K\x01s.",  # {tuples: 1}
        b"\x80\x02}(X\x01\x00\x00\x00aK\x01" + body(doubled(60)) + b"K\x02u.",  # {"a": 1, tuples: 2}
        b"\x80\x02ccollections\nOrderedDict\n]" + body(doubled(60)) + b"K\x01\x86a\x85R.",  # made from pairs
        b"\x80\x02cbuiltins\nset\n]" + body(doubled(60)) + b"a\x85R.",
        b"\x80\x02}}K\x01s.",  # a dictionary as a key
        b"\x80\x02h\x07.",  # a memo that is not there
        b"\x80\x02s.",
        b"\x80\x02}",
        b"",
        b"no pickle",
    ],
)
def test_what_would_be_hashed_for_ever_is_refused(evil: bytes) -> None:
    """A key of tuples is refused wherever it becomes one, and so is what is no pickle of `torch.save`."""
    assert not has_plain_keys(evil)


def test_the_simulation_agrees_with_pickle_on_plain_dictionaries() -> None:
    """Ordered and nested dictionaries with text and number keys pass; pickle itself loads them."""
    value = {"a": {1: {"b": [1, 2, 3]}}, "c": OrderedDict()}
    data = pickletools.optimize(pickle.dumps(value, 2))
    assert has_plain_keys(data)
    assert pickle.loads(data) == value
