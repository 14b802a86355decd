"""The few fields of TensorBoard's protobuf messages that imports and exports need, one record at a time.

The numbers of the fields are those of `event.proto`, `summary.proto`, `tensor.proto` and, for hyper-parameters,
`plugin_data.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Field = tuple[int, int, int | bytes]
"""Number, wire type, and the value: a whole number for varints, bytes for everything else."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_DT_FLOAT, _DT_DOUBLE = 1, 2

_VERSION = b"brain.Event:2"
"""The only version of event files, in their first event."""

_HPARAMS_TAG = b"_hparams_/session_start_info"
_HPARAMS = b"hparams"

_FILE_VERSION, _WRITER = 3, 10
"""Fields of an event that say who wrote the file, and how."""

_KINDS = {3: "obsolete histograms", 4: "images", 5: "histograms", 6: "audio", 8: "tensors"}
"""What a field of a summary's value holds, other than its name and a scalar."""


class MalformedError(ValueError):
    """The bytes are not the protobuf message that they should be."""


@dataclass(slots=True)
class Event:
    """One event: scalars, and what else it has.

    Attributes:
        time: Seconds since 1970, UTC.
        scalars: Name and number of each scalar.
        texts: Name and text of each text.
        settings: Hyper-parameters, from the hparams plugin.
        others: Kinds of other content, such as `images`.
    """

    time: float = 0.0
    step: int = 0
    scalars: list[tuple[str, float]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def parse_event(data: bytes) -> Event:
    """Parse one event.

    Raises:
        MalformedError: `data` is not an event.
    """
    event = Event()
    for number, wire, value in fields_of(data):
        if number == 1 and wire == _FIXED64:
            event.time = struct.unpack("<d", _as_bytes(value))[0]
        elif number == 2 and wire == _VARINT:
            event.step = _signed(value)
        elif number == 5 and wire == _BYTES:
            for part, part_wire, summary in fields_of(_as_bytes(value)):
                if part == 1 and part_wire == _BYTES:
                    _add_value(event, _as_bytes(summary))
        elif wire == _BYTES and number not in (_FILE_VERSION, _WRITER):
            event.others.append("graphs and messages")
    return event


def fields_of(data: bytes) -> Iterator[Field]:
    """Yield the fields of a message.

    Raises:
        MalformedError: `data` is not a message.
    """
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        wire = tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, wire, value
            continue
        if wire == _BYTES:
            size, place = _varint(data, place)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise MalformedError(f"wire type {wire}")
        if place + size > end:
            raise MalformedError("a field is cut off")
        yield tag >> 3, wire, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place
        shift += 7
    raise MalformedError("a number is cut off")


def _signed(value: int | bytes) -> int:
    whole = value if isinstance(value, int) else 0
    return whole - (1 << 64) if whole >> 63 else whole


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise MalformedError("a field has the wrong type")
    return value


def _text(value: int | bytes) -> str:
    return _as_bytes(value).decode("utf-8", "replace")


# ---------------------------------------------------------------------- the values of a summary


def _add_value(event: Event, data: bytes) -> None:
    """Add one `Summary.Value` to an event."""
    name = plugin = ""
    content = b""
    scalar: float | None = None
    tensor = b""
    kind = ""
    for number, wire, value in fields_of(data):
        if number == 1 and wire == _BYTES:
            name = _text(value)
        elif number == 2 and wire == _FIXED32:
            scalar = struct.unpack("<f", _as_bytes(value))[0]
        elif number == 9 and wire == _BYTES:
            plugin, content = _plugin(_as_bytes(value))
        elif number in _KINDS and wire == _BYTES:
            kind = _KINDS[number]
            tensor = _as_bytes(value) if number == 8 else b""
    if scalar is None and tensor and plugin in ("scalars", ""):
        scalar = _scalar_of_tensor(tensor)
    if scalar is not None:
        event.scalars.append((name, scalar))
    elif plugin == "text":
        event.texts += [(name, text) for text in _texts_of_tensor(tensor)]
    elif plugin == "hparams":
        event.settings |= _settings(content)
        event.others.append("hparams")
    else:
        event.others.append(kind or "values without content")


def _plugin(metadata: bytes) -> tuple[str, bytes]:
    """Name and content of the plugin in a `SummaryMetadata`."""
    for number, wire, value in fields_of(metadata):
        if number == 1 and wire == _BYTES:
            parts = {part: content for part, _, content in fields_of(_as_bytes(value))}
            return _text(parts.get(1, b"")), _as_bytes(parts.get(2, b""))
    return "", b""


def _scalar_of_tensor(tensor: bytes) -> float | None:
    """The number of a tensor of one float; None if it is another tensor."""
    dtype, numbers = 0, []
    for number, wire, value in fields_of(tensor):
        if number == 1 and wire == _VARINT:
            dtype = _signed(value)
        elif number in (4, 5, 6) and wire in (_BYTES, _FIXED32, _FIXED64):
            numbers.append(_as_bytes(value))
    form = {_DT_FLOAT: "<f", _DT_DOUBLE: "<d"}.get(dtype)
    data = b"".join(numbers)
    if form is None or len(data) != struct.calcsize(form):
        return None
    made: float = struct.unpack(form, data)[0]
    return made


def _texts_of_tensor(tensor: bytes) -> list[str]:
    return [_text(value) for number, wire, value in fields_of(tensor) if number == 8 and wire == _BYTES]


def _settings(content: bytes) -> Mapping[str, Any]:
    """The hyper-parameters of a session, from an `HParamsPluginData`."""
    found: dict[str, Any] = {}
    for number, wire, value in fields_of(content):
        if number == 3 and wire == _BYTES:  # session_start_info
            for part, _, entry in fields_of(_as_bytes(value)):
                if part == 1:
                    pair = {key: item for key, _, item in fields_of(_as_bytes(entry))}
                    found[_text(pair.get(1, b""))] = _setting(_as_bytes(pair.get(2, b"")))
    return found


def _setting(value: bytes) -> Any:
    """A `google.protobuf.Value` that is a number, a text or a truth value; None for anything else."""
    for number, wire, content in fields_of(value):
        if number == 2 and wire == _FIXED64:
            return struct.unpack("<d", _as_bytes(content))[0]
        if number == 3 and wire == _BYTES:
            return _text(content)
        if number == 4 and wire == _VARINT:
            return bool(content)
    return None


# ---------------------------------------------------------------------- writing


def version_event(time: float) -> bytes:
    """Return the event that an event file begins with; `time` in seconds since 1970, UTC."""
    return _time(time) + _delimited(_FILE_VERSION, _VERSION)


def scalar_prefix(tag: str) -> bytes:
    """Return a scalar of this name up to its number, four bytes of a little-endian float32 that follow."""
    name = _delimited(1, _encoded(tag))
    return _tag(1, _BYTES) + _whole(len(name) + 5) + name + _tag(2, _FIXED32)


def scalars_event(time: float, step: int, scalars: bytes) -> bytes:
    """Return an event with scalars, each its `scalar_prefix` and its number."""
    return _time(time) + _tag(2, _VARINT) + _whole(step) + _delimited(5, scalars)


def settings_event(time: float, settings: Mapping[str, float | str | bool]) -> bytes:
    """Return an event with hyper-parameters, as PyTorch writes them for the hparams plugin."""
    entries = b"".join(
        _delimited(1, _delimited(1, _encoded(name)) + _delimited(2, _value(setting)))
        for name, setting in settings.items()
    )
    plugin = _delimited(1, _HPARAMS) + _delimited(2, _delimited(3, entries))
    return _time(time) + _delimited(
        5, _delimited(1, _delimited(1, _HPARAMS_TAG) + _delimited(9, _delimited(1, plugin)))
    )


def _value(setting: float | str | bool) -> bytes:
    """A `google.protobuf.Value`."""
    if isinstance(setting, bool):
        return _tag(4, _VARINT) + _whole(setting)
    if isinstance(setting, str):
        return _delimited(3, _encoded(setting))
    return _tag(2, _FIXED64) + struct.pack("<d", setting)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # half of a surrogate pair has no code


def _time(time: float) -> bytes:
    return _tag(1, _FIXED64) + struct.pack("<d", time)


def _tag(number: int, wire: int) -> bytes:
    return _whole(number << 3 | wire)


def _delimited(number: int, content: bytes) -> bytes:
    return _tag(number, _BYTES) + _whole(len(content)) + content


def _whole(number: int) -> bytes:
    """A varint; a negative number as its two's complement of 64 bits."""
    rest, digits = number & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while rest > 0x7F:
        digits.append(rest & 0x7F | 0x80)
        rest >>= 7
    digits.append(rest)
    return bytes(digits)
