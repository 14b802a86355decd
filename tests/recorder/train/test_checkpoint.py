"""The checkpoint file: whole, behind the rows, and never trusted; whatever is wrong with it is said in one line."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recorder.train.checkpoints import read_checkpoint

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.train.checkpoint import Checkpoint
from esper_recorder.train.checkpointing import CheckpointWriter
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.trainer import Trainer
from esper_schemas import RunDirectory
from esper_schemas.errors import UsageError

CPU = torch.device("cpu")


class Evil:
    """Unpickled by a loader that trusts its file, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


def truncate(path: Path, _marker: Path) -> None:
    """Cut the file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit_of_a_weight(path: Path, _marker: Path) -> None:
    """Change one bit that torch would not miss."""
    data = bytearray(path.read_bytes())
    weight = read_checkpoint(path).state["model"]["policy.2.weight"]
    data[bytes(data).index(weight.numpy().tobytes()[:64]) + 7] ^= 1
    path.write_bytes(data)


def empty(path: Path, _marker: Path) -> None:
    """Nothing in it."""
    path.write_bytes(b"")


def pickled_code(path: Path, marker: Path) -> None:
    """A bare pickle that runs code."""
    path.write_bytes(pickle.dumps(Evil(marker)))


def code_in_an_archive(path: Path, marker: Path) -> None:
    """Code in a file that is otherwise as torch writes it."""
    torch.save({"version": 1, "state": Evil(marker)}, path)


def another_kind_of_file(path: Path, _marker: Path) -> None:
    """Someone's weights."""
    torch.save({"weight": torch.zeros(3)}, path)


def newer_version(path: Path, _marker: Path) -> None:
    """As a later Esper may write it."""
    content = torch.load(path, weights_only=True)
    torch.save(content | {"version": 2}, path)


def wrong_shape(path: Path, _marker: Path) -> None:
    """One tensor is too short."""
    checkpoint = read_checkpoint(path)
    checkpoint.state["optimizer"]["value.0.bias"]["exp_avg"] = torch.zeros(3)
    path.write_bytes(checkpoint.to_bytes())


def wrong_generator(path: Path, _marker: Path) -> None:
    """A generator state that is none."""
    checkpoint = read_checkpoint(path)
    checkpoint.state["generator"].fill_(255)
    path.write_bytes(checkpoint.to_bytes())


def wrong_option(path: Path, _marker: Path) -> None:
    """A hyper-parameter with a value of the wrong kind."""
    content = torch.load(path, weights_only=True)
    content["config"]["gamma"] = "\x1b[31mhigh\n"
    torch.save(content, path)


def huge_network(path: Path, _marker: Path) -> None:
    """More memory than there is."""
    content = torch.load(path, weights_only=True)
    content["config"]["hidden_size"] = 2**40
    torch.save(content, path)


def foreign_module(path: Path, _marker: Path) -> None:
    """An environment whose name makes Gymnasium import a module."""
    checkpoint = read_checkpoint(path)
    path.write_bytes(replace(checkpoint, config=replace(checkpoint.config, env="gym:this:Evil-v0")).to_bytes())


def of_another_run(path: Path, _marker: Path) -> None:
    """Copied from elsewhere."""
    path.write_bytes(replace(read_checkpoint(path), run_uuid="another").to_bytes())


def pipe(path: Path, _marker: Path) -> None:
    """Opening it would wait for ever."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "damaged"),
        (flip_a_bit_of_a_weight, "damaged (a checksum does not match)"),
        (empty, "damaged"),
        (pickled_code, "damaged"),
        (code_in_an_archive, "it is not a checkpoint of esper-rec train"),
        (another_kind_of_file, "it is not a checkpoint of esper-rec train"),
        (newer_version, "upgrade Esper"),
        (wrong_shape, "state.optimizer.value.0.bias.exp_avg: expected torch.float32 [64], found torch.float32 [3]"),
        (wrong_generator, "generator"),
        (wrong_option, "--gamma has a value of the wrong type, '\\x1b[31mhigh\\n'"),
        (huge_network, "--hidden-size must be at least 1 and at most 4096, found 1099511627776"),
        (foreign_module, "would import the module of its environment"),
        (of_another_run, "it belongs to another run"),
        (pipe, "runs/r/checkpoint.pt: expected a file, found a pipe"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_in_one_line(
    rec: Callable[..., Any], runs: Path, interrupted: Path, damage: Callable[[Path, Path], None], words: str
) -> None:
    """Exit code 2 and the reason; nothing is executed, no attempt is begun, and the rows are whole."""
    shutil.copytree(interrupted, runs)
    marker = runs.parent / "executed"
    damage(runs / "r/checkpoint.pt", marker)
    done = rec("train", "--resume")
    assert done.code == 2
    assert done.err.startswith("esper-rec: ")
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()
    assert words in done.err
    assert not marker.exists()
    run = open_run(runs / "r")
    assert len(run.attempts()) == 1
    assert (run.updates().collect().height, run.faults()) == (3, [])


@pytest.fixture
def trained(tmp_path: Path) -> Iterator[tuple[Trainer, Recorder]]:
    """A trainer and the recorder of its run, nothing trained yet."""
    config = PPOConfig(num_envs=2, rollout_steps=8, updates=9, checkpoint_updates=2, hidden_size=4)
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        yield Trainer(config, make_env(config.env, 2, seed=0, device=CPU), CPU), recorder


def writer_of(trainer: Trainer, recorder: Recorder, said: list[str]) -> CheckpointWriter:
    """What keeps the checkpoint of the run of `recorder`."""
    return CheckpointWriter(trainer, RunDirectory(recorder.path), 0, said.append)


def test_rows_are_synced_before_the_checkpoint_that_goes_on_behind_them(
    trained: tuple[Trainer, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power loss no row before the checkpoint can be missing; rows that wait in memory put it off."""
    trainer, recorder = trained
    writer = writer_of(trainer, recorder, [])
    synced: list[str] = []
    fsync = os.fsync

    def noting_fsync(descriptor: int) -> None:
        synced.append(Path(f"/dev/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    for update in range(3):
        recorder.record(**trainer.run_update(update))
    monkeypatch.setattr(os, "fsync", noting_fsync)
    writer.after_row(False)
    writer.write(trainer.state_dict())
    assert not writer.path.exists()
    synced.clear()
    writer.after_row(True)
    mine = [name for name in synced if name in ("00000000.arrows", "checkpoint.pt.tmp", "r")]
    assert mine == ["00000000.arrows", "checkpoint.pt.tmp", "r"]
    assert read_checkpoint(writer.path).state["next_update"] == 3


def test_a_checkpoint_that_cannot_be_written_stops_nothing(trained: tuple[Trainer, Recorder]) -> None:
    """It is said once, training goes on, and the next one is tried again."""
    trainer, recorder = trained
    said: list[str] = []
    writer = writer_of(trainer, recorder, said)
    in_the_way = recorder.path / "checkpoint.pt.tmp"
    in_the_way.mkdir()
    trainer.train(recorder, on_row=lambda is_safe: writer.after_row(is_safe))
    assert len(said) == 1
    assert "could not write the checkpoint" in said[0]
    assert "training continues" in said[0]
    in_the_way.rmdir()
    writer.write(trainer.resumable)
    assert read_checkpoint(writer.path).state["next_update"] == 9


def test_a_planted_link_is_not_written_through(trained: tuple[Trainer, Recorder], tmp_path: Path) -> None:
    """A run folder from someone else cannot make a checkpoint overwrite a file elsewhere."""
    trainer, recorder = trained
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in ("checkpoint.pt", "checkpoint.pt.tmp"):
        (recorder.path / name).symlink_to(precious)
    writer_of(trainer, recorder, []).write(trainer.resumable)
    assert precious.read_text() == "mine"
    assert not (recorder.path / "checkpoint.pt").is_symlink()


@pytest.mark.slow
def test_damage_anywhere_is_refused_or_changes_nothing(trained: tuple[Trainer, Recorder], tmp_path: Path) -> None:
    """Bits flipped, bytes cleared, ends cut off at random: never another state, never another error."""
    trainer, recorder = trained
    trainer.train(recorder)
    whole = Checkpoint("uuid", trainer.config, "cpu", trainer.resumable).to_bytes()
    path, rng, refused = tmp_path / "checkpoint.pt", random.Random(0), 0
    path.write_bytes(whole)
    read_back = read_checkpoint(path).to_bytes()
    for _ in range(300):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place : place + 100] = bytes(len(data[place : place + 100]))
            case 2:
                del data[place:]
        path.write_bytes(data)
        try:
            checkpoint = read_checkpoint(path)
            trainer.load_state_dict(checkpoint.state)
        except UsageError:
            refused += 1
        else:  # the damage hit bytes that mean nothing, such as those between two parts
            assert checkpoint.to_bytes() == read_back
    assert refused > 200
