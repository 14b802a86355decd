"""Scalars of event files are those that TensorBoard reads, whoever wrote them."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_ndarray
from tests.schemas.tfevents.test_records import framed
from torch.utils.tensorboard import SummaryWriter

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import Following
from esper_recorder.importing.points import NOTHING_YET
from esper_recorder.importing.tfevents.reader import EventFiles, in_order, settings_of
from esper_schemas.tfevents.protobuf import MalformedError, parse_event

Point = tuple[str, int, float, float]


def read(*paths: Path) -> tuple[list[Point], EventFiles, Account]:
    """All points of event files, their reader and account."""
    reader, account = EventFiles(paths), Account()
    found: list[Any] = []
    for points in reader.points(lambda _size: None, account):
        found += zip(points.keys, points.steps, points.times, points.values, strict=True)
    return found, reader, account


def read_by_tensorboard(path: Path) -> list[Point]:
    """The same by TensorBoard, tensors of one number included."""
    found = []
    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.append((value.tag, event.step, event.wall_time, value.simple_value))
            elif value.metadata.plugin_data.plugin_name == "scalars":
                found.append((value.tag, event.step, event.wall_time, float(make_ndarray(value.tensor))))
    return found


def written_by(folder: Path) -> Path:
    """The event file of a folder."""
    (path,) = folder.iterdir()
    return path


@pytest.mark.slow
def test_whatever_torch_writes_is_read_alike(tmp_path: Path) -> None:
    """Scalars of both kinds, steps from 0 to 2⁶², names of all lengths, and other content in between."""
    rng = np.random.default_rng(0)
    with SummaryWriter(tmp_path) as board:
        for number in range(300):
            step = int(rng.integers(0, 1 << int(rng.integers(1, 63))))
            board.add_scalar("a" * int(rng.integers(1, 250)), float(rng.normal()), step, walltime=rng.uniform(0, 2e9))
            board.add_scalar("wide", float(rng.normal()), step, new_style=True, double_precision=number % 2 == 0)
            board.add_scalar("losses/ä", [np.nan, np.inf, -0.0][number % 3], number)
            board.add_histogram("weights", rng.normal(size=10), step)
        board.add_text("notes", "no table")
        board.add_scalar("without step", 1.0)
    path = written_by(tmp_path)
    found, _, account = read(path)
    assert len(found) == 901
    assert repr(found) == repr(read_by_tensorboard(path))
    assert account.not_imported == {"histograms": 300, "texts": 1}
    assert not account.unreadable.count


@given(st.lists(st.tuples(st.text(max_size=8), st.floats(width=32), st.integers(-3, 2**40)), max_size=5))
def test_events_of_any_shape_are_read(values: list[tuple[str, float, int]]) -> None:
    """Several values in one event, empty names and negative steps take the slow way and give the same numbers."""
    event = Event(wall_time=1.5, step=values[0][2] if values else 0)
    for name, number, _ in values:
        event.summary.value.add(tag=name, simple_value=number)
    parsed = parse_event(event.SerializeToString())
    assert (parsed.time, parsed.step) == (event.wall_time, event.step)
    assert repr(parsed.scalars) == repr([(value.tag, value.simple_value) for value in event.summary.value])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_event_are_told(data: bytes) -> None:
    """No bytes raise anything but MalformedError."""
    with contextlib.suppress(MalformedError):
        parse_event(data)


def test_records_that_are_no_events_are_counted(tmp_path: Path) -> None:
    """A record with the right checksum and other content costs only itself."""
    event = Event(wall_time=2.0, step=3)
    event.summary.value.add(tag="a", simple_value=1.0)
    path = tmp_path / "events"
    path.write_bytes(framed(b"\xff" * 40, event.SerializeToString(), b"\x09abc"))
    found, _, account = read(path)
    assert found == [("a", 3, 2.0, 1.0)]
    assert account.not_imported == {"records that are no events": 2}


def test_hyper_parameters_come_from_the_hparams_plugin(tmp_path: Path) -> None:
    """add_hparams of torch: numbers, texts and truth values."""
    with SummaryWriter(tmp_path) as board:
        board.add_hparams({"lr": 0.5, "env_id": "CartPole-v1", "anneal": True}, {"m": 1.0}, run_name=".")
    _, reader, _ = read(*sorted(path for path in tmp_path.iterdir() if path.is_file()))
    assert reader.config == {"lr": 0.5, "env_id": "CartPole-v1", "anneal": True}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("|param|value|\n|-|-|\n|lr|1e-3|\n|n|4|\n|clip|True|\n|kl||", {"lr": 1e-3, "n": 4, "clip": True, "kl": ""}),
        (
            "|param|value|\n|-|-|\n|entity|None|\n|a|x|y|\n|hidden|(64, 64)|",
            {"entity": None, "a": "x|y", "hidden": "(64, 64)"},
        ),
        ("no table", {}),
        ("|a|b|c|\n|-|-|-|\n|1|2|3|", {}),
        ("", {}),
    ],
)
def test_hyper_parameters_come_from_a_table(text: str, settings: dict[str, Any]) -> None:
    """The table of two columns that CleanRL writes; anything else is only a text."""
    assert settings_of(text) == settings


def test_files_of_a_folder_are_read_by_the_time_in_their_names(tmp_path: Path) -> None:
    """Seconds of another number of digits do not mix up the order, and each file begins anew."""
    names = ["events.out.tfevents.9999999999.vm.1.0", "events.out.tfevents.10000000000.vm.1.0"]
    assert [path.name for path in in_order([tmp_path / name for name in reversed(names)])] == names
    for number, name in enumerate(names):
        event = Event(wall_time=1.0, step=number)
        event.summary.value.add(tag="a", simple_value=float(number))
        (tmp_path / name).write_bytes(framed(event.SerializeToString()))
    reader = EventFiles(list(tmp_path.iterdir()))
    begins = [points.begins_anew for points in reader.points(lambda _size: None, Account())]
    assert begins == [True, True]
    assert [value for _, _, _, value in read(*tmp_path.iterdir())[0]] == [0.0, 1.0]


def test_a_reader_reads_on_while_the_file_grows(tmp_path: Path) -> None:
    """Resumed after `NOTHING_YET`, it yields the points that were appended since, and none twice."""
    writer = EventFileWriter(str(tmp_path))
    path = written_by(tmp_path)
    following = Following(lambda: False)
    reading = EventFiles([path], following=following).points(lambda _size: None, Account())
    seen: list[int | None] = []
    for step in range(3):
        event = Event(wall_time=1.0, step=step)
        event.summary.value.add(tag="a", simple_value=1.0)
        writer.add_event(event)
        writer.flush()
        while (points := next(reading)) is not NOTHING_YET or len(seen) <= step:
            seen += points.steps
        assert seen == list(range(step + 1))
    writer.close()
    following.is_over = True
    assert list(reading) == []


def test_a_corrupt_record_is_passed_over_and_named(tmp_path: Path) -> None:
    """Its offset and the reason stand in the balance; a damaged length ends the file there."""
    events = []
    for step in range(3):
        event = Event(wall_time=1.0, step=step)
        event.summary.value.add(tag="a", simple_value=1.0)
        events.append(event.SerializeToString())
    data = bytearray(framed(*events))
    second = len(framed(events[0]))
    path = tmp_path / "events"
    data[second + 20] ^= 1
    path.write_bytes(data)
    found, _, account = read(path)
    assert [step for _, step, _, _ in found] == [0, 2]
    assert str(account.unreadable) == f"offset {second} (the record fails its checksum; it was passed over)"
    struct.pack_into("<Q", data, second, 5)
    path.write_bytes(data)
    found, _, account = read(path)
    assert [step for _, step, _, _ in found] == [0]
    assert f"offset {second} (the length of a record fails its checksum" in str(account.unreadable)
