"""What `Recorder.open` and `close` take: every run that is recorded can be read, and a mistake says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from esper_recorder import Recorder, ValueLossDefinition
from esper_schemas import RunDirectory, UsageError
from esper_schemas.examining.run import verify_run


@dataclass
class _Settings:
    lr: float = 0.1


class _Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "unspeakable"


@pytest.mark.parametrize(
    ("arguments", "key", "stored"),
    [
        ({"device": 0}, "device", "cuda:0"),
        ({"device": np.int64(1)}, "device", "cuda:1"),
        ({"device": torch.device("cpu")}, "device", "cpu"),
        ({"env": gym.spec("CartPole-v1")}, "env", "CartPole-v1"),
        ({"env": gym.make("CartPole-v1")}, "env", "CartPole-v1"),
        ({"env": np.str_("mine")}, "env", "mine"),
        ({"trainer": Path("ppo.py")}, "trainer", "ppo.py"),
        ({"rank": np.int64(0), "world_size": np.int64(1)}, "world_size", 1),
        ({"rank": torch.tensor(0), "world_size": torch.tensor(1)}, "world_size", 1),
        ({"return_goal": torch.tensor(475)}, "return_goal", 475.0),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_has_one_meaning_is_stored_as_that(
    tmp_path: Path, arguments: dict[str, Any], key: str, stored: object
) -> None:
    """Numbers of any type, devices, environments and paths stand in the header as text or numbers that readers take."""
    with Recorder.open(tmp_path, run_id="r", **arguments) as recorder:
        assert recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
    run = RunDirectory(tmp_path / "r")
    assert getattr(run.header(), key) == stored
    assert not verify_run(run).is_damaged


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": -1}, "device must be text, found int -1"),
        ({"device": True}, "device must be text, found bool True"),
        ({"trainer": 5}, "trainer must be text, found int 5; give its name, or leave it out"),
        ({"trainer": _Settings()}, "trainer must be text, found _Settings"),
        ({"env": ["a"]}, "env must be text, found list ['a']"),
        ({"env": _Unspeakable()}, "env must be text, found _Unspeakable"),
        ({"git_commit": 5}, "git_commit must be text, found int 5"),
        ({"git_commit": b"abc"}, "git_commit must be text, found bytes b'abc'"),
        ({"world_size": 1.0}, "world_size must be a whole number, found float 1.0"),
        ({"rank": True, "world_size": 2}, "rank must be a whole number, found bool True"),
        ({"rank": torch.tensor(True), "world_size": 2}, "rank must be a whole number, found Tensor"),
        ({"rank": "0"}, "rank must be a whole number, found str '0'"),
        ({"rank": 0.0}, "rank must be a whole number, found float 0.0"),
        ({"buffer_rows": "x"}, "buffer_rows must be a whole number, found str 'x'"),
        ({"buffer_rows": 0.5}, "buffer_rows must be a whole number, found float 0.5"),
        ({"black_box_minibatches": None}, "black_box_minibatches must be a whole number, found None"),
        ({"segment_rows": 2.5}, "segment_rows must be a whole number, found float 2.5"),
        ({"segment_secs": "60"}, "segment_secs must be a number of seconds, found str '60'"),
        ({"root": None}, "root must be the path of a folder, such as 'runs', found None"),
        ({"root": b"runs"}, "root must be the path of a folder, such as 'runs', found bytes"),
        ({"on_update": 5}, "on_update must be a function that takes a row, or None, found int 5"),
        ({"strict": "no"}, "strict must be True or False, found str 'no'"),
        ({"fill_in_times": None}, "fill_in_times must be True or False, found None"),
        ({"value_loss_definition": {"factor": 0.5}}, "such as ValueLossDefinition(factor=0.5), or None, found dict"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_argument_that_no_reader_accepts_is_refused(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    """It is an error of one line that says what was expected and found, and nothing is created."""
    with pytest.raises(UsageError) as caught:
        Recorder.open(**{"root": tmp_path / "runs", "run_id": "r", **arguments})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_header_is_checked_as_readers_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever slips through the checks of single arguments is refused before a run is made that nobody can read."""
    monkeypatch.setattr("esper_recorder.writing.arguments.as_text", lambda name, value: value)
    with pytest.raises(UsageError, match="git_commit cannot be stored in the run's header, found 5"):
        Recorder.open(tmp_path / "runs", run_id="r", git_commit=5)  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": 5}, "source of a ValueLossDefinition must be text, found 5"),
        ({"factor": "0.5"}, "factor of a ValueLossDefinition must be a finite number other than 0, found '0.5'"),
        ({"factor": float("nan")}, "found nan"),
        ({"factor": 0}, "found 0"),
        ({"factor": None}, "found None"),
        (
            {"clip_range": float("inf")},
            "clip_range of a ValueLossDefinition must be a finite number or None, found inf",
        ),
        (
            {"clipping": "whatever"},
            "clipping of a ValueLossDefinition must be 'max', 'clipped', 'error_clipped', 'none'",
        ),
        ({"reduction": None}, "reduction of a ValueLossDefinition must be 'all minibatches', 'last minibatch'"),
        ({"targets_normalised": "no"}, "targets_normalised of a ValueLossDefinition must be True, False or None"),
    ],
)
def test_wrong_definition_of_the_value_loss_is_refused_when_made(values: dict[str, Any], words: str) -> None:
    """A value that means nothing is refused in one line where it is written."""
    with pytest.raises(UsageError) as caught:
        ValueLossDefinition(**values)
    assert words in str(caught.value)


def test_definition_of_the_value_loss_takes_numbers_of_any_type() -> None:
    """They are kept as plain floats, which JSON can store."""
    definition = ValueLossDefinition(factor=np.float32(0.5), clip_range=torch.tensor(0), clipping="clipped")  # type: ignore[arg-type]
    assert (definition.factor, definition.clip_range) == (0.5, 0.0)
    assert type(definition.factor) is type(definition.clip_range) is float
    assert ValueLossDefinition(clip_range=None).clip_range is None


@pytest.mark.parametrize("status", ["done", None, 5, ["failed"]])
def test_close_takes_only_a_known_status(tmp_path: Path, status: Any) -> None:
    """Another one is refused by name, and the run stays open, so that it can still be closed."""
    recorder = Recorder.open(tmp_path, run_id="r")
    with pytest.raises(UsageError, match="status must be 'finished', 'failed' or 'interrupted', found"):
        recorder.close(status)
    assert recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
    recorder.close("failed")
    assert RunDirectory(tmp_path / "r").rank(0).attempts()[0].status == "failed"


@pytest.mark.parametrize(
    ("reason", "stored"),
    [
        (5, "5"),
        (ValueError("too\nhigh"), "ValueError: too high"),
        (_Unspeakable(), "unspeakable"),
        ("two\nlines", "two lines"),
        (None, None),
    ],
    ids=repr,
)
def test_close_takes_any_reason(tmp_path: Path, reason: object, stored: str | None) -> None:
    """The text of an object, or the type and text of an exception, is kept in one line."""
    recorder = Recorder.open(tmp_path, run_id="r")
    recorder.close("failed", reason)
    (attempt,) = RunDirectory(tmp_path / "r").rank(0).attempts()
    assert (attempt.status, attempt.reason) == ("failed", stored)


def test_ranks_of_the_environment_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a launcher's variables were left behind, the error says that they were found there."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"run_id=… is missing.*the environment has RANK=0 and WORLD_SIZE=2; unset"):
        Recorder.open(tmp_path)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UsageError, match=r"found 3 \(the environment has RANK=3 and WORLD_SIZE=2; unset"):
        Recorder.open(tmp_path, run_id="r")
    with pytest.raises(UsageError, match=r"found 5$"):
        Recorder.open(tmp_path, run_id="r", rank=5, world_size=2)
