"""Events that are written: TensorBoard's own classes and our parser read what was put in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_INT32

from esper_schemas.tfevents.protobuf import (
    parse_event,
    scalar_prefix,
    scalars_event,
    settings_event,
    version_event,
)

TIMES = st.floats(0.0, 1e10)
STEPS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.lists(st.tuples(st.text(max_size=300), st.floats(width=32, allow_nan=False)), max_size=5)


@given(TIMES, STEPS, SCALARS)
def test_scalars_come_back(time: float, step: int, scalars: list[tuple[str, float]]) -> None:
    """Time, step, and the name and number of each scalar, whatever their length."""
    data = scalars_event(
        time, step, b"".join(scalar_prefix(tag) + struct.pack("<f", number) for tag, number in scalars)
    )
    found = Event.FromString(data)
    assert (found.wall_time, found.step) == (time, step)
    assert [(value.tag, value.simple_value) for value in found.summary.value] == scalars
    ours = parse_event(data)
    assert (ours.time, ours.step, ours.scalars) == (time, step, scalars)


@pytest.mark.parametrize(
    ("tensor", "scalars"),
    [
        (TensorProto(dtype=DT_FLOAT, float_val=[0.25]), [("loss", 0.25)]),
        (TensorProto(dtype=DT_DOUBLE, double_val=[0.1]), [("loss", 0.1)]),
        (TensorProto(dtype=DT_FLOAT, tensor_content=struct.pack("<f", 0.25)), [("loss", 0.25)]),
        (TensorProto(dtype=DT_FLOAT, float_val=[0.25, 0.5]), []),
        (TensorProto(dtype=DT_DOUBLE, tensor_content=struct.pack("<dd", 0.1, 0.2)), []),
        (TensorProto(dtype=DT_FLOAT, tensor_content=b"abc"), []),
        (TensorProto(dtype=DT_INT32, int_val=[1]), []),
        (TensorProto(dtype=DT_FLOAT), []),
    ],
)
def test_a_tensor_of_one_float_is_a_scalar(tensor: TensorProto, scalars: list[tuple[str, float]]) -> None:
    """As TensorFlow 2 writes scalars; a tensor of several numbers, or of none, is something else."""
    event = Event(wall_time=1.0, step=2)
    event.summary.value.add(tag="loss", tensor=tensor)
    found = parse_event(event.SerializeToString())
    assert found.scalars == scalars
    assert len(found.others) == (0 if scalars else 1)


def test_the_first_event_has_the_version() -> None:
    """It is the only version there is."""
    found = Event.FromString(version_event(1.5))
    assert (found.wall_time, found.file_version) == (1.5, "brain.Event:2")


@given(st.dictionaries(st.text(), st.one_of(st.booleans(), st.floats(allow_nan=False), st.text())))
def test_settings_come_back(settings: dict[str, bool | float | str]) -> None:
    """Numbers, texts and truth values keep what they are."""
    found = parse_event(settings_event(0.0, settings)).settings
    assert found == settings
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in settings.items()}


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    """Such a text has no code in UTF-8, and JSON can hold it."""
    assert parse_event(settings_event(0.0, {"name": "\ud800"})).settings == {"name": "?"}
