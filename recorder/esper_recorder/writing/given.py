"""Names and values of a row, however the caller gave it: by keyword, as a payload, with extras."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from esper_schemas.errors import PayloadError
from esper_schemas.metric.payload import METRICS, PPOUpdatePayload

_PAYLOAD_NAMES = tuple(METRICS)
_payload_values = attrgetter(*_PAYLOAD_NAMES)


def parts_of(metrics: dict[str, Any], payload: object, extras: object) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Names and values of a row that was given as a payload, or with extras.

    Raises:
        PayloadError: one of them is something else.
    """
    if payload is not None and not isinstance(payload, PPOUpdatePayload):
        raise PayloadError(f"expected a PPOUpdatePayload or keywords, found {type(payload).__name__}")
    names, values = tuple(metrics), tuple(metrics.values())
    if payload is not None:
        given = {name: value for name, value in metrics.items() if getattr(payload, name, None) is None}
        names, values = (*_PAYLOAD_NAMES, *given), (*_payload_values(payload), *given.values())
        names, values = _with_extras(names, values, payload.extras)
    return _with_extras(names, values, extras)


def _with_extras(
    names: tuple[str, ...], values: tuple[Any, ...], extras: object
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    if extras is None:
        return names, values
    if not isinstance(extras, Mapping):
        raise PayloadError(f"extras must be a mapping of names to numbers, found {type(extras).__name__}")
    copied = dict(extras)  # of a dict at one moment, though another thread may be filling it
    return names + tuple(copied), values + tuple(copied.values())
